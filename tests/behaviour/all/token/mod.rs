//! The token validator in the component, under wasmtime, with the emulator's keys and tokens.
//!
//! What a single token is refused for is the guest's own rejection table; here it is what needs a network, several
//! instances and the passing of time.

mod command;
mod concurrency;
mod emulator_tokens;
mod groups;
mod keys;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::audit::MemoryAudit;
use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::token_validator::{Principal, Requirements, TokenError};
use entra_mcp_plugin::{Error, Plugin, PluginBuilder};
use serde_json::{Value, json};

use crate::support::component::code_cache;
use crate::support::lab::{CONTOSO, Lab, REMOTE, START, app};

/// A component that accepts Contoso's tokens for the remote application, beside the emulator that issues them.
struct Validator {
    lab: Lab,
    plugin: Plugin,
    clock: ManualClock,
    audit: MemoryAudit,
}

fn settings(lab: &Lab) -> Settings {
    Settings {
        client_type: ClientType::ConfidentialClient,
        tenant: CONTOSO.into(),
        client_id: app(REMOTE),
        authority: lab.endpoints().authority.clone(),
        graph: lab.endpoints().graph.clone(),
        graph_resource: "https://graph.microsoft.com".into(),
        sign_in: SignInSettings {
            method: SignInMethod::Automatic,
            timeout_seconds: 60,
            account: None,
            broker: BrokerUse::Off,
        },
        token: TokenSettings {
            audiences: vec![app(REMOTE), "api://legacy.contoso.example".into()],
            allowed_tenants: Vec::new(),
            clock_tolerance_seconds: Some(60),
        },
        profile_cache_seconds: 0,
        audit_usernames: false,
        servers: Vec::new(),
        http: None,
    }
}

fn nothing() -> Requirements {
    Requirements::default()
}

/// What the component said. It did say something.
#[allow(clippy::result_large_err, reason = "only tests look at it")]
fn verdict(judged: Result<Principal, Error>) -> Result<Principal, TokenError> {
    judged.map_err(|error| match error {
        Error::Token(error) => *error,
        error => panic!("no verdict: {error}"),
    })
}

/// Compiling the component takes an unoptimised compiler half a minute, so it is done once and kept.
fn build(builder: PluginBuilder) -> Plugin {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _first_compiles = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    builder.code_cache(code_cache()).build().unwrap()
}

impl Validator {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(PluginBuilder) -> PluginBuilder) -> Self {
        Self::configured(|_| {}, change).await
    }

    async fn configured(
        configure: impl FnOnce(&mut Settings),
        change: impl FnOnce(PluginBuilder) -> PluginBuilder,
    ) -> Self {
        let lab = Lab::new().await;
        let clock = ManualClock::new(START.unsigned_abs());
        let audit = MemoryAudit::default();
        let mut settings = settings(&lab);
        configure(&mut settings);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let builder = Plugin::builder(settings).clock(shared).audit(Arc::new(audit.clone()));
        let plugin = build(change(builder));
        Self { lab, plugin, clock, audit }
    }

    async fn validate(&self, token: &str) -> Result<Principal, TokenError> {
        verdict(self.plugin.validate_token(token, &nothing()).await)
    }

    /// Both clocks move.
    fn advance(&self, seconds: u64) {
        self.lab.advance(seconds.try_into().unwrap());
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A user's token that is valid for a week, signed with the key that signs now. `id` makes tokens different.
    fn token(&self, id: &str) -> String {
        self.lab.control().sign(&self.claims(id), false).unwrap()
    }

    fn claims(&self, id: &str) -> Value {
        let now = self.lab.control().now();
        json!({
            "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", self.lab.endpoints().authority),
            "iat": now, "nbf": now, "exp": now + 7 * 24 * 3600, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
            "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access", "uti": id,
        })
    }

    /// A token that names a key which does not exist.
    fn token_of_unknown_key(&self, key_id: &str) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(json!({ "typ": "JWT", "alg": "RS256", "kid": key_id }));
        format!("{header}.{}.{}", encode(self.claims("forged")), URL_SAFE_NO_PAD.encode([1; 256]))
    }

    fn key_requests(&self) -> u64 {
        self.lab.control().request_count(Endpoint::Keys)
    }

    fn metadata_requests(&self) -> u64 {
        self.lab.control().request_count(Endpoint::OpenidConfiguration)
    }

    fn failures(&self) -> Vec<String> {
        self.audit.events().into_iter().filter_map(|(_, event)| event.reason).collect()
    }
}
