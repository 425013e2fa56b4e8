//! Requests for the unit tests of this folder, and the whole flow.

use std::cell::RefCell;

use base::encoding::digest;
use base::settings::RegisteredClient;
use entra::testing::{FakeAuthority, TestKey, header, id_claims, sign, with};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Response};
use serde_json::{Value, json};
use world::testing::{self, World, run};

use super::{Endpoint, handle};
use crate::message::Request;
use crate::server_world::ServerWorld;
use crate::testing::{ServerWorlds as _, configure};

/// A request without header fields and body.
pub(super) fn request(method: Method, path: &str) -> Request {
    Request {
        method,
        authority: Some("mcp.example.com".to_owned()),
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        body: Vec::new(),
        client_address: Some("203.0.113.7".to_owned()),
    }
}

/// A registration.
pub(super) fn registration(body: &str) -> Request {
    let mut request = request(Method::POST, "/register");
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body.as_bytes().to_vec();
    request
}

/// A request to the token endpoint with these `Authorization` fields.
pub(super) fn authorized(values: &[&str]) -> Request {
    let mut request = request(Method::POST, "/token");
    for value in values {
        request.headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// A request of a browser with these `Cookie` fields.
pub(super) fn with_cookies(values: &[&str]) -> Request {
    let mut request = request(Method::GET, "/authorize");
    for value in values {
        request.headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The parameters of a form.
pub(super) fn form(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A public client in the settings.
pub(super) const CLIENT: &str = "public-client";
/// A confidential one; its secret is `client secret`.
pub(super) const CONFIDENTIAL: &str = "confidential-client";
/// Another public client with the same redirect URI.
pub(super) const OTHER: &str = "other-client";
pub(super) const REDIRECT: &str = "https://app.example.com/callback";
pub(super) const VERIFIER: &str = "abcdefghijklmnopqrstuvwxyz-._~0123456789ABCDEFG";
/// Life of the access tokens of Entra ID, in seconds.
pub(super) const ENTRA_LIFETIME: u64 = 4000;

/// A browser, a client and Entra ID around the authorization server.
pub(super) struct Flow {
    pub(super) world: World,
    pub(super) env: ServerWorld<'static>,
    authority: FakeAuthority,
    cookie: RefCell<Option<String>>,
}

impl Flow {
    pub(super) fn new() -> Self {
        let authority = FakeAuthority::new();
        let world = authority.world.clone();
        let mut env = world.remote();
        let client = |id: &str, secret: Option<&str>| RegisteredClient {
            client_id: id.to_owned(),
            name: "A client".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            secret_hash: secret.map(|secret| digest(secret.as_bytes())),
        };
        configure(&mut env, |http| {
            http.clients = vec![client(CLIENT, None), client(OTHER, None), client(CONFIDENTIAL, Some("client secret"))]
        });
        Self { world, env, authority, cookie: RefCell::default() }
    }

    /// Another browser.
    pub(super) fn forget_cookie(&self) {
        self.cookie.replace(None);
    }

    fn send(&self, endpoint: Endpoint, mut request: Request) -> Response<Vec<u8>> {
        if let Some(cookie) = self.cookie.borrow().as_deref() {
            request.headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        let response = run(handle(&self.env, endpoint, &request));
        if let Some(cookie) = response.headers().get(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie.replace(Some(cookie.to_owned()));
        }
        response
    }

    pub(super) fn get(&self, endpoint: Endpoint, parameters: &[(&str, &str)]) -> Response<Vec<u8>> {
        let mut request = request(Method::GET, "/");
        request.query = Some(encoded(parameters));
        self.send(endpoint, request)
    }

    pub(super) fn post(&self, endpoint: Endpoint, parameters: &[(&str, &str)]) -> Response<Vec<u8>> {
        let mut request = request(Method::POST, "/");
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = encoded(parameters).into_bytes();
        self.send(endpoint, request)
    }

    /// An authorization request that is good but for `changes`; a parameter without a value is left out.
    pub(super) fn authorize(&self, changes: &[(&str, &str)]) -> Response<Vec<u8>> {
        let challenge = digest(VERIFIER.as_bytes());
        let usual = [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT),
            ("state", "s"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("resource", "https://mcp.example.com/mcp"),
        ];
        self.get(Endpoint::Authorize, &changed(&usual, changes))
    }

    /// Presses a button of the consent page.
    pub(super) fn decide(&self, page: &Response<Vec<u8>>, decision: &str) -> Response<Vec<u8>> {
        let (request_id, csrf) = (hidden(page, "request_id"), hidden(page, "csrf_token"));
        let form = [("request_id", request_id.as_str()), ("csrf_token", &csrf), ("decision", decision)];
        self.post(Endpoint::Authorize, &form)
    }

    /// The person signs in at Entra ID as `object`, where `to` sends them, and comes back.
    pub(super) fn sign_in(&self, to: &Response<Vec<u8>>, object: &str) -> Response<Vec<u8>> {
        let nonce = parameter(to, "nonce").unwrap();
        self.entra_gives(&with(id_claims(&nonce), json!({ "oid": object })));
        self.come_back(&[("code", "entra-code"), ("state", &parameter(to, "state").unwrap())])
    }

    /// What the token endpoint of Entra ID answers from now on.
    pub(super) fn entra_gives(&self, id_claims: &Value) {
        let id_token = sign(&header("RS256", "rsa"), id_claims, &TestKey::named("rsa"));
        self.entra_answers(
            200,
            &json!({
                "token_type": "Bearer", "access_token": "entra-access", "refresh_token": "entra-refresh",
                "expires_in": ENTRA_LIFETIME, "id_token": id_token,
            }),
        );
    }

    /// What the token endpoint of Entra ID answers from now on.
    pub(super) fn entra_answers(&self, status: u16, body: &Value) {
        self.authority.publish("/oauth2/v2.0/token", testing::json(status, body));
    }

    pub(super) fn come_back(&self, parameters: &[(&str, &str)]) -> Response<Vec<u8>> {
        self.get(Endpoint::Callback, parameters)
    }

    /// All of it, up to the answer to the client.
    pub(super) fn walk(&self, changes: &[(&str, &str)]) -> Response<Vec<u8>> {
        let mut response = self.authorize(changes);
        // Entra ID, where the page is skipped.
        if response.status() == 200 {
            response = self.decide(&response, "allow");
        }
        self.sign_in(&response, entra::testing::OBJECT)
    }

    pub(super) fn code(&self) -> String {
        parameter(&self.walk(&[]), "code").unwrap()
    }

    /// An exchange of `code` that is good but for `changes`.
    pub(super) fn exchange(&self, code: &str, changes: &[(&str, &str)]) -> Response<Vec<u8>> {
        let usual = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.post(Endpoint::Token, &changed(&usual, changes))
    }

    pub(super) fn refresh(&self, refresh_token: &str, changes: &[(&str, &str)]) -> Response<Vec<u8>> {
        let usual = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", refresh_token)];
        self.post(Endpoint::Token, &changed(&usual, changes))
    }

    /// The events since the start, each as `name/outcome/reason`.
    pub(super) fn audited(&self) -> Vec<String> {
        let event = |event: base::audit::AuditEvent| {
            let outcome = format!("{:?}", event.outcome).to_lowercase();
            event.reason.map_or_else(
                || format!("{}/{outcome}", event.name),
                |reason| format!("{}/{outcome}/{reason}", event.name),
            )
        };
        self.world.audited().into_iter().map(event).collect()
    }

    /// The sessions in the store, and the records of the tokens of Entra ID.
    pub(super) fn sessions(&self) -> (usize, usize) {
        let names = self.world.record_names();
        let count = |part: &str| names.iter().filter(|name| name.contains(part)).count();
        (count("/session/"), count("/session-entra/"))
    }
}

fn encoded(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn changed<'a>(usual: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = usual.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied().collect()
}

fn hidden(page: &Response<Vec<u8>>, name: &str) -> String {
    let html = String::from_utf8_lossy(page.body());
    let after = html.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {html}")).1;
    after.split('"').next().unwrap().to_owned()
}

/// A parameter of the URL that a response redirects to.
pub(super) fn parameter(response: &Response<Vec<u8>>, name: &str) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().unwrap();
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// A JSON answer.
pub(super) fn answer(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The status and the error of an answer in JSON.
pub(super) fn refusal(response: &Response<Vec<u8>>) -> (u16, String) {
    (response.status().as_u16(), answer(response)["error"].as_str().unwrap_or_default().to_owned())
}
