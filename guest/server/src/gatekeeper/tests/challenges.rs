//! A server behind that was refused a token of its caller: what only the client can bring is asked of the client.

use entra::testing::user_claims;
use world::provided_tools::{DelegationError, DelegationErrorCategory as Category};

use super::*;

const WANTED: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

/// The head of an answer whose server was refused a token for this reason.
fn refused(status: u16, category: Category, code: &str, claims: Option<&str>) -> AnswerHead {
    let refusal = DelegationError {
        category,
        code: code.to_owned(),
        message: "What to do.".to_owned(),
        claims: claims.map(str::to_owned),
        retry_after: None,
    };
    AnswerHead { status, latency_us: 7, session_id: None, refusal: Some(refusal) }
}

impl Lab {
    fn instead(&self, by: &Secret<String>, head: &AnswerHead) -> Response<Vec<u8>> {
        let grant = self.grant(with(self.call(by, "list"), "origin", "https://app.example.com"));
        run(answered(&self.later(), grant.handle.reveal(), head)).unwrap_err()
    }

    /// Outcome and reason of the latest record.
    fn recorded(&self) -> (base::audit::Outcome, Option<String>) {
        let event = self.world().audited().into_iter().rfind(|event| event.name == "tool.called").unwrap();
        (event.outcome, event.reason)
    }

    fn token_of_alice(&self) -> Secret<String> {
        self.token_with(json!({}))
    }

    fn token_with(&self, changes: Value) -> Secret<String> {
        let alice = entra::testing::with(user_claims(), json!({ "scp": "access_as_user" }));
        self.sign(&entra::testing::with(alice, changes))
    }
}

/// Lets people use something of `crm` whose sign-in has satisfied the authentication context `c1`.
fn in_context(kind: TargetKind, name: &'static str) -> ToolRule {
    let rule = Rule { contexts: Some(vec!["c1".into()]), ..Rule::users() };
    ToolRule { server: Some("crm".into()), kind, ..ToolRule::for_tool(name, rule) }
}

#[test]
fn a_client_with_a_token_is_challenged_for_exactly_the_context_that_the_rule_names_and_for_that_tool_only() {
    let lab = Lab::new(vec![in_context(TargetKind::Tool, "delete"), in_context(TargetKind::Resource, "crm://secret")]);
    let plain = lab.token_of_alice();
    let read = json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": { "uri": "crm://secret" } });
    for request in [lab.call(&plain, "delete"), post(&plain, &read)] {
        let answer = lab.refusal(with(request, "origin", "https://app.example.com"));
        assert_eq!(answer.status(), 401);
        let challenge = field(answer.headers(), "www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"insufficient_claims\""), "{challenge}");
        let claims = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, WANTED);
        assert!(challenge.contains(&format!("claims=\"{claims}\"")), "{challenge}");
    }
    lab.grant(lab.call(&plain, "list"));
    let other = lab.token_with(json!({ "acrs": ["c2"] }));
    assert_eq!(lab.refusal(lab.call(&other, "delete")).status(), 401);
    for good in [json!(["c1"]), json!(["c2", "c1"])] {
        lab.grant(lab.call(&lab.token_with(json!({ "acrs": good })), "delete"));
    }
    let denied = |name: &str| ("crm".to_owned(), name.to_owned(), "authentication-context-missing".to_owned());
    assert_eq!(lab.denials(), [denied("delete"), denied("crm://secret"), denied("delete")]);
}

#[test]
fn the_person_of_a_session_signs_in_once_more_with_the_context_and_the_session_goes_on() {
    let lab = Lab::new(vec![in_context(TargetKind::Tool, "delete")]);
    let answer = lab.refusal(lab.call(&lab.alice, "delete"));
    let challenge = field(answer.headers(), "www-authenticate");
    assert_eq!(answer.status(), 403);
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{challenge}");
    lab.grant(lab.call(&lab.alice, "list"));
    let owner =
        Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: "alice-object".to_owned() };
    let wanted = run(caller::session::claims::wanted(&lab.env.entra.records, &owner)).unwrap();
    assert_eq!(wanted.as_deref(), Some(r#"{"id_token":{"acrs":{"essential":true,"value":"c1"}}}"#));
    let bob = Owner { object_id: "bob-object".to_owned(), ..owner };
    assert_eq!(run(caller::session::claims::wanted(&lab.env.entra.records, &bob)), Ok(None), "of no other person");
}

#[test]
fn an_application_is_told_and_not_challenged_where_only_a_person_can_bring_the_context() {
    let both = Rule { apps: true, ..in_context(TargetKind::Tool, "delete").rule };
    let lab = Lab::new(vec![ToolRule { rule: both, ..in_context(TargetKind::Tool, "delete") }]);
    let answer = lab.refusal(lab.call(&lab.sign(&entra::testing::app_claims()), "delete"));
    assert_eq!((answer.status().as_u16(), field(answer.headers(), "www-authenticate")), (200, ""));
    let told = json_of(&answer).to_string();
    assert!(told.contains("an application (app-only)"), "{told}");
}

#[test]
fn a_list_shows_what_only_another_sign_in_is_missing_for() {
    let lab = Lab::new(vec![in_context(TargetKind::Tool, "delete"), for_admins(TargetKind::Tool, "export")]);
    let plain = lab.token_of_alice();
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let grant = lab.grant(post(&plain, &list));
    assert!(grant.judge_answer);
    let all = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [
        { "name": "delete" }, { "name": "export" }, { "name": "list" },
    ] } });
    let judged = run(judge_answer(&lab.later(), grant.handle.reveal(), all.to_string()));
    let judged: Value = serde_json::from_str(&judged).unwrap();
    assert_eq!(judged["result"]["tools"], json!([{ "name": "delete" }, { "name": "list" }]));
}

#[test]
fn agents_need_a_rule_that_names_them_also_where_every_other_caller_is_let_in() {
    let agents = Rule { users: false, agents: true, ..Rule::users() };
    let lab = Lab::new(vec![ToolRule::for_tool("read", agents)]);
    let blueprint = "30cf4c22-9985-4ef7-8756-91cc888176bd";
    let on_behalf = json!({ "xms_act_fct": "11 3", "xms_sub_fct": "3", "xms_par_app_azp": blueprint });
    let for_itself = json!({ "xms_act_fct": "11", "xms_sub_fct": "11", "xms_par_app_azp": blueprint });
    let tokens = [
        lab.token_with(on_behalf),
        lab.token_with(json!({ "xms_act_fct": "11", "xms_sub_fct": "13", "xms_par_app_azp": blueprint })),
        lab.sign(&entra::testing::with(entra::testing::app_claims(), for_itself)),
    ];
    for agent in &tokens {
        lab.grant(lab.call(agent, "read"));
        let told = json_of(&lab.refusal(lab.call(agent, "list"))).to_string();
        assert!(told.contains("is not open to AI agents"), "{told}");
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let grant = lab.grant(post(agent, &list));
        assert!(grant.judge_answer);
        let all = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [{ "name": "read" }, { "name": "list" }] } });
        let judged = run(judge_answer(&lab.later(), grant.handle.reveal(), all.to_string()));
        let judged: Value = serde_json::from_str(&judged).unwrap();
        assert_eq!(judged["result"]["tools"], json!([{ "name": "read" }]));
    }
    let denied = ("crm".to_owned(), "list".to_owned(), "agent-not-allowed".to_owned());
    assert_eq!(lab.denials(), [denied.clone(), denied.clone(), denied]);
    // A person is no agent, whatever blueprint the token names: that is for records.
    let person = lab.token_with(json!({ "xms_par_app_azp": blueprint }));
    lab.grant(lab.call(&person, "list"));
    let told = json_of(&lab.refusal(lab.call(&person, "read"))).to_string();
    assert!(told.contains("for applications or AI agents"), "{told}");
}

#[test]
fn without_any_rule_an_agent_may_do_nothing_with_a_server_behind_and_sees_none_of_its_tools() {
    let lab = Lab::open();
    let agent = lab.token_with(json!({ "xms_act_fct": "11" }));
    let told = json_of(&lab.refusal(lab.call(&agent, "list"))).to_string();
    assert!(told.contains("is not open to AI agents"), "{told}");
    assert!(lab.grant(post(&agent, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }))).judge_answer);
    lab.grant(lab.call(&lab.token_of_alice(), "list"));
}

#[test]
fn an_agent_sends_a_server_behind_no_method_and_no_notification_that_mcp_does_not_have() {
    let for_agents = ToolRule::for_tool("read", Rule { agents: true, ..Rule::users() });
    for rules in [Vec::new(), vec![for_agents]] {
        let lab = Lab::new(rules);
        let (agent, alice) = (lab.token_with(json!({ "xms_act_fct": "11" })), lab.token_of_alice());
        let vendor = json!({ "jsonrpc": "2.0", "id": 1, "method": "vendor/anything" });
        lab.grant(post(&alice, &vendor));
        assert_eq!(json_of(&lab.refusal(post(&agent, &vendor)))["error"]["code"], -32601);
        let modern_vendor = |by| modern(by, "vendor/anything", json!({}), None);
        lab.grant(modern_vendor(&alice));
        assert_eq!(lab.refusal(modern_vendor(&agent)).status(), 404);
        for method in ["notifications/vendor", "vendor/anything"] {
            let notification = json!({ "jsonrpc": "2.0", "method": method });
            lab.grant(post(&alice, &notification));
            assert_eq!(lab.refusal(post(&agent, &notification)).status(), 400, "{method}");
        }
        for known in ["initialized", "cancelled", "progress", "roots/list_changed", "tasks/status"] {
            lab.grant(post(&agent, &json!({ "jsonrpc": "2.0", "method": format!("notifications/{known}") })));
        }
    }
}

#[test]
fn a_client_with_a_token_gets_the_claims_in_place_of_the_answer() {
    let lab = Lab::open();
    for (status, code) in [(200, "interaction-required"), (500, "claims-challenge"), (0, "interaction-required")] {
        let head = refused(status, Category::NeedsPerson, code, Some(WANTED));
        let answer = lab.instead(&lab.token_of_alice(), &head);
        assert_eq!(answer.status(), 401, "{status}");
        let challenge = field(answer.headers(), "www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"insufficient_claims\""), "{challenge}");
        let claims = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, WANTED);
        assert!(challenge.contains(&format!("claims=\"{claims}\"")), "{challenge}");
        assert!(challenge.contains("/.well-known/oauth-protected-resource/crm/mcp\""), "{challenge}");
        assert_eq!(field(answer.headers(), "access-control-allow-origin"), "https://app.example.com");
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
}

#[test]
fn a_session_signs_in_once_more_with_the_claims_or_anew_if_it_has_ended() {
    let lab = Lab::open();
    for (code, status, error) in [
        ("step-up-required", 403, "insufficient_scope"),
        ("claims-challenge", 403, "insufficient_scope"),
        ("session-ended", 401, "invalid_token"),
    ] {
        let answer = lab.instead(&lab.alice, &refused(200, Category::NeedsPerson, code, Some(WANTED)));
        assert_eq!(answer.status(), status, "{code}");
        let challenge = field(answer.headers(), "www-authenticate");
        assert!(challenge.starts_with(&format!("Bearer error=\"{error}\"")), "{challenge}");
        assert!(!challenge.contains("claims="), "{challenge}");
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
    let owner =
        Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: "alice-object".to_owned() };
    let wanted = run(caller::session::claims::wanted(&lab.env.entra.records, &owner)).unwrap();
    assert_eq!(wanted.as_deref(), Some(WANTED), "the next sign-in brings them");
}

#[test]
fn a_session_that_has_ended_meanwhile_signs_in_anew() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    super::answers::end_sessions(&lab);
    let head = refused(200, Category::NeedsPerson, "step-up-required", None);
    assert_eq!(run(answered(&lab.later(), grant.handle.reveal(), &head)).unwrap_err().status(), 401);
}

#[test]
fn what_the_client_cannot_help_is_for_the_server_behind_to_say() {
    let lab = Lab::open();
    for (category, code) in [
        (Category::Refused, "aadsts-65001"),
        (Category::NotGranted, "not-granted"),
        (Category::Unavailable, "entra-unavailable"),
        (Category::HandleInvalid, "handle-invalid"),
    ] {
        let grant = lab.grant(lab.call(&lab.alice, "list"));
        run(answered(&lab.later(), grant.handle.reveal(), &refused(200, category, code, None))).unwrap();
        assert_eq!(lab.recorded(), (base::audit::Outcome::Success, None));
        // Without an answer of its own, the reason is more useful than none.
        let answer = lab.instead(&lab.alice, &refused(0, category, code, None));
        assert_eq!(answer.status(), if category == Category::Unavailable { 503 } else { 502 });
        assert!(String::from_utf8_lossy(answer.body()).contains("What to do."));
        assert_eq!(lab.recorded(), (base::audit::Outcome::Failure, Some(code.to_owned())));
    }
}

#[test]
fn a_caller_that_caused_too_many_requests_is_told_when_to_come_back() {
    let lab = Lab::open();
    let mut head = refused(200, Category::Unavailable, "graph-too-many", None);
    head.refusal.as_mut().unwrap().retry_after = Some(9);
    let answer = lab.instead(&lab.alice, &head);
    assert_eq!((answer.status().as_u16(), field(answer.headers(), "retry-after")), (429, "9"));
}
