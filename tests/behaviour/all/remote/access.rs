//! Which callers may call which tool: a denied test for every part of a rule, and how a client gets further.

use entra_mcp_emulator::{Endpoint, Fault, Scope};
use entra_mcp_plugin::environment::{CallerKind, TargetKind, TokenMode, ToolRule};
use http::Request;
use serde_json::{Value, json};

use super::bearer::{
    ALICES_OBJECT, METADATA, SCOPE, app_only, authorize, fleet_with, signed, token, token_by, tool_error,
};
use crate::support::component::modern;
use crate::support::lab::{CONTOSO, FABRIKAM, LOCAL, REMOTE, app, claims as claims_of};
use crate::support::remote::{
    ALICE, Answer, Authorize, BOB, Fleet, REDIRECT, RESOURCE, Tab, Tokens, call_request, parameter,
};

const GRACE: &str = "grace@fabrikam.example";
const FRANK: &str = "frank@fabrikam.example";
const OLGA: &str = "olga@contoso.example";
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// A group without members.
const STRANGERS: &str = "99999999-0000-4000-a000-000000000001";

/// Lets every user call the tool, to be narrowed.
pub(super) fn rule() -> ToolRule {
    ToolRule {
        server: None,
        kind: TargetKind::Tool,
        tool: "getUserDetails".to_owned(),
        tenants: None,
        kinds: vec![CallerKind::User],
        clients: None,
        roles: None,
        groups: None,
        scopes: Vec::new(),
        acrs: None,
    }
}

fn some(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn roles(roles: &[&str]) -> ToolRule {
    ToolRule { roles: some(roles), ..rule() }
}

fn groups(groups: &[&str]) -> ToolRule {
    ToolRule { groups: some(groups), ..rule() }
}

fn scopes(scopes: &[&str]) -> ToolRule {
    ToolRule { scopes: some(scopes).unwrap_or_default(), ..rule() }
}

async fn fleet(mode: TokenMode, rules: Vec<ToolRule>) -> Fleet {
    fleet_with(mode, |settings| settings.http.as_mut().expect("a remote server").access = Some(rules)).await
}

/// For the people of Contoso and of Fabrikam.
async fn fleet_of_two_tenants(rules: Option<Vec<ToolRule>>) -> Fleet {
    fleet_with(TokenMode::Bearer, |settings| {
        settings.tenant = "organizations".to_owned();
        settings.token.allowed_tenants = vec![CONTOSO.to_owned(), FABRIKAM.to_owned()];
        settings.http.as_mut().expect("a remote server").access = rules;
    })
    .await
}

async fn token_of_frank(fleet: &Fleet) -> String {
    token_by(fleet, &authorize(SCOPE).tenant(FABRIKAM), FRANK).await
}

/// The application offers these permissions as well.
fn offer(fleet: &Fleet, scopes: &[&str]) {
    let changed = fleet.control().change_application(&app(REMOTE), |api| {
        let scope = |name: &&str| Scope { name: (*name).to_owned(), title: "More".to_owned(), administrator: false };
        api.scopes.extend(scopes.iter().map(scope));
    });
    changed.expect("the application exists");
}

/// The answer to `tools/list` in 2026-07-28.
fn list_request(token: &str) -> Request<Vec<u8>> {
    let mut request = call_request(token);
    request.headers_mut().insert("mcp-method", "tools/list".parse().expect("a header"));
    request.headers_mut().remove("mcp-name");
    *request.body_mut() = modern("tools/list", json!({}), json!({})).to_string().into_bytes();
    request
}

async fn list(fleet: &Fleet, token: &str) -> Value {
    let answer = fleet.send(list_request(token)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["result"].clone()
}

async fn listed(fleet: &Fleet, token: &str) -> Vec<String> {
    let result = list(fleet, token).await;
    assert_eq!(result["cacheScope"], "private");
    let name = |tool: &Value| tool["name"].as_str().expect("a tool has a name").to_owned();
    result["tools"].as_array().expect("a list").iter().map(name).collect()
}

/// The reasons of denied calls.
fn denials(fleet: &Fleet) -> Vec<String> {
    let events = fleet.audit.events().into_iter().filter(|(_, event)| event.name == "tool.denied");
    events.filter_map(|(_, event)| event.reason).collect()
}

fn change_roles(fleet: &Fleet, username: &str, roles: &[&str]) {
    let roles = some(roles).unwrap_or_default();
    let changed = fleet.control().change_user(username, |user| drop(user.roles.insert(app(REMOTE), roles)));
    changed.expect("the user exists");
}

/// The groups of a user, who may be in more than fit into a token.
async fn groups_of(fleet: &Fleet, username: &str) -> Vec<String> {
    let mut before = 0;
    fleet.control().change_policy(|policy| before = std::mem::replace(&mut policy.groups_in_token, 1_000));
    let claims = claims_of(&token(fleet, username).await);
    fleet.control().change_policy(|policy| policy.groups_in_token = before);
    claims["groups"].as_array().expect("groups").iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// The scopes that a challenge demands from the client.
fn challenged(answer: &Answer) -> &str {
    let challenge = answer.header("www-authenticate");
    assert_eq!((answer.status, &answer.body["error"]), (403, &json!("insufficient_scope")), "{challenge}");
    let start = "Bearer error=\"insufficient_scope\", error_description=\"This request needs an access token with all \
                 scopes of this challenge\", resource_metadata=\"";
    let rest = challenge.strip_prefix(start).unwrap_or_else(|| panic!("{challenge}"));
    let scope = rest.strip_prefix(METADATA).and_then(|rest| rest.strip_prefix("\", scope=\""));
    scope.and_then(|rest| rest.strip_suffix('"')).unwrap_or_else(|| panic!("{challenge}"))
}

#[tokio::test]
async fn every_part_of_a_rule_denies_a_caller_that_does_not_fit_with_one_record_and_without_a_request() {
    let (client, local) = (app(REMOTE), app(LOCAL));
    let apps = ToolRule { kinds: vec![CallerKind::App], ..roles(&["Mcp.Daemon"]) };
    let cases = [
        (roles(&["Mcp.Owner", "Mcp.Root"]), false, "role-missing", r#""Mcp.Owner", "Mcp.Root""#),
        (groups(&[STRANGERS]), false, "group-missing", STRANGERS),
        (apps, false, "kind-not-allowed", "the caller is a user"),
        (rule(), true, "kind-not-allowed", "stands for an application (app-only)"),
        (ToolRule { clients: some(&[&client]), ..rule() }, false, "client-not-allowed", local.as_str()),
        (ToolRule { tenants: some(&[FABRIKAM]), ..rule() }, false, "tenant-not-allowed", CONTOSO),
    ];
    for (rule, by_app, reason, told) in cases {
        let fleet = fleet(TokenMode::Bearer, vec![rule]).await;
        let token = if by_app { app_only(&fleet).await } else { token(&fleet, ALICE).await };
        fleet.control().clear_requests();
        let answer = fleet.call(&token).await;
        let text = tool_error(&answer);
        assert!(text.starts_with("you may not call this tool: ") && text.contains(told), "{reason}: {text}");
        assert_eq!(listed(&fleet, &token).await, [""; 0], "{reason}");
        let events: Vec<_> = fleet.audit.events().into_iter().map(|(_, event)| event).collect();
        let of_tools: Vec<_> = events.iter().filter(|event| event.name.starts_with("tool.")).collect();
        let [event] = of_tools.as_slice() else { panic!("{reason}: {events:?}") };
        assert_eq!((event.name.as_str(), event.reason.as_deref()), ("tool.denied", Some(reason)));
        assert_eq!((event.tool.as_deref(), event.tenant_id.as_deref()), (Some("getUserDetails"), Some(CONTOSO)));
        assert_eq!(event.client_id.as_deref(), Some(if by_app { client.as_str() } else { local.as_str() }));
        assert!(by_app || event.object_id.as_deref() == Some(ALICES_OBJECT));
        assert_eq!(event.token_id.as_deref(), claims_of(&token)["uti"].as_str());
        assert!(text.contains(&event.correlation_id), "{text}");
        assert_eq!(fleet.control().request_count(Endpoint::Token), 0, "{reason}");
        assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 0, "{reason}");
    }
}

#[tokio::test]
async fn who_fits_is_let_in() {
    let fleet = fleet(
        TokenMode::Both,
        vec![ToolRule {
            tenants: some(&[CONTOSO]),
            clients: some(&[&app(LOCAL)]),
            scopes: vec!["access_as_user".to_owned()],
            ..roles(&["Mcp.Admin"])
        }],
    )
    .await;
    let alice = token(&fleet, ALICE).await;
    assert_eq!(fleet.details(&alice).await["userPrincipalName"], ALICE);
    assert_eq!(listed(&fleet, &alice).await, ["getUserDetails"]);
    assert_eq!(denials(&fleet), [""; 0]);
    // The client of a session is an MCP client, and has an id of its own.
    let session = fleet.session(ALICE).await;
    assert!(tool_error(&fleet.call(&session.access).await).contains(&session.client_id));
    assert_eq!(denials(&fleet), ["client-not-allowed"]);
    let (_, event) = fleet.audit.events().pop().expect("it is recorded");
    assert!(event.name == "tool.denied" && event.session.is_some(), "{event:?}");
}

#[tokio::test]
async fn a_tool_that_the_rules_do_not_list_is_as_good_as_none() {
    let fleet = fleet(TokenMode::Bearer, vec![ToolRule { tool: "anotherTool".to_owned(), ..rule() }]).await;
    let token = token(&fleet, ALICE).await;
    assert_eq!(listed(&fleet, &token).await, [""; 0]);
    let mut unknown = call_request(&token);
    unknown.headers_mut().insert("mcp-name", "noSuchTool".parse().expect("a header"));
    *unknown.body_mut() = modern("tools/call", json!({ "name": "noSuchTool" }), json!({})).to_string().into_bytes();
    let (off, unknown) = (fleet.call(&token).await, fleet.send(unknown).await);
    assert_eq!((off.status, unknown.status), (200, 200));
    for (answer, name) in [(off, "getUserDetails"), (unknown, "noSuchTool")] {
        let expected = json!({ "code": -32602, "message": "Unknown tool", "data": { "name": name } });
        assert_eq!(answer.body["error"], expected);
    }
    assert_eq!(denials(&fleet), ["tool-not-listed"], "what does not exist is not denied");
}

#[tokio::test]
async fn the_list_shows_what_the_caller_may_call_to_users_guests_and_applications() {
    let rules = vec![roles(&["Mcp.Admin"]), ToolRule { kinds: vec![CallerKind::App], ..roles(&["Mcp.Daemon"]) }];
    let fleet = fleet(TokenMode::Bearer, rules).await;
    let tokens = [token(&fleet, ALICE).await, token(&fleet, BOB).await, token(&fleet, GRACE).await];
    let app = app_only(&fleet).await;
    let mut lists = Vec::new();
    for token in tokens.iter().chain([&app]) {
        lists.push(listed(&fleet, token).await.len());
        assert_eq!(list(&fleet, token).await["ttlMs"], 300_000);
    }
    assert_eq!(lists, [1, 0, 0, 1], "an administrator, a reader, a guest, a daemon");
    change_roles(&fleet, GRACE, &["Mcp.Admin"]);
    let guest = token(&fleet, GRACE).await;
    assert_eq!(listed(&fleet, &guest).await, ["getUserDetails"]);
    assert!(fleet.details(&guest).await["displayName"].as_str().is_some_and(|name| name.starts_with("Grace")));
    // The same for clients of 2025.
    for (token, expected) in [(&tokens[0], 1), (&tokens[1], 0)] {
        let mut request = call_request(token);
        request.headers_mut().insert("mcp-protocol-version", "2025-11-25".parse().expect("a header"));
        *request.body_mut() = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string().into_bytes();
        let answer = fleet.send(request).await;
        assert_eq!(answer.body["result"]["tools"].as_array().map(Vec::len), Some(expected), "{}", answer.body);
    }
    assert_eq!(denials(&fleet), [""; 0], "no call was denied");
}

#[tokio::test]
async fn a_missing_scope_is_challenged_with_all_that_are_needed_and_the_next_token_is_let_in() {
    let fleet = fleet(TokenMode::Bearer, vec![scopes(&["Mcp.Access", "Mcp.Profile"])]).await;
    offer(&fleet, &["Mcp.Profile"]);
    let all = format!("{SCOPE} {RESOURCE}/Mcp.Access {RESOURCE}/Mcp.Profile");
    let some = token_by(&fleet, &authorize(&format!("{SCOPE} {RESOURCE}/Mcp.Access")), ALICE).await;
    for token in [token(&fleet, ALICE).await, some] {
        let answer = fleet.call(&token).await;
        assert_eq!(challenged(&answer), all);
        assert_eq!(listed(&fleet, &token).await, [""; 0]);
    }
    assert_eq!(denials(&fleet), ["scope-missing", "scope-missing"]);
    // An event stream never starts with a refusal in it.
    let mut streamed = call_request(&token(&fleet, ALICE).await);
    streamed.headers_mut().insert("accept", "text/event-stream".parse().expect("a header"));
    assert_eq!(challenged(&fleet.send(streamed).await), all);
    let stepped_up = token_by(&fleet, &authorize(&all), ALICE).await;
    assert_eq!(fleet.details(&stepped_up).await["userPrincipalName"], ALICE);
    assert_eq!(listed(&fleet, &stepped_up).await, ["getUserDetails"]);
}

#[tokio::test]
async fn who_lacks_more_than_a_scope_is_not_sent_for_one() {
    let fleet =
        fleet(TokenMode::Bearer, vec![ToolRule { roles: some(&["Mcp.Admin"]), ..scopes(&["Mcp.Access"]) }]).await;
    assert!(tool_error(&fleet.call(&token(&fleet, BOB).await).await).contains("Mcp.Admin"));
    assert_eq!(challenged(&fleet.call(&token(&fleet, ALICE).await).await), format!("{SCOPE} {RESOURCE}/Mcp.Access"));
    assert_eq!(denials(&fleet), ["role-missing", "scope-missing"]);
}

#[tokio::test]
async fn a_session_steps_up_at_the_servers_own_consent_page() {
    for (mode, all) in [
        (TokenMode::Session, "User.Read Mcp.Profile".to_owned()),
        (TokenMode::Both, format!("{SCOPE} {RESOURCE}/Mcp.Profile")),
    ] {
        let fleet = fleet(mode, vec![scopes(&["Mcp.Profile", "access_as_user"])]).await;
        let session = fleet.session(ALICE).await;
        assert_eq!(challenged(&fleet.call(&session.access).await), all);
        assert_eq!(listed(&fleet, &session.access).await, [""; 0]);
        let authorize = Authorize::new(&session.client_id).set("scope", &all);
        let mut tab = Tab::default();
        let page = tab.open(&fleet, &authorize.path()).await;
        assert!(page.html().contains("Mcp.Profile"), "the person is asked for it: {}", page.html());
        let answer = fleet.redeem(&session.client_id, &fleet.code(&authorize, ALICE).await).await;
        assert_eq!((answer.status, &answer.body["scope"]), (200, &json!("User.Read Mcp.Profile")));
        let stepped_up = Tokens::of(&session.client_id, &answer);
        assert_eq!(fleet.details(&stepped_up.access).await["userPrincipalName"], ALICE);
        let renewed = Tokens::of(&session.client_id, &fleet.refresh(&session.client_id, &stepped_up.refresh).await);
        assert_eq!(listed(&fleet, &renewed.access).await, ["getUserDetails"]);
        assert_eq!(fleet.call(&session.access).await.status, 403, "the other session has what it had");
        let unknown = Authorize::new(&session.client_id).set("scope", "User.Read Mcp.Everything");
        let back = tab.open(&fleet, &unknown.path()).await;
        let back = if back.status == 400 { back.link() } else { back.location() };
        assert_eq!(parameter(&back, "error").as_deref(), Some("invalid_scope"));
    }
}

#[tokio::test]
async fn roles_and_groups_of_a_session_are_those_of_its_sign_in() {
    let fleet = fleet(TokenMode::Both, vec![rule()]).await;
    let group = groups_of(&fleet, ALICE).await.pop().expect("Alice is in a group");
    let fleet =
        self::fleet(TokenMode::Session, vec![ToolRule { groups: some(&[&group]), ..roles(&["Mcp.Admin"]) }]).await;
    let (alice, bob) = (fleet.session(ALICE).await, fleet.session(BOB).await);
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE);
    assert!(tool_error(&fleet.call(&bob.access).await).contains("Mcp.Admin"));
    change_roles(&fleet, BOB, &["Mcp.Admin"]);
    let bob = fleet.session(BOB).await;
    assert!(tool_error(&fleet.call(&bob.access).await).contains(&group));
    assert_eq!(denials(&fleet), ["role-missing", "group-missing"]);
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_with_the_next_refresh_of_a_session() {
    let fleet = fleet(TokenMode::Session, vec![roles(&["Mcp.Admin"])]).await;
    let mut alice = fleet.session(ALICE).await;
    change_roles(&fleet, ALICE, &["Mcp.Reader"]);
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE, "the session does not know yet");
    // The bound: the roles are at most half an hour old when the server issues an access token of one hour.
    fleet.advance(1_800);
    alice = Tokens::of(&alice.client_id, &fleet.refresh(&alice.client_id, &alice.refresh).await);
    assert!(tool_error(&fleet.call(&alice.access).await).contains("Mcp.Admin"));
    change_roles(&fleet, ALICE, &["Mcp.Admin"]);
    fleet.advance(1_800);
    assert_eq!(denials(&fleet), ["role-missing"]);
    alice = Tokens::of(&alice.client_id, &fleet.refresh(&alice.client_id, &alice.refresh).await);
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE, "and back with a later one");
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_after_a_call_that_refreshed_the_entra_tokens() {
    let fleet = fleet(TokenMode::Session, vec![roles(&["Mcp.Admin"])]).await;
    fleet.shorten_tokens(900);
    let alice = fleet.session(ALICE).await;
    change_roles(&fleet, ALICE, &[]);
    fleet.advance(700);
    assert_eq!(fleet.call(&alice.access).await.status, 200);
    assert!(tool_error(&fleet.call(&alice.access).await).contains("Mcp.Admin"));
}

/// Half an hour passes, and the client keeps its session alive.
async fn half_an_hour(fleet: &Fleet, session: &Tokens) -> Tokens {
    fleet.advance(1_800);
    Tokens::of(&session.client_id, &fleet.refresh(&session.client_id, &session.refresh).await)
}

/// A session of Alice whose roles are a minute short of four hours old, because Entra ID has not answered since.
async fn after_a_long_outage(rules: Vec<ToolRule>) -> (Fleet, Tokens) {
    let fleet = fleet(TokenMode::Session, rules).await;
    let mut alice = fleet.session(ALICE).await;
    fleet.control().inject(Fault::on(Endpoint::Token).always().drop_connection());
    for _ in 0..7 {
        alice = half_an_hour(&fleet, &alice).await;
    }
    fleet.advance(29 * 60);
    (fleet, alice)
}

#[tokio::test]
async fn roles_of_a_session_count_for_four_hours_while_entra_is_out_of_reach_and_again_as_soon_as_it_answers() {
    let vault = |rule| ToolRule { tool: "GetUserDetailsFromGraph".to_owned(), ..rule };
    let rules = vec![rule(), vault(ToolRule { scopes: vec!["Mcp.Profile".to_owned()], ..roles(&["Mcp.Owner"]) })];
    let (fleet, alice) = after_a_long_outage([rules, vec![vault(roles(&["Mcp.Admin"]))]].concat()).await;
    let call = async || fleet.call_tool(&alice.access, "GetUserDetailsFromGraph", &json!({})).await;
    assert_eq!(call().await.body["result"]["isError"], json!(false));
    assert_eq!(list(&fleet, &alice.access).await["ttlMs"], 300_000);
    fleet.advance(60);
    fleet.control().clear_requests();
    let text = tool_error(&call().await).to_owned();
    assert!(
        text.starts_with(
            "you may not call this tool: your roles and groups cannot be confirmed by Microsoft Entra ID now, and this \
             tool needs certain ones: try again later (correlation id "
        ),
        "{text}"
    );
    assert_eq!(denials(&fleet), ["membership-unconfirmed"]);
    assert_eq!(listed(&fleet, &alice.access).await, ["getUserDetails"]);
    assert_eq!(list(&fleet, &alice.access).await["ttlMs"], 5_000);
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE, "a tool that needs no role goes on");
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1, "the failure is remembered");
    // That stays so while the outage lasts, and the session lives on.
    let mut alice = alice;
    for _ in 0..8 {
        alice = half_an_hour(&fleet, &alice).await;
    }
    assert_eq!(listed(&fleet, &alice.access).await, ["getUserDetails"]);
    fleet.control().clear_faults();
    fleet.control().clear_requests();
    fleet.advance(5);
    let flying = fleet.let_time_fly();
    let call = async || fleet.call_tool(&alice.access, "GetUserDetailsFromGraph", &json!({})).await;
    let answers = tokio::join!(call(), call(), call(), call());
    flying.abort();
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!((answer.status, &answer.body["result"]["isError"]), (200, &json!(false)), "{}", answer.body);
    }
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1, "one asks, and the session knows it");
    assert_eq!(listed(&fleet, &alice.access).await, ["getUserDetails", "GetUserDetailsFromGraph"]);
    assert_eq!(list(&fleet, &alice.access).await["ttlMs"], 300_000);
    assert_eq!(denials(&fleet), ["membership-unconfirmed"]);
}

#[tokio::test]
async fn a_role_that_was_taken_away_during_an_outage_is_gone_after_it() {
    let (fleet, alice) = after_a_long_outage(vec![roles(&["Mcp.Admin"])]).await;
    change_roles(&fleet, ALICE, &["Mcp.Reader"]);
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE, "the server cannot know yet");
    fleet.advance(60);
    assert!(tool_error(&fleet.call(&alice.access).await).contains("cannot be confirmed"));
    fleet.control().clear_faults();
    fleet.advance(5);
    assert!(tool_error(&fleet.call(&alice.access).await).contains("\"Mcp.Admin\""));
    assert_eq!(denials(&fleet), ["membership-unconfirmed", "role-missing"]);
}

#[tokio::test]
async fn a_person_whom_entra_wants_again_after_an_outage_is_sent_to_sign_in_and_not_told_to_wait() {
    let (fleet, alice) = after_a_long_outage(vec![roles(&["Mcp.Admin"])]).await;
    fleet.control().clear_faults();
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    fleet.advance(60);
    let answer = fleet.call(&alice.access).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    assert_eq!(denials(&fleet), ["session-ended"]);
    assert_eq!(fleet.refresh(&alice.client_id, &alice.refresh).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_client_whose_session_ends_as_it_lists_the_tools_is_sent_to_sign_in() {
    let (fleet, alice) = after_a_long_outage(vec![roles(&["Mcp.Admin"])]).await;
    fleet.control().clear_faults();
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    fleet.advance(60);
    let answer = fleet.send(list_request(&alice.access)).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_with_the_token_of_entra_that_names_it() {
    let fleet = fleet(TokenMode::Bearer, vec![roles(&["Mcp.Admin"])]).await;
    let old = token(&fleet, ALICE).await;
    change_roles(&fleet, ALICE, &["Mcp.Reader"]);
    fleet.details(&old).await;
    assert!(tool_error(&fleet.call(&token(&fleet, ALICE).await).await).contains("Mcp.Admin"));
    fleet.advance(90 * 60 + 60);
    assert_eq!(fleet.call(&old).await.status, 401, "no token of the emulator lives longer");
}

#[tokio::test]
async fn groups_in_overage_are_resolved_through_graph_for_tokens_and_for_sessions() {
    let scouting = fleet(TokenMode::Bearer, vec![rule()]).await;
    let group = groups_of(&scouting, OLGA).await.pop().expect("Olga is in many groups");
    let fleet = fleet(TokenMode::Both, vec![groups(&[STRANGERS, &group])]).await;
    let granted = fleet.control().change_application(&app(REMOTE), |application| {
        application.granted_roles.entry(GRAPH.to_owned()).or_default().push("GroupMember.Read.All".to_owned());
    });
    granted.expect("the application exists");
    let token = token(&fleet, OLGA).await;
    assert!(claims_of(&token)["_claim_names"]["groups"].is_string());
    assert_eq!(fleet.details(&token).await["userPrincipalName"], OLGA);
    assert_eq!(listed(&fleet, &token).await, ["getUserDetails"]);
    let session = fleet.session(OLGA).await;
    assert_eq!(fleet.details(&session.access).await["userPrincipalName"], OLGA);
    assert_eq!(fleet.control().request_count(Endpoint::GraphMemberObjects), 1, "the answer is remembered");
    assert_eq!(denials(&fleet), [""; 0]);
}

#[tokio::test]
async fn groups_that_graph_does_not_tell_admit_no_caller_and_the_answer_says_so() {
    let fleet = fleet(TokenMode::Bearer, vec![groups(&[STRANGERS])]).await;
    let token = token(&fleet, OLGA).await;
    fleet.control().inject(Fault::on(Endpoint::Token).status(503).always());
    let flying = fleet.let_time_fly();
    let answer = fleet.call(&token).await;
    let list = list(&fleet, &token).await;
    flying.abort();
    assert!(tool_error(&answer).contains("cannot be read from Microsoft Graph now"), "{}", answer.body);
    assert_eq!((&list["tools"], &list["ttlMs"]), (&json!([]), &json!(5_000)));
    assert_eq!(denials(&fleet), ["groups-unavailable"]);
}

#[tokio::test]
async fn each_tenant_may_have_rules_of_its_own() {
    let own = ToolRule { tenants: some(&[FABRIKAM]), ..roles(&["Mcp.Admin"]) };
    let fleet = fleet_of_two_tenants(Some(vec![roles(&["Mcp.Reader", "Mcp.Guest"]), own])).await;
    change_roles(&fleet, FRANK, &["Mcp.Reader"]);
    let (bob, frank) = (token(&fleet, BOB).await, token_of_frank(&fleet).await);
    assert_eq!(fleet.details(&bob).await["userPrincipalName"], BOB);
    let answer = fleet.call(&frank).await;
    assert!(tool_error(&answer).contains("Mcp.Admin") && !tool_error(&answer).contains("Mcp.Guest"), "{}", answer.body);
    change_roles(&fleet, FRANK, &["Mcp.Admin"]);
    assert_eq!(fleet.details(&token_of_frank(&fleet).await).await["userPrincipalName"], FRANK);
    let events = fleet.audit.events();
    let (_, event) = events.iter().find(|(_, event)| event.name == "tool.denied").expect("it is recorded");
    assert_eq!(event.tenant_id.as_deref(), Some(FABRIKAM));
}

#[tokio::test]
async fn sessions_of_many_tenants_follow_the_rules_of_their_own() {
    let own = ToolRule { tenants: some(&[FABRIKAM]), ..roles(&["Mcp.Admin"]) };
    let fleet = Fleet::with(|settings| {
        settings.tenant = "organizations".to_owned();
        settings.token.allowed_tenants = vec![CONTOSO.to_owned(), FABRIKAM.to_owned()];
        settings.http.as_mut().expect("a remote server").access = Some(vec![roles(&["Mcp.Reader"]), own]);
    })
    .await;
    change_roles(&fleet, FRANK, &["Mcp.Reader"]);
    let (bob, frank) = (fleet.session(BOB).await, fleet.session(FRANK).await);
    assert_eq!(fleet.details(&bob.access).await["userPrincipalName"], BOB);
    assert!(tool_error(&fleet.call(&frank.access).await).contains("Mcp.Admin"));
    change_roles(&fleet, FRANK, &["Mcp.Admin"]);
    fleet.advance(1_800);
    let frank = Tokens::of(&frank.client_id, &fleet.refresh(&frank.client_id, &frank.refresh).await);
    assert_eq!(fleet.details(&frank.access).await["userPrincipalName"], FRANK);
}

#[tokio::test]
async fn of_many_tenants_only_those_on_the_list_with_their_own_issuer_and_their_own_keys_are_let_in() {
    let fleet = fleet_of_two_tenants(None).await;
    assert_eq!(fleet.call(&token_of_frank(&fleet).await).await.status, 200);
    let refused = |fleet: &Fleet| {
        let events = fleet.audit.events();
        events.into_iter().filter(|(_, event)| event.name == "token.refused").find_map(|(_, event)| event.reason)
    };
    let issuer = format!("{}/{FABRIKAM}/v2.0", fleet.emulator.endpoints().authority);
    let answer = fleet.call(&signed(&fleet, &[("iss", json!(issuer))], false)).await;
    assert_eq!((answer.status, refused(&fleet).as_deref()), (401, Some("issuer-mismatch")));

    let fleet = fleet_of_two_tenants(None).await;
    fleet.control().restrict_keys_to_tenant(Some(FABRIKAM));
    let alice = token(&fleet, ALICE).await;
    let answer = fleet.call(&alice).await;
    assert_eq!((answer.status, refused(&fleet).as_deref()), (401, Some("key-not-allowed")), "{}", answer.body);
    assert_eq!(fleet.call(&token_of_frank(&fleet).await).await.status, 200);

    let fleet = fleet_with(TokenMode::Bearer, |settings| {
        settings.tenant = "organizations".to_owned();
        settings.token.allowed_tenants = vec![CONTOSO.to_owned()];
    })
    .await;
    let answer = fleet.call(&token_of_frank(&fleet).await).await;
    assert_eq!((answer.status, refused(&fleet).as_deref()), (401, Some("tenant-not-allowed")));
}

#[tokio::test]
async fn a_client_registers_and_signs_in_where_rules_ask_for_roles() {
    // The list is empty, and the client is admitted nevertheless: it can be told why.
    let fleet = fleet(TokenMode::Session, vec![roles(&["Mcp.Owner"])]).await;
    let client = fleet.register(REDIRECT).await;
    let session = fleet.session_of(&client, ALICE).await;
    assert_eq!(listed(&fleet, &session.access).await, [""; 0]);
    assert!(tool_error(&fleet.call(&session.access).await).contains("\"Mcp.Owner\""));
}
