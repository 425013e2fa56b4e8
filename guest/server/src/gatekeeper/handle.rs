//! Handles: what a later call of the host finds the caller, the server and the request by.
//!
//! A handle is sealed, so that only this server reads, alters or makes one. It counts for some minutes, except for what has to
//! be recorded of an answer. It holds what the caller was admitted with, which can be a token of Entra ID: a host that writes
//! a handle to its log has not written the token there. A server or a tool behind never gets it.
//!
//! It has two parts. What is recorded of an answer is in the first one, which every call opens again. What leads back to the
//! caller is in the second one, which can be ten times as long, and which few calls have a use for.
//!
//! Threat: a reader of such a log uses a handle. It is good for the functions of the component only, which no client reaches.

use std::fmt;

use base::policy::{Target, TargetKind};
use base::{Identity, Secret};
use caller::{Caller, CallerReference};
use entra::EntraWorld;
use serde::{Deserialize, Serialize};
use world::provided_tools::{DelegationError, DelegationErrorCategory};
use world::records::{Partition, SealedForHost};
use world::{Carried, StoreError};

/// How long a handle counts, in seconds: longer than any call of a tool, and as long as a caller whose access was revoked
/// could still be served by an answer that is under way.
const LIFETIME_SECONDS: u64 = 600;
/// How long after the request its answer may begin, in seconds: longer than a host waits for any server behind.
const ANSWER_SECONDS: u64 = 7200;
/// The clocks of two servers on one store may differ by this much, in seconds.
const CLOCK_DIFFERENCE_SECONDS: u64 = 60;
/// Characters of the longest part of a handle, which are four for three bytes. A token of Entra ID in it has at most what a
/// request may have of header fields, which is 32 KiB.
const MAX_LENGTH: usize = 64 * 1024;

/// The first parts.
const HANDLES: SealedForHost<Handle> =
    SealedForHost::json(Partition::Application, "gate-handle-key", "entra-mcp gate-handle v3", MAX_LENGTH);
/// The second parts.
const CALLERS: SealedForHost<HeldCaller> =
    SealedForHost::json(Partition::Application, "gate-handle-key", "entra-mcp gate-handle-caller v3", MAX_LENGTH);
/// Stands between the two.
const SEPARATOR: char = '.';
/// Characters that a first part begins with and no other one does: 252 bits of its code.
const CODE_LENGTH: usize = 42;

/// What a handle is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleContent {
    /// The server behind, by its name in the settings.
    pub server: String,
    /// What the request calls, reads or gets there, and what is therefore recorded once it is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
    /// Whether the request is one of 2026-07-28.
    #[serde(default)]
    pub modern: bool,
    /// The origin of the web page that sent the request, which may read the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The session of the server behind that the request is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<PresentedSession>,
}

/// Something of a server behind that a request uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// What it is.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
}

/// A session id that a client presented.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentedSession {
    /// As the client has it.
    pub sealed: String,
    /// As the server behind has it.
    pub id: String,
}

/// Session ids are often all it takes to continue a session.
impl fmt::Debug for PresentedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedSession([redacted])")
    }
}

impl HandleContent {
    /// For one call of a tool.
    pub fn of_tool(server: &str, tool: &str) -> Self {
        let uses = vec![Use { kind: TargetKind::Tool, name: tool.to_owned() }];
        Self { server: server.to_owned(), uses, ..Self::default() }
    }

    /// What is recorded.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        self.uses.iter().map(|used| Target { server: &self.server, kind: used.kind, name: &used.name })
    }
}

/// The first part of a handle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handle {
    /// What it is about.
    pub of: HandleContent,
    /// Tenant, object and client; none of the person at this machine.
    owner: Option<[String; 3]>,
    /// What was known of the call.
    trail: Carried,
    /// Unix time in seconds.
    expires_at: u64,
}

impl Handle {
    /// Tenant, object and client of the caller; none of the person at this machine.
    pub fn identity(&self) -> Option<Identity<'_>> {
        let [tenant_id, object_id, client_id] = self.owner.as_ref()?;
        Some(Identity { tenant_id, object_id, client_id })
    }

    /// Whether the answer to its request may begin at this Unix time in seconds.
    pub fn admits_answer(&self, now: u64) -> bool {
        self.counts(now, ANSWER_SECONDS)
    }

    /// Whether it was made less than so many seconds ago. One that seems to come from the future was made before the
    /// clock was set back.
    fn counts(&self, now: u64, seconds: u64) -> bool {
        let made_at = self.expires_at.saturating_sub(LIFETIME_SECONDS);
        now < made_at.saturating_add(seconds) && made_at <= now + CLOCK_DIFFERENCE_SECONDS
    }
}

/// The second part.
#[derive(Serialize, Deserialize)]
struct HeldCaller {
    /// The begin of the first part that it belongs to.
    of: String,
    /// What leads back to the caller.
    caller: CallerReference,
}

/// Makes a handle for a call of this caller, which was admitted.
pub async fn make(
    entra: &EntraWorld<'_>,
    caller: &dyn Caller,
    of: &HandleContent,
) -> Result<Secret<String>, StoreError> {
    let owner = |who: Identity<'_>| [who.tenant_id.to_owned(), who.object_id.to_owned(), who.client_id.to_owned()];
    let handle = Handle {
        of: of.clone(),
        owner: caller.identity().map(owner),
        trail: entra.trail.carry(),
        expires_at: entra.clock.now() + LIFETIME_SECONDS,
    };
    let first = entra.records.seal_for_host(&HANDLES, &handle).await?;
    let held = HeldCaller { of: code_of(&first).to_owned(), caller: caller.reference() };
    let second = entra.records.seal_for_host(&CALLERS, &held).await?;
    Ok(Secret::new(format!("{first}{SEPARATOR}{second}")))
}

/// Opens a handle, and goes on with the trail of its call. The second result leads back to the caller. `None` if the handle
/// was not made by this server, was altered, or if its time is up.
pub async fn open(entra: &EntraWorld<'_>, handle: &str) -> Result<Option<(Handle, CallerReference)>, StoreError> {
    let now = entra.clock.now();
    let opened = open_any(entra, handle).await?.filter(|opened| opened.counts(now, LIFETIME_SECONDS));
    let Some(opened) = opened else { return Ok(None) };
    Ok(caller_of(entra, handle).await?.map(|caller| (opened, caller)))
}

/// The first part of a handle of whatever age: what was used has to be recorded, however late that is known.
pub async fn open_any(entra: &EntraWorld<'_>, handle: &str) -> Result<Option<Handle>, StoreError> {
    let Some((first, _)) = handle.split_once(SEPARATOR) else { return Ok(None) };
    let opened = entra.records.open_from_host(&HANDLES, first).await?;
    if let Some(opened) = &opened {
        entra.trail.resume(&opened.trail);
    }
    Ok(opened)
}

/// What leads back to the caller of a handle whose first part was opened. `None` if the second one does not belong to it.
pub async fn caller_of(entra: &EntraWorld<'_>, handle: &str) -> Result<Option<CallerReference>, StoreError> {
    let Some((first, second)) = handle.split_once(SEPARATOR) else { return Ok(None) };
    let held = entra.records.open_from_host(&CALLERS, second).await?;
    Ok(held.filter(|held| held.of == code_of(first)).map(|held| held.caller))
}

fn code_of(first: &str) -> &str {
    first.get(..CODE_LENGTH).unwrap_or_default()
}

/// The answer to a handle that this server has not made, or not lately.
pub fn handle_invalid() -> DelegationError {
    DelegationError {
        category: DelegationErrorCategory::HandleInvalid,
        code: "handle-invalid".to_owned(),
        message: "The handle of the call is not valid any more".to_owned(),
        claims: None,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::encoding::{base64url, from_base64url};
    use caller::SessionCaller;
    use caller::session::Session;
    use world::Random as _;
    use world::testing::{World, run};

    use super::*;
    use crate::testing::{ServerWorlds as _, TestCaller};

    fn session() -> Session {
        Session {
            id: "session-1".to_owned(),
            client_id: "client".to_owned(),
            resource: "https://mcp.example.com/crm/mcp".to_owned(),
            scopes: vec!["User.Read".to_owned()],
            tenant_id: "tenant".to_owned(),
            object_id: "object".to_owned(),
            expires_at: 7,
            membership: Default::default(),
        }
    }

    #[test]
    fn a_handle_leads_back_to_caller_server_and_tool() {
        let env = World::default().remote().entra;
        let session = session();
        let of = HandleContent::of_tool("crm", "delete_record");
        let made = run(make(&env, &SessionCaller { env: &env, session: &session }, &of)).unwrap();
        let (handle, caller) = run(open(&env, made.reveal())).unwrap().unwrap();
        assert_eq!(handle.of, of);
        assert_eq!(handle.identity(), Some(session.identity()));
        let CallerReference::Session { id, scopes, expires_at } = caller else { panic!("a session") };
        assert_eq!((id, scopes, expires_at), (session.id, session.scopes, 7));
        assert_eq!(handle.of.targets().map(|target| target.name).collect::<Vec<_>>(), ["delete_record"]);
    }

    #[test]
    fn an_altered_handle_is_none() {
        let env = World::default().remote().entra;
        let made = run(make(&env, &TestCaller::user(), &HandleContent::of_tool("crm", "x"))).unwrap();
        for at in 0..made.reveal().len() {
            let mut altered = made.reveal().clone().into_bytes();
            altered[at] ^= 1;
            let altered = String::from_utf8(altered).unwrap();
            assert!(run(open(&env, &altered)).unwrap().is_none(), "byte {at}");
        }
        for text in ["", "?", "x", &"A".repeat(100), &"A".repeat(MAX_LENGTH + 4)] {
            assert!(run(open(&env, text)).unwrap().is_none());
        }
    }

    #[test]
    fn parts_of_two_handles_make_none() {
        let env = World::default().remote().entra;
        let made = |tool: &str| {
            let handle = run(make(&env, &TestCaller::user(), &HandleContent::of_tool("crm", tool))).unwrap();
            handle.reveal().clone()
        };
        let (one, other) = (made("list_records"), made("drop_records"));
        assert_eq!(one.len(), other.len());
        for at in 1..one.len() {
            let swapped = format!("{}{}", &one[..at], &other[at..]);
            if swapped != one && swapped != other {
                assert!(run(open(&env, &swapped)).unwrap().is_none(), "after {at} characters");
            }
        }
    }

    #[test]
    fn nothing_of_the_caller_can_be_read_in_a_handle() {
        let env = World::default().remote().entra;
        let token = "eyJhbGciOiJub25lIn0.eyJvaWQiOiJhbGljZSJ9.c2lnbmF0dXJl".to_owned();
        let bearer = TestCaller { token: token.clone(), ..TestCaller::user() };
        let session = PresentedSession { sealed: "what-the-client-has".to_owned(), id: "id-behind".to_owned() };
        let of = HandleContent { session: Some(session), ..HandleContent::of_tool("crm", "delete_record") };
        let made = run(make(&env, &bearer, &of)).unwrap();
        let (first, second) = made.reveal().split_once(SEPARATOR).unwrap();
        let (first, second) = (from_base64url(first).unwrap(), from_base64url(second).unwrap());
        let shown = [made.reveal().as_bytes(), &first, &second];
        for hidden in ["delete_record", "what-the-client-has", "id-behind", "eyJvaWQiOiJhbGljZSJ9", &token] {
            let is_shown = |text: &&[u8]| text.windows(hidden.len()).any(|part| part == hidden.as_bytes());
            assert!(!shown.iter().any(is_shown), "{hidden}");
        }
        let (_, caller) = run(open(&env, made.reveal())).unwrap().unwrap();
        let CallerReference::Bearer(held) = caller else { panic!("a token") };
        assert_eq!(*held.reveal(), token, "it is there all the same");
    }

    #[test]
    fn what_is_sealed_for_another_purpose_is_no_handle() {
        const OTHERS: SealedForHost<Handle> =
            SealedForHost::json(Partition::Application, "gate-handle-key", "entra-mcp gate-handle v2", MAX_LENGTH);
        let env = World::default().remote().entra;
        let made = run(make(&env, &TestCaller::user(), &HandleContent::of_tool("crm", "x"))).unwrap();
        let (handle, _) = run(open(&env, made.reveal())).unwrap().unwrap();
        let (first, second) = made.reveal().split_once(SEPARATOR).unwrap();
        let other = run(env.records.seal_for_host(&OTHERS, &handle)).unwrap();
        let plain = serde_json::to_string(&handle).unwrap();
        for made_up in [other, plain.clone(), format!("{}{plain}", "A".repeat(43)), base64url(plain.as_bytes())] {
            assert!(run(open_any(&env, &format!("{made_up}.{second}"))).unwrap().is_none(), "{made_up}");
        }
        for parts in [[second, first], [first, first], [second, second]] {
            assert!(run(open(&env, &parts.join("."))).unwrap().is_none(), "{parts:?}");
        }
    }

    #[test]
    fn a_record_needs_the_first_part_and_a_caller_the_second_one_of_the_same_handle() {
        let env = World::default().remote().entra;
        let made = |tool: &str| {
            let handle = run(make(&env, &TestCaller::user(), &HandleContent::of_tool("crm", tool))).unwrap();
            handle.reveal().clone()
        };
        let (one, other) = (made("list_records"), made("drop_records"));
        let (first, second) = one.split_once(SEPARATOR).unwrap();
        let foreign = other.split_once(SEPARATOR).unwrap().1;
        for second in ["", "AAAA", foreign] {
            let handle = format!("{first}.{second}");
            let opened = run(open_any(&env, &handle)).unwrap().unwrap();
            assert_eq!(opened.of, HandleContent::of_tool("crm", "list_records"));
            assert!(run(caller_of(&env, &handle)).unwrap().is_none());
            assert!(run(open(&env, &handle)).unwrap().is_none());
        }
        assert!(run(open(&env, &format!("{first}.{second}"))).unwrap().is_some());
    }

    #[test]
    fn a_handle_counts_for_ten_minutes() {
        let world = World::default();
        let env = world.remote().entra;
        let made = run(make(&env, &TestCaller::user(), &HandleContent::default())).unwrap();
        world.advance(Duration::from_secs(LIFETIME_SECONDS - 1));
        assert!(run(open(&env, made.reveal())).unwrap().is_some());
        world.advance(Duration::from_secs(1));
        assert!(run(open(&env, made.reveal())).unwrap().is_none());
    }

    #[test]
    fn a_handle_of_another_server_is_none() {
        let made = run(make(&World::default().remote().entra, &TestCaller::user(), &HandleContent::default())).unwrap();
        let other = World::default();
        // Another key: the randomness of a world is the same in each, so something else comes first.
        other.fill(&mut [0; 7]);
        assert!(run(open(&other.remote().entra, made.reveal())).unwrap().is_none());
    }

    #[test]
    fn a_token_of_the_longest_header_field_fits() {
        let env = World::default().remote().entra;
        let bearer = TestCaller { token: "x".repeat(32 * 1024), ..TestCaller::user() };
        let made = run(make(&env, &bearer, &HandleContent::of_tool("crm", "x"))).unwrap();
        let (_, caller) = run(open(&env, made.reveal())).unwrap().unwrap();
        let CallerReference::Bearer(token) = caller else { panic!("a token") };
        assert_eq!(token.reveal().len(), 32 * 1024);
    }

    #[test]
    fn a_later_call_knows_what_the_first_one_knew() {
        let world = World::default();
        let env = world.remote().entra;
        env.trail.set_address(Some("192.0.2.7"));
        let made = run(make(&env, &TestCaller::user(), &HandleContent::default())).unwrap();
        let later = world.remote().entra;
        assert_eq!(later.trail.address(), None);
        run(open(&later, made.reveal())).unwrap().unwrap();
        assert_eq!(later.trail.address().as_deref(), Some("192.0.2.7"));
        assert_eq!(later.trail.id(), env.trail.id());
    }
}
