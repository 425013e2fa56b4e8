//! What strangers can make the store hold, and what they cannot make it lose.

use http::Response;
use serde_json::json;
use world::Document;
use world::testing::{World, forever, run};

use super::{LANES, PLACE_BYTES, PLACES};
use crate::authorization_server::testing::*;
use crate::authorization_server::{Endpoint, handle};
use crate::client_documents::Documents;

const ID: &str = "https://app.example.com/client.json";
/// The records that the ring has places for, and their bytes.
const MOST: usize = LANES as usize * PLACES as usize;
const MOST_BYTES: usize = MOST * PLACE_BYTES;

/// A flow whose client publishes a document.
fn flow() -> Flow {
    let flow = Flow::new();
    let document = json!({ "client_id": ID, "client_name": "Desktop", "redirect_uris": [REDIRECT] });
    let (body, content_type) = (document.to_string().into_bytes(), Some("application/json".to_owned()));
    flow.world.publish(ID, Ok(Document { body, content_type, max_age: None }));
    flow
}

/// Goes on with another instance, which remembers nothing.
fn elsewhere(flow: &mut Flow) {
    flow.env.documents = forever(Documents::default());
}

fn names(world: &World, part: &str) -> Vec<String> {
    world.record_names().into_iter().filter(|name| name.contains(part)).collect()
}

fn register(flow: &Flow, redirect_uris: &[&str]) -> String {
    let metadata = json!({ "redirect_uris": redirect_uris, "token_endpoint_auth_method": "none" });
    let answered = run(handle(&flow.env, Endpoint::Register, &registration(&metadata.to_string())));
    assert_eq!(answered.status(), 201);
    answer(&answered)["client_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_document_travels_with_the_sign_in_and_is_stored_at_its_end() {
    let mut flow = flow();
    let page = flow.authorize(&[("client_id", ID)]);
    elsewhere(&mut flow);
    let to = flow.decide(&page, "allow");
    elsewhere(&mut flow);
    assert_eq!(names(&flow.world, "/client-document/").len(), 0);
    assert!(parameter(&flow.sign_in(&to, entra::testing::OBJECT), "code").is_some());
    assert_eq!(names(&flow.world, "/client-document/").len(), 1);
    assert_eq!(flow.world.fetched().len(), 1, "for the whole sign-in");
    elsewhere(&mut flow);
    assert!(parameter(&flow.walk(&[("client_id", ID)]), "code").is_some());
    assert_eq!(flow.world.fetched().len(), 1);
}

#[test]
fn a_registration_is_in_use_as_soon_as_a_person_has_signed_in_with_it() {
    let flow = flow();
    let client = register(&flow, &[REDIRECT]);
    let change = [("client_id", client.as_str())];
    let code = parameter(&flow.walk(&change), "code").unwrap();
    assert_eq!((names(&flow.world, "/registration-unused/").len(), names(&flow.world, "/registration/").len()), (0, 1));
    for _ in 0..MOST * 2 {
        register(&flow, &[REDIRECT]);
    }
    assert_eq!(flow.exchange(&code, &change).status(), 200);
}

#[test]
fn a_person_who_does_not_sign_in_leaves_no_document() {
    let flow = flow();
    let to = flow.decide(&flow.authorize(&[("client_id", ID)]), "allow");
    let state = parameter(&to, "state").unwrap();
    flow.come_back(&[("error", "access_denied"), ("state", &state)]);
    flow.decide(&flow.authorize(&[("client_id", ID)]), "deny");
    assert_eq!(names(&flow.world, "/client-document/").len(), 0);
}

#[test]
fn the_token_and_revocation_endpoints_fetch_no_document() {
    let mut flow = flow();
    let code = parameter(&flow.walk(&[("client_id", ID)]), "code").unwrap();
    flow.world.publish(ID, Err(world::FetchError::Status(404)));
    for name in names(&flow.world, "/client-document/") {
        flow.world.delete(&name).unwrap();
    }
    elsewhere(&mut flow);
    let status = |response: &Response<Vec<u8>>| response.status().as_u16();
    let tokens = flow.exchange(&code, &[("client_id", ID)]);
    assert_eq!(status(&tokens), 200);
    let renewed = flow.refresh(answer(&tokens)["refresh_token"].as_str().unwrap(), &[("client_id", ID)]);
    assert_eq!(status(&renewed), 200);
    let token = answer(&renewed)["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(status(&flow.post(Endpoint::Revoke, &[("client_id", ID), ("token", &token)])), 200);
    assert_eq!(flow.sessions(), (0, 0));
    for (id, expected) in
        [("https://other.example.com/client.json", 400), ("https://10.0.0.1/client.json", 401), ("https://a", 401)]
    {
        let refused = status(&flow.exchange("nonsense", &[("client_id", id)]));
        assert_eq!(refused, expected, "{id}");
        flow.post(Endpoint::Revoke, &[("client_id", id), ("token", "nonsense")]);
    }
    assert_eq!(flow.world.fetched().len(), 1, "at /authorize");
}

#[test]
fn what_strangers_leave_is_bounded_in_number_and_in_bytes_and_costs_no_session() {
    let flow = flow();
    // A person with a client that registered itself, and one with a client that publishes a document.
    let used = register(&flow, &[REDIRECT]);
    let change = [("client_id", used.as_str())];
    let code = parameter(&flow.walk(&change), "code").unwrap();
    let mut tokens = answer(&flow.exchange(&code, &change));
    flow.walk(&[("client_id", ID)]);

    // Registrations of almost 32 KiB, of which the first goes first.
    let long: Vec<String> = (0..31).map(|number| format!("https://a.example/{number}/{}", "x".repeat(900))).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let first = register(&flow, &long);
    for _ in 0..200 {
        register(&flow, &long);
    }
    let registrations = names(&flow.world, "/registration-unused/");
    let total: usize = registrations.iter().map(|name| flow.world.get(name).unwrap().unwrap().reveal().len()).sum();
    assert!((MOST_BYTES * 2 / 3..=MOST_BYTES).contains(&total), "{total}");
    assert!(!registrations.iter().any(|name| name.ends_with(&first)));

    // Many small ones, and sign-ins that wait for a person who never comes.
    for number in 0..MOST * 2 {
        if number % 10 == 0 {
            assert_eq!(flow.authorize(&[]).status(), 200);
        } else {
            register(&flow, &[REDIRECT]);
        }
    }
    let waiting = names(&flow.world, "/pending/").len();
    let unused = names(&flow.world, "/registration-unused/").len();
    assert!((MOST * 9 / 10..=MOST).contains(&(waiting + unused)), "{waiting} {unused}");
    assert!(names(&flow.world, "/unused/").len() <= MOST + 8, "and what counts them");
    assert_eq!(names(&flow.world, "/client-document/").len(), 1, "it belongs to a person who has signed in");

    // The session goes on, and so does its client.
    assert_eq!(flow.sessions(), (1, 1));
    for _ in 0..2 {
        let refreshed = flow.refresh(tokens["refresh_token"].as_str().unwrap(), &change);
        assert_eq!(refreshed.status(), 200);
        tokens = answer(&refreshed);
    }
    assert_eq!(names(&flow.world, "/registration/").len(), 1);
}
