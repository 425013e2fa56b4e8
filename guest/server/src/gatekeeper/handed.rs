//! What a server behind hands out to one caller and takes back by name: ids of tasks, and states of requests.
//!
//! Threat: another caller learns such a name, from a log or a shared conversation, and goes on with what is not its own.
//! Servers behind know no callers, so they cannot tell. So it is remembered for whom a name was, when the answer passes that
//! says it, and to any other caller it is unknown. A name that was not seen to be handed out is of no caller.
//!
//! A task outlives a sign-in, so it is of the person with the client, and not of a session.

use std::time::Duration;

use base::Identity;
use entra::EntraWorld;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use world::StoreError;
use world::records::{Namespace, Partition, Ttl};

use crate::mcp::relay::Handed;

/// How long a task is known after it was last asked for.
const TASK: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a state is known: a person has to answer what the server behind has asked.
const STATE: Duration = Duration::from_secs(60 * 60);
/// Tasks of a list that are looked up, each in the store. More are not shown.
const MAX_LISTED: usize = 200;

/// By server, owner and id. Servers with a process or a session for each caller count tasks anew for each, so that two
/// callers may have tasks of one id.
const TASKS: Namespace<HandedRecord> =
    Namespace::json(Partition::Application, "gate-task", Ttl::For(TASK)).hashed().absent_if_unreadable();
/// By server, owner and state. What a server gives as a state need not be different for two callers.
const STATES: Namespace<HandedRecord> =
    Namespace::json(Partition::Application, "gate-state", Ttl::For(STATE)).hashed().absent_if_unreadable();

/// Something was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HandedRecord {
    /// Unix time in seconds at which the record was written.
    since: u64,
}

/// Tenant, object and client, so that no part can reach into the next.
fn owner(who: Identity<'_>) -> String {
    let Identity { tenant_id, object_id, client_id } = who;
    serde_json::json!([tenant_id, object_id, client_id]).to_string()
}

fn namespace(what: Handed) -> (&'static Namespace<HandedRecord>, Duration) {
    match what {
        Handed::Task => (&TASKS, TASK),
        Handed::State => (&STATES, STATE),
    }
}

/// Remembers that a server has handed out a name to this caller.
pub(super) async fn remember(
    entra: &EntraWorld<'_>,
    server: &str,
    who: Identity<'_>,
    name: (Handed, &str),
) -> Result<(), StoreError> {
    if is_own(entra, server, who, name).await? {
        return Ok(());
    }
    let ((records, _), owner) = (namespace(name.0), owner(who));
    let record = HandedRecord { since: entra.clock.now() };
    entra.records.put(records, &[server, owner.as_str(), name.1], &record).await
}

/// Whether a server has handed out a name to this caller. What is used is remembered for longer.
pub(super) async fn is_own(
    entra: &EntraWorld<'_>,
    server: &str,
    who: Identity<'_>,
    (what, name): (Handed, &str),
) -> Result<bool, StoreError> {
    let ((records, lifetime), owner) = (namespace(what), owner(who));
    let key = [server, owner.as_str(), name];
    let Some(found) = entra.records.get(records, &key).await? else { return Ok(false) };
    let now = entra.clock.now();
    if found.since.saturating_add(lifetime.as_secs() / 2) <= now {
        // What cannot be written now ends earlier.
        let _ = entra.records.put(records, &key, &HandedRecord { since: now }).await;
    }
    Ok(true)
}

/// What a result hands out.
pub(super) fn names_in(result: &Map<String, Value>) -> Vec<(Handed, &str)> {
    let task = result.get("taskId").or_else(|| result.get("task").and_then(|task| task.get("taskId")));
    let task = task.and_then(Value::as_str).map(|id| (Handed::Task, id));
    let state = result.get("requestState").and_then(Value::as_str).map(|state| (Handed::State, state));
    task.into_iter().chain(state).collect()
}

/// Takes the tasks of other callers out of a list; whether it has changed.
pub(super) async fn keep_own(
    entra: &EntraWorld<'_>,
    server: &str,
    who: Identity<'_>,
    tasks: &mut Vec<Value>,
) -> Result<bool, StoreError> {
    let before = tasks.len();
    let mut own = Vec::new();
    for task in tasks.drain(..).take(MAX_LISTED) {
        let Some(id) = task.get("taskId").and_then(Value::as_str) else { continue };
        if is_own(entra, server, who, (Handed::Task, id)).await? {
            own.push(task);
        }
    }
    *tasks = own;
    Ok(tasks.len() != before)
}

#[cfg(test)]
mod tests {
    use world::testing::{World, run};

    use super::*;
    use crate::testing::ServerWorlds as _;

    const ALICE: Identity<'static> = Identity { tenant_id: "tenant", object_id: "alice", client_id: "client" };

    #[test]
    fn a_name_is_of_the_caller_that_it_was_handed_out_to() {
        for what in [Handed::Task, Handed::State] {
            let env = World::default().remote().entra;
            let own = |server: &str, who| run(is_own(&env, server, who, (what, "7"))).unwrap();
            assert!(!own("crm", ALICE), "it is of no caller yet");
            for _ in 0..2 {
                assert_eq!(run(remember(&env, "crm", ALICE, (what, "7"))), Ok(()));
            }
            assert!(own("crm", ALICE));
            let others = [
                Identity { object_id: "bob", ..ALICE },
                Identity { tenant_id: "other", ..ALICE },
                Identity { client_id: "other", ..ALICE },
            ];
            assert!(others.iter().all(|other| !own("crm", *other)));
            assert!(!own("mail", ALICE));
            // Two callers may have been given the same.
            run(remember(&env, "crm", others[0], (what, "7"))).unwrap();
            assert!(own("crm", ALICE) && own("crm", others[0]) && !own("crm", others[1]));
        }
    }

    #[test]
    fn a_task_that_is_asked_for_stays_known() {
        let world = World::default();
        let env = world.remote().entra;
        let own = || run(is_own(&env, "crm", ALICE, (Handed::Task, "7"))).unwrap();
        run(remember(&env, "crm", ALICE, (Handed::Task, "7"))).unwrap();
        for _ in 0..5 {
            world.advance(TASK * 2 / 3);
            assert!(own());
        }
        world.advance(TASK);
        assert!(!own());
    }
}
