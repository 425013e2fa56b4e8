//! Each tool, in the sessions of the facade and with tokens of Entra ID: for which caller, with which token, and what
//! happens when Graph or Entra ID says no.

use entra_mcp_emulator::{Endpoint, Fault};
use entra_mcp_plugin::environment::{Settings, TokenMode};
use serde_json::{Value, json};

use super::bearer::{self, app_only, token, token_request, tool_error};
use crate::support::lab::{CONTOSO, FABRIKAM, REMOTE, app};
use crate::support::remote::{ALICE, BOB, Fleet, RESOURCE};

const OLGA: &str = "olga@contoso.example";
const GRACE: &str = "grace@fabrikam.example";
const GRAPH_APP: &str = "00000003-0000-0000-c000-000000000000";
const GROUPS: &str = "listMyGroups";
const FIND: &str = "findUser";
const PROFILE: &str = "GetUserDetailsFromGraph";

async fn fleet(mode: TokenMode) -> Fleet {
    fleet_with(mode, |_| {}).await
}

/// A fleet in which every user of these tests may find people: the rule of that tool requires a role.
async fn fleet_with(mode: TokenMode, change: impl FnOnce(&mut Settings)) -> Fleet {
    let fleet = bearer::fleet_with(mode, change).await;
    for username in [ALICE, BOB, GRACE] {
        assign(&fleet, username, &["Directory.Reader"]);
    }
    let granted = fleet.control().change_application(&app(REMOTE), |application| {
        application.granted_roles.insert(app(REMOTE), vec!["Directory.Reader".to_owned()]);
    });
    granted.expect("the application exists");
    fleet
}

/// Assigns roles of the server's application to a user.
fn assign(fleet: &Fleet, username: &str, roles: &[&str]) {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    fleet.control().change_user(username, |user| drop(user.roles.insert(app(REMOTE), roles))).expect("they exist");
}

/// A token of each kind for a user: of a session, and of Entra ID.
async fn tokens(fleet: &Fleet, username: &str) -> [String; 2] {
    [fleet.session(username).await.access, token(fleet, username).await]
}

async fn groups(fleet: &Fleet, token: &str) -> Value {
    fleet.structured(token, GROUPS, &json!({})).await
}

async fn found(fleet: &Fleet, token: &str, query: &str) -> Vec<String> {
    let answer = fleet.structured(token, FIND, &json!({ "query": query })).await;
    assert_eq!(answer["truncated"], false);
    let users = answer["users"].as_array().expect("a list");
    users.iter().map(|user| user["userPrincipalName"].as_str().expect("a name").to_owned()).collect()
}

/// What the tool says that failed, and the reason that is recorded.
async fn refused(fleet: &Fleet, token: &str, tool: &str, arguments: Value) -> (String, String) {
    let answer = fleet.call_tool(token, tool, &arguments).await;
    let said = tool_error(&answer).to_owned();
    let (_, event) = fleet.audit.events().pop().expect("the call is recorded");
    assert_eq!(event.tool.as_deref(), Some(tool));
    (said, event.reason.expect("a failure has a reason"))
}

/// The descriptions of the tools that the holder of a token may call.
async fn described(fleet: &Fleet, token: &str) -> Vec<Value> {
    let message = crate::support::component::modern("tools/list", json!({}), json!({}));
    let request = http::Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .header("authorization", format!("Bearer {token}"));
    let answer = fleet.send(request.body(message.to_string().into_bytes()).expect("a request")).await;
    answer.body["result"]["tools"].as_array().expect("a list").clone()
}

async fn listed(fleet: &Fleet, token: &str) -> Vec<String> {
    let tools = described(fleet, token).await;
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn every_tool_says_what_it_takes_and_what_it_answers() {
    let fleet = fleet(TokenMode::Both).await;
    for token in tokens(&fleet, ALICE).await {
        assert_eq!(listed(&fleet, &token).await, ["getUserDetails", PROFILE, GROUPS, FIND]);
        let tools = described(&fleet, &token).await;
        for tool in &tools {
            assert!(tool["title"].is_string() && tool["description"].is_string(), "{tool}");
            assert_eq!(tool["inputSchema"]["additionalProperties"], false);
            assert_eq!(tool["outputSchema"]["type"], "object");
            let hints = &tool["annotations"];
            assert_eq!((&hints["readOnlyHint"], &hints["destructiveHint"]), (&json!(true), &json!(false)));
        }
        assert_eq!(tools[3]["inputSchema"]["required"], json!(["query"]));
    }
    assert_eq!(listed(&fleet, &app_only(&fleet).await).await, [FIND], "the others are about users");
}

#[tokio::test]
async fn two_people_at_once_see_what_is_their_own_with_every_tool() {
    let fleet = fleet_with(TokenMode::Both, |settings| settings.profile_cache_seconds = 60).await;
    fleet.control().change_user(BOB, |bob| bob.groups = 2).expect("Bob exists");
    let (alice, bob) = (tokens(&fleet, ALICE).await, tokens(&fleet, BOB).await);
    let flying = fleet.let_time_fly();
    for _ in 0..3 {
        for (alice, bob) in alice.iter().zip(&bob) {
            let nothing = json!({});
            let (hers, his, her_groups, his_groups) = tokio::join!(
                fleet.structured(alice, PROFILE, &nothing),
                fleet.structured(bob, PROFILE, &nothing),
                groups(&fleet, alice),
                groups(&fleet, bob),
            );
            assert_eq!((&hers["userPrincipalName"], &hers["jobTitle"]), (&json!(ALICE), &json!("Product Manager")));
            assert_eq!((&his["userPrincipalName"], &his["jobTitle"]), (&json!(BOB), &Value::Null));
            let ids = |answer: &Value| -> Vec<String> {
                let groups = answer["groups"].as_array().expect("a list");
                groups.iter().map(|group| group["id"].as_str().expect("an id").to_owned()).collect()
            };
            assert_eq!((ids(&her_groups).len(), ids(&his_groups).len()), (3, 2));
            assert!(ids(&her_groups).iter().all(|id| !ids(&his_groups).contains(id)));
            let (one, other) = tokio::join!(found(&fleet, alice, "Mia"), found(&fleet, bob, "stella@"));
            assert_eq!((one, other), (vec!["mia@contoso.example".into()], vec!["stella@contoso.example".into()]));
        }
    }
    flying.abort();
}

#[tokio::test]
async fn the_whole_profile_of_a_remote_user_is_that_of_the_local_tool() {
    let fleet = fleet(TokenMode::Both).await;
    for token in tokens(&fleet, ALICE).await {
        let profile = fleet.structured(&token, PROFILE, &json!({})).await;
        for (name, value) in [
            ("id", json!("11111111-0000-4000-a000-000000000001")),
            ("displayName", json!("Alice Anderson")),
            ("officeLocation", json!("12/1110")),
            ("businessPhones", json!(["+1 555 0101"])),
        ] {
            assert_eq!(profile[name], value, "{name}");
        }
    }
}

#[tokio::test]
async fn groups_come_in_pages_up_to_a_bound_that_is_said() {
    let fleet = fleet(TokenMode::Both).await;
    let tokens = tokens(&fleet, OLGA).await;
    for (groups_of_hers, returned, truncated, requests) in
        [(0, 0, false, 1), (250, 250, false, 1), (251, 251, false, 2), (500, 500, false, 2), (750, 500, true, 2)]
    {
        fleet.control().change_user(OLGA, |olga| olga.groups = groups_of_hers).expect("Olga exists");
        for token in &tokens {
            fleet.control().clear_requests();
            let answer = groups(&fleet, token).await;
            let names: Vec<_> = answer["groups"].as_array().expect("a list").iter().collect();
            assert_eq!((names.len(), &answer["truncated"]), (returned, &json!(truncated)));
            assert!(names.last().is_none_or(|last| last["displayName"] == format!("Group {returned}")));
            assert_eq!(fleet.control().request_count(Endpoint::GraphMemberOf), requests, "{groups_of_hers}");
        }
    }
}

#[tokio::test]
async fn a_token_for_more_is_got_once_and_kept_beside_that_for_the_profile() {
    let fleet = fleet(TokenMode::Both).await;
    // Every refresh token works once.
    fleet.control().change_policy(|policy| policy.refresh_token_reuse = false);
    for token in tokens(&fleet, ALICE).await {
        fleet.details(&token).await;
        fleet.control().clear_requests();
        for _ in 0..2 {
            assert_eq!(groups(&fleet, &token).await["groups"].as_array().map(Vec::len), Some(3));
            fleet.details(&token).await;
            found(&fleet, &token, "Bob").await;
        }
        let exchanges = fleet.control().requests(Endpoint::Token);
        let scopes: Vec<_> = exchanges.iter().map(|exchange| exchange.form("scope").expect("a scope")).collect();
        assert_eq!(scopes.len(), 2, "{scopes:?}");
        assert!(scopes[0].starts_with("https://graph.microsoft.com/GroupMember.Read.All"), "{scopes:?}");
        assert!(scopes[1].starts_with("https://graph.microsoft.com/User.ReadBasic.All"), "{scopes:?}");
        assert!(scopes.iter().all(|scope| !scope.contains("User.Read ") && !scope.ends_with("User.Read")));
    }
}

#[tokio::test]
async fn a_session_goes_on_after_its_tokens_for_more_have_expired() {
    let fleet = Fleet::new().await;
    fleet.control().change_policy(|policy| policy.refresh_token_reuse = false);
    fleet.shorten_tokens(1800);
    let mut session = fleet.session(ALICE).await;
    for _ in 0..3 {
        groups(&fleet, &session.access).await;
        fleet.details(&session.access).await;
        fleet.advance(1790);
        let answer = fleet.refresh(&session.client_id, &session.refresh).await;
        session = crate::support::remote::Tokens::of(&session.client_id.clone(), &answer);
    }
}

#[tokio::test]
async fn a_throttled_graph_is_waited_for_as_long_as_it_asks_and_no_longer_than_a_call_lasts() {
    let fleet = fleet(TokenMode::Both).await;
    let throttle = |endpoint, seconds: &str| {
        fleet.control().inject(Fault::on(endpoint).status(429).header("retry-after", seconds).body("{\"error\":{}}"));
    };
    for token in tokens(&fleet, ALICE).await {
        let flying = fleet.let_time_fly();
        for (endpoint, tool, arguments) in
            [(Endpoint::GraphMemberOf, GROUPS, json!({})), (Endpoint::GraphUsers, FIND, json!({ "query": "Bob" }))]
        {
            throttle(endpoint, "7");
            let before = fleet.control().now();
            fleet.structured(&token, tool, &arguments).await;
            assert!(fleet.control().now() - before >= 7, "{tool}");
            throttle(endpoint, "120");
            let (said, reason) = refused(&fleet, &token, tool, arguments).await;
            assert!(said.contains("try again in 120 seconds"), "{said}");
            assert_eq!(reason, "graph-throttled");
        }
        flying.abort();
    }
}

#[tokio::test]
async fn a_missing_consent_is_named_and_ends_no_session() {
    let fleet = fleet(TokenMode::Both).await;
    let tokens = tokens(&fleet, ALICE).await;
    for (tool, arguments, permission) in
        [(GROUPS, json!({}), "GroupMember.Read.All"), (FIND, json!({ "query": "Bob" }), "User.ReadBasic.All")]
    {
        for token in &tokens {
            fleet.details(token).await;
            fleet.control().set_asks_consent(ALICE, true).expect("Alice exists");
            fleet.control().clear_requests();
            for _ in 0..3 {
                let (said, reason) = refused(&fleet, token, tool, arguments.clone()).await;
                assert!(said.contains(&format!("no consent to the permission {permission} ")), "{said}");
                assert!(said.contains("ask an administrator") && said.contains("AADSTS65001"), "{said}");
                assert_eq!(reason, "graph-not-consented");
            }
            assert_eq!(fleet.control().request_count(Endpoint::Token), 1, "a client that repeats itself is no flood");
            assert_eq!(fleet.details(token).await["userPrincipalName"], ALICE);
            fleet.control().set_asks_consent(ALICE, false).expect("Alice exists");
            fleet.advance(6);
            fleet.structured(token, tool, &arguments).await;
        }
    }
}

#[tokio::test]
async fn a_session_that_entra_has_revoked_ends_with_a_tool_that_wants_more() {
    let fleet = Fleet::new().await;
    let session = fleet.session(ALICE).await;
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    let answer = fleet.call_tool(&session.access, GROUPS, &json!({})).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\", "));
    assert_eq!(fleet.call(&session.access).await.status, 401, "it is over for every tool");
}

#[tokio::test]
async fn a_challenge_of_graph_is_answered_with_another_token_of_the_session() {
    let fleet = Fleet::new().await;
    let session = fleet.session(ALICE).await;
    groups(&fleet, &session.access).await;
    fleet.control().challenge_graph(1);
    fleet.control().clear_requests();
    assert_eq!(groups(&fleet, &session.access).await["groups"].as_array().map(Vec::len), Some(3));
    let exchanges = fleet.control().requests(Endpoint::Token);
    assert_eq!(exchanges.len(), 1);
    assert!(exchanges[0].form("claims").is_some_and(|claims| claims.contains("nbf")));
}

#[tokio::test]
async fn a_challenge_of_graph_is_passed_on_to_a_client_with_a_token_of_its_own() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    groups(&fleet, &token).await;
    fleet.control().challenge_graph(1);
    let answer = fleet.call_tool(&token, GROUPS, &json!({})).await;
    assert!(bearer::challenged(&answer).contains("nbf"));
}

#[tokio::test]
async fn an_application_for_itself_has_no_profile_and_no_groups() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = app_only(&fleet).await;
    fleet.control().clear_requests();
    for tool in ["getUserDetails", PROFILE, GROUPS] {
        let (said, reason) = refused(&fleet, &token, tool, json!({})).await;
        assert!(said.contains("stands for an application (app-only)"), "{said}");
        assert_eq!(reason, "kind-not-allowed");
    }
    assert_eq!(fleet.control().request_count(Endpoint::Token), 0, "Entra ID is not asked in vain");
}

#[tokio::test]
async fn an_application_for_itself_finds_people_with_the_permission_of_our_own_application() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = app_only(&fleet).await;
    fleet.control().clear_requests();
    assert_eq!(found(&fleet, &token, "Alice").await, [ALICE]);
    assert_eq!(found(&fleet, &token, "Brown").await, [""; 0], "Bob has no surname in the directory");
    let exchanges = fleet.control().requests(Endpoint::Token);
    assert_eq!(exchanges.len(), 1, "the token is kept");
    assert_eq!(exchanges[0].form("grant_type"), Some("client_credentials"));
    assert!(exchanges[0].path.starts_with(&format!("/{CONTOSO}/")), "{}", exchanges[0].path);
    assert_eq!(exchanges[0].form("assertion"), None);
}

#[tokio::test]
async fn an_application_finds_no_people_until_its_permission_is_granted() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = app_only(&fleet).await;
    let granted = |roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let changed = fleet.control().change_application(&app(REMOTE), |application| {
            application.granted_roles.insert(GRAPH_APP.to_owned(), roles);
        });
        changed.expect("the application exists");
    };
    granted(&[]);
    let (said, reason) = refused(&fleet, &token, FIND, json!({ "query": "Alice" })).await;
    assert!(said.contains("lacks a permission (code Authorization_RequestDenied"), "{said}");
    assert_eq!(reason, "graph-forbidden");
    granted(&["User.Read.All"]);
    assert_eq!(found(&fleet, &token, "Alice").await, [ALICE], "the token without the permission is not kept");
}

#[tokio::test]
async fn an_application_finds_people_of_its_own_tenant_only() {
    let fleet = fleet_with(TokenMode::Bearer, |settings| {
        settings.tenant = "organizations".to_owned();
        settings.token.allowed_tenants = vec![CONTOSO.to_owned(), FABRIKAM.to_owned()];
    })
    .await;
    let (id, secret) = (app(REMOTE), fleet.emulator.endpoints().client_secret.clone());
    let scope = format!("{RESOURCE}/.default");
    for (tenant, expected) in [(CONTOSO, vec![GRACE]), (FABRIKAM, vec!["frank@fabrikam.example", GRACE])] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id.as_str()),
            ("client_secret", secret.as_str()),
            ("scope", scope.as_str()),
        ];
        let token = token_request(&fleet, tenant, &form).await;
        fleet.control().clear_requests();
        let mut names = Vec::new();
        for query in ["frank", "grace"] {
            let answer = fleet.structured(&token, FIND, &json!({ "query": query })).await;
            names.extend(answer["users"].as_array().expect("a list").iter().map(|user| user["mail"].clone()));
        }
        assert_eq!(names, expected);
        let exchanges = fleet.control().requests(Endpoint::Token);
        assert_eq!(exchanges.len(), 1);
        assert!(exchanges[0].path.starts_with(&format!("/{tenant}/")), "{}", exchanges[0].path);
    }
}

#[tokio::test]
async fn a_guest_sees_their_own_groups_and_finds_no_people() {
    let fleet = fleet(TokenMode::Both).await;
    fleet.control().change_user(GRACE, |grace| grace.groups = 1).expect("Grace exists");
    for token in tokens(&fleet, GRACE).await {
        assert_eq!(groups(&fleet, &token).await["groups"].as_array().map(Vec::len), Some(1));
        fleet.control().clear_requests();
        let answer = fleet.call_tool(&token, FIND, &json!({ "query": "Alice" })).await;
        let said = tool_error(&answer);
        assert!(said.contains("this tool is not open to guests of an organisation, whatever their role"), "{said}");
        assert_eq!(fleet.control().request_count(Endpoint::GraphUsers), 0, "it is not left to Graph");
        let denied = fleet.audit.events().into_iter().rfind(|(_, event)| event.name == "tool.denied");
        assert_eq!(denied.and_then(|(_, event)| event.reason).as_deref(), Some("guest-not-allowed"));
    }
}

#[tokio::test]
async fn what_is_searched_for_is_never_more_than_text() {
    let fleet = fleet(TokenMode::Both).await;
    fleet
        .control()
        .change_user(BOB, |bob| {
            bob.profile.insert("surname".to_owned(), json!("O'Brien & S\u{f6}hne #1 100%"));
        })
        .expect("Bob exists");
    for token in [token(&fleet, ALICE).await, app_only(&fleet).await] {
        fleet.control().clear_requests();
        for hostile in [
            "') or startswith(displayName,'A",
            "x') or startswith(userPrincipalName,'",
            "'",
            "''",
            "&$top=999",
            "#",
            "x&$filter=startswith(displayName,'A')",
            "%27%29%20or%20startswith(displayName,%27A",
            "\\'",
            "\u{2019}) or 1 eq 1",
            "../me",
        ] {
            assert_eq!(found(&fleet, &token, hostile).await, [""; 0], "{hostile}");
        }
        for text in ["O'Brien", "o'brien & s\u{f6}hne #1 100%", "  O'B  "] {
            assert_eq!(found(&fleet, &token, text).await, [BOB], "{text}");
        }
        for request in fleet.control().requests(Endpoint::GraphUsers) {
            assert_eq!(request.path, "/graph/v1.0/users");
        }
        fleet.control().clear_requests();
        for (arguments, expected) in [
            (json!({}), "the argument `query` is missing"),
            (json!({ "query": "" }), "has to have 1 to 100 characters"),
            (json!({ "query": "   " }), "has to have 1 to 100 characters"),
            (json!({ "query": "a".repeat(101) }), "has to have 1 to 100 characters"),
            (json!({ "query": "A\u{0}" }), "control character"),
            (json!({ "query": "A\r\nX: y" }), "control character"),
            (json!({ "query": 1 }), "has to be a string"),
            (json!({ "query": "A", "top": 5 }), "unknown argument"),
        ] {
            let (said, reason) = refused(&fleet, &token, FIND, arguments).await;
            assert!(said.contains(expected), "{said}");
            assert_eq!(reason, "arguments");
        }
        assert_eq!(fleet.control().request_count(Endpoint::GraphUsers), 0, "Graph is not asked");
    }
}

#[tokio::test]
async fn more_people_than_are_returned_are_said_to_be_there() {
    let fleet = fleet(TokenMode::Both).await;
    let mut double = entra_mcp_emulator::Config::default().users.into_iter().nth(1).expect("there is Bob");
    for index in 0..30 {
        double.id = format!("55555555-0000-4000-a000-{index:012}");
        double.username = format!("double{index}@contoso.example");
        fleet.control().put_user(double.clone()).expect("the tenant exists");
    }
    for token in tokens(&fleet, ALICE).await {
        let answer = fleet.structured(&token, FIND, &json!({ "query": "double" })).await;
        assert_eq!((answer["users"].as_array().map(Vec::len), &answer["truncated"]), (Some(25), &json!(true)));
        let one = &answer["users"][0];
        let names: Vec<_> = one.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["displayName", "id", "mail", "userPrincipalName"], "and no other property of a user");
        assert_eq!(found(&fleet, &token, "double29").await, ["double29@contoso.example"]);
    }
}

#[tokio::test]
async fn a_caller_without_the_role_finds_no_people_and_does_not_see_the_tool() {
    let fleet = fleet(TokenMode::Both).await;
    assign(&fleet, BOB, &["Mcp.Reader", "directory.reader", "Directory.Reader.All"]);
    fleet
        .control()
        .change_application(&app(REMOTE), |application| {
            application.granted_roles.insert(app(REMOTE), vec!["Mcp.Daemon".to_owned()]);
        })
        .expect("the application exists");
    let [session, brought] = tokens(&fleet, BOB).await;
    for token in [session, brought, app_only(&fleet).await] {
        fleet.control().clear_requests();
        let answer = fleet.call_tool(&token, FIND, &json!({ "query": "Alice" })).await;
        assert!(tool_error(&answer).contains("Directory.Reader"), "{}", answer.body);
        assert!(!format!("{}", answer.body).contains("Anderson"));
        assert_eq!(fleet.control().request_count(Endpoint::GraphUsers), 0);
        assert_eq!(fleet.control().request_count(Endpoint::Token), 0, "no token is got for nothing");
        assert!(!listed(&fleet, &token).await.contains(&FIND.to_owned()));
    }
    for token in tokens(&fleet, ALICE).await {
        assert!(listed(&fleet, &token).await.contains(&FIND.to_owned()));
    }
}
