//! Sessions without the endpoints around them: what opens one, what ends one, and which call refreshes the Entra ID
//! tokens.

use std::rc::Rc;
use std::time::Duration;

use base::principal::Groups;
use entra::AcquireError;
use entra::graph::GraphChallenge;
use entra::oauth::OAuthError;
use entra::testing::{EntraWorlds as _, change};
use serde_json::json;
use world::testing;
use world::testing::{World, run};

use super::entra_tokens::{self, EntraTokens, Wanted};
use super::lifecycle::{self, Beginning};
use super::refresh::{self, RefreshError};
use super::*;

mod behind;
mod repeated;

const RESOURCE: &str = "https://mcp.example.com/mcp";
/// So long after it was replaced, a refresh token gets no answer any more.
const AFTER_GRACE: Duration = world::testing::REFRESH_GRACE.saturating_add(Duration::from_secs(1));
/// Life of the first token of Entra ID, in seconds.
const ENTRA_LIFETIME: u64 = 4000;

fn owner() -> Owner {
    Owner { client_id: "client".to_owned(), tenant_id: "tenant".to_owned(), object_id: "object".to_owned() }
}

fn beginning(env: &EntraWorld<'_>, refresh_token: Option<&str>) -> Beginning {
    Beginning {
        username: None,
        owner: owner(),
        resource: RESOURCE.to_owned(),
        scopes: vec!["User.Read".to_owned()],
        tokens: EntraTokens {
            access_token: Secret::from("entra-1"),
            expires_at: env.clock.now() + ENTRA_LIFETIME,
            refresh_token: refresh_token.map(Secret::from),
            membership: Membership::at(env.clock.now(), &[], Groups::Absent),
        },
    }
}

struct Begun {
    world: World,
    env: EntraWorld<'static>,
    id: String,
    tokens: IssuedTokens,
}

fn begin_with(refresh_token: Option<&str>) -> Begun {
    let world = World::default();
    let env = world.entra_remote();
    let (id, tokens) = run(lifecycle::begin(&env, beginning(&env, refresh_token))).unwrap();
    Begun { world, env, id, tokens }
}

fn begin() -> Begun {
    begin_with(Some("refresh-1"))
}

fn begin_without_grace() -> Begun {
    let mut begun = begin();
    change(&mut begun.env, |settings| remote(settings).refresh_grace = Duration::ZERO);
    begun
}

/// The settings of the remote server.
fn remote(settings: &mut base::settings::Settings) -> &mut base::settings::HttpSettings {
    let base::settings::Mode::Remote(http) = &mut settings.mode else { panic!("the settings are of another mode") };
    http
}

impl Begun {
    fn authenticate(&self, token: &Secret<String>) -> Result<Session, SessionError> {
        run(authenticate(&self.env, token, &[RESOURCE]))
    }

    fn refresh(&self, token: &Secret<String>) -> Result<IssuedTokens, RefreshError> {
        run(refresh::refresh(&self.env, token, "client", None, None))
    }

    fn live(&self, challenge: Option<&GraphChallenge>) -> Result<String, AcquireError> {
        let wanted = challenge.map_or(Wanted::Live, Wanted::Other);
        let tokens = run(entra_tokens::live(&self.env, &self.id, &owner(), wanted))?;
        Ok(tokens.access_token.reveal().clone())
    }

    /// Lets the token of Entra ID come near its end, and Entra ID give new ones: `entra-2`, `entra-3` …
    fn grow_old(&self) {
        self.world.advance(Duration::from_secs(ENTRA_LIFETIME - 100));
        let mut number = 1;
        self.world.always(move |_| {
            number += 1;
            Ok(fresh(number))
        });
    }

    fn entra_record(&self) -> String {
        world::testing::record(self.env.settings, &format!("session-entra/{}", self.id))
    }

    fn lease_record(&self) -> String {
        world::testing::record(self.env.settings, &format!("session-refreshing/{}", self.id))
    }

    /// Keeps the records for ever, so that their own dates count.
    fn forget_ttl(&self) {
        for name in self.world.record_names() {
            let raw = self.world.get(&name).unwrap().unwrap();
            self.world.put(&name, raw.reveal(), None).unwrap();
        }
    }

    fn ended(&self) -> Vec<String> {
        let audited = self.world.audited().into_iter();
        audited.filter(|event| event.name == "session.revoked").filter_map(|event| event.reason).collect()
    }
}

fn fresh(number: u32) -> http::Response<Vec<u8>> {
    let body = json!({
        "token_type": "Bearer", "access_token": format!("entra-{number}"), "expires_in": 4000,
        "refresh_token": format!("refresh-{number}"),
    });
    testing::json(200, &body)
}

fn is_over(result: Result<String, AcquireError>) -> bool {
    matches!(result, Err(AcquireError::NeedsPerson { .. }))
}

#[test]
fn an_access_token_opens_its_session_and_says_whose_it_is() {
    let begun = begin();
    let session = begun.authenticate(&begun.tokens.access_token).unwrap();
    assert_eq!((session.id.as_str(), session.owner(), session.resource.as_str()), (&*begun.id, owner(), RESOURCE));
    assert_eq!(begun.tokens.expires_in, 3600);
    let shown = format!("{:?} {session:?}", begun.tokens);
    assert!(!shown.contains(begun.tokens.access_token.reveal().as_str()), "{shown}");
    let kept: Vec<String> = begun.world.record_names();
    assert!(kept.iter().all(|name| !name.contains(begun.tokens.refresh_token.reveal().as_str())));
}

#[test]
fn no_other_token_opens_it() {
    let begun = begin();
    let access = begun.tokens.access_token.reveal();
    let flipped = format!("{}{}", &access[..63], if access.ends_with('A') { 'B' } else { 'A' });
    for token in ["", "x", &flipped, &access[..63], &format!("{access}A"), begun.tokens.refresh_token.reveal()] {
        assert_eq!(begun.authenticate(&Secret::from(token)), Err(SessionError::Unknown), "{token}");
    }
    let elsewhere = run(authenticate(&begun.env, &begun.tokens.access_token, &["https://mcp.example.com/sse"]));
    assert_eq!(elsewhere, Err(SessionError::WrongResource));
    assert_eq!(run(authenticate(&begun.env, &begun.tokens.access_token, &[])), Err(SessionError::WrongResource));
    begun.world.fail_store(0);
    assert!(matches!(begun.authenticate(&begun.tokens.access_token), Err(SessionError::Store(_))));
}

#[test]
fn an_access_token_ends_and_does_not_come_back_with_the_clock() {
    let begun = begin();
    begun.world.advance(Duration::from_secs(3599));
    assert!(begun.authenticate(&begun.tokens.access_token).is_ok());
    begun.world.advance(Duration::from_secs(1));
    assert_eq!(begun.authenticate(&begun.tokens.access_token), Err(SessionError::Expired));

    let world = World::default();
    world.advance(Duration::from_secs(7200));
    let env = world.entra_remote();
    let (_, tokens) = run(lifecycle::begin(&env, beginning(&env, None))).unwrap();
    world.set_back(Duration::from_secs(3600));
    assert_eq!(run(authenticate(&env, &tokens.access_token, &[RESOURCE])), Err(SessionError::Expired));
}

#[test]
fn an_access_token_never_outlives_the_entra_token() {
    let world = World::default();
    let env = world.entra_remote();
    let mut beginning = beginning(&env, None);
    beginning.tokens.expires_at = env.clock.now() + 900;
    let (_, tokens) = run(lifecycle::begin(&env, beginning)).unwrap();
    assert_eq!(tokens.expires_in, 900);
}

#[test]
fn a_session_that_is_not_refreshed_for_thirty_days_is_over() {
    let begun = begin();
    begun.world.always(|_| Ok(fresh(2)));
    begun.forget_ttl();
    begun.world.advance(Duration::from_secs(30 * 24 * 3600));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Unknown);
    assert!(begun.world.sent().is_empty());
}

#[test]
fn a_session_is_over_after_ninety_days_however_busy_it_is() {
    let begun = begin();
    begun.world.always(|_| Ok(fresh(2)));
    let mut token = begun.tokens.refresh_token.clone();
    for _ in 0..4 {
        begun.world.advance(Duration::from_secs(20 * 24 * 3600));
        token = begun.refresh(&token).unwrap().refresh_token;
    }
    begun.forget_ttl();
    begun.world.advance(Duration::from_secs(10 * 24 * 3600));
    assert_eq!(begun.refresh(&token).unwrap_err(), RefreshError::Unknown);
}

#[test]
fn requests_under_way_keep_their_token_through_some_refreshes() {
    let begun = begin();
    let mut newest = begun.tokens.refresh_token.clone();
    for _ in 0..3 {
        newest = begun.refresh(&newest).unwrap().refresh_token;
        assert!(begun.authenticate(&begun.tokens.access_token).is_ok());
    }
    begun.refresh(&newest).unwrap();
    assert_eq!(begun.authenticate(&begun.tokens.access_token), Err(SessionError::Unknown), "four are kept");
}

#[test]
fn a_refresh_is_refused_with_its_reason() {
    let begun = begin();
    let refresh = |token: &Secret<String>, client: &str, scopes: Option<&[String]>, resource: Option<&str>| {
        run(refresh::refresh(&begun.env, token, client, scopes, resource)).unwrap_err()
    };
    let token = &begun.tokens.refresh_token;
    let wide = ["User.Read".to_owned(), "Mail.Read".to_owned()];
    assert_eq!(refresh(&Secret::from("x"), "client", None, None), RefreshError::Unknown);
    assert_eq!(refresh(token, "another", None, None), RefreshError::Unknown);
    assert_eq!(refresh(&begun.tokens.access_token, "client", None, None), RefreshError::Unknown);
    assert_eq!(refresh(token, "client", Some(&wide), None), RefreshError::WiderScope);
    assert_eq!(refresh(token, "client", None, Some("https://mcp.example.com")), RefreshError::WrongResource);
    let renewed = begun.refresh(token).unwrap();
    begun.world.advance(AFTER_GRACE);
    assert_eq!(refresh(token, "client", None, None), RefreshError::Reused);
    assert_eq!(refresh(&renewed.refresh_token, "client", None, None), RefreshError::Unknown);
    assert_eq!(begun.authenticate(&renewed.access_token), Err(SessionError::Unknown));
    assert_eq!(begun.ended(), ["refresh-token-reused"]);
    assert_eq!(begun.world.record_names(), [""; 0]);
}

/// The holder of an access token, even an expired one, knows the session's id and nothing else of a refresh token.
#[test]
fn what_never_was_a_refresh_token_ends_no_session() {
    let begun = begin();
    let renewed = begun.refresh(&begun.tokens.refresh_token).unwrap();
    let (access, refresh) = (renewed.access_token.reveal(), renewed.refresh_token.reveal());
    let parts = |text: &str| base::encoding::from_base64url(text).unwrap();
    let (access, refresh) = (parts(access), parts(refresh));
    let (id, family, secret) = (&refresh[..16], &refresh[16..34], &refresh[34..]);
    assert_eq!((id, refresh.len()), (&access[..16], 66));
    let made_up = [
        [id, &[7; 18], &[7; 32]].concat(),
        [id, &[7; 18], secret].concat(),
        [id, &access[16..34], &access[16..]].concat(),
        [id, &[7; 32]].concat(),
        [id, secret].concat(),
        access.clone(),
    ];
    for bytes in made_up {
        let token = Secret::new(base::encoding::base64url(&bytes));
        assert_eq!(begun.refresh(&token).unwrap_err(), RefreshError::Unknown, "{bytes:?}");
        assert_eq!(begun.ended(), [""; 0]);
    }
    // A family with another secret was a refresh token once.
    let stolen = Secret::new(base::encoding::base64url(&[id, family, &[7; 32]].concat()));
    assert_eq!(begun.refresh(&stolen).unwrap_err(), RefreshError::Reused);
    assert_eq!(begun.ended(), ["refresh-token-reused"]);
}

#[test]
fn a_refresh_that_could_not_be_stored_says_so_in_the_record_and_costs_nothing() {
    // Reading the session, reading the tokens of Entra ID, making the key of audit records; then keeping the answer,
    // writing the session.
    for failing in [4, 5] {
        let begun = begin();
        begun.world.fail_store(failing);
        let failed = begun.refresh(&begun.tokens.refresh_token).unwrap_err();
        assert!(matches!(failed, RefreshError::Acquire(AcquireError::Store(_))));
        let last = begun.world.audited().pop().unwrap();
        assert_eq!(
            (last.name, last.outcome, last.reason.as_deref()),
            ("session.refreshed", Outcome::Failure, Some("store"))
        );
        assert!(begun.refresh(&begun.tokens.refresh_token).is_ok());
    }
}

#[test]
fn without_a_grace_none_of_two_refreshes_at_once_survives() {
    for at in 0..3 {
        let begun = Rc::new(begin_without_grace());
        let other = Rc::clone(&begun);
        begun.world.interrupt_store(at, move || {
            other.refresh(&other.tokens.refresh_token).unwrap();
        });
        assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused, "before {at}");
        assert_eq!(begun.world.record_names(), [""; 0]);
    }
}

#[test]
fn a_session_that_cannot_be_stored_never_began() {
    for failing in 0.. {
        let world = World::default();
        let env = world.entra_remote();
        world.fail_store(failing);
        let begun = run(lifecycle::begin(&env, beginning(&env, None)));
        if !world.heal_store() {
            assert!(begun.is_ok() && failing >= 3);
            break;
        }
        assert!(matches!(begun, Err(AcquireError::Store(_))), "operation {failing}");
        assert_eq!(world.record_names(), [""; 0], "operation {failing}");
    }
}

/// As after a revocation that the store has broken off in the middle.
#[test]
fn a_session_whose_entra_tokens_are_gone_is_over_as_a_whole() {
    let begun = begin();
    begun.world.delete(&begun.entra_record()).unwrap();
    assert!(is_over(begun.live(None)));
    assert_eq!(begun.authenticate(&begun.tokens.access_token), Err(SessionError::Unknown));
    assert!(is_over(begun.live(None)));
    assert_eq!(begun.ended(), ["entra-tokens-gone"], "recorded once");
}

#[test]
fn a_revocation_that_breaks_off_can_be_repeated() {
    for failing in 0..3 {
        let begun = begin();
        begun.world.fail_store(failing);
        let revoke = || run(lifecycle::revoke(&begun.env, &begun.tokens.refresh_token, "client"));
        assert!(matches!(revoke(), Err(AcquireError::Store(_))), "operation {failing}");
        assert_eq!(revoke(), Ok(true));
        assert_eq!(revoke(), Ok(false));
        let recorded = [&["store".to_owned()][..usize::from(failing > 0)], &["revoked-by-client".to_owned()]].concat();
        assert_eq!((begun.ended(), begun.world.record_names()), (recorded, vec![]));
    }
}

/// As a store that waits for replicas, and does not hear of them.
#[test]
fn a_session_that_the_store_has_removed_without_saying_so_has_a_record_of_its_end() {
    let begun = Rc::new(begin());
    // Reading the session, and removing the tokens of Entra ID.
    begun.world.fail_store(2);
    let (other, session) = (Rc::clone(&begun), testing::record(begun.env.settings, &format!("session/{}", begun.id)));
    begun.world.interrupt_store(2, move || other.world.delete(&session).unwrap());
    let revoke = || run(lifecycle::revoke(&begun.env, &begun.tokens.refresh_token, "client"));
    assert!(matches!(revoke(), Err(AcquireError::Store(_))));
    assert_eq!(revoke(), Ok(false));
    let last = begun.world.audited().pop().unwrap();
    assert_eq!((last.name, last.outcome, last.reason.as_deref()), ("session.revoked", Outcome::Failure, Some("store")));
}

#[test]
fn a_token_with_a_made_up_secret_revokes_nothing() {
    let begun = begin();
    let made_up = format!("{}{}", &begun.tokens.refresh_token.reveal()[..22], "A".repeat(42));
    assert_eq!(run(lifecycle::revoke(&begun.env, &Secret::from(made_up.as_str()), "client")), Ok(false));
    assert!(begun.authenticate(&begun.tokens.access_token).is_ok());
}

#[test]
fn a_session_ends_even_if_that_cannot_be_recorded() {
    let begun = begin();
    begun.world.refuse_audit(true);
    let revoked = run(lifecycle::revoke(&begun.env, &begun.tokens.refresh_token, "client"));
    assert_eq!(revoked, Err(AcquireError::Unrecorded(world::Unrecorded)));
    assert_eq!(begun.world.record_names(), [""; 0]);
}

#[test]
fn a_session_of_an_earlier_version_has_no_roles_until_it_is_refreshed() {
    let begun = begin();
    let session_record = world::testing::record(begun.env.settings, &format!("session/{}", begun.id));
    for (name, place) in [(session_record, ""), (begun.entra_record(), "/tokens")] {
        let raw = begun.world.get(&name).unwrap().unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(raw.reveal()).unwrap();
        let fields = record.pointer_mut(place).and_then(serde_json::Value::as_object_mut).unwrap();
        assert!(fields.remove("membership").is_some(), "{name}");
        begun.world.put(&name, record.to_string().as_bytes(), None).unwrap();
    }
    let session = begun.authenticate(&begun.tokens.access_token).unwrap();
    assert_eq!(session.membership, Membership::default());
    assert_eq!(begun.live(None), Ok("entra-1".to_owned()), "Entra ID is not asked for the sake of roles");
    begun.world.always(|_| Ok(fresh(2)));
    assert!(begun.refresh(&begun.tokens.refresh_token).is_ok());
    assert_eq!(begun.live(None), Ok("entra-2".to_owned()), "but when the client refreshes");
}

#[test]
fn a_call_with_known_roles_reads_the_store_as_often_as_ever() {
    use entra::graph::TokenSource as _;
    let begun = begin();
    let session = begun.authenticate(&begun.tokens.access_token).unwrap();
    let before = begun.world.store_operations();
    let scope = entra::graph::profile::profile_scope(begun.env.settings);
    run(graph::tokens(&begun.env, &session, scope).token(None)).unwrap();
    assert_eq!(begun.world.store_operations() - before, 1);
}

#[test]
fn an_outage_of_entra_does_not_keep_a_session_from_being_refreshed() {
    let begun = begin();
    begun.world.advance(Duration::from_secs(3500));
    begun.world.always(|_| Ok(testing::json(503, &json!({}))));
    assert!(begun.refresh(&begun.tokens.refresh_token).is_ok(), "the token of Entra ID is good for some minutes");
}

/// A call that was under way for long must not bring back what a later answer of Entra ID has taken away.
#[test]
fn what_entra_said_before_never_replaces_what_it_said_later() {
    let begun = begin();
    let session = begun.authenticate(&begun.tokens.access_token).unwrap();
    let now = begun.env.clock.now();
    let said = |seconds: u64, role: &str| Membership::at(now + seconds, &[role], Groups::Absent);
    let noted = |membership: &Membership| {
        run(lifecycle::note(&begun.env.records, &session, membership));
        begun.authenticate(&begun.tokens.access_token).unwrap().membership
    };
    assert_eq!(noted(&said(1, "Old")), said(1, "Old"));
    assert_eq!(noted(&said(2, "New")), said(2, "New"));
    assert_eq!(noted(&said(1, "Old")), said(2, "New"));
}

#[test]
fn a_tenant_that_is_not_let_in_any_more_has_no_sessions() {
    let mut begun = begin();
    change(&mut begun.env, |settings| settings.token.allowed_tenants = vec!["another".to_owned(), "tenant".to_owned()]);
    assert!(begun.authenticate(&begun.tokens.access_token).is_ok());
    change(&mut begun.env, |settings| drop(settings.token.allowed_tenants.pop()));
    assert_eq!(begun.authenticate(&begun.tokens.access_token), Err(SessionError::Unknown));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Unknown);
    assert_eq!(begun.ended(), ["tenant-not-allowed"]);
    assert_eq!(begun.world.record_names(), [""; 0]);
    assert_eq!(begun.world.sent(), [""; 0]);
}

/// Entra ID cannot be asked whether the person still has them: the person signs in again.
#[test]
fn roles_and_groups_of_a_session_without_a_refresh_token_end_with_it() {
    for (membership, survives) in [
        (Membership::at(0, &[], Groups::Absent), true),
        (Membership::at(0, &["Mcp.Admin"], Groups::Absent), false),
        (Membership::at(0, &[], Groups::Listed(vec!["group".to_owned()])), false),
        (Membership::at(0, &[], Groups::Overage), true),
    ] {
        let world = World::default();
        let env = world.entra_remote();
        let mut beginning = beginning(&env, None);
        beginning.tokens.membership = membership.clone();
        // As with continuous access evaluation: the token of Entra ID lives for a day.
        beginning.tokens.expires_at = env.clock.now() + 86_400;
        let (_, tokens) = run(lifecycle::begin(&env, beginning)).unwrap();
        world.advance(Duration::from_secs(3600));
        let refreshed = run(refresh::refresh(&env, &tokens.refresh_token, "client", None, None));
        assert_eq!(refreshed.is_ok(), survives, "{membership:?}");
        assert_eq!(world.record_names().is_empty(), !survives, "{membership:?}");
    }
}
