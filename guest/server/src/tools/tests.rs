//! Rules that hold for every tool, and which token each asks Graph with.

use std::collections::HashSet;
use std::time::Duration;

use base::policy::ToolRule;
use caller::local::SignInError;
use entra::AcquireError;
use entra::graph::GraphError;
use entra::graph::error::Evidence;
use entra::oauth::OAuthError;
use entra::oauth::error::EntraRefusal;
use rmcp::model::Tool as Description;
use serde_json::{Value, json};
use world::http_error::NotConnected;
use world::testing::{self, TENANT, World, http_settings, run};
use world::{CredentialError, HttpError, Unrecorded};

use super::*;
use crate::server_world::ServerWorld;
use crate::testing::{ServerWorlds as _, TestCaller};

fn tool(name: &str) -> &'static dyn AnyTool {
    remote().into_iter().find(|tool| tool.name() == name).unwrap()
}

fn call(env: &ServerWorld<'_>, name: &str, caller: &TestCaller, arguments: Value) -> Result<Value, ToolError> {
    let Value::Object(arguments) = arguments else { panic!("{arguments}") };
    let answer = run(super::call(tool(name), &env.entra, caller, Some(env.limiter), arguments));
    answer.map(|answer| serde_json::from_str(&answer).unwrap())
}

#[test]
fn every_tool_has_a_name_of_its_own_and_says_what_it_takes_and_answers() {
    let described: Vec<&Description> = remote().into_iter().map(|tool| tool.describe()).collect();
    let names: HashSet<_> = described.iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(names.len(), described.len());
    for (tool, described) in remote().into_iter().zip(described) {
        assert_eq!(tool.name(), described.name);
        assert!(described.title.is_some() && described.description.is_some(), "{}", tool.name());
        assert_eq!(described.input_schema["type"], "object", "{}", tool.name());
        assert_eq!(described.input_schema["additionalProperties"], false, "{}", tool.name());
        assert_eq!(described.output_schema.as_ref().unwrap()["type"], "object", "{}", tool.name());
        let annotations = described.annotations.as_ref().unwrap();
        assert_eq!((annotations.read_only_hint, annotations.destructive_hint), (Some(true), Some(false)));
    }
}

#[test]
fn the_local_server_has_the_tool_of_the_sample_and_no_other() {
    let names: Vec<_> = local().into_iter().map(|tool| tool.name()).collect();
    assert_eq!(names, ["GetUserDetailsFromGraph"]);
}

#[test]
fn each_tool_asks_with_the_least_permission_that_it_can_do_with() {
    for (name, arguments, scope) in [
        ("getUserDetails", json!({}), "User.Read"),
        ("GetUserDetailsFromGraph", json!({}), "User.Read"),
        ("listMyGroups", json!({}), "GroupMember.Read.All"),
        ("findUser", json!({ "query": "a" }), "User.ReadBasic.All"),
    ] {
        let world = World::default();
        world.once(move |request| {
            let expected = format!("Bearer https://graph.microsoft.com/{scope}");
            assert_eq!(request.headers()["authorization"], expected.as_str());
            Ok(testing::json(200, &json!({ "id": "o", "value": [] })))
        });
        call(&world.remote(), name, &TestCaller::user(), arguments).unwrap();
    }
}

#[test]
fn an_application_is_told_that_a_tool_is_about_users_and_no_service_is_asked() {
    for name in ["getUserDetails", "GetUserDetailsFromGraph", "listMyGroups"] {
        let world = World::default();
        assert_eq!(call(&world.remote(), name, &TestCaller::app(), json!({})), Err(ToolError::NoUser), "{name}");
        assert_eq!(world.sent(), [""; 0]);
        assert_eq!(world.audited()[0].reason.as_deref(), Some("no-user"));
    }
}

#[test]
fn a_missing_consent_is_said_with_the_permission_and_nothing_else_is() {
    let refusal = |error: &str, code, suberror: Option<&str>| EntraRefusal {
        error: error.to_owned(),
        code,
        suberror: suberror.map(str::to_owned),
        ..EntraRefusal::default()
    };
    for refusal in [
        refusal("invalid_grant", 65001, None),
        refusal("invalid_grant", 90094, None),
        refusal("consent_required", 0, None),
        refusal("invalid_grant", 7, Some("consent_required")),
    ] {
        let code = refusal.code;
        let person = TestCaller { refusal: Some(refusal), ..TestCaller::user() };
        let result = call(&World::default().remote(), "listMyGroups", &person, json!({}));
        let expected = GraphError::NotConsented { permission: "GroupMember.Read.All", code };
        assert_eq!(result, Err(ToolError::Graph(expected)));
    }
    let other = refusal("invalid_grant", 50105, None);
    let person = TestCaller { refusal: Some(other.clone()), ..TestCaller::user() };
    let result = call(&World::default().remote(), "listMyGroups", &person, json!({}));
    assert_eq!(result, Err(ToolError::Graph(AcquireError::Refused(other).into())));
}

#[test]
fn an_applications_token_that_is_not_allowed_is_not_kept() {
    let world = World::default();
    let issue =
        || testing::json(200, &json!({ "token_type": "Bearer", "access_token": "app-token", "expires_in": 3600 }));
    world.once(move |_| Ok(issue()));
    world.once(|_| Ok(testing::json(403, &json!({ "error": { "code": "Authorization_RequestDenied" } }))));
    world.once(move |_| Ok(issue()));
    world.once(|_| Ok(testing::json(200, &json!({ "value": [{ "id": "o", "mail": null }] }))));
    let env = world.remote();
    let query = json!({ "query": "a" });
    let denied = call(&env, "findUser", &TestCaller::app(), query.clone());
    assert!(matches!(denied, Err(ToolError::Graph(GraphError::Forbidden(_)))), "{denied:?}");
    let found = call(&env, "findUser", &TestCaller::app(), query).unwrap();
    let user = json!({ "id": "o", "displayName": null, "mail": null, "userPrincipalName": null });
    assert_eq!(found, json!({ "users": [user], "truncated": false }));
    let asked = world.sent().into_iter().filter(|sent| sent.starts_with("POST ")).collect::<Vec<_>>();
    assert_eq!(asked, vec![format!("POST https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"); 2]);
}

/// Entra ID counts the requests of the server's application, and stops all sign-ins with it when they are too many.
#[test]
fn an_application_that_is_denied_all_the_time_is_no_flood_at_entra() {
    let world = World::default();
    world.always(|request| {
        Ok(match request.uri().path().ends_with("/token") {
            true => {
                testing::json(200, &json!({ "token_type": "Bearer", "access_token": "app-token", "expires_in": 3600 }))
            }
            false => testing::json(403, &json!({ "error": { "code": "Authorization_RequestDenied" } })),
        })
    });
    let env = world.remote();
    let tokens = || world.sent().into_iter().filter(|sent| sent.starts_with("POST ")).count();
    for expected in [2, 3] {
        for _ in 0..20 {
            let denied = call(&env, "findUser", &TestCaller::app(), json!({ "query": "a" }));
            assert!(matches!(denied, Err(ToolError::Graph(GraphError::Forbidden(_)))), "{denied:?}");
        }
        assert_eq!(tokens(), expected);
        world.advance(Duration::from_secs(60));
    }
}

#[test]
fn what_graph_does_not_document_is_malformed() {
    for (name, arguments) in [("listMyGroups", json!({})), ("findUser", json!({ "query": "a" }))] {
        for item in [json!({}), json!("x"), json!({ "id": 1 }), json!({ "id": "o", "displayName": [] })] {
            let world = World::default();
            world.once(move |_| Ok(testing::json(200, &json!({ "value": [item] }))));
            let result = call(&world.remote(), name, &TestCaller::user(), arguments.clone());
            assert_eq!(result, Err(ToolError::Graph(GraphError::Malformed(Evidence::default()))), "{name}");
        }
    }
}

#[test]
fn the_whole_profile_is_remembered_for_its_user_and_apart_from_the_short_one() {
    let world = World::default();
    world.always(|_| Ok(testing::json(200, &json!({ "id": "o", "displayName": "Alice", "jobTitle": "Manager" }))));
    let env = world.remote();
    for _ in 0..2 {
        let whole = call(&env, "GetUserDetailsFromGraph", &TestCaller::user(), json!({})).unwrap();
        assert_eq!(whole["jobTitle"], "Manager");
        let short = call(&env, "getUserDetails", &TestCaller::user(), json!({})).unwrap();
        assert_eq!(short, json!({ "displayName": "Alice", "mail": null, "userPrincipalName": null }));
    }
    assert_eq!(world.sent().len(), 2);
    world.advance(Duration::from_secs(60));
    call(&env, "GetUserDetailsFromGraph", &TestCaller::user(), json!({})).unwrap();
    assert_eq!(world.sent().len(), 3);
}

#[test]
fn what_clients_may_ask_for_is_what_rules_name_besides_the_scope_of_the_server() {
    let rule = |scopes: &[&'static str]| ToolRule::for_tool("vault", Rule::users().with_scopes(scopes));
    let access = Some(vec![rule(&["b", "access_as_user"]), rule(&["a", "b"]), rule(&[])]);
    assert_eq!(scopes(&HttpSettings { access, ..http_settings() }), ["b", "a"]);
}

#[test]
fn a_remote_client_learns_nothing_of_the_servers_configuration_or_network() {
    let refusal = |code| entra::oauth::error::EntraRefusal::new("invalid_client", &[code], None);
    let secret = "The client secret is wrong";
    let local = SignInError::Refused(refusal(7_000_215));
    assert!(local.to_string().contains(secret), "a local person is told");
    let unreachable = HttpError::Connect(NotConnected::Refused);
    let credential = CredentialError::NotConfigured("the setting client_secret".to_owned());
    for (error, expected) in [
        (AcquireError::Refused(refusal(7_000_215)), "not set up correctly at Microsoft Entra ID"),
        (AcquireError::Unavailable(OAuthError::Unreachable(unreachable)), "cannot be reached now"),
        (AcquireError::Unavailable(OAuthError::Credential(credential)), "its operator finds the reason"),
        (AcquireError::Unrecorded(Unrecorded), "cannot keep its records now"),
    ] {
        let said = error.public();
        assert!(said.contains(expected), "{said}");
        for inside in [secret, "connection was refused", "client_secret"] {
            assert!(!said.contains(inside), "{said}");
        }
        assert_eq!(ToolError::from(GraphError::Token(error)).public(), said);
    }
    let throttled = AcquireError::Unavailable(OAuthError::Throttled(Duration::from_secs(30)));
    let said = ToolError::from(GraphError::Token(throttled)).public();
    assert!(said.contains("30 seconds"), "the time to wait is known: {said}");
    let throttled = AcquireError::Unavailable(OAuthError::Throttled(Duration::from_secs(30)));
    let said = ToolError::Graph(GraphError::NoToken(throttled)).public();
    assert!(said.contains("30 seconds"), "also where the server asks for itself: {said}");
    let graph = ToolError::Graph(GraphError::Unreachable(unreachable)).public();
    assert_eq!(graph, "Microsoft Graph cannot be asked now. Try again later.");
}

#[test]
fn only_a_token_of_the_caller_leads_to_a_new_sign_in() {
    let person = || AcquireError::NeedsPerson { reason: "ended".to_owned(), claims: Some("{}".to_owned()) };
    let step_up = AcquireError::StepUp { reason: "once more".to_owned(), claims: None };
    let after = Duration::from_secs(9);
    for (error, needs_person, is_step_up, too_many) in [
        (GraphError::Token(person()), Some(Some("{}")), false, None),
        (GraphError::NoToken(person()), None, false, None),
        (GraphError::Token(step_up), None, true, None),
        (GraphError::TooMany(after), None, false, Some(after)),
        (GraphError::Unauthorised(Evidence::default()), None, false, None),
    ] {
        let error = ToolError::Graph(error);
        assert_eq!(error.needs_person(), needs_person, "{error:?}");
        assert_eq!((error.is_step_up(), error.too_many()), (is_step_up, too_many), "{error:?}");
    }
}

#[test]
fn what_a_tool_takes_and_answers_is_published_as_plain_json_schema() {
    let nullable = |about: Option<&str>| {
        let mut schema = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        if let Some(about) = about {
            schema["description"] = json!(about);
        }
        schema
    };
    let truncated = json!({ "type": "boolean", "description": "There are more than these." });
    let id = json!({ "type": "string", "description": "Object id." });
    let nothing = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let unfilled = || nullable(Some("Null if it is not filled in."));
    let plain = || nullable(None);
    let expected = [
        (
            "getUserDetails",
            nothing.clone(),
            json!({
                "type": "object",
                "properties": { "displayName": plain(), "mail": plain(), "userPrincipalName": plain() },
                "required": ["displayName", "mail", "userPrincipalName"],
            }),
        ),
        (
            "GetUserDetailsFromGraph",
            nothing.clone(),
            json!({
                "type": "object",
                "properties": {
                    "id": { "type": "string" },
                    "displayName": plain(),
                    "givenName": plain(),
                    "surname": plain(),
                    "userPrincipalName": plain(),
                    "mail": plain(),
                    "jobTitle": plain(),
                    "officeLocation": plain(),
                    "mobilePhone": plain(),
                    "businessPhones": { "type": "array", "items": { "type": "string" } },
                    "preferredLanguage": plain(),
                },
                "required": ["id"],
            }),
        ),
        (
            "listMyGroups",
            nothing,
            json!({
                "type": "object",
                "properties": {
                    "groups": { "type": "array", "description": "The first of them.", "maxItems": 500, "items": {
                        "type": "object",
                        "properties": { "id": id, "displayName": nullable(Some("Null where the user may not see it.")) },
                        "required": ["id", "displayName"],
                    } },
                    "truncated": truncated,
                },
                "required": ["groups", "truncated"],
            }),
        ),
        (
            "findUser",
            json!({
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string",
                        "description": "The beginning of a name or of an address, in any case of letters.",
                        "minLength": 1,
                        "maxLength": 100,
                    },
                },
                "required": ["query"],
                "additionalProperties": false,
            }),
            json!({
                "type": "object",
                "properties": {
                    "users": { "type": "array", "description": "The first of them.", "maxItems": 25, "items": {
                        "type": "object",
                        "properties": {
                            "id": id,
                            "displayName": unfilled(),
                            "mail": unfilled(),
                            "userPrincipalName": nullable(Some("Null if it is not filled in.")),
                        },
                        "required": ["id", "displayName", "mail", "userPrincipalName"],
                    } },
                    "truncated": truncated,
                },
                "required": ["users", "truncated"],
            }),
        ),
    ];
    for (name, arguments, answer) in expected {
        let described = tool(name).describe();
        assert_eq!(Value::Object((*described.input_schema).clone()), arguments, "{name}");
        assert_eq!(Value::Object((**described.output_schema.as_ref().unwrap()).clone()), answer, "{name}");
    }
}

#[test]
fn a_description_names_the_bound_of_the_answer() {
    for (name, items) in [("findUser", "users"), ("listMyGroups", "groups")] {
        let described = tool(name).describe();
        let bound = &described.output_schema.as_ref().unwrap()["properties"][items]["maxItems"];
        let text = described.description.as_ref().unwrap();
        assert!(text.to_lowercase().contains(&format!("at most {bound};")), "{text}");
    }
}

#[test]
fn a_tool_gets_no_token_for_what_it_has_not_declared() {
    const DECLARED: Permission = Permission::delegated("User.Read");
    let (world, caller) = (World::default(), TestCaller::user());
    let env = world.remote();
    let ctx = ToolContext::new(&env.entra, &caller, None, &[DECLARED]);
    assert!(ctx.tokens(&DECLARED).is_ok());
    for other in [Permission::delegated("Mail.Read"), DECLARED.or_application("User.Read.All")] {
        assert!(matches!(ctx.tokens(&other), Err(ToolError::Undeclared { .. })), "{other:?}");
    }
}
