//! Rules that the flows in `tests/behaviour/all/remote/bearer.rs` do not reach.

use std::time::Duration;

use entra::AcquireError;
use entra::graph::profile::profile_scope;
use entra::graph::{GraphChallenge, GraphError, TokenSource as _};
use entra::oauth::OAuthError;
use entra::testing::{
    EntraWorlds as _, FakeAuthority, OBJECT, TestKey, app_claims, change, header, sign, user_claims, with,
};
use serde_json::{Value, json};
use world::testing::{CLIENT, json as response, run};
use world::{HttpError, StoreError, Unrecorded};

use super::*;
use base::principal::AgentRole;

const TOKEN_ENDPOINT: &str = "/oauth2/v2.0/token";

/// A remote server, Entra ID, and the token of a user.
struct Lab {
    authority: FakeAuthority,
    env: EntraWorld<'static>,
    token: Secret<String>,
}

impl Lab {
    fn new() -> Self {
        let authority = FakeAuthority::new();
        let mut env = authority.world.entra_remote();
        change(&mut env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
        let token = Self::sign(&user_claims());
        Self { authority, env, token }
    }

    /// Why tokens were refused, by the audit records.
    fn refusals(&self) -> Vec<String> {
        let events = self.authority.world.audited().into_iter().filter(|event| event.name == "token.refused");
        events.filter_map(|event| event.reason).collect()
    }

    fn sign(claims: &Value) -> Secret<String> {
        Secret::new(sign(&header("RS256", "rsa"), claims, &TestKey::named("rsa")))
    }

    fn accept(&self, token: &Secret<String>) -> Result<Bearer, TokenError> {
        run(authenticate(&self.env, &self.authority.world, token.clone(), "User.Read")).map_err(|refused| match refused
        {
            RefusedBearer::Token(error) => error,
            RefusedBearer::TooMany(after) => panic!("too many for {after:?}"),
        })
    }

    fn answer(&self, status: u16, body: &Value) {
        self.authority.publish(TOKEN_ENDPOINT, response(status, body));
    }

    fn grant(&self, token: &str, seconds: u64) {
        self.answer(200, &json!({ "token_type": "Bearer", "access_token": token, "expires_in": seconds }));
    }

    fn graph_token(&self, challenge: Option<&GraphChallenge>) -> Result<String, GraphError> {
        let bearer = self.accept(&self.token).unwrap();
        let token = run(graph::tokens(&self.env, &bearer, profile_scope(self.env.settings)).token(challenge));
        token.map(|token| token.reveal().clone())
    }

    /// The `claims` of the latest exchange.
    fn asked_claims(&self) -> Value {
        let body = self.authority.world.sent_bodies().pop().unwrap();
        let (_, claims) = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "claims").unwrap();
        serde_json::from_str(&claims).unwrap()
    }

    fn exchanges(&self) -> usize {
        self.authority.requests(TOKEN_ENDPOINT)
    }
}

#[test]
fn a_token_has_three_parts() {
    for (token, expected) in [("a.b.c", true), ("a.b", false), ("a.b.c.d", false), ("abc", false), ("..", true)] {
        assert_eq!(looks_signed(&Secret::from(token)), expected, "{token}");
    }
}

#[test]
fn who_calls_is_the_tenant_the_object_and_the_client_of_the_token() {
    let lab = Lab::new();
    let bearer = lab.accept(&lab.token).unwrap();
    assert_eq!(bearer.identity().object_id, OBJECT);
    assert!(!format!("{bearer:?}").contains(lab.token.reveal().as_str()));
    assert_eq!(lab.refusals(), [""; 0]);
}

#[test]
fn an_application_needs_a_role_and_no_scope() {
    let lab = Lab::new();
    assert_eq!(lab.accept(&Lab::sign(&app_claims())).unwrap().principal().kind, PrincipalKind::App);
    let none = Lab::sign(&with(app_claims(), json!({ "roles": null })));
    assert_eq!(lab.accept(&none).unwrap_err(), TokenError::NoPermissions);
    assert_eq!(lab.refusals(), ["no-permissions"]);
}

#[test]
fn a_token_that_is_bound_to_a_key_is_refused_and_never_exchanged() {
    let lab = Lab::new();
    let bound = Lab::sign(&with(user_claims(), json!({ "cnf": { "jkt": "thumbprint" } })));
    assert_eq!(lab.accept(&bound).unwrap_err(), TokenError::KeyBound { methods: vec!["jkt".to_owned()] });
    assert!(!run(is_still_good(&lab.env, &bound)));
    assert_eq!((lab.refusals(), lab.exchanges()), (vec!["key-bound".to_owned()], 0));
}

#[test]
fn every_record_of_an_agents_call_says_that_an_agent_acted_and_its_principal_does_but_not_by_the_blueprint() {
    const BLUEPRINT: &str = "30cf4c22-9985-4ef7-8756-91cc888176bd";
    let lab = Lab::new();
    let agent = json!({ "xms_act_fct": "3 11", "xms_sub_fct": "3", "xms_par_app_azp": BLUEPRINT });
    let (person, agents) = (lab.accept(&lab.token).unwrap(), Lab::sign(&with(user_claims(), agent)));
    let expected = Principal { agent: Some(AgentRole::OnBehalfOfUser), ..person.principal().clone() };
    let blueprint_only = Lab::sign(&with(user_claims(), json!({ "xms_par_app_azp": BLUEPRINT })));
    assert_eq!(lab.accept(&blueprint_only).unwrap().principal(), person.principal());
    let bearer = lab.accept(&agents).unwrap();
    assert_eq!(bearer.principal(), &expected);
    run(record_acceptance(&lab.env, &bearer)).unwrap();
    lab.grant("first", 1200);
    run(graph::tokens(&lab.env, &bearer, profile_scope(lab.env.settings)).token(None)).unwrap();
    for name in ["token.accepted", "on-behalf-of.issued"] {
        let event = lab.authority.world.audited().into_iter().find(|event| event.name == name).unwrap();
        assert_eq!((event.agent, event.agent_blueprint.as_deref()), (Some("on-behalf-of-user"), Some(BLUEPRINT)));
    }
    // The next caller of the same trail is a person, as far as the token says.
    lab.accept(&lab.token).unwrap();
    run(lab.env.trail.record(AuditEvent::new("tool.called", Outcome::Success))).unwrap();
    let event = lab.authority.world.audited().pop().unwrap();
    assert_eq!((event.agent, event.agent_blueprint), (None, None));
}

#[test]
fn an_outage_is_no_refusal_and_not_recorded_as_one() {
    let lab = Lab::new();
    *lab.authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    assert!(matches!(lab.accept(&lab.token), Err(TokenError::KeysUnavailable { .. })));
    assert!(lab.authority.world.audited().iter().all(|event| event.name != "token.refused"));
    assert!(run(is_still_good(&lab.env, &lab.token)), "it says nothing against the token");
}

#[test]
fn a_token_that_is_about_to_expire_is_replaced_and_used_while_entra_is_out_of_reach() {
    let lab = Lab::new();
    lab.grant("first", 1200);
    assert_eq!(lab.graph_token(None), Ok("first".to_owned()));
    lab.authority.world.advance(Duration::from_secs(899));
    lab.grant("second", 1200);
    assert_eq!((lab.graph_token(None), lab.exchanges()), (Ok("first".to_owned()), 1));
    lab.authority.world.advance(Duration::from_secs(1));
    lab.answer(400, &json!("no answer of Entra ID"));
    assert_eq!((lab.graph_token(None), lab.exchanges()), (Ok("first".to_owned()), 2));
    lab.authority.world.advance(Duration::from_secs(5));
    lab.grant("third", 1200);
    assert_eq!((lab.graph_token(None), lab.exchanges()), (Ok("third".to_owned()), 3));
}

#[test]
fn a_refused_token_is_replaced_and_another_calls_newer_one_is_kept() {
    let lab = Lab::new();
    lab.grant("first", 3600);
    assert_eq!(lab.graph_token(None), Ok("first".to_owned()));
    lab.grant("second", 3600);
    let refused = GraphChallenge { refused: Secret::from("first"), claims: None };
    assert_eq!(lab.graph_token(Some(&refused)), Ok("second".to_owned()));
    assert_eq!((lab.graph_token(Some(&refused)), lab.exchanges()), (Ok("second".to_owned()), 2));
}

#[test]
fn what_graph_wants_is_told_to_entra_with_the_next_token_for_ten_minutes() {
    let mut lab = Lab::new();
    lab.grant("first", 3600);
    assert_eq!(lab.graph_token(None), Ok("first".to_owned()));
    assert!(lab.asked_claims()["access_token"]["acrs"].is_null());
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let challenge = GraphChallenge { refused: Secret::from("first"), claims: Some(claims.to_owned()) };
    assert!(matches!(
        lab.graph_token(Some(&challenge)),
        Err(GraphError::Token(AcquireError::NeedsPerson { claims: Some(passed_on), .. })) if passed_on == claims
    ));
    let other = |uti: &str| Lab::sign(&with(user_claims(), json!({ "uti": uti })));
    for (uti, wanted) in [("second", json!("c1")), ("third", json!("c1")), ("fourth", Value::Null)] {
        if wanted.is_null() {
            lab.authority.world.advance(Duration::from_secs(600));
        }
        lab.token = other(uti);
        lab.grant(uti, 3600);
        assert_eq!(lab.graph_token(None), Ok(uti.to_owned()));
        let asked = lab.asked_claims();
        assert_eq!(
            (&asked["access_token"]["acrs"]["value"], asked["access_token"]["xms_cc"].is_object()),
            (&wanted, true)
        );
    }
}

#[test]
fn consent_and_assignment_are_for_an_administrator_to_give() {
    for (error, code, suberror) in [
        ("invalid_grant", 65001, json!("consent_required")),
        ("invalid_grant", 50105, json!(null)),
        ("invalid_grant", 1, json!("consent_required")),
        ("unauthorized_client", 700_016, json!(null)),
        ("invalid_client", 7_000_215, json!(null)),
    ] {
        let lab = Lab::new();
        lab.answer(400, &json!({ "error": error, "error_codes": [code], "suberror": suberror }));
        let result = lab.graph_token(None);
        assert!(matches!(&result, Err(GraphError::Token(AcquireError::Refused(it))) if it.code == code), "{result:?}");
    }
}

#[test]
fn what_a_new_token_can_change_is_for_the_client() {
    let claims = r#"{"access_token":{"capolids":{}}}"#;
    for (error, code, claims) in [
        ("interaction_required", 50076, Some(claims)),
        ("invalid_grant", 50173, None),
        ("invalid_grant", 500_133, None),
    ] {
        let lab = Lab::new();
        lab.answer(400, &json!({ "error": error, "error_codes": [code], "claims": claims }));
        let Err(GraphError::Token(AcquireError::NeedsPerson { claims: found, .. })) = lab.graph_token(None) else {
            panic!("{code}");
        };
        assert_eq!(found.as_deref(), claims);
        let event = lab.authority.world.audited().pop().unwrap();
        assert_eq!((event.name, event.reason), ("on-behalf-of.issued", Some(format!("aadsts-{code}"))));
    }
}

#[test]
fn a_token_whose_issue_cannot_be_recorded_is_not_used() {
    let lab = Lab::new();
    lab.grant("first", 3600);
    lab.authority.world.refuse_audit(true);
    for _ in 0..2 {
        assert_eq!(
            lab.graph_token(None),
            Err(AcquireError::Unrecorded(Unrecorded).into()),
            "also where it is remembered"
        );
    }
    assert_eq!(lab.exchanges(), 1);
}

#[test]
fn the_wait_that_entra_id_asks_for_is_known_to_every_call_with_the_token() {
    let lab = Lab::new();
    let mut busy = response(429, &json!({}));
    busy.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
    lab.authority.publish(TOKEN_ENDPOINT, busy);
    let throttled = |seconds| {
        let error = OAuthError::Throttled(Duration::from_secs(seconds));
        Err(GraphError::Token(AcquireError::Unavailable(error)))
    };
    assert_eq!(lab.graph_token(None), throttled(60));
    lab.authority.world.advance(Duration::from_secs(4));
    assert_eq!(lab.graph_token(None), throttled(56));
    assert_eq!(lab.exchanges(), 1);
}

#[test]
fn a_store_that_fails_is_the_reason_that_there_is_no_token() {
    let lab = Lab::new();
    let bearer = lab.accept(&lab.token).unwrap();
    lab.authority.world.break_store(0);
    let token = run(graph::tokens(&lab.env, &bearer, profile_scope(lab.env.settings)).token(None));
    let Err(GraphError::Token(AcquireError::Store(StoreError::Unavailable(_)))) = token else { panic!("{token:?}") };
}
