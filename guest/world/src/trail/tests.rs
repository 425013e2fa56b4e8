use std::time::Duration;

use base::principal::AgentRole;

use super::*;
use crate::limits::admit;
use crate::testing::{self, CALL, World, forever, run};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn trail(world: &World) -> &'static Trail<'static> {
    world.trail(forever(testing::settings()))
}

fn trail_with_names(world: &World) -> &'static Trail<'static> {
    world.trail(forever(Settings { audit_usernames: true, ..testing::settings() }))
}

fn recorded(trail: &Trail<'_>, world: &World) -> AuditEvent {
    run(trail.record(AuditEvent::new("tool.called", Outcome::Success))).unwrap();
    world.audited().pop().unwrap()
}

#[test]
fn what_is_known_of_a_call_is_in_every_record_of_it_and_in_none_of_the_next() {
    let world = World::default();
    let trail = trail_with_names(&world);
    trail.set_address(Some("192.0.2.1"));
    trail.set_token(Some("uti"));
    trail.set_user(Some("alice@contoso.example"));
    trail.set_agent(Some(&Agent { role: AgentRole::OnBehalfOfUser, blueprint: Some("blueprint".to_owned()) }));
    trail.set_session("session");
    trail.set_trace_parent(Some(PARENT));
    let event = recorded(trail, &world);
    assert_eq!(
        (event.address.as_deref(), event.token_id.as_deref(), event.username.as_deref(), event.trace_parent.as_deref()),
        (Some("192.0.2.1"), Some("uti"), Some("alice@contoso.example"), Some(PARENT))
    );
    assert_eq!((event.agent, event.agent_blueprint.as_deref()), (Some("on-behalf-of-user"), Some("blueprint")));
    assert!(event.session.is_some());
    let next = recorded(trail_with_names(&world), &world);
    let nothing_else = AuditEvent::new("tool.called", Outcome::Success);
    assert_eq!(next, AuditEvent { correlation_id: CALL.to_owned(), ..nothing_else });
}

#[test]
fn a_session_has_one_name_on_every_replica_and_it_is_not_its_id() {
    let world = World::default();
    let name = |session: &str| {
        let trail = trail(&world);
        trail.set_session(session);
        recorded(trail, &world).session.unwrap()
    };
    let first = name("session");
    assert_eq!((first.len(), first.as_str()), (2 * NAME_BYTES, name("session").as_str()));
    assert_ne!(first, name("another"));
    // Without the key of the store an attacker cannot compute the name.
    let elsewhere = World::default();
    elsewhere.fill(&mut [0; 64]);
    let trail = trail(&elsewhere);
    trail.set_session("session");
    assert_ne!(recorded(trail, &elsewhere).session.unwrap(), first);
}

#[test]
fn people_are_named_only_if_the_settings_ask_for_it() {
    let world = World::default();
    let trail = trail(&world);
    trail.set_user(Some("alice@contoso.example"));
    assert_eq!(recorded(trail, &world).username, None);
}

#[test]
fn a_trace_parent_has_the_form_of_w3c_trace_context_or_is_none() {
    let world = World::default();
    let trail = trail(&world);
    for (text, good) in [
        (PARENT, true),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true),
        ("", false),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e473\n-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01", false),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", false),
        ("+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
    ] {
        trail.set_trace_parent(Some(text));
        assert_eq!(recorded(trail, &world).trace_parent.as_deref(), good.then_some(text), "{text}");
    }
    let later = PARENT.replacen("00", "01", 1);
    trail.set_trace_parent(Some(&format!("{later}-what-comes")));
    assert_eq!(recorded(trail, &world).trace_parent, Some(later), "what is known of a later version is recorded");
}

#[test]
fn what_comes_from_outside_is_bounded() {
    let world = World::default();
    let trail = trail_with_names(&world);
    let long = "ä".repeat(1000);
    trail.set_address(Some(&long));
    trail.set_token(Some(&long));
    trail.set_user(Some(&long));
    let event = recorded(trail, &world);
    let length = |text: Option<String>| text.unwrap().chars().count();
    assert_eq!(
        (length(event.address), length(event.token_id), length(event.username)),
        (MAX_ADDRESS, MAX_TOKEN_ID, MAX_USERNAME)
    );
}

#[test]
fn a_refused_operation_is_recorded_once_for_each_subject_and_time() {
    let world = World::default();
    world.bound("token", 2, Duration::from_secs(60));
    world.bound("authorize", 1, Duration::from_secs(60));
    let trail = trail(&world);
    let ask = |operation, subject| run(admit(&world, trail, operation, subject, Some(subject)));
    let flood = || {
        for _ in 0..10 {
            let _ = (ask("token", "a"), ask("token", "b"), ask("authorize", "a"));
        }
        let events = world.audited().into_iter();
        let events = events.map(|event| (event.name, event.reason.unwrap(), event.client_id.unwrap()));
        events.map(|(name, reason, client)| format!("{name} {reason} {client}")).collect::<Vec<_>>()
    };
    let once = ["request.throttled authorize a", "request.throttled token a", "request.throttled token b"];
    assert_eq!((ask("token", "c"), flood()), (Ok(()), once.map(str::to_owned).into()));
    world.advance(Duration::from_secs(59));
    assert_eq!((ask("token", "a"), flood().len()), (Err(Duration::from_secs(1)), 3));
    world.advance(Duration::from_secs(1));
    assert_eq!((ask("token", "a"), flood().len()), (Ok(()), 6));
}

#[test]
fn every_refused_operation_is_recorded_where_the_host_bounds_no_records() {
    let world = World::default();
    world.exhaust("token", Duration::from_secs(7));
    let trail = trail(&world);
    for _ in 0..3 {
        assert_eq!(run(admit(&world, trail, "token", "a", None)), Err(Duration::from_secs(7)));
    }
    assert_eq!(world.audited().len(), 3);
}
