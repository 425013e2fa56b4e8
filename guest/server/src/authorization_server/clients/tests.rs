use base::encoding::digest;
use base::settings::RegisteredClient;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use world::testing::{World, run};

use super::*;
use crate::authorization_server::client::{named, uses_basic};
use crate::authorization_server::testing::{authorized, form, request};
use crate::message::Request;
use crate::testing::{ServerWorlds as _, configure};

const SECRET: &str = "s3cret+/&=:% ä";

fn client(secret: Option<&str>, redirect_uris: &[&str]) -> Client {
    Client {
        client_id: "client-1".to_owned(),
        name: None,
        origin: ClientOrigin::Settings,
        redirect_uris: redirect_uris.iter().map(|uri| (*uri).to_owned()).collect(),
        secret_hash: secret.map(|secret| digest(secret.as_bytes())),
    }
}

fn basic(id: &str, secret: &str) -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

fn post() -> Request {
    request(Method::POST, "/token")
}

fn environment(clients: Vec<RegisteredClient>) -> ServerWorld<'static> {
    let mut env = World::default().remote();
    configure(&mut env, |http| http.clients = clients);
    env
}

fn registered(client_id: &str, redirect_uris: &[&str]) -> RegisteredClient {
    RegisteredClient {
        client_id: client_id.to_owned(),
        name: "Contoso Desktop".to_owned(),
        redirect_uris: redirect_uris.iter().map(|uri| (*uri).to_owned()).collect(),
        secret_hash: None,
    }
}

#[test]
fn a_client_in_the_settings_is_found() {
    let env = environment(vec![registered("contoso", &["https://app.example.com/callback"])]);
    let found = run(find(&env, "contoso")).unwrap();
    assert_eq!(
        found,
        Client {
            client_id: "contoso".to_owned(),
            name: Some("Contoso Desktop".to_owned()),
            origin: ClientOrigin::Settings,
            redirect_uris: vec!["https://app.example.com/callback".to_owned()],
            secret_hash: None,
        }
    );
    assert_eq!(found.host(), None);
}

#[test]
fn a_client_id_is_compared_exactly() {
    let env = environment(vec![registered("contoso", &[])]);
    for id in ["", "Contoso", "contoso ", " contoso", "contos", "contoso\0", &"x".repeat(100_000)] {
        assert_eq!(run(find(&env, id)), Err(ClientError::Unknown), "{id}");
    }
}

#[test]
fn a_setting_does_not_make_an_unsafe_redirect_safe() {
    let env = environment(vec![registered("contoso", &["http://app.example.com/", "https://app.example.com/"])]);
    assert_eq!(run(find(&env, "contoso")).unwrap().redirect_uris, ["https://app.example.com/"]);
}

#[test]
fn a_client_whose_id_is_a_url_may_be_in_the_settings() {
    let id = "https://app.example.com/client.json";
    let mut env = environment(vec![registered(id, &["https://app.example.com/callback"])]);
    configure(&mut env, |http| http.client_id_metadata_documents = false);
    assert_eq!(run(find(&env, id)).unwrap().origin, ClientOrigin::Settings);
}

#[test]
fn a_server_has_no_clients_until_they_are_made_known() {
    assert_eq!(run(find(&World::default().remote(), "contoso")), Err(ClientError::Unknown));
}

#[test]
fn a_requested_redirect_has_to_be_registered() {
    let client = client(None, &["https://app.example.com/callback", "http://localhost/callback"]);
    for uri in ["https://app.example.com/callback", "http://localhost:49152/callback"] {
        assert_eq!(client.redirect_uri(Some(uri)), Ok(uri.to_owned()));
    }
    for uri in ["", "https://app.example.com/callback/", "https://app.example.com/", "http://127.0.0.1:49152/callback"]
    {
        assert_eq!(client.redirect_uri(Some(uri)), Err(ClientError::RedirectUri), "{uri}");
    }
}

#[test]
fn the_only_redirect_need_not_be_requested() {
    let only = client(None, &["https://app.example.com/callback"]);
    assert_eq!(only.redirect_uri(None), Ok("https://app.example.com/callback".to_owned()));
}

#[test]
fn no_redirect_is_guessed() {
    for uris in
        [&[][..], &["https://app.example.com/a", "https://app.example.com/b"], &["http://localhost:3000/callback"]]
    {
        assert_eq!(client(None, uris).redirect_uri(None), Err(ClientError::MissingRedirectUri), "{uris:?}");
    }
}

#[test]
fn a_client_without_redirects_goes_nowhere() {
    let client = client(None, &[]);
    assert_eq!(client.redirect_uri(Some("https://app.example.com/")), Err(ClientError::RedirectUri));
}

#[test]
fn a_public_client_says_its_name_and_nothing_else() {
    let public = client(None, &[]);
    assert_eq!(public.authenticate(&post(), &form(&[("client_id", "client-1")])), Ok(()));
    // Without a value a parameter counts as omitted.
    assert_eq!(public.authenticate(&post(), &form(&[("client_id", "client-1"), ("client_secret", "")])), Ok(()));
}

#[test]
fn a_public_client_has_no_secret_to_send() {
    let public = client(None, &[]);
    let sent = form(&[("client_id", "client-1"), ("client_secret", "x")]);
    assert_eq!(public.authenticate(&post(), &sent), Err(ClientError::Unauthenticated));
    for header in [basic("client-1", "x"), basic("client-1", "")] {
        assert_eq!(public.authenticate(&authorized(&[&header]), &[]), Err(ClientError::Unauthenticated));
    }
}

#[test]
fn a_confidential_client_sends_its_secret_in_the_form_or_by_basic() {
    let confidential = client(Some(SECRET), &[]);
    let sent = form(&[("client_id", "client-1"), ("client_secret", SECRET)]);
    assert_eq!(confidential.authenticate(&post(), &sent), Ok(()));
    let header = basic("client-1", SECRET);
    assert_eq!(confidential.authenticate(&authorized(&[&header]), &[]), Ok(()));
    let lower = header.replacen("Basic", "basic", 1);
    assert_eq!(confidential.authenticate(&authorized(&[&lower]), &form(&[("client_id", "client-1")])), Ok(()));
}

#[test]
fn a_confidential_client_without_its_secret_is_refused() {
    let confidential = client(Some(SECRET), &[]);
    for parameters in [
        &[("client_id", "client-1")][..],
        &[("client_id", "client-1"), ("client_secret", "")],
        &[("client_id", "client-1"), ("client_secret", "wrong")],
        &[("client_id", "client-1"), ("client_secret", "s3cret")],
        &[("client_id", "client-2"), ("client_secret", SECRET)],
        &[("client_id", "client-1"), ("client_secret", SECRET), ("client_secret", SECRET)],
        &[("client_id", "client-1"), ("client_assertion", "a.b.c")],
        &[("client_id", "client-1"), ("client_secret", SECRET), ("client_assertion_type", "urn:jwt")],
    ] {
        let result = confidential.authenticate(&post(), &form(parameters));
        assert_eq!(result, Err(ClientError::Unauthenticated), "{parameters:?}");
    }
    // The hash is not the secret.
    let hash = digest(SECRET.as_bytes());
    let sent = form(&[("client_id", "client-1"), ("client_secret", &hash)]);
    assert_eq!(confidential.authenticate(&post(), &sent), Err(ClientError::Unauthenticated));
}

#[test]
fn authentication_in_two_ways_is_refused() {
    let confidential = client(Some(SECRET), &[]);
    let header = basic("client-1", SECRET);
    let sent = form(&[("client_id", "client-1"), ("client_secret", SECRET)]);
    assert_eq!(confidential.authenticate(&authorized(&[&header]), &sent), Err(ClientError::Unauthenticated));
    assert_eq!(confidential.authenticate(&authorized(&[&header, &header]), &[]), Err(ClientError::Unauthenticated));
}

#[test]
fn two_names_are_refused() {
    let header = basic("client-1", SECRET);
    let other = form(&[("client_id", "client-2")]);
    assert_eq!(named(&authorized(&[&header]), &other), Err(ClientError::Unauthenticated));
    let twice = form(&[("client_id", "client-1"), ("client_id", "client-2")]);
    assert_eq!(named(&post(), &twice), Err(ClientError::Unnamed));
}

#[test]
fn a_request_names_its_client_in_either_way() {
    assert_eq!(named(&post(), &form(&[("client_id", "client-1")])), Ok("client-1".to_owned()));
    let id = "https://app.example.com/client.json?a=b&c";
    assert_eq!(named(&authorized(&[&basic(id, "x")]), &[]), Ok(id.to_owned()));
    assert_eq!(named(&post(), &[]), Err(ClientError::Unnamed));
    assert_eq!(named(&post(), &form(&[("client_id", "")])), Err(ClientError::Unnamed));
    assert_eq!(named(&post(), &form(&[("client_id", &"x".repeat(3000))])), Err(ClientError::Unnamed));
    assert_eq!(named(&authorized(&[&basic("", "x")]), &[]), Err(ClientError::Unnamed));
}

#[test]
fn a_secret_that_was_not_encoded_for_basic_is_taken_as_it_is() {
    let confidential = client(Some("a&b=c%zz:d"), &[]);
    let header = format!("Basic {}", STANDARD.encode("client-1:a&b=c%zz:d"));
    assert_eq!(confidential.authenticate(&authorized(&[&header]), &[]), Ok(()));
}

#[test]
fn another_authorization_is_not_ignored() {
    let public = client(None, &[]);
    let named = form(&[("client_id", "client-1")]);
    let no_colon = format!("Basic {}", STANDARD.encode("client-1"));
    let no_text = format!("Basic {}", STANDARD.encode([0xff, b':', 0xfe]));
    let long = format!("Basic {}", STANDARD.encode("x".repeat(64 * 1024)));
    for header in ["Bearer token", "Basic", "Basic ", "Basic !!!", "", &no_colon, &no_text, &long] {
        let result = public.authenticate(&authorized(&[header]), &named);
        assert_eq!(result, Err(ClientError::Unauthenticated), "{header}");
    }
}

#[test]
fn a_refusal_can_answer_in_kind() {
    assert!(uses_basic(&authorized(&[&basic("a", "b")])));
    assert!(!uses_basic(&authorized(&["Bearer token"])));
    assert!(!uses_basic(&post()));
}
