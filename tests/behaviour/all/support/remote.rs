//! The remote server as a fleet of replicas: the component under wasmtime, several times, on one store, with every
//! request going to the next one. An emulator is Entra ID; all clocks stand still.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_emulator::user_agent::{HeadlessBrowser, Person};
use entra_mcp_emulator::{Builder, Clock, Control, Emulator};
use entra_mcp_plugin::audit::MemoryAudit;
use entra_mcp_plugin::client_credential::{ClientCredential, Credential, CredentialError};
use entra_mcp_plugin::client_metadata::{ClientMetadata, Document, FetchError};
use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::environment::{
    BrokerUse, ClientType, HttpSettings, Settings, SignInMethod, SignInSettings, TokenMode, TokenSettings,
};
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::rate_limiter::{CountingRateLimiter, Rate, RateLimiter};
use entra_mcp_plugin::secret_store::{MemoryStore, SecretStore};
use entra_mcp_plugin::{Plugin, PluginBuilder, PoolStatistics};
use http::{Request, Response};
use serde_json::{Value, json};
use url::Url;

use super::component::{code_cache, let_time_fly};
use super::lab::{CHALLENGE, PASSWORD, START, VERIFIER};

/// Where the fleet is, for its clients.
pub(crate) const PUBLIC_URL: &str = "https://mcp.example.com";
/// The resource of the MCP endpoint.
pub(crate) const RESOURCE: &str = "https://mcp.example.com/mcp";
/// The redirect URI of the clients of the tests.
pub(crate) const REDIRECT: &str = "https://client.example.com/callback";
/// Refused tokens in a minute of one address, if the fleet is told addresses: the program's default.
pub(crate) const REFUSED_TOKENS: u32 = 60;
/// How long a replaced refresh token gets the same answer again, in seconds: the default.
pub(crate) const REFRESH_GRACE: u32 = 30;
pub(crate) const ALICE: &str = "alice@contoso.example";
pub(crate) const BOB: &str = "bob@contoso.example";

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// Null if it is not JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header is text"))
    }

    pub(crate) fn html(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Where a redirect leads.
    pub(crate) fn location(&self) -> Url {
        assert_eq!(self.status, 303, "{} is no redirect: {}", self.status, self.html());
        Url::parse(self.header("location")).expect("a redirect leads to a URL")
    }

    /// Target of the link on the page shown before redirecting to an unverified client.
    pub(crate) fn link(&self) -> Url {
        assert_eq!(self.status, 400, "{}", self.html());
        let html = self.html();
        let link = html.split_once("<a href=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a link").0;
        Url::parse(&link.replace("&amp;", "&").replace("&#39;", "'")).expect("a link leads to a URL")
    }

    /// The OAuth error of an answer of the token endpoint.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or("no error"))
    }
}

/// A parameter in the query of a URL.
pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

struct Secret(String);

#[async_trait]
impl ClientCredential for Secret {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Secret(self.0.clone().into()))
    }
}

/// Metadata documents that are published somewhere.
#[derive(Default)]
pub(crate) struct Documents {
    documents: std::sync::Mutex<HashMap<String, Result<Value, FetchError>>>,
    fetched: AtomicUsize,
}

impl Documents {
    pub(crate) fn publish(&self, url: &str, document: Value) {
        self.documents.lock().expect("no test panicked").insert(url.to_owned(), Ok(document));
    }

    /// From now on there is no document.
    pub(crate) fn fail(&self, url: &str, failure: FetchError) {
        self.documents.lock().expect("no test panicked").insert(url.to_owned(), Err(failure));
    }

    /// How many were asked for.
    pub(crate) fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ClientMetadata for Documents {
    async fn fetch(&self, url: &str, _: Option<std::net::IpAddr>) -> Result<Document, FetchError> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let documents = self.documents.lock().expect("no test panicked");
        let missing = || Err(FetchError::Unavailable("no such document".to_owned()));
        let document = documents.get(url).cloned().unwrap_or_else(missing)?;
        Ok(Document {
            body: document.to_string().into_bytes(),
            content_type: Some("application/json".to_owned()),
            max_age_seconds: None,
        })
    }
}

/// The fleet.
pub(crate) struct Fleet {
    replicas: Vec<Plugin>,
    next: AtomicUsize,
    pub(crate) emulator: Emulator,
    pub(crate) clock: ManualClock,
    pub(crate) audit: MemoryAudit,
    pub(crate) documents: Arc<Documents>,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Two replicas with changed settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::bounded(HashMap::new(), change).await
    }

    /// The same with more bounds than that of refused tokens.
    pub(crate) async fn bounded(rates: HashMap<String, Rate>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::built(rates, change, |builder| builder).await
    }

    /// The same, and each replica is built as `build` says.
    pub(crate) async fn built(
        mut rates: HashMap<String, Rate>,
        change: impl FnOnce(&mut Settings),
        build: impl Fn(PluginBuilder) -> PluginBuilder,
    ) -> Self {
        let emulator = Builder::new().seed(42).clock(Clock::manual(START)).start().await.expect("the emulator starts");
        let endpoints = emulator.endpoints().clone();
        let callback = format!("{PUBLIC_URL}/auth/callback");
        let registered = emulator.control().change_application(&endpoints.confidential_client_id, |application| {
            application.web_redirect_uris.push(callback);
        });
        registered.expect("the application exists");
        let mut settings = Settings {
            client_type: ClientType::ConfidentialClient,
            tenant: endpoints.tenant_id.clone(),
            client_id: endpoints.confidential_client_id.clone(),
            authority: endpoints.authority.clone(),
            graph: endpoints.graph.clone(),
            graph_resource: "https://graph.microsoft.com".to_owned(),
            sign_in: SignInSettings {
                method: SignInMethod::Automatic,
                timeout_seconds: 300,
                account: None,
                broker: BrokerUse::Off,
            },
            token: TokenSettings {
                audiences: vec![endpoints.confidential_client_id.clone()],
                allowed_tenants: Vec::new(),
                clock_tolerance_seconds: Some(60),
            },
            profile_cache_seconds: 0,
            audit_usernames: false,
            servers: Vec::new(),
            http: Some(HttpSettings {
                public_url: PUBLIC_URL.to_owned(),
                allowed_hosts: vec!["mcp.example.com".to_owned()],
                allowed_origins: vec!["https://app.example.com".to_owned()],
                client_address_header: None,
                legacy_sse: true,
                clients: Vec::new(),
                dynamic_registration: true,
                allowed_redirect_schemes: Vec::new(),
                client_id_metadata_documents: true,
                token_mode: TokenMode::Session,
                app_id_uri: None,
                required_scope: "access_as_user".to_owned(),
                access: None,
                deny_unlisted: false,
                token_header: None,
                rewrite_authority_metadata: false,
                max_streams_per_caller: 16,
                refresh_grace_seconds: REFRESH_GRACE,
                forward_auth: None,
            }),
        };
        change(&mut settings);
        let clock = ManualClock::new(u64::try_from(START).expect("the clock starts after 1970"));
        let store: Arc<dyn SecretStore> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        // One process, so one limiter for both.
        let rate = Rate { count: REFUSED_TOKENS, per: Duration::from_secs(60) };
        rates.insert("refused-token".to_owned(), rate);
        let limiter: Arc<dyn RateLimiter> = Arc::new(CountingRateLimiter::new(Arc::new(clock.clone()), rates));
        let (audit, documents) = (MemoryAudit::default(), Arc::new(Documents::default()));
        let replica = || -> PluginBuilder {
            let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()]).expect("a policy");
            Plugin::builder(settings.clone())
                .code_cache(code_cache())
                .clock(Arc::new(clock.clone()))
                .secret_store(Arc::clone(&store))
                .client_credential(Arc::new(Secret(endpoints.client_secret.clone())))
                .client_metadata(Arc::clone(&documents) as Arc<dyn ClientMetadata>)
                .audit(Arc::new(audit.clone()))
                .rate_limiter(Arc::clone(&limiter))
                .outbound_http(OutboundHttp::new(policy, None).expect("a client"))
        };
        let replicas = (0..2).map(|_| build(replica()).build().expect("the component loads")).collect();
        Self { replicas, next: AtomicUsize::new(0), emulator, clock, audit, documents }
    }

    pub(crate) fn control(&self) -> Control {
        self.emulator.control()
    }

    /// Lets time pass for the fleet and for Entra ID.
    pub(crate) fn advance(&self, seconds: u64) {
        self.control().advance_clock(Duration::from_secs(seconds));
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// From now on, access tokens of Entra ID live for `seconds`.
    pub(crate) fn shorten_tokens(&self, seconds: i64) {
        self.control().change_policy(|policy| {
            policy.access_token_shortest = seconds;
            policy.access_token_longest = seconds;
            policy.continuous_access_token = seconds;
        });
    }

    /// See [`let_time_fly`]: calls that wait for each other wait by the clock.
    pub(crate) fn let_time_fly(&self) -> tokio::task::JoinHandle<()> {
        let_time_fly(&self.clock, &self.control())
    }

    /// The replica whose turn it is.
    pub(crate) fn replica(&self) -> &Plugin {
        &self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % self.replicas.len()]
    }

    /// What the instances of each replica have done.
    pub(crate) fn statistics(&self) -> Vec<PoolStatistics> {
        self.replicas.iter().map(Plugin::statistics).collect()
    }

    /// Sends a request to the next replica.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        let (mut head, body) = request.into_parts();
        if head.uri.authority().is_none() {
            head.headers.entry("host").or_insert(http::HeaderValue::from_static("mcp.example.com"));
        }
        let response: Response<_> = self.replica().handle_http(Request::from_parts(head, body.into())).await;
        let (head, body) = response.into_parts();
        let bytes = http_body_util::BodyExt::collect(body).await.expect("the body is whole").to_bytes().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: head.status.as_u16(), headers: head.headers, bytes, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Vec::new()).expect("a request")).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(body.into_bytes()).expect("a request")).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(body.to_string().into_bytes()).expect("a request")).await
    }

    /// Registers a public client; its id.
    pub(crate) async fn register(&self, redirect_uri: &str) -> String {
        let metadata = json!({
            "client_name": "Test client",
            "redirect_uris": [redirect_uri],
            "token_endpoint_auth_method": "none",
        });
        let answer = self.post_json("/register", &metadata).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["client_id"].as_str().expect("a registration has an id").to_owned()
    }

    /// A call of the tool with a session token, in 2026-07-28.
    pub(crate) async fn call(&self, token: &str) -> Answer {
        self.send(call_request(token)).await
    }

    /// A call of any tool.
    pub(crate) async fn call_tool(&self, token: &str, tool: &str, arguments: &Value) -> Answer {
        self.send(tool_request(token, tool, arguments)).await
    }

    /// The answer of a tool.
    pub(crate) async fn structured(&self, token: &str, tool: &str, arguments: &Value) -> Value {
        let answer = self.call_tool(token, tool, arguments).await;
        let result = &answer.body["result"];
        assert_eq!((answer.status, &result["isError"]), (200, &json!(false)), "{}", answer.body);
        result["structuredContent"].clone()
    }

    /// The details that the tool finds.
    pub(crate) async fn details(&self, token: &str) -> Value {
        let answer = self.call(token).await;
        let result = &answer.body["result"];
        assert_eq!((answer.status, result["isError"] == json!(true)), (200, false), "{}", answer.body);
        result["structuredContent"].clone()
    }

    /// The whole way to a session for a user, each step on another replica.
    pub(crate) async fn session(&self, username: &str) -> Tokens {
        let client_id = self.register(REDIRECT).await;
        self.session_of(&client_id, username).await
    }

    pub(crate) async fn session_of(&self, client_id: &str, username: &str) -> Tokens {
        let code = self.code(&Authorize::new(client_id), username).await;
        let answer = self.redeem(client_id, &code).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Tokens::of(client_id, &answer)
    }

    /// Consents and signs in; the code that the client gets.
    pub(crate) async fn code(&self, authorize: &Authorize, username: &str) -> String {
        let back = Tab::default().walk(self, authorize, username).await;
        parameter(&back, "code").unwrap_or_else(|| panic!("no code in {back}"))
    }

    pub(crate) async fn redeem(&self, client_id: &str, code: &str) -> Answer {
        self.redeem_with(client_id, code, &[]).await
    }

    /// Redeems a code, with changed parameters.
    pub(crate) async fn redeem_with(&self, client_id: &str, code: &str, changes: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client_id),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("resource", RESOURCE),
        ];
        for (name, value) in changes {
            form.retain(|(other, _)| other != name);
            form.push((name, value));
        }
        self.post_form("/token", &form).await
    }

    pub(crate) async fn refresh(&self, client_id: &str, refresh_token: &str) -> Answer {
        let form = [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", refresh_token)];
        self.post_form("/token", &form).await
    }

    /// The names of the audited events.
    pub(crate) fn audited(&self) -> Vec<String> {
        self.audit.events().into_iter().map(|(_, event)| event.name).collect()
    }
}

/// A call of the tool, as a request.
pub(crate) fn call_request(token: &str) -> Request<Vec<u8>> {
    tool_request(token, "getUserDetails", &json!({}))
}

/// A call of any tool, as a request.
pub(crate) fn tool_request(token: &str, tool: &str, arguments: &Value) -> Request<Vec<u8>> {
    let message = super::component::modern("tools/call", json!({ "name": tool, "arguments": arguments }), json!({}));
    let request = Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool);
    let request = if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) };
    request.body(message.to_string().into_bytes()).expect("a request")
}

/// The tokens that a client holds.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) client_id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Tokens {
    pub(crate) fn of(client_id: &str, answer: &Answer) -> Self {
        let text = |name: &str| answer.body[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Self { client_id: client_id.to_owned(), access: text("access_token"), refresh: text("refresh_token") }
    }
}

/// An authorization request, to be changed by a test before it is made.
#[derive(Clone, Debug)]
pub(crate) struct Authorize(pub(crate) Vec<(String, String)>);

impl Authorize {
    pub(crate) fn new(client_id: &str) -> Self {
        let parameters = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", REDIRECT),
            ("scope", "User.Read"),
            ("state", "the client's state"),
            ("resource", RESOURCE),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        Self(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn path(&self) -> String {
        format!("/authorize?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish())
    }
}

/// A person's browser, as far as the fleet sees it: cookies, and the form of the consent page.
#[derive(Default)]
pub(crate) struct Tab {
    pub(crate) cookies: Vec<(String, String)>,
    entra: HeadlessBrowser,
}

impl Tab {
    /// Opens a page of the fleet.
    pub(crate) async fn open(&mut self, fleet: &Fleet, path: &str) -> Answer {
        let request = Request::get(path).header("accept", "text/html");
        self.exchange(fleet, request, Vec::new()).await
    }

    /// Presses a button of the consent page.
    pub(crate) async fn decide(&mut self, fleet: &Fleet, page: &Answer, decision: &str) -> Answer {
        let form = [
            ("request_id", input(page, "request_id")),
            ("csrf_token", input(page, "csrf_token")),
            ("decision", decision.to_owned()),
        ];
        self.submit(fleet, &form).await
    }

    pub(crate) async fn submit(&mut self, fleet: &Fleet, form: &[(&str, String)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post("/authorize")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", PUBLIC_URL);
        self.exchange(fleet, request, body.into_bytes()).await
    }

    async fn exchange(&mut self, fleet: &Fleet, request: http::request::Builder, body: Vec<u8>) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let answer = fleet.send(request.body(body).expect("a request")).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let pair = cookie.to_str().expect("a cookie is text").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie has a value");
            self.cookies.retain(|(other, _)| other != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    /// Signs in at Entra ID; the callback URL that Entra ID sends the person to, not opened yet.
    pub(crate) async fn sign_in(&mut self, entra: &Url, person: &Person) -> Url {
        let mut browser = std::mem::take(&mut self.entra).staying();
        let landing = browser.sign_in_as(entra.as_str(), person).await.expect("the sign-in ends at the application");
        self.entra = browser;
        Url::parse(&landing.url).expect("the callback is a URL")
    }

    /// The consent page, or the redirect to Entra ID where consent is remembered; allowed. Where it leads at Entra ID.
    pub(crate) async fn consent(&mut self, fleet: &Fleet, authorize: &Authorize) -> Url {
        let page = self.open(fleet, &authorize.path()).await;
        let decided = match page.status {
            200 => self.decide(fleet, &page, "allow").await,
            _ => page,
        };
        decided.location()
    }

    /// The whole way, up to the redirect to the client.
    pub(crate) async fn walk(&mut self, fleet: &Fleet, authorize: &Authorize, username: &str) -> Url {
        let entra = self.consent(fleet, authorize).await;
        let callback = self.sign_in(&entra, &Person::new(username, PASSWORD)).await;
        self.open(fleet, &path_of(&callback)).await.location()
    }
}

/// The path and query of a URL.
pub(crate) fn path_of(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// The value of a hidden field.
pub(crate) fn input(page: &Answer, name: &str) -> String {
    let html = page.html();
    let field = html.split("<input").find(|field| field.contains(&format!("name=\"{name}\"")));
    let field = field.unwrap_or_else(|| panic!("no field {name} in {} {html}", page.status));
    let value = field.split("value=\"").nth(1).and_then(|rest| rest.split('"').next());
    value.unwrap_or_else(|| panic!("the field {name} has no value")).to_owned()
}

/// A person who declines at Entra ID.
pub(crate) fn declining(username: &str) -> Person {
    Person::new(username, PASSWORD).declining().going_back()
}
