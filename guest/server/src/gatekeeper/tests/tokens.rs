//! Tokens in the name of the handle's caller, and of no other.

use std::time::Duration;

use caller::testing::PersonWorlds as _;
use entra::testing::{app_claims, user_claims};
use world::provided_tools::DelegationErrorCategory as Category;
use world::testing::json as response;

use super::*;
use crate::gatekeeper::handle::HandleContent;

const TOKEN_ENDPOINT: &str = "/oauth2/v2.0/token";

impl Lab {
    fn grants(&self, status: u16, body: &Value) {
        self.authority.publish(TOKEN_ENDPOINT, response(status, body));
    }

    fn grants_token(&self, token: &str) {
        let body = json!({
            "token_type": "Bearer", "access_token": token, "expires_in": 4000, "refresh_token": "refresh-2",
        });
        self.grants(200, &body);
    }

    fn token(&self, handle: &Secret<String>, permissions: &[&str]) -> Result<String, (Category, String)> {
        self.other_token(handle, permissions, None)
    }

    fn other_token(
        &self,
        handle: &Secret<String>,
        permissions: &[&str],
        challenge: Option<&TokenChallenge>,
    ) -> Result<String, (Category, String)> {
        let permissions: Vec<_> = permissions.iter().map(|text| (*text).to_owned()).collect();
        let token = run(delegated_token(&self.later(), handle.reveal(), &permissions, challenge));
        token.map(|token| token.reveal().clone()).map_err(|error| (error.category, error.code))
    }

    fn handle(&self, by: &Secret<String>) -> Secret<String> {
        self.grant(self.call(by, "list")).handle
    }

    /// The scope and the assertion or refresh token of the latest request to Entra ID.
    fn asked(&self) -> (String, String) {
        let body = self.world().sent_bodies().pop().unwrap();
        let find = |wanted: &[&str]| {
            let mut pairs = url::form_urlencoded::parse(body.as_bytes());
            pairs
                .find(|(name, _)| wanted.contains(&name.as_ref()))
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        (find(&["scope"]), find(&["assertion", "refresh_token"]))
    }
}

#[test]
fn a_session_gets_a_token_for_one_combination_of_its_server() {
    let lab = Lab::open();
    lab.grants_token("for-crm");
    let handle = lab.handle(&lab.alice);
    assert_eq!(lab.token(&handle, &["api://crm/Read", "api://crm/Write"]), Ok("for-crm".to_owned()));
    let (scope, used) = lab.asked();
    assert_eq!(used, "refresh-1");
    assert!(scope.starts_with("api://crm/Read api://crm/Write"), "{scope}");
}

#[test]
fn the_order_of_permissions_has_no_meaning_and_entra_id_is_asked_once() {
    let lab = Lab::open();
    lab.grants_token("for-crm");
    let handle = lab.handle(&lab.alice);
    for permissions in [["api://crm/Write", "api://crm/Read"], ["api://crm/Read", "api://crm/Write"]] {
        assert_eq!(lab.token(&handle, &permissions), Ok("for-crm".to_owned()));
    }
    assert_eq!(lab.world().sent().len(), 1);
}

#[test]
fn permissions_that_are_not_a_combination_of_the_server_are_not_granted() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.alice);
    for permissions in [
        &[][..],
        &["api://crm/Read"],
        &["api://crm/Read", "api://crm/Write", MAIL],
        &["Mail.Read"],
        &["https://graph.microsoft.com/mail.read"],
        &["https://graph.microsoft.com/Mail.ReadWrite"],
        &["https://graph.microsoft.com/Mail.Read offline_access"],
    ] {
        let denied = (Category::NotGranted, "not-granted".to_owned());
        assert_eq!(lab.token(&handle, permissions), Err(denied), "{permissions:?}");
    }
    assert_eq!(lab.world().sent(), [""; 0], "Entra ID was not asked");
}

#[test]
fn a_handle_of_a_server_without_permissions_gets_nothing() {
    let mut lab = Lab::open();
    change(&mut lab.env, |settings| settings.servers[0].permissions.clear());
    let handle = lab.handle(&lab.alice);
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::NotGranted, "not-granted".to_owned())));
}

#[test]
fn an_altered_or_late_handle_gets_nothing() {
    let lab = Lab::open();
    let invalid = Err((Category::HandleInvalid, "handle-invalid".to_owned()));
    for handle in ["", "x", lab.alice.reveal()] {
        assert_eq!(lab.token(&Secret::from(handle), &[MAIL]), invalid);
    }
    let handle = lab.handle(&lab.alice);
    lab.world().advance(Duration::from_secs(600));
    assert_eq!(lab.token(&handle, &[MAIL]), invalid);
}

#[test]
fn a_session_that_has_ended_gets_nothing() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.alice);
    super::answers::end_sessions(&lab);
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::NeedsPerson, "session-ended".to_owned())));
}

#[test]
fn a_bearer_gets_a_token_on_behalf_of_the_token_that_it_brought() {
    let lab = Lab::open();
    let token = lab.sign(&user_claims_for_us());
    let handle = lab.handle(&token);
    lab.grants_token("exchanged");
    assert_eq!(lab.token(&handle, &[MAIL]), Ok("exchanged".to_owned()));
    assert_eq!(lab.asked(), (MAIL.to_owned(), token.reveal().clone()));
    // Long before the handle: the token is not good any more.
    let short =
        lab.sign(&entra::testing::with(user_claims_for_us(), json!({ "exp": lab.env.entra.clock.now() + 100 })));
    let handle = lab.handle(&short);
    lab.world().advance(Duration::from_secs(500));
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::NeedsPerson, "expired".to_owned())));
}

fn user_claims_for_us() -> Value {
    entra::testing::with(user_claims(), json!({ "scp": "access_as_user" }))
}

#[test]
fn an_application_has_no_person_to_get_a_token_for() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.sign(&app_claims()));
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::Refused, "no-user".to_owned())));
}

#[test]
fn a_challenge_brings_another_token_or_goes_to_the_client() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.alice);
    lab.grants_token("first");
    assert_eq!(lab.token(&handle, &[MAIL]), Ok("first".to_owned()));
    lab.grants_token("second");
    assert_eq!(lab.token(&handle, &[MAIL]), Ok("first".to_owned()), "it is kept");
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#.to_owned();
    let challenge = TokenChallenge { refused_token: Secret::from("first"), claims: claims.clone() };
    assert_eq!(lab.other_token(&handle, &[MAIL], Some(&challenge)), Ok("second".to_owned()));
    assert!(lab.world().sent_bodies().pop().unwrap().contains("claims="));
    // Only the client can bring another token of Entra ID.
    let handle = lab.handle(&lab.sign(&user_claims_for_us()));
    let permissions = [MAIL.to_owned()];
    let error = run(delegated_token(&lab.later(), handle.reveal(), &permissions, Some(&challenge))).unwrap_err();
    assert_eq!((error.category, error.claims), (Category::NeedsPerson, Some(claims)));
}

#[test]
fn what_entra_id_refuses_is_refused_and_what_it_does_not_say_is_unavailable() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.alice);
    lab.grants(400, &json!({ "error": "invalid_grant", "error_codes": [65001], "suberror": "consent_required" }));
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::Refused, "aadsts-65001".to_owned())));
    let lab = Lab::open();
    let handle = lab.handle(&lab.alice);
    lab.grants(503, &json!({}));
    let error = lab.token(&handle, &[MAIL]).unwrap_err();
    assert_eq!(error, (Category::Unavailable, "entra-unavailable".to_owned()));
}

#[test]
fn the_wait_that_entra_id_asks_for_reaches_the_host_whichever_way_the_caller_came() {
    let bearer = |lab: &Lab| lab.handle(&lab.sign(&user_claims_for_us()));
    let session = |lab: &Lab| lab.handle(&lab.alice);
    for handle in [bearer, session as fn(&Lab) -> Secret<String>] {
        let lab = Lab::open();
        let handle = handle(&lab);
        let mut busy = response(429, &json!({}));
        busy.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
        lab.authority.publish(TOKEN_ENDPOINT, busy);
        let error = run(delegated_token(&lab.later(), handle.reveal(), &[MAIL.to_owned()], None)).unwrap_err();
        assert_eq!((error.category, error.code.as_str()), (Category::Unavailable, "entra-unavailable"));
        assert_eq!(error.retry_after, Some(60));
    }
}

#[test]
fn a_token_whose_issue_cannot_be_recorded_is_a_failure_of_the_audit_and_not_of_entra_id() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.sign(&user_claims_for_us()));
    lab.grants_token("exchanged");
    lab.world().refuse_audit(true);
    for _ in 0..2 {
        assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::Unavailable, "audit".to_owned())));
    }
    assert_eq!(lab.authority.requests(TOKEN_ENDPOINT), 1, "the failure is remembered as what it is");
}

#[test]
fn a_store_that_fails_is_named_and_not_remembered_as_a_failure_of_entra_id() {
    let lab = Lab::open();
    let handle = lab.handle(&lab.sign(&user_claims_for_us()));
    lab.grants_token("exchanged");
    lab.world().break_store(0);
    assert_eq!(lab.token(&handle, &[MAIL]), Err((Category::Unavailable, "store".to_owned())));
    lab.world().heal_store();
    assert_eq!(lab.token(&handle, &[MAIL]), Ok("exchanged".to_owned()));
}

#[test]
fn a_handle_of_the_person_at_this_machine_is_of_no_use_to_the_remote_server_and_vice_versa() {
    let lab = Lab::open();
    let person = lab.world().person();
    let local = crate::testing::TestCaller::user();
    let of = HandleContent::of_tool("crm", "list");
    let remote = run(handle::make(&lab.env.entra, &local, &of)).unwrap();
    let invalid = run(local::local_token(&person, remote.reveal(), &[MAIL.to_owned()], None)).unwrap_err();
    assert_eq!(invalid.category, Category::HandleInvalid);
    let caller = caller::PersonCaller::new(&person, &caller::local::interactive::NoClient, None);
    let of_person = run(handle::make(&lab.env.entra, &caller, &of)).unwrap();
    assert_eq!(lab.token(&of_person, &[MAIL]), Err((Category::HandleInvalid, "handle-invalid".to_owned())));
}

const WANTED: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

fn wants_more() -> Value {
    json!({ "error": "interaction_required", "error_codes": [50076], "claims": WANTED })
}

#[test]
fn an_api_that_wants_more_of_the_person_stops_its_own_requests_and_no_others() {
    let lab = Lab::open();
    lab.grants(400, &wants_more());
    let handle = lab.handle(&lab.alice);
    let permissions = ["api://crm/Read".to_owned(), "api://crm/Write".to_owned()];
    let error = run(delegated_token(&lab.later(), handle.reveal(), &permissions, None)).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (Category::NeedsPerson, "step-up-required"));
    assert_eq!(error.claims.as_deref(), Some(WANTED));
    lab.grants_token("mail");
    assert_eq!(lab.token(&handle, &[MAIL]), Ok("mail".to_owned()));
    lab.grant(lab.call(&lab.alice, "list"));
}

#[test]
fn an_upstream_whose_api_wants_more_of_the_person_is_answered_403_and_the_session_goes_on() {
    let mut lab = Lab::open();
    change(&mut lab.env, |settings| {
        settings.servers[0].identity = ServerIdentity::Token { permissions: vec!["api://crm/Read".to_owned()] };
    });
    lab.grants(400, &wants_more());
    let refusal = lab.refusal(lab.call(&lab.alice, "list"));
    assert_eq!(refusal.status(), 403);
    let challenge = field(refusal.headers(), "www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{challenge}");
    assert_eq!(lab.denials(), [("crm".to_owned(), "list".to_owned(), "step-up-required".to_owned())]);
    change(&mut lab.env, |settings| settings.servers[0].identity = ServerIdentity::None);
    lab.grant(lab.call(&lab.alice, "list"));
    // A client with a token of Entra ID gets the claims for its next one.
    change(&mut lab.env, |settings| {
        settings.servers[0].identity = ServerIdentity::Token { permissions: vec!["api://crm/Read".to_owned()] };
    });
    let refusal = lab.refusal(lab.call(&lab.sign(&user_claims_for_us()), "list"));
    assert_eq!(refusal.status(), 401);
    let challenge = field(refusal.headers(), "www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"insufficient_claims\""), "{challenge}");
}
