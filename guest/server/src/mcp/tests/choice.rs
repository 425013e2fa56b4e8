//! Several accounts are signed in, and none is configured: the person chooses, once for a connection.

use super::*;

/// The tokens of the accounts are their names.
const NAMES: [&str; 2] = ["alice", "bob"];

fn id(name: &str) -> String {
    format!("{name}.t")
}

fn sign_in(env: &LocalWorld<'_>, name: &str) {
    let env = &env.person.entra;
    let account = Account {
        home_account_id: id(name),
        username: format!("{name}@contoso.example"),
        name: name.to_uppercase(),
        tenant_id: "t".to_owned(),
        object_id: name.to_owned(),
    };
    let expires_at = env.clock.now() + 3_600;
    let tokens = TokenSet { access_token: name.into(), expires_at, refresh_token: None, id_token: None };
    run(accounts::save(env, &account, &[profile_scope(env.settings)], tokens)).unwrap();
}

/// Two accounts, and Graph that answers with the token that it is asked with.
fn office() -> (World, LocalWorld<'static>) {
    let world = World::default();
    let env = world.local();
    for name in NAMES {
        sign_in(&env, name);
    }
    world.always(|request| {
        let token = request.headers()["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
        let profile = json!({ "displayName": token, "userPrincipalName": token, "id": token });
        Ok(world::testing::json(200, &profile))
    });
    (world, env)
}

/// A connection of a revision with `initialize`.
fn connect(env: &LocalWorld<'_>, version: &str, elicitation: Value) {
    let params = json!({ "protocolVersion": version, "capabilities": { "elicitation": elicitation } });
    assert!(ask(env, legacy("initialize", params))["result"].is_object());
}

fn call(env: &LocalWorld<'_>) -> Value {
    ask(env, legacy("tools/call", json!({ "name": "GetUserDetailsFromGraph" })))["result"].clone()
}

fn accepted(name: &str) -> Value {
    json!({ "action": "accept", "content": { "account": id(name) } })
}

/// Whose data the result has.
fn owner(result: &Value) -> &'static str {
    assert_eq!(result["isError"], false, "{result}");
    let text = result["content"].to_string();
    NAMES.into_iter().find(|name| text.contains(name)).unwrap_or_else(|| panic!("{text}"))
}

fn is_refused_with_both(result: &Value) -> bool {
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    result["isError"] == true && NAMES.iter().all(|name| text.contains(&format!("{name}@contoso.example")))
}

#[test]
fn the_choice_is_asked_for_once_and_holds_for_the_connection() {
    for (version, elicitation) in
        [("2025-11-25", json!({})), ("2025-11-25", json!({ "form": {}, "url": {} })), ("2025-06-18", json!({}))]
    {
        let (world, env) = office();
        connect(&env, version, elicitation);
        world.client_answers(accepted("bob"));
        assert_eq!(owner(&call(&env)), "bob");
        assert_eq!(owner(&call(&env)), "bob");
        let asked = world.asked_of_client();
        let [(method, form)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(method, "elicitation/create");
        let choice = &form["requestedSchema"]["properties"]["account"];
        let (ids, titles) = match version {
            "2025-06-18" => (choice["enum"].clone(), choice["enumNames"].clone()),
            _ => {
                let of = |key: &str| choice["oneOf"].as_array().unwrap().iter().map(|one| one[key].clone()).collect();
                (Value::Array(of("const")), Value::Array(of("title")))
            }
        };
        assert_eq!(ids, json!(["alice.t", "bob.t"]));
        assert_eq!(titles, json!(["alice@contoso.example (ALICE)", "bob@contoso.example (BOB)"]));
        // Another connection has its own.
        connect(&env, version, json!({ "form": {} }));
        world.client_answers(accepted("alice"));
        assert_eq!(owner(&call(&env)), "alice");
    }
}

#[test]
fn a_client_without_forms_gets_the_error_that_lists_the_accounts() {
    for (version, elicitation) in [
        ("2025-11-25", json!({ "url": {} })),
        ("2025-11-25", Value::Null),
        ("2025-06-18", Value::Null),
        ("2025-03-26", json!({})),
    ] {
        let (world, env) = office();
        connect(&env, version, elicitation.clone());
        assert!(is_refused_with_both(&call(&env)), "{version} {elicitation}");
        assert_eq!(world.asked_of_client(), []);
    }
}

#[test]
fn an_answer_that_names_no_account_changes_nothing() {
    for answer in [
        json!({ "action": "decline" }),
        json!({ "action": "cancel" }),
        json!({ "action": "accept" }),
        json!({ "action": "accept", "content": { "account": "carol.t" } }),
        json!({ "action": "decline", "content": { "account": "bob.t" } }),
    ] {
        let (world, env) = office();
        connect(&env, "2025-11-25", json!({ "form": {} }));
        world.client_answers(answer.clone());
        assert!(is_refused_with_both(&call(&env)), "{answer}");
        world.client_answers(accepted("alice"));
        assert_eq!(owner(&call(&env)), "alice", "it is asked for again");
    }
}

#[test]
fn an_account_that_was_chosen_and_signed_out_is_chosen_anew() {
    let (world, env) = office();
    connect(&env, "2025-11-25", json!({ "form": {} }));
    sign_in(&env, "carol");
    world.client_answers(accepted("carol"));
    assert_eq!(call(&env)["isError"], false);
    run(accounts::sign_out(&env.person.entra, &id("carol"))).unwrap();
    world.client_answers(accepted("bob"));
    assert_eq!(owner(&call(&env)), "bob");
    run(accounts::sign_out(&env.person.entra, &id("bob"))).unwrap();
    assert_eq!(owner(&call(&env)), "alice", "it is the only one");
    assert_eq!(world.asked_of_client().len(), 2);
}

fn modern_call(env: &LocalWorld<'_>, more: &Value) -> Value {
    let mut params = json!({ "name": "GetUserDetailsFromGraph" });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut request = modern("tools/call", params);
    request["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({ "elicitation": { "form": {} } });
    ask(env, request)["result"].clone()
}

#[test]
fn a_client_of_the_new_era_repeats_the_call_with_the_choice() {
    let (world, env) = office();
    let first = modern_call(&env, &json!({}));
    assert_eq!(first["resultType"], "input_required");
    let request = &first["inputRequests"]["account"];
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["requestedSchema"]["required"], json!(["account"]));
    let with =
        |answer: Value| json!({ "requestState": first["requestState"], "inputResponses": { "account": answer } });
    assert!(is_refused_with_both(&modern_call(&env, &with(json!({ "action": "decline" })))));
    assert_eq!(modern_call(&env, &json!({ "requestState": first["requestState"] }))["resultType"], "input_required");
    assert_eq!(owner(&modern_call(&env, &with(accepted("bob")))), "bob");
    assert_eq!(owner(&modern_call(&env, &json!({}))), "bob", "it holds for the connection");
    assert_eq!(world.asked_of_client(), []);
}
