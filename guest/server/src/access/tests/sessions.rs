//! Roles and groups of a session, which count for four hours, and what is asked of Entra ID after that.

use std::time::Duration;

use base::Secret;
use base::policy::names;
use base::settings::{ServerIdentity, ServerKind, ServerSettings};
use caller::SessionCaller;
use caller::session::IssuedTokens;
use caller::session::entra_tokens::EntraTokens;
use caller::session::lifecycle::{self, Beginning};
use caller::session::refresh;
use caller::session::{self, Owner, Session};
use entra::testing::{FakeAuthority, OBJECT, OTHER_TENANT, TestKey, header, id_claims, sign, with};
use world::HttpError;
use world::testing::{START, TENANT, run};

use super::*;
use crate::gatekeeper::identity::{self, IdentityError};
use crate::testing::{ServerWorlds as _, configure};

const RESOURCE: &str = "https://mcp.example.com/mcp";
const HOUR: u64 = 3600;
/// As with continuous access evaluation.
const ENTRA_LIFETIME: u64 = 28 * HOUR;
const TOKEN_ENDPOINT: &str = "/oauth2/v2.0/token";

/// A session of a person with the role `Vault.Open` who is in `GROUP`, and an Entra ID that can be out of reach.
struct Lab {
    authority: FakeAuthority,
    env: ServerWorld<'static>,
    id: String,
    tokens: IssuedTokens,
}

impl Lab {
    fn new() -> Self {
        let groups = Groups::Listed(texts(&[GROUP]));
        Self::with(Some("refresh-1"), |now| Membership::at(now, &["Vault.Open"], groups))
    }

    fn with(refresh_token: Option<&str>, membership: impl FnOnce(u64) -> Membership) -> Self {
        let authority = FakeAuthority::new();
        let env = authority.world.remote();
        let beginning = Beginning {
            owner: Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: OBJECT.to_owned() },
            resource: RESOURCE.to_owned(),
            scopes: texts(&["User.Read"]),
            tokens: EntraTokens {
                access_token: Secret::from("entra-1"),
                expires_at: env.entra.clock.now() + ENTRA_LIFETIME,
                refresh_token: refresh_token.map(Secret::from),
                membership: membership(env.entra.clock.now()),
            },
            username: None,
        };
        let (id, tokens) = run(lifecycle::begin(&env.entra, beginning)).unwrap();
        Self { authority, env, id, tokens }
    }

    /// A session of a version that did not know of roles and groups.
    fn of_an_earlier_version() -> Self {
        let lab = Self::new();
        for (name, place) in [("session", ""), ("session-entra", "/tokens")] {
            let name = world::testing::record(lab.env.entra.settings, &format!("{name}/{}", lab.id));
            let raw = lab.authority.world.get(&name).unwrap().unwrap();
            let mut record: serde_json::Value = serde_json::from_slice(raw.reveal()).unwrap();
            let fields = record.pointer_mut(place).and_then(serde_json::Value::as_object_mut).unwrap();
            assert!(fields.remove("membership").is_some(), "{name}");
            lab.authority.world.put(&name, record.to_string().as_bytes(), None).unwrap();
        }
        lab
    }

    fn entra_is_out_of_reach(&self, out_of_reach: bool) {
        *self.authority.outage.borrow_mut() = out_of_reach.then_some(HttpError::TimedOut);
    }

    /// Entra ID answers refreshes with an ID token that says this.
    fn entra_says(&self, changes: serde_json::Value) {
        let now = self.env.entra.clock.now();
        let dates = json!({ "nonce": null, "iat": now, "nbf": now, "exp": now + HOUR });
        let claims = with(with(id_claims("n"), dates), changes);
        let id_token = sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
        self.entra_answers(
            200,
            &json!({
                "token_type": "Bearer", "access_token": "entra-2", "refresh_token": "refresh-2",
                "expires_in": ENTRA_LIFETIME, "id_token": id_token,
            }),
        );
    }

    fn entra_answers(&self, status: u16, body: &serde_json::Value) {
        self.authority.publish(TOKEN_ENDPOINT, response(status, body));
    }

    fn advance(&self, seconds: u64) {
        self.authority.world.advance(Duration::from_secs(seconds));
    }

    /// Time passes, and the client keeps its session alive.
    fn stay_until(&mut self, seconds: u64) {
        while self.authority.world.elapsed().as_secs() < seconds {
            self.advance(HOUR / 2);
            let token = &self.tokens.refresh_token;
            self.tokens = run(refresh::refresh(&self.env.entra, token, "client", None, None)).unwrap();
        }
        assert_eq!(self.authority.world.elapsed().as_secs(), seconds);
    }

    fn session(&self) -> Session {
        run(session::authenticate(&self.env.entra, &self.tokens.access_token, &[RESOURCE])).unwrap()
    }

    /// What is decided by this rule.
    fn decide(&self, rule: Rule) -> Result<(), Denial> {
        self.decide_by(vec![rule])
    }

    fn decide_by(&self, rules: Vec<Rule>) -> Result<(), Denial> {
        let mut env = self.authority.world.remote();
        configure(&mut env, |http| http.access = Some(rules.into_iter().map(of_vault).collect()));
        run(Access::new(&env, &SessionCaller { env: &env.entra, session: &self.session() }).decide(&VAULT))
    }

    /// How often Entra ID was asked for tokens.
    fn asked(&self) -> usize {
        self.authority.requests(TOKEN_ENDPOINT)
    }
}

fn role() -> Rule {
    Rule::users().with_any_role(&["Vault.Open"])
}

fn group() -> Rule {
    Rule { groups: some(&[GROUP]), ..Rule::users() }
}

fn is_unconfirmed(decided: &Result<(), Denial>) -> bool {
    matches!(decided, Err(Denial::MembershipUnconfirmed { .. }))
}

/// The bound: the access token of Entra ID lives for a day more, and with it the session.
#[test]
fn roles_and_groups_count_for_four_hours_while_entra_is_out_of_reach() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(3 * HOUR + HOUR / 2);
    for seconds in [29 * 60, 59] {
        lab.advance(seconds);
        assert_eq!((lab.decide(role()), lab.decide(group())), (Ok(()), Ok(())));
    }
    assert_eq!(lab.authority.world.elapsed().as_secs(), 4 * HOUR - 1);
    lab.advance(1);
    let missing = Rule::users().with_any_role(&["Vault.Own"]);
    for rule in [role(), group(), missing, role().with_scopes(&["More"]), group().with_scopes(&["More"])] {
        let decided = lab.decide(rule.clone());
        assert!(is_unconfirmed(&decided), "{rule:?}: {decided:?}");
    }
    assert_eq!(lab.decide(Rule::users()), Ok(()), "no role or group is needed");
    let scopes = Denial::ScopesMissing { required: names(&["More"]) };
    assert_eq!(lab.decide(Rule::users().with_scopes(&["More"])), Err(scopes));
    lab.stay_until(20 * HOUR);
    assert!(is_unconfirmed(&lab.decide(role())));
    assert_eq!(lab.decide(Rule::users()), Ok(()), "the session has not ended");
}

#[test]
fn a_caller_that_a_server_behind_cannot_be_told_of_hears_when_to_try_again() {
    let lab = Lab::with(Some("refresh-1"), |_| Membership::at(1, &["Vault.Open"], Groups::Absent));
    let mut busy = response(429, &json!({}));
    busy.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
    lab.authority.publish(TOKEN_ENDPOINT, busy);
    let server = ServerSettings {
        name: "records".to_owned(),
        path: "/records".to_owned(),
        kind: ServerKind::Upstream,
        title: None,
        tools: Vec::new(),
        permissions: Vec::new(),
        identity: ServerIdentity::EasyAuth,
    };
    let told = || {
        let session = lab.session();
        run(identity::told_of(&lab.env, &server, &SessionCaller { env: &lab.env.entra, session: &session })).map(drop)
    };
    let unavailable = |seconds| Err(IdentityError::Unavailable { retry_after: Some(seconds) });
    assert_eq!(told(), unavailable(60));
    lab.advance(4);
    assert_eq!((told(), lab.asked()), (unavailable(56), 1), "as the remembered failure says");
}

#[test]
fn everything_works_again_as_soon_as_entra_answers_and_is_known_from_then_on() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    assert!(is_unconfirmed(&lab.decide(role())));
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "roles": ["Vault.Open"], "groups": [GROUP] }));
    lab.advance(5);
    let before = lab.asked();
    assert_eq!((lab.decide(role()), lab.decide(group())), (Ok(()), Ok(())));
    assert_eq!(lab.asked() - before, 1, "the session says it now");
    let now = lab.env.entra.clock.now();
    assert_eq!(lab.session().membership, Membership::at(now, &["Vault.Open"], Groups::Listed(texts(&[GROUP]))));
}

#[test]
fn a_role_that_was_taken_away_in_an_outage_is_gone_after_it() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "roles": ["Another"] }));
    assert_eq!(lab.decide(role()), Err(Denial::RoleMissing { any_of: names(&["Vault.Open"]) }));
    assert_eq!(lab.decide(group()), Err(Denial::GroupMissing { any_of: names(&[GROUP]) }));
}

#[test]
fn entra_is_asked_every_five_seconds_at_most_and_only_if_a_rule_depends_on_it() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    let before = lab.asked();
    assert_eq!(lab.decide(Rule::users()), Ok(()));
    assert_eq!(lab.asked() - before, 0);
    for expected in 1..4 {
        for _ in 0..2 {
            assert!(is_unconfirmed(&lab.decide_by(vec![role(), group()])));
            assert_eq!(lab.asked() - before, expected);
        }
        lab.advance(5);
    }
}

#[test]
fn a_rule_that_needs_no_role_lets_in_whom_another_cannot_judge() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    assert_eq!(lab.decide_by(vec![role(), Rule::users()]), Ok(()));
    // Another client might help, and a scope would, whatever the roles.
    let client = Rule { clients: some(&["other"]), ..Rule::users() };
    assert!(is_unconfirmed(&lab.decide_by(vec![client.clone(), role()])));
    assert!(is_unconfirmed(&lab.decide_by(vec![role(), client])));
    let decided = lab.decide_by(vec![role(), Rule::users().with_scopes(&["More"])]);
    assert_eq!(decided, Err(Denial::ScopesMissing { required: names(&["More"]) }));
}

#[test]
fn a_denial_for_want_of_an_answer_has_a_reason_of_its_own() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    let session = lab.session();
    let denial = run(Access::new(&lab.env, &SessionCaller { env: &lab.env.entra, session: &session }).admit(&VAULT))
        .unwrap_err();
    assert_eq!(
        denial.to_string(),
        "your roles and groups cannot be confirmed by Microsoft Entra ID now, and this tool needs certain ones: try \
         again later"
    );
    let event = lab.authority.world.audited().pop().unwrap();
    assert_eq!((event.name, event.reason.as_deref()), ("tool.denied", Some("membership-unconfirmed")));
    assert_eq!((event.object_id.as_deref(), event.correlation_id.as_str()), (Some(OBJECT), "c-1"));
}

/// Such a record does not say how old its roles and groups are, and it holds none.
#[test]
fn a_session_of_an_earlier_version_is_asked_about_at_once() {
    let lab = Lab::of_an_earlier_version();
    assert_eq!(lab.decide(Rule::users()), Ok(()));
    assert_eq!(lab.asked(), 0);
    lab.entra_says(json!({ "roles": ["Vault.Open"], "groups": [GROUP] }));
    assert_eq!((lab.decide(role()), lab.decide(group())), (Ok(()), Ok(())));
    assert_eq!(lab.asked(), 1);

    let lab = Lab::of_an_earlier_version();
    lab.entra_is_out_of_reach(true);
    assert!(is_unconfirmed(&lab.decide(role())));
    assert_eq!(lab.decide(Rule::users()), Ok(()));
}

/// A tool of the vault that is closed to guests, and needs no role.
const CELLAR: Terms = Terms { guests: false, rule: Rule::users, ..VAULT };

#[test]
fn whether_a_person_is_a_guest_counts_as_long_as_their_roles_do_and_is_asked_for_then() {
    let decide = |lab: &Lab| {
        run(Access::new(&lab.env, &SessionCaller { env: &lab.env.entra, session: &lab.session() }).decide(&CELLAR))
    };
    let mut lab = Lab::new();
    assert_eq!((decide(&lab), lab.asked()), (Ok(()), 0));
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR - HOUR / 2);
    assert_eq!(decide(&lab), Ok(()));
    lab.stay_until(4 * HOUR);
    assert!(is_unconfirmed(&decide(&lab)));
    lab.advance(120);
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "idp": format!("https://sts.windows.net/{OTHER_TENANT}/") }));
    assert_eq!(decide(&lab), Err(Denial::GuestNotAllowed), "the account is another one's now");

    let guest = Lab::with(None, |now| Membership::at(now, &["Vault.Open"], Groups::Absent).of_a_guest());
    assert_eq!((decide(&guest), guest.decide(role())), (Err(Denial::GuestNotAllowed), Ok(())));
}

#[test]
fn a_person_whom_entra_wants_again_has_no_session_any_more() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    lab.entra_is_out_of_reach(false);
    lab.entra_answers(400, &json!({ "error": "invalid_grant", "error_codes": [50173] }));
    let (session, world) = (lab.session(), &lab.authority.world);
    assert_eq!(
        run(Access::new(&lab.env, &SessionCaller { env: &lab.env.entra, session: &session }).admit(&VAULT)),
        Err(Denial::SessionEnded)
    );
    let reasons: Vec<_> = world.audited().into_iter().rev().take(3).filter_map(|event| event.reason).collect();
    assert_eq!(reasons, ["session-ended", "aadsts-50173", "aadsts-50173"]);
    assert!(!world.record_names().iter().any(|name| name.contains("/session/") || name.contains("/session-entra/")));
}

/// What is remembered of the person would be answered by a session that is gone.
#[test]
fn a_session_that_ends_while_a_rule_is_judged_is_let_in_by_no_other() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    lab.entra_is_out_of_reach(false);
    lab.entra_answers(400, &json!({ "error": "invalid_grant", "error_codes": [50173] }));
    assert_eq!(lab.decide_by(vec![role(), Rule::users()]), Err(Denial::SessionEnded));
}

#[test]
fn an_answer_that_does_not_say_what_the_person_is_admits_no_caller() {
    for changes in [json!({ "oid": OTHER_TENANT }), json!({ "aud": OTHER_TENANT }), json!({ "exp": START })] {
        let mut lab = Lab::new();
        lab.entra_is_out_of_reach(true);
        lab.stay_until(4 * HOUR);
        lab.entra_is_out_of_reach(false);
        lab.entra_says(with(json!({ "roles": ["Vault.Open"], "groups": [GROUP] }), changes.clone()));
        assert!(is_unconfirmed(&lab.decide(role())), "{changes}");
        assert!(is_unconfirmed(&lab.decide(group())), "{changes}");
    }
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    lab.entra_is_out_of_reach(false);
    lab.entra_answers(200, &json!({ "token_type": "Bearer", "access_token": "entra-2", "expires_in": ENTRA_LIFETIME }));
    assert!(is_unconfirmed(&lab.decide(role())), "without an ID token");
}

#[test]
fn a_session_without_a_way_to_ask_goes_on_without_roles() {
    let mut lab = Lab::with(None, |now| Membership::at(now, &[], Groups::Absent));
    lab.stay_until(4 * HOUR);
    assert!(is_unconfirmed(&lab.decide(role())));
    assert_eq!(lab.decide(Rule::users()), Ok(()));
    assert_eq!(lab.asked(), 0);
}

/// What Graph says of groups is five minutes old at most, however old it is that they do not fit into a token.
#[test]
fn groups_in_overage_are_those_that_graph_names_now() {
    let mut lab = Lab::with(None, |now| Membership::at(now, &[], Groups::Overage));
    lab.stay_until(4 * HOUR);
    lab.entra_answers(200, &json!({ "token_type": "Bearer", "access_token": "app-token", "expires_in": 3600 }));
    lab.authority.publish("/getMemberObjects", response(200, &json!({ "value": [GROUP] })));
    assert_eq!(lab.decide(group()), Ok(()));
    lab.advance(299);
    lab.entra_is_out_of_reach(true);
    assert_eq!(lab.decide(group()), Ok(()));
    lab.advance(1);
    assert!(matches!(lab.decide(group()), Err(Denial::GroupsUnavailable { .. })));
    assert!(is_unconfirmed(&lab.decide(role())), "only Entra ID knows the roles");
}

/// Unanswered questions take long, and every call that waits for one occupies an instance.
#[test]
fn during_an_outage_one_call_at_a_time_asks_whichever_caller_it_is_for() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    let (outage, world) = (world::testing::record(lab.env.entra.settings, "entra-out-of-reach"), &lab.authority.world);
    let asking = format!("{outage}/asking");
    assert!(is_unconfirmed(&lab.decide(role())));
    assert_eq!(world.get(&asking).unwrap().map(|_| ()), None, "the right to ask is given back");
    world.put(&asking, b"another call", Some(Duration::from_secs(25))).unwrap();
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "roles": ["Vault.Open"] }));
    let before = lab.asked();
    for seconds in [5, 19] {
        lab.advance(seconds);
        assert!(is_unconfirmed(&lab.decide(role())));
        assert_eq!(lab.asked() - before, 0);
    }
    lab.advance(5);
    assert_eq!(lab.decide(role()), Ok(()));
    assert_eq!(world.get(&outage).unwrap().map(|_| ()), None, "it is over for everybody");
}

#[test]
fn an_outage_that_no_call_has_asked_about_for_two_minutes_holds_no_call_up() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    assert!(is_unconfirmed(&lab.decide(role())));
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "roles": ["Vault.Open"] }));
    lab.advance(120);
    let asking = world::testing::record(lab.env.entra.settings, "entra-out-of-reach/asking");
    lab.authority.world.put(&asking, b"another call", None).unwrap();
    assert_eq!(lab.decide(role()), Ok(()));
}

/// What Entra ID says to a call that refreshes its tokens need not have reached the session.
#[test]
fn what_entra_has_said_to_another_call_is_not_asked_for_again() {
    let mut lab = Lab::new();
    lab.entra_is_out_of_reach(true);
    lab.stay_until(4 * HOUR);
    let old = lab.session();
    lab.entra_is_out_of_reach(false);
    lab.entra_says(json!({ "roles": ["Vault.Open"] }));
    assert_eq!(lab.decide(role()), Ok(()));
    lab.entra_is_out_of_reach(true);
    lab.advance(HOUR);
    let before = lab.asked();
    assert_eq!(
        run(Access::new(&lab.env, &SessionCaller { env: &lab.env.entra, session: &old }).decide(&VAULT)),
        Ok(())
    );
    assert_eq!(lab.asked() - before, 0);
}
