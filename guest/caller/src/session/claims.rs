//! What Entra ID or Microsoft Graph wants to see in the next sign-in of a person with a client: a claims challenge that
//! has ended a session.
//!
//! The server cannot ask a person while a call of a tool runs, and at `/authorize` it does not know yet which person
//! will sign in. So the claims wait in the store, under the person and the client, until that person is back from Entra
//! ID: see `authorization_server/callback.rs`. They come from Entra ID and Graph alone, never from a client or a
//! browser.

use world::StoreError;
use world::records::{Namespace, Partition, Records, Ttl};

use super::Owner;
use crate::claims::{LIFETIME, are_usable};

/// By [`key`].
const CLAIMS: Namespace<String> =
    Namespace::text(Partition::Application, "claims", Ttl::For(LIFETIME)).hashed().absent_if_unreadable();

/// Keeps claims for the next sign-in of `owner`. Without them it takes one more challenge, so a store that fails here
/// spoils nothing.
pub(crate) async fn want(records: &Records<'_>, owner: &Owner, claims: &str) {
    if are_usable(claims) {
        let _ = records.put(&CLAIMS, &key(owner), &claims.to_owned()).await;
    }
}

/// The claims that are wanted of `owner`, a JSON object.
pub async fn wanted(records: &Records<'_>, owner: &Owner) -> Result<Option<String>, StoreError> {
    records.get(&CLAIMS, &key(owner)).await
}

/// `owner` has signed in with these claims. Others, that are wanted since, stay. What cannot be removed now is asked for
/// once more.
pub async fn satisfied(records: &Records<'_>, owner: &Owner, claims: &str) {
    if wanted(records, owner).await.is_ok_and(|wanted| wanted.as_deref() == Some(claims)) {
        let _ = records.delete(&CLAIMS, &key(owner)).await;
    }
}

/// A person of a client has a record of their own: the parts are quoted, so none of them can pass for two.
fn key(owner: &Owner) -> String {
    let Owner { client_id, tenant_id, object_id } = owner;
    format!("{tenant_id:?} {object_id:?} {client_id:?}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use entra::testing::EntraWorlds as _;

    use super::*;
    use world::testing::{World, run};

    const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

    fn owner(tenant_id: &str, object_id: &str, client_id: &str) -> Owner {
        Owner { client_id: client_id.to_owned(), tenant_id: tenant_id.to_owned(), object_id: object_id.to_owned() }
    }

    #[test]
    fn claims_are_of_one_person_and_one_client_for_ten_minutes() {
        let world = World::default();
        let env = world.entra_remote();
        let alice = owner("t", "alice", "client");
        run(want(&env.records, &alice, CLAIMS));
        for other in [
            owner("t", "bob", "client"),
            owner("other", "alice", "client"),
            owner("t", "alice", "other"),
            owner("t", "alice\" \"client", ""),
        ] {
            assert_eq!(run(wanted(&env.records, &other)), Ok(None));
        }
        world.advance(LIFETIME - Duration::from_secs(1));
        assert_eq!(run(wanted(&env.records, &alice)), Ok(Some(CLAIMS.to_owned())));
        world.advance(Duration::from_secs(1));
        assert_eq!(run(wanted(&env.records, &alice)), Ok(None));
    }

    #[test]
    fn claims_are_wanted_until_a_sign_in_has_carried_them() {
        let world = World::default();
        let env = world.entra_remote();
        let alice = owner("t", "alice", "client");
        run(want(&env.records, &alice, CLAIMS));
        run(satisfied(&env.records, &alice, r#"{"access_token":{}}"#));
        assert_eq!(run(wanted(&env.records, &alice)), Ok(Some(CLAIMS.to_owned())));
        run(satisfied(&env.records, &alice, CLAIMS));
        assert_eq!(run(wanted(&env.records, &alice)), Ok(None));
    }

    #[test]
    fn what_is_no_json_object_or_too_long_for_a_url_is_not_kept() {
        let world = World::default();
        let env = world.entra_remote();
        let long = format!(r#"{{"access_token":{{"x":"{}"}}}}"#, "x".repeat(crate::claims::MAX_BYTES));
        for claims in ["", "[]", "text", "{", long.as_str()] {
            run(want(&env.records, &owner("t", "alice", "client"), claims));
        }
        assert_eq!(world.record_names(), [""; 0]);
    }
}
