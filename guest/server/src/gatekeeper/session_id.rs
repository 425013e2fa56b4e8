//! What a client has in place of the session id (`Mcp-Session-Id`) of a server behind.
//!
//! Threat: session ids of servers are often all it takes to continue another caller's session, and they end up in logs. So a
//! client gets them sealed, bound to the server, the caller, its client and its session: to any other caller, a sealed id is
//! an unknown one.

use base::Identity;
use caller::CallerReference;
use http::{HeaderMap, HeaderName};
use world::StoreError;
use world::records::{Partition, Records, Sealed};

use super::handle::PresentedSession;

/// The field in which the id comes and goes.
pub(super) const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// Characters of the longest id of a server behind: more than any server seen has, and within what is sealed.
const MAX_LENGTH: usize = 1024;

/// Ids as they go out.
const IDS: Sealed<String> = Sealed::json(Partition::Application, "gate-session-key");

/// What a request says of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presented {
    /// Nothing.
    None,
    /// This one, which is the caller's own.
    Own(PresentedSession),
    /// One that this caller does not have.
    Unknown,
    /// It names several.
    Malformed,
}

/// The caller's own session that a request names.
pub(super) async fn presented(
    records: &Records<'_>,
    server: &str,
    who: Identity<'_>,
    caller: &CallerReference,
    headers: &HeaderMap,
) -> Result<Presented, StoreError> {
    let mut fields = headers.get_all(MCP_SESSION_ID).iter();
    let sealed = match (fields.next(), fields.next()) {
        (None, _) => return Ok(Presented::None),
        (Some(_), Some(_)) => return Ok(Presented::Malformed),
        (Some(sealed), None) => sealed,
    };
    let Ok(sealed) = sealed.to_str() else { return Ok(Presented::Unknown) };
    let id = records.open(&IDS, &bound(server, who, caller), sealed).await?;
    Ok(id.map_or(Presented::Unknown, |id| Presented::Own(PresentedSession { sealed: sealed.to_owned(), id })))
}

/// Seals the id of a server behind for this caller. `None` for what is no id: it has to be visible ASCII.
pub(super) async fn seal(
    records: &Records<'_>,
    server: &str,
    who: Identity<'_>,
    caller: &CallerReference,
    id: &str,
) -> Result<Option<String>, StoreError> {
    if !(1..=MAX_LENGTH).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(None);
    }
    records.seal(&IDS, &bound(server, who, caller), &id.to_owned()).await.map(Some)
}

/// The purpose, and which server and caller a text is for. A token of Entra ID lives for an hour only, so a caller with
/// tokens is bound by its identity.
pub(super) fn bound(server: &str, who: Identity<'_>, caller: &CallerReference) -> Vec<u8> {
    let session = match caller {
        CallerReference::Session { id, .. } => ["session", id.as_str()],
        CallerReference::Bearer(_) => ["bearer", ""],
        CallerReference::Person => ["person", ""],
    };
    let Identity { tenant_id, object_id, client_id } = who;
    let [kind, session] = session;
    // As JSON, so that no part can reach into the next.
    serde_json::json!(["entra-mcp gate-session v1", server, tenant_id, object_id, client_id, kind, session])
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use base::Secret;
    use base::encoding::{base64url, from_base64url};
    use http::HeaderValue;
    use world::testing::{World, run};

    use super::*;
    use crate::testing::ServerWorlds as _;

    const ALICE: Identity<'static> = Identity { tenant_id: "tenant", object_id: "alice", client_id: "client" };

    fn of_session(id: &str) -> CallerReference {
        CallerReference::Session { id: id.to_owned(), scopes: Vec::new(), expires_at: 0 }
    }

    fn of_token() -> CallerReference {
        CallerReference::Bearer(Secret::from("a token"))
    }

    fn headers(ids: &[&str]) -> HeaderMap {
        ids.iter().map(|id| (MCP_SESSION_ID, HeaderValue::from_str(id).unwrap())).collect()
    }

    #[test]
    fn a_session_id_is_of_use_to_the_caller_that_it_was_given_to() {
        let env = World::default().remote().entra;
        let sealed = run(seal(&env.records, "crm", ALICE, &of_session("one"), "id-1")).unwrap().unwrap();
        assert!(!sealed.contains("id-1"));
        let open = |server: &str, who, caller: &CallerReference, text: &str| {
            run(presented(&env.records, server, who, caller, &headers(&[text]))).unwrap()
        };
        let own = Presented::Own(PresentedSession { sealed: sealed.clone(), id: "id-1".to_owned() });
        assert_eq!(open("crm", ALICE, &of_session("one"), &sealed), own);
        for (server, who, caller) in [
            ("mail", ALICE, of_session("one")),
            ("crm", Identity { object_id: "bob", ..ALICE }, of_session("one")),
            ("crm", Identity { tenant_id: "other", ..ALICE }, of_session("one")),
            ("crm", Identity { client_id: "other", ..ALICE }, of_session("one")),
            ("crm", ALICE, of_session("two")),
            ("crm", ALICE, of_token()),
            ("crm", ALICE, CallerReference::Person),
        ] {
            assert_eq!(open(server, who, &caller, &sealed), Presented::Unknown, "{server} {who:?} {caller:?}");
        }
    }

    #[test]
    fn a_session_id_that_this_server_has_not_sealed_is_unknown() {
        let env = World::default().remote().entra;
        let sealed = run(seal(&env.records, "crm", ALICE, &of_token(), "id-1")).unwrap().unwrap();
        let open = |ids: &[&str]| run(presented(&env.records, "crm", ALICE, &of_token(), &headers(ids))).unwrap();
        let bytes = from_base64url(&sealed).unwrap();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(open(&[&base64url(&altered)]), Presented::Unknown);
        }
        for id in ["", "id-1", "?", &"A".repeat(10_000)] {
            assert_eq!(open(&[id]), Presented::Unknown);
        }
        assert_eq!(open(&[]), Presented::None);
        assert_eq!(open(&[&sealed, &sealed]), Presented::Malformed);
    }

    #[test]
    fn what_is_no_session_id_is_not_sealed() {
        let env = World::default().remote().entra;
        let sealed = |id: &str| run(seal(&env.records, "crm", ALICE, &of_token(), id)).unwrap();
        assert!(sealed(&"x".repeat(MAX_LENGTH)).is_some());
        for id in ["", "a b", "a\r\nb", "ü", "\u{7f}", &"x".repeat(MAX_LENGTH + 1)] {
            assert_eq!(sealed(id), None, "{id:?}");
        }
    }
}
