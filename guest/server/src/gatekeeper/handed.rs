//! What a server behind hands out to one caller and takes back by name: ids of tasks, and states of requests.
//!
//! Threat: another caller learns such a name, from a log or a shared conversation, and goes on with what is not its own.
//! Servers behind know no callers, so they cannot tell. So it is remembered which caller a name was for, when the answer passes that
//! says it, and to any other caller it is unknown. A name that was not seen to be handed out is of no caller.
//!
//! A task outlives a sign-in, so it is of the person with the client, and not of a session.
//!
//! Threat: an admitted caller has tasks made all day long, and fills the store that all share. So a person has so many names at a
//! time, with all clients and at all servers, and the oldest give way.

use std::time::Duration;

use base::Identity;
use base::encoding::digest;
use entra::EntraWorld;
use entra_mcp_boundary::members::{REQUEST_STATE, TASK_ID};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use world::StoreError;
use world::records::{Namespace, Partition, Ring, Ttl};

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

/// Places of a person for names: 1,024 tasks, and as many states. Several lanes, because calls of one person come at the same
/// moment.
const LANES: u8 = 4;
const PLACES: u64 = if cfg!(test) { 16 } else { 256 };
/// Bytes that one place stands for. A record has some 20.
const PLACE_BYTES: usize = 256;
const TASK_PLACES: Ring = Ring::new(Partition::Application, "gate-task-of", LANES, PLACES, PLACE_BYTES, TASK);
const STATE_PLACES: Ring = Ring::new(Partition::Application, "gate-state-of", LANES, PLACES, PLACE_BYTES, STATE);

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

/// The person alone: what its clients are called is its own choice.
fn person(who: Identity<'_>) -> String {
    digest(serde_json::json!([who.tenant_id, who.object_id]).to_string().as_bytes())
}

fn namespace(what: Handed) -> (&'static Namespace<HandedRecord>, Duration) {
    match what {
        Handed::Task => (&TASKS, TASK),
        Handed::State => (&STATES, STATE),
    }
}

/// Writes that a name is this caller's from now on.
async fn write(
    entra: &EntraWorld<'_>,
    server: &str,
    who: Identity<'_>,
    (what, name): (Handed, &str),
) -> Result<(), StoreError> {
    let ((records, _), owner, person) = (namespace(what), owner(who), person(who));
    let places = match what {
        Handed::Task => &TASK_PLACES,
        Handed::State => &STATE_PLACES,
    };
    let record = HandedRecord { since: entra.clock.now() };
    entra.records.put_in_one_of(places, &[&person], 0, records, &[server, owner.as_str(), name], &record).await
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
    write(entra, server, who, name).await
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
        let _ = write(entra, server, who, (what, name)).await;
    }
    Ok(true)
}

/// What a result hands out.
pub(super) fn names_in(result: &Map<String, Value>) -> Vec<(Handed, &str)> {
    let task = result.get(TASK_ID).or_else(|| result.get("task").and_then(|task| task.get(TASK_ID)));
    let task = task.and_then(Value::as_str).map(|id| (Handed::Task, id));
    let state = result.get(REQUEST_STATE).and_then(Value::as_str).map(|state| (Handed::State, state));
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
        let Some(id) = task.get(TASK_ID).and_then(Value::as_str) else { continue };
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
    fn a_person_has_so_many_names_at_a_time_with_all_of_its_clients() {
        let most = u64::from(LANES) * PLACES;
        let world = World::default();
        let env = world.remote().entra;
        let bob = Identity { object_id: "bob", ..ALICE };
        run(remember(&env, "crm", bob, (Handed::Task, "7"))).unwrap();
        run(remember(&env, "crm", ALICE, (Handed::State, "7"))).unwrap();
        let before = world.record_names().len();
        let count = 20 * most;
        for number in 0..count {
            let client = format!("client-{}", number % 5);
            let who = Identity { client_id: &client, ..ALICE };
            run(remember(&env, "crm", who, (Handed::Task, &number.to_string()))).unwrap();
        }
        // Of each name its record and its place, and of each lane its end.
        let most = usize::try_from(2 * most).unwrap() + usize::from(LANES);
        assert!(world.record_names().len() <= before + most, "{}", world.record_names().len());
        let own = |number: u64| {
            let client = format!("client-{}", number % 5);
            let who = Identity { client_id: &client, ..ALICE };
            run(is_own(&env, "crm", who, (Handed::Task, &number.to_string()))).unwrap()
        };
        assert!(!own(0) && own(count - 1), "the oldest give way");
        assert!(run(is_own(&env, "crm", bob, (Handed::Task, "7"))).unwrap(), "another person has its own");
        assert!(run(is_own(&env, "crm", ALICE, (Handed::State, "7"))).unwrap());
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
