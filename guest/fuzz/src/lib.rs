//! The common part of the fuzz targets of the remote server: conversations with it, as texts.
//!
//! A text is steps, separated by lines `===`. A step is a request: `METHOD target`, header fields, an empty line, a
//! body; or `WAIT seconds`. Values that the server has given out before stand in braces: `{cookie}`, `{request}` and
//! `{csrf}` of the consent page, `{state}` at Entra ID, `{code}`, `{access}`, `{refresh}`, `{client}`, `{secret}`,
//! `{session}` of an event stream. So a fuzzer that changes texts gets through whole sign-ins, and a person can read
//! what it found.
//!
//! After each request, this checks the invariants of all requests. It stops the process if one does not hold.

use std::collections::HashMap;
use std::time::Duration;

use base::encoding::digest;
use base::settings::RegisteredClient;
use entra::testing::{FakeAuthority, TestKey, forget_instance, header, id_claims, sign};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use server::ServerWorld;
use server::authorization_server::redirect_uri;
use server::message::{HttpResponse, Request};
use server::testing::{ServerWorlds as _, configure};
use url::Url;
use world::Document;
use world::testing::{json as answer, run};

/// Steps of one conversation. A sign-in and a few calls take some ten.
const MAX_STEPS: usize = 32;
/// Pieces that are read of an event stream: its first event, and what was sent to it.
const MAX_PIECES: usize = 3;
/// Longest time that passes in one step: past the life of everything.
const MAX_WAIT_SECONDS: u64 = 100 * 24 * 3600;

/// Where the authority of the fakes is.
const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// A public client that the operator has set up.
pub const CLIENT: &str = "public-client";
/// A confidential one; its secret is [`CLIENT_SECRET`].
pub const CONFIDENTIAL: &str = "confidential-client";
/// Of the confidential client.
pub const CLIENT_SECRET: &str = "the secret of a client";
/// Of both.
pub const REDIRECT: &str = "https://app.example.com/callback";

/// Values that never leave the server: tokens of Entra ID, and the credential of the application.
const SECRETS: [&str; 3] = ["entra-access-token", "entra-refresh-token", "the client secret"];

/// A remote server, Entra ID, and what clients and browsers know.
pub struct Server {
    authority: FakeAuthority,
    env: ServerWorld<'static>,
    known: HashMap<&'static str, String>,
    /// Access tokens that were given out.
    issued: Vec<String>,
    /// Secrets that a request had in it: the fuzzer made them up itself, and may see them again.
    guessed: Vec<&'static str>,
    redirect_uris: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        let authority = FakeAuthority::new();
        let mut env = authority.world.remote();
        let client = |id: &str, secret: Option<&str>| RegisteredClient {
            client_id: id.to_owned(),
            name: "A client".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            secret_hash: secret.map(|secret| digest(secret.as_bytes())),
        };
        configure(&mut env, |http| {
            http.clients = vec![client(CLIENT, None), client(CONFIDENTIAL, Some(CLIENT_SECRET))]
        });
        Self {
            authority,
            env,
            known: HashMap::new(),
            issued: Vec::new(),
            guessed: Vec::new(),
            redirect_uris: Vec::new(),
        }
    }
}

impl Server {
    /// The server, for direct calls.
    pub fn env(&self) -> &ServerWorld<'static> {
        &self.env
    }

    /// Publishes a client's metadata document at `url`.
    pub fn publish(&self, url: &str, document: Document) {
        self.authority.world.publish(url, Ok(document));
    }

    /// Forgets all conversations.
    pub fn restart(&mut self) {
        forget_instance();
        self.authority.world.restart();
        self.authority.world.has_client_secret();
        let me = json!({ "displayName": "Alice", "mail": null, "userPrincipalName": "alice@contoso.example" });
        self.authority.publish("/me?$select=displayName,mail,userPrincipalName", answer(200, &me));
        self.known.clear();
        self.issued.clear();
        self.guessed.clear();
        self.redirect_uris = vec![REDIRECT.to_owned()];
    }

    /// Has a conversation, from the beginning.
    pub fn converse(&mut self, text: &str) {
        self.restart();
        for step in text.split("\n===\n").take(MAX_STEPS) {
            if let Some(seconds) = step.strip_prefix("WAIT ") {
                let seconds = seconds.trim().parse().unwrap_or(0).min(MAX_WAIT_SECONDS);
                self.authority.world.advance(Duration::from_secs(seconds));
            } else if let Some(request) = self.request(step) {
                self.send(request);
            }
        }
    }

    /// With what is known in place of what stands in braces.
    fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.known {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        filled
    }

    fn request(&self, step: &str) -> Option<Request> {
        let (head, body) = step.split_once("\n\n").unwrap_or((step, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let target = self.filled(target);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let mut headers = HeaderMap::new();
        let mut authority = Some("mcp.example.com".to_owned());
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = self.filled(value.trim());
            if name == "host" {
                authority = Some(value);
                continue;
            }
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(&value).ok()?);
        }
        let (body, client_address) = (self.filled(body).into_bytes(), Some("203.0.113.7".to_owned()));
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Request { method, authority, path, query, headers, body, client_address })
    }

    /// Sends a request, checks the answer, and learns from it.
    pub fn send(&mut self, request: Request) -> Response<Vec<u8>> {
        let asked = request.clone();
        self.guessed.extend(SECRETS.into_iter().filter(|secret| has_in_it(&asked, secret)));
        let response = match run(server::http::handle(&self.env, request)) {
            HttpResponse::Full(response) => response,
            HttpResponse::Stream(head, mut stream) => {
                let pieces = (0..MAX_PIECES).map_while(|_| run(stream.next(&self.env)));
                let body = pieces.collect::<Vec<_>>().concat();
                Response::from_parts(head.into_parts().0, body)
            }
        };
        self.check(&asked, &response);
        self.learn(&asked, &response);
        response
    }

    fn check(&self, request: &Request, response: &Response<Vec<u8>>) {
        let (status, headers) = (response.status(), response.headers());
        let has = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(has("x-content-type-options", "nosniff") && has("x-frame-options", "DENY"), "{headers:?}");
        assert!(headers.contains_key("content-security-policy") && headers.contains_key("referrer-policy"));
        if status.is_client_error() || status.is_server_error() {
            assert!(headers.contains_key("x-correlation-id"), "{status}");
        }
        let body = String::from_utf8_lossy(response.body());
        for secret in SECRETS.iter().filter(|secret| !self.guessed.contains(secret)) {
            assert!(!body.contains(*secret), "an answer with {secret}");
            assert!(headers.values().all(|value| !String::from_utf8_lossy(value.as_bytes()).contains(*secret)));
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type == "application/json" && !body.is_empty() {
            assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
        }
        if content_type.starts_with("text/html") {
            assert!(!body.to_ascii_lowercase().contains("<script"), "{body}");
        }
        if let Some(location) = headers.get(LOCATION) {
            let location = location.to_str().expect("a location is a URL");
            let before_query = |uri: &str| uri.split(['?', '#']).next().unwrap_or_default().to_owned();
            let known = |uri: &String| redirect_uri::matches(&before_query(uri), &before_query(location));
            assert!(location.starts_with(AUTHORITY) || self.redirect_uris.iter().any(known), "{location}");
        }
        let paths = ["/mcp", "/sse", "/message"];
        if status.is_success() && paths.contains(&request.path.as_str()) && request.method != Method::OPTIONS {
            let token = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let issued = |issued: &String| token.ends_with(issued.as_str());
            assert!(self.issued.iter().any(issued), "{} is let in with {token:?}", request.path);
        }
    }

    fn learn(&mut self, request: &Request, response: &Response<Vec<u8>>) {
        let headers = response.headers();
        if let Some(cookie) = headers.get(SET_COOKIE).and_then(|value| value.to_str().ok()) {
            self.knows("cookie", cookie.split(';').next());
        }
        if let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
            let url = Url::parse(location).expect("a location is a URL");
            let parameter =
                |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
            if location.starts_with(AUTHORITY) {
                self.entra_gives(&parameter("nonce").unwrap_or_default());
                self.knows("state", parameter("state").as_deref());
            } else {
                self.knows("code", parameter("code").as_deref());
            }
        }
        let body = String::from_utf8_lossy(response.body()).into_owned();
        for (name, field) in [("request", "request_id"), ("csrf", "csrf_token")] {
            let value =
                body.split_once(&format!("name=\"{field}\" value=\"")).and_then(|(_, rest)| rest.split('"').next());
            self.knows(name, value);
        }
        let session = body.split_once("sessionId=").map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default());
        self.knows("session", session);
        let Ok(Value::Object(members)) = serde_json::from_str(&body) else { return };
        let member = |name: &str| members.get(name).and_then(Value::as_str);
        if request.path == "/token" {
            self.issued.extend(member("access_token").map(str::to_owned));
            self.knows("access", member("access_token"));
            self.knows("refresh", member("refresh_token"));
        }
        if request.path == "/register" {
            self.knows("client", member("client_id"));
            self.knows("secret", member("client_secret"));
            let uris = members.get("redirect_uris").and_then(Value::as_array).into_iter().flatten();
            self.redirect_uris.extend(uris.filter_map(Value::as_str).map(str::to_owned));
        }
    }

    fn knows(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.known.insert(name, value.to_owned());
        }
    }

    /// What the token endpoint of Entra ID answers from now on.
    fn entra_gives(&self, nonce: &str) {
        let id_token = sign(&header("RS256", "rsa"), &id_claims(nonce), &TestKey::named("rsa"));
        let [access, refresh, _] = SECRETS;
        let tokens = json!({
            "token_type": "Bearer", "access_token": access, "refresh_token": refresh, "expires_in": 4000,
            "id_token": id_token,
        });
        self.authority.publish("/oauth2/v2.0/token", answer(200, &tokens));
    }
}

/// Whether a request names a secret, as it is or as a parameter.
fn has_in_it(request: &Request, secret: &str) -> bool {
    let texts = [request.path.as_bytes(), request.query.as_deref().unwrap_or_default().as_bytes(), &request.body];
    let headers = request.headers.values().map(HeaderValue::as_bytes);
    texts.into_iter().chain(headers).any(|bytes| {
        let pairs = url::form_urlencoded::parse(bytes);
        let named = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            name.contains(secret) || value.contains(secret)
        };
        String::from_utf8_lossy(bytes).contains(secret) || pairs.into_iter().any(named)
    })
}
