//! The component under wasmtime, against an emulator, with a clock that stands still.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_emulator::user_agent::{AgentError, HeadlessBrowser, Landing, Person};
use entra_mcp_emulator::{Builder, Clock, Control, Emulator};
use entra_mcp_plugin::audit::MemoryAudit;
use entra_mcp_plugin::client_channel::{ChannelError, ClientChannel, NoChannel};
use entra_mcp_plugin::clock::{Clock as _, ManualClock};
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::secret_store::{MemoryStore, SecretStore};
use entra_mcp_plugin::user_agent::{UserAgent, UserAgentError};
use entra_mcp_plugin::{MessageContext, Plugin};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::lab::{PASSWORD, START};

/// The component's compiled code, shared by all tests of a run.
pub(crate) fn code_cache() -> CodeCache {
    CodeCache::Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-cache"))
}

/// What the person at the machine has: a browser that only reports, and a place where prompts are kept.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<DeskState>);

#[derive(Default)]
struct DeskState {
    no_browser: Mutex<bool>,
    opened: Mutex<Option<mpsc::UnboundedSender<String>>>,
    prompts: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(crate) fn prompts(&self) -> Vec<String> {
        lock(&self.0.prompts).clone()
    }
}

#[async_trait]
impl UserAgent for Desk {
    async fn open_browser(&self, url: &str) -> Result<(), UserAgentError> {
        if *lock(&self.0.no_browser) {
            return Err(UserAgentError::Unavailable("there is no browser here".to_owned()));
        }
        if let Some(opened) = lock(&self.0.opened).as_ref() {
            opened.send(url.to_owned()).expect("the test looks at the browser");
        }
        Ok(())
    }

    async fn prompt(&self, message: &str) {
        lock(&self.0.prompts).push(message.to_owned());
    }
}

/// The longest pause that a call makes by itself: `Retry-After` and device-code intervals of the tests.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A person who neither accepts nor declines.
pub(crate) const SILENCE: &str = "silence";

/// One MCP client's connection: answers elicitations as told, and keeps notifications.
#[derive(Default)]
pub(crate) struct Connection {
    state: Mutex<Option<String>>,
    pub(crate) notifications: Mutex<Vec<(String, Value)>>,
    pub(crate) requests: Mutex<Vec<(String, Value)>>,
    /// The answer to every elicitation, or [`SILENCE`]; `None` refuses the method.
    pub(crate) elicitation: Mutex<Option<&'static str>>,
    shown: Mutex<Option<mpsc::UnboundedSender<String>>>,
}

impl Connection {
    /// Reports the pages that the client opens for its user.
    pub(crate) fn report(&self) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.shown) = Some(sender);
        receiver
    }

    pub(crate) fn notified(&self, method: &str) -> Vec<Value> {
        let notifications = lock(&self.notifications);
        notifications.iter().filter(|(name, _)| name == method).map(|(_, params)| params.clone()).collect()
    }
}

#[async_trait]
impl ClientChannel for Connection {
    async fn notify(&self, method: &str, params: &str) {
        let params = serde_json::from_str(params).expect("params are JSON");
        lock(&self.notifications).push((method.to_owned(), params));
    }

    async fn request(&self, method: &str, params: &str, _: Duration) -> Result<String, ChannelError> {
        let params: Value = serde_json::from_str(params).expect("params are JSON");
        let url = params["url"].as_str().unwrap_or_default().to_owned();
        lock(&self.requests).push((method.to_owned(), params));
        let Some(action) = *lock(&self.elicitation) else {
            return Err(ChannelError::Refused(r#"{"code":-32601,"message":"Method not found"}"#.to_owned()));
        };
        if action == SILENCE {
            return std::future::pending().await;
        }
        if action == "accept"
            && let Some(shown) = lock(&self.shown).as_ref()
        {
            shown.send(url).expect("the test looks at the client");
        }
        Ok(json!({ "action": action }).to_string())
    }

    fn state(&self) -> Option<String> {
        lock(&self.state).clone()
    }

    fn set_state(&self, value: String) {
        *lock(&self.state) = Some(value);
    }
}

/// A public client and everything around it.
pub(crate) struct Server {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) emulator: Emulator,
    pub(crate) clock: ManualClock,
    pub(crate) audit: MemoryAudit,
    pub(crate) desk: Desk,
    opened: mpsc::UnboundedReceiver<String>,
    browser: HeadlessBrowser,
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(|clock| Arc::new(MemoryStore::new(Arc::new(clock.clone()))), change).await.0
    }

    /// The same on a store of its own. Returns also the settings, for another plugin beside this one.
    pub(crate) async fn on(
        store: impl FnOnce(&ManualClock) -> Arc<dyn SecretStore>,
        change: impl FnOnce(&mut Settings),
    ) -> (Self, Settings) {
        let emulator = Builder::new().seed(42).clock(Clock::manual(START)).start().await.expect("the emulator starts");
        let endpoints = emulator.endpoints();
        let mut settings = Settings {
            client_type: ClientType::PublicClient,
            tenant: endpoints.tenant_id.clone(),
            client_id: endpoints.public_client_id.clone(),
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
                audiences: vec![endpoints.public_client_id.clone()],
                allowed_tenants: Vec::new(),
                clock_tolerance_seconds: Some(60),
            },
            profile_cache_seconds: 0,
            audit_usernames: false,
            servers: Vec::new(),
            http: None,
        };
        change(&mut settings);
        let clock = ManualClock::new(u64::try_from(START).expect("the clock starts after 1970"));
        let store = store(&clock);
        let (sender, opened) = mpsc::unbounded_channel();
        let desk = Desk::default();
        *lock(&desk.0.opened) = Some(sender);
        let audit = MemoryAudit::default();
        let plugin = plugin(settings.clone(), &clock, &store, &desk, &audit);
        (Self { plugin, emulator, clock, audit, desk, opened, browser: HeadlessBrowser::new() }, settings)
    }

    pub(crate) fn control(&self) -> Control {
        self.emulator.control()
    }

    /// Lets time pass for the host and for Entra ID.
    pub(crate) fn advance(&self, seconds: u64) {
        self.control().advance_clock(Duration::from_secs(seconds));
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn without_browser(self) -> Self {
        *lock(&self.desk.0.no_browser) = true;
        self
    }

    /// Starts a message on a task of its own; it may wait for a person.
    pub(crate) fn send(&self, connection: &Arc<Connection>, message: Value) -> tokio::task::JoinHandle<Option<Value>> {
        let (plugin, channel) = (Arc::clone(&self.plugin), Arc::clone(connection));
        tokio::spawn(async move {
            let answer = plugin.handle(&message.to_string(), &MessageContext::new("stdio"), channel).await;
            answer.map(|answer| serde_json::from_str(&answer).expect("an answer is JSON"))
        })
    }

    /// Sends a message without a connection and waits for the answer.
    pub(crate) async fn ask(&self, message: Value) -> Value {
        let answer = self.plugin.handle(&message.to_string(), &MessageContext::new("stdio"), Arc::new(NoChannel)).await;
        serde_json::from_str(&answer.expect("a request is answered")).expect("an answer is JSON")
    }

    /// The next page that the browser is to open.
    pub(crate) async fn opened(&mut self) -> String {
        self.opened.recv().await.expect("the component opens the browser")
    }

    /// Whether the browser was to open another page.
    pub(crate) fn opened_more(&mut self) -> bool {
        self.opened.try_recv().is_ok()
    }

    /// Signs in on that page, up to the redirect to the component's listener.
    pub(crate) async fn sign_in_at(&mut self, url: &str, username: &str) -> Result<Landing, AgentError> {
        self.browser.sign_in(url, username, PASSWORD).await
    }

    pub(crate) async fn sign_in_as(&mut self, url: &str, person: &Person) -> Result<Landing, AgentError> {
        self.browser.sign_in_as(url, person).await
    }

    /// Calls the tool while Alice answers the browser; the tool's result.
    pub(crate) async fn signed_in_call(&mut self) -> Value {
        let connection = Arc::default();
        let call = self.send(&connection, call_tool(json!({})));
        let url = self.opened().await;
        self.sign_in_at(&url, "alice@contoso.example").await.expect("the sign-in page is passed");
        call.await.expect("the call ends").expect("the call is answered")["result"].clone()
    }

    /// See [`let_time_fly`].
    pub(crate) fn let_time_fly(&self) -> tokio::task::JoinHandle<()> {
        let_time_fly(&self.clock, &self.control())
    }

    /// The names of the audited events, with their reasons.
    pub(crate) fn audited(&self) -> Vec<(String, Option<String>)> {
        self.audit.events().into_iter().map(|(_, event)| (event.name, event.reason)).collect()
    }

    pub(crate) async fn accounts(&self) -> usize {
        self.plugin.accounts().await.expect("the component and the store answer").len()
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }
}

/// Moves both clocks to the end of each short wait as soon as a task begins it.
pub(crate) fn let_time_fly(clock: &ManualClock, control: &Control) -> tokio::task::JoinHandle<()> {
    let (clock, control) = (clock.clone(), control.clone());
    tokio::spawn(async move {
        loop {
            let wait = clock.next_wait().await;
            // A longer wait is a deadline, not a pause that holds the call up.
            if wait <= LONGEST_PAUSE {
                control.advance_clock(wait);
                clock.advance(wait);
            }
            tokio::task::yield_now().await;
        }
    })
}

/// A plugin on the parts of a server.
pub(crate) fn plugin(
    settings: Settings,
    clock: &ManualClock,
    store: &Arc<dyn SecretStore>,
    desk: &Desk,
    audit: &MemoryAudit,
) -> Arc<Plugin> {
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()]).expect("a policy");
    let plugin = Plugin::builder(settings)
        .code_cache(code_cache())
        .clock(Arc::new(clock.clone()))
        .secret_store(Arc::clone(store))
        .user_agent(Arc::new(desk.clone()))
        .audit(Arc::new(audit.clone()))
        .outbound_http(OutboundHttp::new(policy, None).expect("a client"))
        .build()
        .expect("the component loads");
    Arc::new(plugin)
}

/// A request of 2026-07-28.
pub(crate) fn modern(method: &str, params: Value, capabilities: Value) -> Value {
    let mut params = params;
    let meta = params.as_object_mut().expect("an object").entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// A call of the tool in 2026-07-28; `params` may add to it.
pub(crate) fn call_tool(params: Value) -> Value {
    call_tool_as(params, json!({}))
}

/// The same for a client with capabilities.
pub(crate) fn call_tool_as(mut params: Value, capabilities: Value) -> Value {
    params["name"] = json!("GetUserDetailsFromGraph");
    modern("tools/call", params, capabilities)
}

/// The text of a tool result that is an error.
pub(crate) fn tool_error(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    result["content"][0]["text"].as_str().expect("an error has a text")
}
