use std::cell::Cell;
use std::rc::Rc;

use serde_json::json;
use world::RateLimiter;
use world::testing::{World, run};

use super::*;
use crate::authorization_server::clients::find;
use crate::client_documents::LAST_GOOD;
use crate::testing::{ServerWorlds as _, configure};

const ID: &str = "https://app.example.com/oauth/client.json";

fn metadata() -> Value {
    json!({
        "client_id": ID,
        "client_name": "Contoso Desktop",
        "client_uri": "https://app.example.com",
        "redirect_uris": ["http://127.0.0.1:3000/callback", "https://app.example.com/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    })
}

/// `metadata()` with one member changed.
fn with(member: &str, value: Value) -> Value {
    let mut metadata = metadata();
    metadata[member] = value;
    metadata
}

fn without(member: &str) -> Value {
    let mut metadata = metadata();
    metadata.as_object_mut().unwrap().remove(member);
    metadata
}

fn document(metadata: &Value) -> Document {
    Document {
        body: metadata.to_string().into_bytes(),
        content_type: Some("application/json".to_owned()),
        max_age: None,
    }
}

fn found(metadata: &Value) -> Result<Client, ClientError> {
    let world = World::default();
    world.publish(ID, Ok(document(metadata)));
    run(find(&world.remote(), ID))
}

fn refused(metadata: &Value) -> ClientDocumentError {
    match found(metadata) {
        Err(ClientError::Metadata(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_what_its_document_says() {
    let client = found(&metadata()).unwrap();
    assert_eq!(
        client,
        Client {
            client_id: ID.to_owned(),
            name: Some("Contoso Desktop".to_owned()),
            origin: ClientOrigin::Document,
            redirect_uris: vec![
                "http://127.0.0.1:3000/callback".to_owned(),
                "https://app.example.com/callback".to_owned()
            ],
            secret_hash: None,
        }
    );
    assert_eq!(client.host(), Some("app.example.com".to_owned()));
}

#[test]
fn what_has_a_default_may_be_left_out() {
    for member in ["client_uri", "grant_types", "response_types", "token_endpoint_auth_method"] {
        assert!(found(&without(member)).is_ok(), "{member}");
    }
}

#[test]
fn a_document_speaks_for_its_own_url_only() {
    for id in [
        json!("https://app.example.com/oauth/client.json/"),
        json!("https://app.example.com/oauth/Client.json"),
        json!("https://APP.example.com/oauth/client.json"),
        json!("https://app.example.com:443/oauth/client.json"),
        json!("https://good.example.com/oauth/client.json"),
        json!(""),
        json!(null),
        json!([ID]),
    ] {
        assert_eq!(refused(&with("client_id", id.clone())), ClientDocumentError::ClientId, "{id}");
    }
    assert_eq!(refused(&without("client_id")), ClientDocumentError::ClientId);
}

#[test]
fn a_public_document_has_no_secret() {
    assert_eq!(refused(&with("client_secret", json!("hunter2"))), ClientDocumentError::Secret);
    assert_eq!(refused(&with("client_secret_expires_at", json!(0))), ClientDocumentError::Secret);
}

#[test]
fn a_document_describes_a_public_client() {
    for method in ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "None", ""] {
        let refusal = refused(&with("token_endpoint_auth_method", json!(method)));
        assert_eq!(refusal, ClientDocumentError::AuthMethod, "{method}");
    }
    assert_eq!(refused(&with("token_endpoint_auth_method", json!(["none"]))), ClientDocumentError::AuthMethod);
}

#[test]
fn a_document_has_a_name() {
    for name in [json!(""), json!(" \n"), json!("\u{202e}\u{200b}"), json!(7), json!("x".repeat(MAX_NAME + 1))] {
        assert_eq!(refused(&with("client_name", name.clone())), ClientDocumentError::Name, "{name}");
    }
    assert_eq!(refused(&without("client_name")), ClientDocumentError::Name);
}

#[test]
fn hidden_characters_of_a_name_are_taken_out() {
    let client = found(&with("client_name", json!("Con\u{202e}toso\n\u{200b}Desktop"))).unwrap();
    assert_eq!(client.name.as_deref(), Some("Contoso Desktop"));
}

#[test]
fn a_document_has_a_redirect_that_may_be_used() {
    let many: Vec<String> = (0..=MAX_REDIRECT_URIS).map(|n| format!("https://app.example.com/{n}")).collect();
    for uris in [
        json!([]),
        json!("https://app.example.com/callback"),
        json!([["https://app.example.com/callback"]]),
        json!(["https://app.example.com/callback", 7]),
        json!(["http://app.example.com/callback"]),
        json!(["cursor://oauth/callback"]),
        json!(["https://app.example.com/callback#x"]),
        json!(many),
    ] {
        assert_eq!(refused(&with("redirect_uris", uris.clone())), ClientDocumentError::RedirectUris, "{uris}");
    }
    assert_eq!(refused(&without("redirect_uris")), ClientDocumentError::RedirectUris);
}

#[test]
fn a_redirect_that_only_other_servers_accept_is_passed_over() {
    let uris = json!(["cursor://oauth/callback", "https://app.example.com/callback", "http://app.example.com/"]);
    let client = found(&with("redirect_uris", uris)).unwrap();
    assert_eq!(client.redirect_uris, ["https://app.example.com/callback"]);
    assert_eq!(client.redirect_uri(Some("cursor://oauth/callback")), Err(ClientError::RedirectUri));
}

#[test]
fn a_client_that_cannot_use_this_server_is_refused() {
    for (member, value) in [
        ("grant_types", json!(["client_credentials"])),
        ("grant_types", json!([])),
        ("grant_types", json!("authorization_code")),
        ("response_types", json!(["token"])),
    ] {
        assert_eq!(refused(&with(member, value.clone())), ClientDocumentError::GrantTypes, "{value}");
    }
}

#[test]
fn a_document_is_one_json_object_without_ambiguity() {
    let twice = format!(r#"{{"client_id":"{ID}","client_id":"{ID}"}}"#);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    for body in ["", "[]", "null", "<html></html>", "{", &twice, &deep, "{} {}", "\u{feff}{}"] {
        let world = World::default();
        world.publish(ID, Ok(Document { body: body.as_bytes().to_vec(), ..document(&json!({})) }));
        let result = run(find(&world.remote(), ID));
        assert_eq!(result, Err(ClientError::Metadata(ClientDocumentError::Malformed)), "{body:.40}");
    }
}

#[test]
fn a_huge_document_is_refused() {
    let padded = with("padding", json!("x".repeat(MAX_DOCUMENT)));
    assert_eq!(refused(&padded), ClientDocumentError::TooLarge);
}

#[test]
fn a_document_is_json_by_its_header() {
    for (content_type, accepted) in [
        (Some("application/json"), true),
        (Some("Application/JSON; charset=utf-8"), true),
        (Some("application/oauth-client+json"), true),
        (Some("text/html"), false),
        (Some("text/plain"), false),
        (Some("text/x+json"), false),
        (Some("application/jsonp"), false),
        (Some(""), false),
        (None, false),
    ] {
        let world = World::default();
        let content_type = content_type.map(str::to_owned);
        world.publish(ID, Ok(Document { content_type: content_type.clone(), ..document(&metadata()) }));
        assert_eq!(run(find(&world.remote(), ID)).is_ok(), accepted, "{content_type:?}");
    }
}

#[test]
fn an_id_that_is_no_plain_public_url_is_not_fetched() {
    for (id, error) in [
        ("https://", ClientDocumentError::Url),
        ("https://app.example.com", ClientDocumentError::Url),
        ("https://app.example.com/", ClientDocumentError::Url),
        ("https://app.example.com/client.json#x", ClientDocumentError::Url),
        ("https://user@app.example.com/client.json", ClientDocumentError::Url),
        ("https://user:password@app.example.com/client.json", ClientDocumentError::Url),
        ("https://@app.example.com/client.json", ClientDocumentError::Url),
        ("https://good.example.com@evil.com/client.json", ClientDocumentError::Url),
        ("https://app.example.com/./client.json", ClientDocumentError::Url),
        ("https://app.example.com/a/../client.json", ClientDocumentError::Url),
        ("https://app.example.com/a/%2e%2E/client.json", ClientDocumentError::Url),
        ("https://app.example.com/..", ClientDocumentError::Url),
        ("https://App.Example.com/client.json", ClientDocumentError::Url),
        ("https://app.example.com:443/client.json", ClientDocumentError::Url),
        ("https://app.example.com\\client.json", ClientDocumentError::Url),
        ("https://app.example.com/client .json", ClientDocumentError::Url),
        ("https://app.example.com/client.json\n", ClientDocumentError::Url),
        ("https:app.example.com/client.json", ClientDocumentError::Url),
        ("https://bücher.example/client.json", ClientDocumentError::Url),
        ("https://Bücher.example/client.json", ClientDocumentError::Url),
        ("https://A%a2.example/client.json", ClientDocumentError::Url),
        ("https://app%2eexample.com/client.json", ClientDocumentError::Url),
        ("https://127.0.0.1/client.json", ClientDocumentError::Denied),
        ("https://127.1/client.json", ClientDocumentError::Url),
        ("https://10.0.0.1/client.json", ClientDocumentError::Denied),
        ("https://169.254.169.254/latest/meta-data", ClientDocumentError::Denied),
        ("https://[::1]/client.json", ClientDocumentError::Denied),
        ("https://[fe80::1]/client.json", ClientDocumentError::Denied),
        ("https://203.0.113.5/client.json", ClientDocumentError::Denied),
        ("https://localhost/client.json", ClientDocumentError::Denied),
        ("https://app.localhost/client.json", ClientDocumentError::Denied),
        ("https://intranet/client.json", ClientDocumentError::Denied),
        ("https://app.example.com./client.json", ClientDocumentError::Denied),
    ] {
        let world = World::default();
        world.publish(id, Ok(document(&with("client_id", json!(id)))));
        let result = run(find(&world.remote(), id));
        let unknown = Err(ClientError::Unknown);
        // What does not begin like a URL is looked for among the registrations.
        let expected = if is_client_id(id) { Err(ClientError::Metadata(error)) } else { unknown };
        assert_eq!(result, expected, "{id:?}");
        assert_eq!(world.fetched(), [""; 0], "{id:?}");
    }
}

#[test]
fn another_scheme_is_no_url_of_a_document() {
    let world = World::default();
    for id in ["http://app.example.com/client.json", "HTTPS://app.example.com/client.json", "ftp://a.example/c"] {
        world.publish(id, Ok(document(&with("client_id", json!(id)))));
        assert_eq!(run(find(&world.remote(), id)), Err(ClientError::Unknown), "{id}");
    }
    assert_eq!(world.fetched(), [""; 0]);
}

#[test]
fn a_port_and_a_query_are_allowed() {
    for id in ["https://app.example.com:8443/client.json", "https://app.example.com/client.json?v=2"] {
        let world = World::default();
        world.publish(id, Ok(document(&with("client_id", json!(id)))));
        assert!(run(find(&world.remote(), id)).is_ok(), "{id}");
    }
}

#[test]
fn a_server_on_this_machine_may_read_documents_on_this_machine() {
    let id = "https://localhost:8443/client.json";
    let world = World::default();
    world.publish(id, Ok(document(&with("client_id", json!(id)))));
    let mut env = world.remote();
    configure(&mut env, |http| http.public_url = "http://localhost:3001".to_owned());
    assert!(run(find(&env, id)).is_ok());
    let private = run(find(&env, "https://10.0.0.1/client.json"));
    assert_eq!(private, Err(ClientError::Metadata(ClientDocumentError::Denied)));
}

#[test]
fn what_is_turned_off_is_not_fetched() {
    let world = World::default();
    world.publish(ID, Ok(document(&metadata())));
    let mut env = world.remote();
    configure(&mut env, |http| http.client_id_metadata_documents = false);
    assert_eq!(run(find(&env, ID)), Err(ClientError::Unknown));
    assert_eq!(world.fetched(), [""; 0]);
}

#[test]
fn a_document_that_cannot_be_fetched_says_whose_fault_it_is() {
    for (answer, error) in [
        (FetchError::Denied("127.0.0.1".to_owned()), ClientError::Private),
        (FetchError::Status(302), ClientError::Metadata(ClientDocumentError::Status(302))),
        (FetchError::Status(404), ClientError::Metadata(ClientDocumentError::Status(404))),
        (FetchError::TooLarge, ClientError::Metadata(ClientDocumentError::TooLarge)),
        (FetchError::Unavailable("timed out".to_owned()), ClientError::Unavailable),
    ] {
        let world = World::default();
        world.publish(ID, Err(answer));
        assert_eq!(run(find(&world.remote(), ID)), Err(error));
    }
}

#[test]
fn a_document_is_kept_as_long_as_its_server_says_within_bounds() {
    for (max_age, kept) in [
        (None, DEFAULT_LIFETIME),
        (Some(0), MIN_LIFETIME),
        (Some(600), Duration::from_secs(600)),
        (Some(u64::from(u32::MAX)), MAX_LIFETIME),
    ] {
        let world = World::default();
        let env = world.remote();
        let max_age = max_age.map(Duration::from_secs);
        world.publish(ID, Ok(Document { max_age, ..document(&metadata()) }));
        run(find(&env, ID)).unwrap();
        world.advance(kept - Duration::from_secs(1));
        run(find(&env, ID)).unwrap();
        assert_eq!(world.fetched().len(), 1, "{max_age:?}");
        world.advance(Duration::from_secs(1));
        run(find(&env, ID)).unwrap();
        assert_eq!(world.fetched().len(), 2, "{max_age:?}");
    }
}

#[test]
fn a_kept_document_is_good_while_its_server_is_down() {
    let world = World::default();
    let env = world.remote();
    world.publish(ID, Ok(document(&metadata())));
    let client = run(find(&env, ID)).unwrap();
    world.publish(ID, Err(FetchError::Unavailable("down".to_owned())));
    assert_eq!(run(find(&env, ID)), Ok(client));
}

#[test]
fn a_failure_is_not_remembered() {
    let world = World::default();
    let env = world.remote();
    world.publish(ID, Ok(document(&without("client_name"))));
    assert_eq!(run(find(&env, ID)), Err(ClientError::Metadata(ClientDocumentError::Name)));
    world.publish(ID, Ok(document(&metadata())));
    assert!(run(find(&env, ID)).is_ok());
}

#[test]
fn a_redirect_that_was_withdrawn_is_refused_after_the_life_of_the_document() {
    let world = World::default();
    let env = world.remote();
    world.publish(ID, Ok(document(&metadata())));
    run(find(&env, ID)).unwrap();
    world.publish(ID, Ok(document(&with("redirect_uris", json!(["https://app.example.com/new"])))));
    world.advance(DEFAULT_LIFETIME);
    let client = run(find(&env, ID)).unwrap();
    assert_eq!(client.redirect_uri(Some("https://app.example.com/callback")), Err(ClientError::RedirectUri));
}

#[test]
fn a_kept_document_that_cannot_be_read_is_fetched_again() {
    let world = World::default();
    let env = world.remote();
    world.publish(ID, Ok(document(&metadata())));
    sign_in_with(&env);
    let name = world.record_names().remove(0);
    assert!(name.contains("/client-document/"), "{name}");
    world.put(&name, b"not JSON", None).unwrap();
    assert!(run(find(&world.remote(), ID)).is_ok());
    assert_eq!(world.fetched().len(), 2);
}

/// What a sign-in does with the document of its client.
fn sign_in_with(env: &ServerWorld<'_>) {
    let client = run(find(env, ID)).unwrap();
    run(keep(env, &of(env, &client).unwrap())).unwrap();
}

#[test]
fn a_document_is_stored_for_all_instances_once_a_person_has_signed_in_with_it_and_not_before() {
    let world = World::default();
    world.publish(ID, Ok(document(&metadata())));
    let env = world.remote();
    for _ in 0..3 {
        run(find(&env, ID)).unwrap();
    }
    assert_eq!((world.fetched().len(), world.record_names()), (1, Vec::new()), "it is in the memory of the instance");
    sign_in_with(&env);
    assert!(run(find(&world.remote(), ID)).is_ok());
    assert_eq!(world.fetched().len(), 1);
}

#[test]
fn the_last_good_document_is_used_for_a_day_while_it_cannot_be_read() {
    let failures = [
        Err(FetchError::Unavailable("timed out".to_owned())),
        Err(FetchError::Denied("it has no address".to_owned())),
        Err(FetchError::Status(503)),
        Err(FetchError::Status(429)),
    ];
    for failure in failures {
        let world = World::default();
        world.publish(ID, Ok(document(&metadata())));
        sign_in_with(&world.remote());
        world.publish(ID, failure.clone());
        world.advance(DEFAULT_LIFETIME + LAST_GOOD - Duration::from_secs(1));
        let env = world.remote();
        for fetched in 2..4 {
            assert!(run(find(&env, ID)).is_ok(), "{failure:?}");
            assert_eq!(world.fetched().len(), fetched, "the failure is not remembered");
        }
        world.advance(Duration::from_secs(1));
        assert!(run(find(&env, ID)).is_err(), "{failure:?}");
    }
}

#[test]
fn the_last_good_document_is_used_while_too_many_are_fetched() {
    let world = World::default();
    world.publish(ID, Ok(document(&metadata())));
    sign_in_with(&world.remote());
    world.advance(DEFAULT_LIFETIME);
    world.exhaust("client-metadata", Duration::from_secs(30));
    assert!(run(find(&world.remote(), ID)).is_ok());
}

#[test]
fn a_document_that_its_site_has_withdrawn_is_not_used_when_the_site_is_down_later() {
    let withdrawn = [
        (Err(FetchError::Status(404)), ClientDocumentError::Status(404)),
        (Ok(document(&without("client_name"))), ClientDocumentError::Name),
        (Ok(document(&with("client_id", json!("https://other.example.com/")))), ClientDocumentError::ClientId),
    ];
    for (answer, error) in withdrawn {
        let world = World::default();
        world.publish(ID, Ok(document(&metadata())));
        let env = world.remote();
        sign_in_with(&env);
        world.advance(DEFAULT_LIFETIME);
        world.publish(ID, answer);
        assert_eq!(run(find(&env, ID)), Err(ClientError::Metadata(error)));
        world.publish(ID, Err(FetchError::Unavailable("down".to_owned())));
        for env in [env, world.remote()] {
            assert_eq!(run(find(&env, ID)), Err(ClientError::Unavailable));
        }
    }
}

#[test]
fn a_name_of_this_network_looks_like_a_name_without_an_address() {
    let told = |failure: FetchError| {
        let world = World::default();
        world.publish(ID, Err(failure));
        let error = run(find(&world.remote(), ID)).unwrap_err();
        (error.to_string(), error.is_passing(), error.reason())
    };
    let (private, passing, reason) = told(FetchError::Denied("10.0.0.1".to_owned()));
    let unresolvable = told(FetchError::Unavailable("no such host".to_owned()));
    assert_eq!((private, passing), (unresolvable.0, unresolvable.1));
    // What the URL alone says is told.
    let id = "https://app.example.com:8443/client.json";
    let world = World::default();
    world.publish(id, Err(FetchError::Denied("a port other than 443".to_owned())));
    assert_eq!(run(find(&world.remote(), id)), Err(ClientError::Metadata(ClientDocumentError::Denied)));
    // The operator is told.
    assert_eq!((reason, unresolvable.2), (Some("client-metadata-denied"), Some("client-metadata-unavailable")));
}

#[test]
fn fetches_are_counted_by_host() {
    let world = World::default();
    let env = world.remote();
    world.publish(ID, Ok(document(&metadata())));
    world.exhaust("client-metadata", Duration::from_secs(30));
    assert_eq!(run(find(&env, ID)), Err(ClientError::TooManyRequests(Duration::from_secs(30))));
    assert_eq!(world.fetched(), [""; 0]);
}

/// Counts, and remembers the subject.
struct Counting(Rc<Cell<usize>>);

impl RateLimiter for Counting {
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        assert_eq!((operation, subject), ("client-metadata", "app.example.com"));
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

#[test]
fn a_kept_document_counts_as_no_fetch() {
    let world = World::default();
    world.publish(ID, Ok(document(&metadata())));
    let count = Rc::new(Cell::new(0));
    let env = ServerWorld { limiter: &Counting(count.clone()), ..world.remote() };
    for _ in 0..3 {
        run(find(&env, ID)).unwrap();
    }
    assert_eq!(count.get(), 1);
}

#[test]
fn a_sign_in_that_took_long_brings_back_no_older_document() {
    let world = World::default();
    world.publish(ID, Ok(document(&metadata())));
    let env = world.remote();
    let older = of(&env, &run(find(&env, ID)).unwrap()).unwrap();
    let newer = KeptDocument { name: "Newer".to_owned(), fresh_until: older.fresh_until + 1, ..older.clone() };
    let stored = || run(env.entra.records.get(&DOCUMENTS, ID)).unwrap().map(|kept| kept.name);
    run(keep(&env, &newer)).unwrap();
    run(keep(&env, &older)).unwrap();
    assert_eq!(stored().as_deref(), Some("Newer"));
    run(keep(&env, &KeptDocument { name: "Newest".to_owned(), fresh_until: older.fresh_until + 2, ..older.clone() }))
        .unwrap();
    assert_eq!(stored().as_deref(), Some("Newest"));
    // Withdrawn meanwhile, and no longer fresh.
    run(env.entra.records.delete(&DOCUMENTS, ID)).unwrap();
    world.advance(DEFAULT_LIFETIME);
    run(keep(&env, &older)).unwrap();
    assert_eq!(stored(), None);
}

#[test]
fn a_document_from_before_the_clock_was_set_back_stands_in_for_none() {
    let kept =
        KeptDocument { client_id: ID.to_owned(), name: String::new(), redirect_uris: Vec::new(), fresh_until: 500_000 };
    let longest = crate::client_documents::MAX_LIFETIME.as_secs();
    assert!(!kept.is_last_good(500_000 - longest - 1));
    assert!(kept.is_last_good(500_000 - longest));
    assert!(kept.is_last_good(500_000 + LAST_GOOD.as_secs() - 1));
    assert!(!kept.is_last_good(500_000 + LAST_GOOD.as_secs()));
}

/// The bound of all fetches together is the host's.
#[test]
fn fetches_count_for_the_address_that_causes_them_before_they_are_made() {
    let world = World::default();
    let env = world.remote();
    env.entra.trail.set_address(Some("2001:db8::1"));
    world.bound(BY_ADDRESS, 2, Duration::from_secs(60));
    let ids: Vec<String> = (0..4).map(|number| format!("https://app-{number}.example.com/client.json")).collect();
    let refused: Vec<bool> =
        ids.iter().map(|id| matches!(run(find(&env, id)), Err(ClientError::TooManyRequests(_)))).collect();
    assert_eq!(refused, [false, false, true, true]);
    assert_eq!(world.fetched().len(), 2);
    env.entra.trail.set_address(Some("203.0.113.7"));
    assert!(!matches!(run(find(&env, &ids[2])), Err(ClientError::TooManyRequests(_))), "another address");
    let subject = ("client-metadata-by-address".to_owned(), "203.0.113.7".to_owned());
    assert!(world.counted().contains(&subject));
}
