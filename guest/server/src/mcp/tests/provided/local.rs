//! The person at this machine, who signs in before a tool is called.

use super::*;
use crate::gatekeeper::local::local_token;

#[test]
fn the_person_signs_in_before_a_tool_is_called() {
    for spoken in ERAS {
        let world = World::default();
        provides(&world, &["read"]);
        world.always(|_| Err(HttpError::Connect(NotConnected::Refused)));
        let env = local(&world);
        assert_eq!(names(&list(&Peer::Local(&env), spoken)), ["read"], "a list needs no person");
        assert_eq!(result(&Peer::Local(&env), spoken, "read")["isError"], true);
        assert_eq!(world.called_tools(), []);
    }
}

#[test]
fn a_client_shows_the_sign_in_and_goes_on_with_the_call() {
    let world = World::default();
    provides(&world, &["read"]);
    world.tools_answer(|_| Ok(ToolContent::Text("done".to_owned())));
    let env = local(&world);
    let state = super::super::deferred_for(&world, &env, "read");
    assert_eq!(world.called_tools(), []);
    // In another process, in the meantime.
    sign_in(&env, MAIL_READ);
    let params = json!({
        "name": "read",
        "requestState": state,
        "inputResponses": { "sign-in": { "action": "accept" } },
    });
    let answer = super::super::ask(&env, super::super::modern_with_elicitation(params));
    assert_eq!(text(&answer["result"]), "done");
    let [called] = world.called_tools().try_into().unwrap();
    assert_eq!((called.caller.tenant_id.as_str(), called.caller.object_id.as_str()), ("t", "o"));
    assert_eq!((called.caller.client_id.as_str(), called.arguments.as_str()), ("", "{}"));
    let token = run(local_token(&env.person, &called.handle, &[MAIL_READ.to_owned()], None)).unwrap();
    assert_eq!(token.reveal(), "access-1", "of the account that the tool was called for");
    let outcomes = world.audited().into_iter().filter(|event| event.name == "tool.called");
    assert_eq!(outcomes.map(|event| event.outcome).collect::<Vec<_>>(), [Outcome::Started, Outcome::Success]);
}

#[test]
fn a_declined_sign_in_calls_nothing() {
    let world = World::default();
    provides(&world, &["read"]);
    let env = local(&world);
    let state = super::super::deferred_for(&world, &env, "read");
    let params = json!({
        "name": "read",
        "requestState": state,
        "inputResponses": { "sign-in": { "action": "decline" } },
    });
    let answer = super::super::ask(&env, super::super::modern_with_elicitation(params));
    assert_eq!(text(&answer["result"]), "the sign-in was declined");
    assert_eq!(world.called_tools(), []);
}

#[test]
fn a_server_without_permissions_needs_the_person_all_the_same() {
    let world = World::default();
    provides(&world, &["read"]);
    world.tools_answer(|_| Ok(ToolContent::Text("done".to_owned())));
    let mut env = local(&world);
    entra::testing::change(&mut env.person.entra, |settings| settings.servers[0].permissions = Vec::new());
    sign_in(&env, "https://graph.microsoft.com/User.Read");
    assert_eq!(text(&result(&Peer::Local(&env), Spoken::Modern, "read")), "done");
    assert_eq!(world.called_tools()[0].caller.object_id, "o");
}

#[test]
fn the_person_at_this_machine_has_the_tools_of_all_servers() {
    let world = World::default();
    provides(&world, &["read"]);
    world.provide("crm", Ok(vec![provided_tool("find")]));
    world.tools_answer(|call| Ok(ToolContent::Text(call.server.clone())));
    let mut env = local(&world);
    entra::testing::change(&mut env.person.entra, |settings| {
        settings.servers = vec![server("crm", "/crm/mcp"), server("mail", "/mail/mcp")];
    });
    sign_in(&env, MAIL_READ);
    let peer = Peer::Local(&env);
    assert_eq!(names(&list(&peer, Spoken::Modern)), ["find", "read"]);
    assert_eq!(text(&result(&peer, Spoken::Modern, "read")), "mail");
    assert_eq!(text(&result(&peer, Spoken::Modern, "find")), "crm");
    let env = LocalWorld { provided: world.provided(), ..env };
    world.provide("crm", Ok(vec![provided_tool("read")]));
    let answer = list(&Peer::Local(&env), Spoken::Modern);
    assert_eq!(super::super::code(&answer), -32603, "which of two tools of one name is meant cannot be known");
    assert!(world.notes()[0].contains("two servers have a tool that is called read"), "{:?}", world.notes());
}
