//! Tools whose rules ask for an authentication context.

use super::*;

#[test]
fn a_tool_whose_rule_wants_an_authentication_context_is_listed_and_its_call_is_answered_by_a_challenge() {
    let world = World::default();
    provides(&world, &["read", "send"]);
    world.tools_answer(|_| Ok(ToolContent::Text("done".to_owned())));
    let mut env = remote(&world);
    let rule = Rule { contexts: Some(vec!["c1".into()]), ..Rule::users() };
    crate::testing::configure(&mut env, |http| http.access = Some(vec![ToolRule::for_tool("send", rule)]));
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#.to_owned();
    for spoken in ERAS {
        let (plain, stepped_up) = (TestCaller::user(), TestCaller::user().contexts(&["c1"]));
        let (plain, stepped_up) = (Peer::Remote(&env, &plain), Peer::Remote(&env, &stepped_up));
        assert_eq!(names(&list(&plain, spoken)), ["read", "send"]);
        assert_eq!(text(&result(&plain, spoken, "read")), "done");
        assert_eq!(call(&plain, spoken, "send"), Reply::ClaimsChallenge(claims.clone()));
        assert_eq!(text(&result(&stepped_up, spoken, "send")), "done");
    }
    let denied = world.audited().into_iter().find(|event| event.name == "tool.denied").unwrap();
    assert_eq!(denied.reason.as_deref(), Some("authentication-context-missing"));
}

#[test]
fn a_session_whose_sign_in_satisfied_the_context_calls_for_ninety_minutes_and_then_signs_in_again() {
    let world = World::default();
    provides(&world, &["send"]);
    world.tools_answer(|_| Ok(ToolContent::Text("done".to_owned())));
    let mut env = remote(&world);
    let rule = Rule { contexts: Some(vec!["c1".into()]), ..Rule::users() };
    crate::testing::configure(&mut env, |http| http.access = Some(vec![ToolRule::for_tool("send", rule)]));
    let membership = Membership::at(START, &[], Default::default()).with_contexts(START, &["c1"]);
    let session = Session { membership, ..session() };
    let caller = SessionCaller { env: &env.entra, session: &session };
    let peer = Peer::Remote(&env, &caller);
    assert_eq!(text(&result(&peer, Spoken::Legacy, "send")), "done");
    world.advance(Duration::from_secs(5_399));
    assert_eq!(text(&result(&peer, Spoken::Legacy, "send")), "done");
    world.advance(Duration::from_secs(1));
    assert_eq!(call(&peer, Spoken::Legacy, "send"), Reply::StepUp);
    let wanted = run(caller::session::claims::wanted(&env.entra.records, &session.owner())).unwrap();
    assert_eq!(wanted.as_deref(), Some(r#"{"id_token":{"acrs":{"essential":true,"value":"c1"}}}"#));
}
