//! An emulator with the conveniences of a test: sign-in, PKCE, token requests, JSON.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::user_agent::{AgentError, HeadlessBrowser, Landing, Person};
use entra_mcp_emulator::{Builder, Clock, Control, Emulator, Endpoints};
use serde_json::Value;

/// 2026-11-18T10:00:00Z; every laboratory's clock starts here and moves only when told.
pub(crate) const START: i64 = 1_794_996_000;
pub(crate) const CONTOSO: &str = "c0117050-0000-4000-a000-000000000001";
pub(crate) const FABRIKAM: &str = "fab12ca0-0000-4000-a000-000000000002";
pub(crate) const PASSWORD: &str = "emulator";
pub(crate) const REDIRECT: &str = "http://localhost:54321/";
/// With the SHA-256 of RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(crate) const GRAPH_SCOPE: &str = "openid profile offline_access https://graph.microsoft.com/User.Read";

/// The built-in application with this number.
pub(crate) fn app(number: u8) -> String {
    format!("a0000000-0000-4000-a000-{number:012x}")
}

pub(crate) const LOCAL: u8 = 1;
pub(crate) const REMOTE: u8 = 2;
pub(crate) const TASKS: u8 = 3;
pub(crate) const LEGACY: u8 = 4;
pub(crate) const CURIOUS: u8 = 5;

pub(crate) struct Lab {
    pub(crate) emulator: Emulator,
    pub(crate) browser: HeadlessBrowser,
    http: reqwest::Client,
}

/// (HTTP status, OAuth error, AADSTS code)
pub(crate) type Refusal<'a> = (u16, &'a str, u64);

/// An answer of an endpoint.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// Null if it was not JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_else(|| panic!("no text '{name}' in {} {}", self.status, self.body))
    }

    /// The refusal, once its whole form is checked.
    pub(crate) fn refusal(&self) -> Refusal<'_> {
        let code =
            self.body["error_codes"][0].as_u64().unwrap_or_else(|| panic!("no refusal: {} {}", self.status, self.body));
        let description = self.text("error_description");
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        for (label, name) in
            [("Trace ID: ", "trace_id"), ("Correlation ID: ", "correlation_id"), ("Timestamp: ", "timestamp")]
        {
            assert!(description.contains(&format!("\r\n{label}{}", self.text(name))), "{description}");
        }
        assert!(self.text("error_uri").ends_with(&format!("/error?code={code}")));
        (self.status, self.text("error"), code)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }

    /// The claims of a token in the answer.
    pub(crate) fn claims(&self, token: &str) -> Value {
        claims(self.text(token))
    }
}

/// The claims of a token, its signature not looked at.
pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a token.
pub(crate) fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap_or_else(|| panic!("not a JWT: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// An authorize request to be changed by a test before it is made.
#[derive(Clone, Debug)]
pub(crate) struct Authorize {
    pub(crate) tenant: String,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Authorize {
    pub(crate) fn new(client: u8) -> Self {
        let parameters = [
            ("client_id", app(client).as_str()),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", GRAPH_SCOPE),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { tenant: CONTOSO.to_owned(), parameters: parameters.into() }
    }

    pub(crate) fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.to_owned();
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(key, _)| key != name);
        self
    }

    pub(crate) fn scope(self, scope: &str) -> Self {
        self.with("scope", scope)
    }

    pub(crate) fn url(&self, authority: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.parameters).finish();
        format!("{authority}/{}/oauth2/v2.0/authorize?{query}", self.tenant)
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = Builder::new().seed(42).clock(Clock::manual(START));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { emulator: change(builder).start().await.unwrap(), browser: HeadlessBrowser::new().staying(), http }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        self.emulator.endpoints()
    }

    pub(crate) fn control(&self) -> Control {
        self.emulator.control()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.control().advance_clock_seconds(seconds);
    }

    /// Signs in, without redeeming anything.
    pub(crate) async fn authorize(&mut self, request: &Authorize, username: &str) -> Result<Landing, AgentError> {
        self.authorize_as(request, &Person::new(username, PASSWORD)).await
    }

    pub(crate) async fn authorize_as(&mut self, request: &Authorize, person: &Person) -> Result<Landing, AgentError> {
        let url = request.url(&self.endpoints().authority);
        self.browser.sign_in_as(&url, person).await
    }

    /// Signs in and returns the code.
    pub(crate) async fn code(&mut self, request: &Authorize, username: &str) -> String {
        let landing = self.authorize(request, username).await.unwrap();
        landing.parameter("code").unwrap_or_else(|| panic!("no code in {}", landing.url))
    }

    /// Signs in and redeems the code with the same scopes.
    pub(crate) async fn tokens(&mut self, request: &Authorize, username: &str) -> Answer {
        let code = self.code(request, username).await;
        let of = |name: &str| request.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let (client, scope, redirect) = (of("client_id").unwrap(), of("scope").unwrap(), of("redirect_uri").unwrap());
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", &client),
            ("code", &code),
            ("redirect_uri", &redirect),
            ("code_verifier", VERIFIER),
            ("scope", &scope),
        ];
        let secret = self.endpoints().client_secret.clone();
        if client == app(REMOTE) {
            form.push(("client_secret", &secret));
        }
        self.token(&request.tenant, &form).await
    }

    /// Signs in with the public client for Graph.
    pub(crate) async fn graph_tokens(&mut self, username: &str) -> Answer {
        let answer = self.tokens(&Authorize::new(LOCAL), username).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    pub(crate) async fn token(&self, tenant: &str, form: &[(&str, &str)]) -> Answer {
        self.post(&format!("{}/{tenant}/oauth2/v2.0/token", self.endpoints().authority), form).await
    }

    pub(crate) async fn refresh(&self, client: u8, token: &str, scope: &str) -> Answer {
        let client = app(client);
        let form =
            [("grant_type", "refresh_token"), ("client_id", &client), ("refresh_token", token), ("scope", scope)];
        self.token(CONTOSO, &form).await
    }

    /// A client-credentials or on-behalf-of request of the confidential client, with its secret.
    pub(crate) async fn confidential(&self, form: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("client_id", self.endpoints().confidential_client_id.as_str()),
            ("client_secret", self.endpoints().client_secret.as_str()),
        ];
        all.extend(form);
        self.token(CONTOSO, &all).await
    }

    pub(crate) async fn post(&self, url: &str, form: &[(&str, &str)]) -> Answer {
        self.send(self.http.post(url).form(form)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.endpoints().authority))).await
    }

    pub(crate) async fn graph(&self, path: &str, token: &str) -> Answer {
        self.send(self.http.get(format!("{}/v1.0{path}", self.endpoints().graph)).bearer_auth(token)).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, bytes, body }
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.http
    }
}

/// (AADSTS code, page title) of a sign-in that the pages refused.
pub(crate) fn refused(outcome: Result<Landing, AgentError>) -> (u32, String) {
    match outcome {
        Err(AgentError::Refused { title, code: Some(code), .. }) => (code, title),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// (error, AADSTS code) of a refusal sent to the application.
pub(crate) fn sent_back(landing: &Landing) -> (String, u64) {
    let description = landing.parameter("error_description").unwrap_or_else(|| panic!("no error in {}", landing.url));
    let digits: String = description.trim_start_matches("AADSTS").chars().take_while(char::is_ascii_digit).collect();
    (landing.parameter("error").unwrap(), digits.parse().unwrap())
}
