//! Whatever is sent as the parameters of an endpoint of the authorization server: no panic, a person is sent nowhere but
//! to redirect URIs of the client and to Entra ID, and what is accepted as a redirect URI has one reading.
//!
//! The first byte says which endpoint; a second line is the metadata document of the client, if its id is a URL.
#![no_main]

use std::cell::RefCell;

use entra_mcp_guest_fuzz::Server;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use server::authorization_server::redirect_uri;
use server::message::Request;
use url::Url;
use world::Document;

/// Where the document is.
const DOCUMENT: &str = "https://client.example/document";

thread_local! {
    static SERVER: RefCell<Server> = RefCell::default();
}

fuzz_target!(|text: &str| {
    let (Some(endpoint), Some(rest)) = (text.bytes().next(), text.get(1..)) else { return };
    let (parameters, document) = rest.split_once('\n').unwrap_or((rest, ""));
    check_redirect_uris(parameters);
    SERVER.with_borrow_mut(|server| {
        server.restart();
        let body = document.as_bytes().to_vec();
        let document = Document { body, content_type: Some("application/json".to_owned()), max_age: None };
        server.publish(DOCUMENT, document);
        server.send(request(endpoint, parameters));
    });
});

fn request(endpoint: u8, parameters: &str) -> Request {
    let (method, path, content_type) = match endpoint {
        b'a' => (Method::GET, "/authorize", ""),
        b'c' => (Method::GET, "/auth/callback", ""),
        b'd' => (Method::POST, "/authorize", "application/x-www-form-urlencoded"),
        b'r' => (Method::POST, "/register", "application/json"),
        b'v' => (Method::POST, "/revoke", "application/x-www-form-urlencoded"),
        _ => (Method::POST, "/token", "application/x-www-form-urlencoded"),
    };
    let mut headers = HeaderMap::new();
    let in_query = content_type.is_empty();
    if !in_query {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Request {
        method,
        authority: Some("mcp.example.com".to_owned()),
        path: path.to_owned(),
        query: in_query.then(|| parameters.to_owned()),
        headers,
        body: if in_query { Vec::new() } else { parameters.as_bytes().to_vec() },
        client_address: None,
    }
}

fn check_redirect_uris(parameters: &str) {
    let uris: Vec<String> = url::form_urlencoded::parse(parameters.as_bytes()).map(|(_, value)| value.into()).collect();
    for uri in uris.iter().filter(|uri| redirect_uri::check(uri).is_ok()) {
        let url = Url::parse(uri).expect("what is registered is a URL");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{uri}");
        assert!(url.scheme() == "https" || url.scheme() == "http" && redirect_uri::is_loopback(uri), "{uri}");
        assert!(redirect_uri::matches(uri, uri));
        for other in uris.iter().filter(|other| redirect_uri::matches(uri, other)) {
            let other = Url::parse(other).expect("what matches is a URL");
            assert_eq!((url.scheme(), url.host(), url.path()), (other.scheme(), other.host(), other.path()));
            assert!(url.port() == other.port() || redirect_uri::has_variable_port(uri), "{uri} {other}");
        }
    }
}
