//! What a client has in place of the ids of events (`id:` in a stream, `Last-Event-ID`) of a server behind.
//!
//! Threat: the id of an event is often all it takes to have a stream repeated, and servers behind know no callers. So the
//! host puts a tag before each id, made with a key of the caller, and only an id with the caller's own tag goes back.
//! The key is of the same server, caller, client and session as a sealed session id is.

use base::Secret;
use base::encoding::{base64url, same_secret};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use world::StoreError;
use world::records::derived::mac;
use world::records::{KeyRecord, Namespace, Partition, Records, Ttl};

/// The field in which the id comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What the keys of callers are derived from.
const KEY: KeyRecord = Namespace::bytes(Partition::Application, "gate-event-key", Ttl::Kept);
/// Bytes of a tag: a guess is right once in 2^128.
const TAG_BYTES: usize = 16;
/// Stands between the tag and the id.
const SEPARATOR: u8 = b'.';

/// What a request says of the event that it goes on after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LastEvent {
    /// Nothing.
    None,
    /// This one, as the server behind knows it.
    Own(HeaderValue),
    /// One that this caller was not given.
    Unknown,
}

/// The key of the tags of a caller.
pub(super) async fn key(records: &Records<'_>, bound: &[u8]) -> Result<Secret<Vec<u8>>, StoreError> {
    records.derived_key(&KEY, bound).await
}

/// The caller's own event that a request names.
pub(super) fn presented(key: &Secret<Vec<u8>>, headers: &HeaderMap) -> LastEvent {
    let mut fields = headers.get_all(LAST_EVENT_ID).iter();
    let tagged = match (fields.next(), fields.next()) {
        (None, _) => return LastEvent::None,
        (Some(tagged), None) => tagged.as_bytes(),
        (Some(_), Some(_)) => return LastEvent::Unknown,
    };
    let id = tagged.iter().position(|byte| *byte == SEPARATOR).and_then(|at| {
        let (given, id) = (tagged.get(..at)?, tagged.get(at.checked_add(1)?..)?);
        (!id.is_empty() && same_secret(given, tag(key, id).as_bytes())).then(|| HeaderValue::from_bytes(id).ok())?
    });
    id.map_or(LastEvent::Unknown, LastEvent::Own)
}

/// Sets the field of an outgoing request.
pub(super) fn set(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(LAST_EVENT_ID, id);
}

/// What stands before an id, without the separator. The host makes it.
fn tag(key: &Secret<Vec<u8>>, id: &[u8]) -> String {
    base64url(mac(key, id).get(..TAG_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use world::testing::{World, run};

    use super::*;
    use crate::testing::ServerWorlds as _;

    fn headers(ids: &[&[u8]]) -> HeaderMap {
        ids.iter().map(|id| (LAST_EVENT_ID, HeaderValue::from_bytes(id).unwrap())).collect()
    }

    #[test]
    fn an_id_goes_back_from_the_caller_that_has_it_only() {
        let env = World::default().remote().entra;
        let key = |of: &str| run(super::key(&env.records, of.as_bytes())).unwrap();
        let (alice, bob) = (key("alice"), key("bob"));
        assert_eq!(alice.reveal(), key("alice").reveal(), "another instance has the same");
        for id in ["7", "stream.7", "é", &"x".repeat(1024)] {
            let tagged = [tag(&alice, id.as_bytes()).as_bytes(), b".", id.as_bytes()].concat();
            let own = LastEvent::Own(HeaderValue::from_bytes(id.as_bytes()).unwrap());
            assert_eq!(presented(&alice, &headers(&[&tagged])), own);
            assert_eq!(presented(&bob, &headers(&[&tagged])), LastEvent::Unknown);
            assert_eq!(presented(&alice, &headers(&[&tagged, &tagged])), LastEvent::Unknown);
            for at in 0..tagged.len().min(30) {
                let mut altered = tagged.clone();
                altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(presented(&alice, &headers(&[&altered])), LastEvent::Unknown, "byte {at}");
            }
        }
        for id in [&b""[..], b".", b"7", b".7", b"tag.", tag(&alice, b"").as_bytes()] {
            assert_eq!(presented(&alice, &headers(&[id])), LastEvent::Unknown);
        }
        assert_eq!(presented(&alice, &HeaderMap::new()), LastEvent::None);
    }

    /// The host makes tags in the same way: `host/boundary/src/event_ids.rs` has the same example.
    #[test]
    fn a_tag_is_the_begin_of_an_hmac() {
        assert_eq!(tag(&Secret::new(vec![7; 32]), b"event-1"), "gLJF-by1AkDWlQazjk28tQ");
    }
}
