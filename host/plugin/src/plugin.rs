//! The component, loaded and ready, and the builder that configures its capabilities.

use std::fmt;
#[cfg(feature = "code-cache")]
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use zeroize::{Zeroize as _, Zeroizing};

use crate::audit::AuditSink;
use crate::bindings::export::mcp_server;
use crate::client_channel::{ClientChannel, NoChannel};
use crate::client_credential::ClientCredential;
use crate::client_metadata::ClientMetadata;
use crate::clock::Clock;
#[cfg(feature = "code-cache")]
use crate::code_cache::CodeCache;
use crate::component::{BUNDLED_COMPONENT, engine};
use crate::component_call::{call_in, new_correlation_id};
use crate::delegations::Delegations;
use crate::environment::Settings;
use crate::error::Error;
use crate::identity_broker::IdentityBroker;
use crate::imports::{Imports, ImportsBuilder};
use crate::instance::{InstanceResources, MAX_MEMORY_BYTES};
use crate::instance_pool::{InstancePool, PoolLimits, PoolStatistics};
use crate::lifecycle::Problem;
use crate::outbound::Outbound;
use crate::provided_tools::ProvidedTools;
use crate::random::Random;
use crate::rate_limiter::RateLimiter;
use crate::secret_store::SecretStore;
use crate::sign_in::{Account, Pending, SignInError};
use crate::token_validator::{Principal, Requirements, TokenError};
use crate::user_agent::UserAgent;

/// The JSON-RPC error code for a failure in the server.
const INTERNAL_ERROR: i32 = -32603;

/// Instances that record the answers of servers behind. A request that was sent must not go unrecorded because other
/// requests occupy the instances. A record takes a millisecond.
const MAX_RECORDING_INSTANCES: usize = 16;

/// The origin of a message. `Debug` leaves out the authorization.
#[derive(Clone)]
pub struct MessageContext {
    /// `stdio`, or the name of another transport.
    pub transport: String,
    /// Correlation id of the call in logs and audit records; `None` generates one.
    pub correlation_id: Option<String>,
    /// The value of the HTTP header `Authorization`, empty if the client sent none. `None`: the caller is the person at
    /// this machine, and no other party can use the transport.
    pub authorization: Option<Zeroizing<String>>,
    /// The address of the client, for audit records and the limit of refused tokens. Ignored without an authorization.
    pub client_address: Option<String>,
}

impl MessageContext {
    /// The person at this machine on `transport`. Every call gets a correlation id of its own.
    pub fn new(transport: &str) -> Self {
        Self { transport: transport.to_owned(), correlation_id: None, authorization: None, client_address: None }
    }
}

impl fmt::Debug for MessageContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, correlation_id, authorization: _, client_address: _ } = self;
        let mut shown = f.debug_struct("MessageContext");
        shown.field("transport", transport).field("correlation_id", correlation_id).finish_non_exhaustive()
    }
}

/// An access token for a downstream API. Opaque; redacted in `Debug`, zeroised on drop.
pub struct AccessToken {
    /// The token itself.
    pub token: Zeroizing<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// The account that the token stands for.
    pub account: Account,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The component, loaded and ready. Calls may run concurrently; dropping the future of a call cancels it.
pub struct Plugin {
    pub(crate) pool: Arc<InstancePool>,
    delegations: Arc<Delegations>,
    /// Instances that only record the answers of servers behind.
    recording: Arc<InstancePool>,
    random: Arc<dyn Random>,
}

impl Plugin {
    /// Starts a builder for a component with `settings`.
    pub fn builder(settings: Settings) -> PluginBuilder {
        PluginBuilder {
            imports: Imports::builder(settings),
            component: BUNDLED_COMPONENT.into(),
            #[cfg(feature = "code-cache")]
            code_cache: CodeCache::Off,
            #[cfg(feature = "code-cache")]
            compiler: None,
            http: None,
            limits: PoolLimits::default(),
            max_memory_bytes: MAX_MEMORY_BYTES,
        }
    }

    /// Handles one MCP message and returns the answer, if it has one. Never fails: if the component fails, the answer
    /// is a JSON-RPC error with the correlation id of the log.
    pub async fn handle(
        &self,
        message: &str,
        context: &MessageContext,
        channel: Arc<dyn ClientChannel>,
    ) -> Option<String> {
        let correlation_id = context.correlation_id.clone().unwrap_or_else(|| self.correlation_id());
        let mut given = mcp_server::Context {
            correlation_id: correlation_id.clone(),
            transport: context.transport.clone(),
            authorization: context.authorization.as_ref().map(|authorization| authorization.to_string()),
            client_address: context.client_address.clone(),
        };
        let answer = self
            .call(correlation_id, channel, async |exports, store| {
                exports.entra_mcp_plugin_mcp_server().call_handle(store, message, &given).await
            })
            .await;
        given.authorization.zeroize();
        answer.unwrap_or_else(|error| internal_error(message, &error))
    }

    /// Lists the accounts that are signed in.
    pub async fn accounts(&self) -> Result<Vec<Account>, Error> {
        self.judged(None, Arc::new(NoChannel), async |exports, store| {
            let accounts = exports.entra_mcp_plugin_sign_in().call_accounts(store).await?;
            Ok(accounts.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Signs a person in through the user agent, and waits for the end. The person consents to `scopes`, which belong
    /// to one API and are qualified by its identifier ([`Settings::profile_scope`] is what the component's own tools
    /// need).
    pub async fn sign_in_interactive(&self, scopes: &[String], login_hint: Option<&str>) -> Result<Account, Error> {
        self.judged(None, Arc::new(NoChannel), async |exports, store| {
            let account = exports.entra_mcp_plugin_sign_in().call_interactive(store, scopes, login_hint).await?;
            Ok(account.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Returns an access token without asking a person; `account` is a user name or home account id.
    pub async fn acquire_token_silent(&self, scopes: &[String], account: Option<&str>) -> Result<AccessToken, Error> {
        self.judged(self.correlation_id(), Arc::new(NoChannel), async |exports, store| {
            let acquired = exports.entra_mcp_plugin_sign_in().call_acquire_token_silent(store, scopes, account).await?;
            let token = acquired.map(|acquired| AccessToken {
                token: acquired.token.into(),
                expires_at: acquired.expires_at_unix_seconds,
                account: acquired.account,
            });
            Ok(token.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Starts a sign-in with a page that the embedder shows; [`Plugin::sign_in_complete`] ends it. `scopes` are as for
    /// [`Plugin::sign_in_interactive`].
    pub async fn sign_in_start(
        &self,
        redirect_uri: &str,
        scopes: &[String],
        login_hint: Option<&str>,
    ) -> Result<Pending, Error> {
        self.judged(self.correlation_id(), Arc::new(NoChannel), async |exports, store| {
            let pending =
                exports.entra_mcp_plugin_sign_in().call_start(store, redirect_uri, scopes, login_hint).await?;
            Ok(pending.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Completes the sign-in that [`Plugin::sign_in_start`] began. `response` is the query of the redirect.
    pub async fn sign_in_complete(&self, id: &str, response: &str) -> Result<Account, Error> {
        self.judged(self.correlation_id(), Arc::new(NoChannel), async |exports, store| {
            let account = exports.entra_mcp_plugin_sign_in().call_complete(store, id, response).await?;
            Ok(account.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// The page of Entra ID that ends the person's session in the browser, for a signed-in account.
    pub async fn sign_out_url(
        &self,
        home_account_id: &str,
        post_logout_redirect_uri: Option<&str>,
    ) -> Result<String, Error> {
        self.judged(None, Arc::new(NoChannel), async |exports, store| {
            let page = exports.entra_mcp_plugin_sign_in();
            let page = page.call_sign_out_url(store, home_account_id, post_logout_redirect_uri).await?;
            Ok(page.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Forgets an account and all its records.
    pub async fn sign_out(&self, home_account_id: &str) -> Result<(), Error> {
        self.judged(None, Arc::new(NoChannel), async |exports, store| {
            let ended = exports.entra_mcp_plugin_sign_in().call_sign_out(store, home_account_id).await?;
            Ok(ended.map_err(SignInError::from).map_err(Error::from))
        })
        .await
    }

    /// Validates an access token by the settings and the requirements `needs`.
    pub async fn validate_token(&self, token: &str, needs: &Requirements) -> Result<Principal, Error> {
        self.judged(None, Arc::new(NoChannel), async |exports, store| {
            let verdict = exports.entra_mcp_plugin_token_validator().call_validate(store, token, needs).await?;
            Ok(verdict.map_err(TokenError::from).map_err(Error::from))
        })
        .await
    }

    /// The names of the tools of a remote server, which rules in its settings may name.
    pub async fn remote_tools(&self) -> Result<Vec<String>, Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_tool_catalog().call_remote(store).await
        })
        .await
    }

    /// The faults of the settings, beyond their form. Asks no service.
    pub async fn check_settings(&self) -> Result<Vec<Problem>, Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_lifecycle().call_check_settings(store).await
        })
        .await
    }

    /// Asks Entra ID whether it knows the tenant and the credential, and returns the faults.
    pub async fn check_authority(&self) -> Result<Vec<Problem>, Error> {
        self.call(self.correlation_id(), Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_lifecycle().call_check_authority(store).await
        })
        .await
    }

    /// Gives up the sign-in whose redirect only this process can receive. For a process that has ended its calls and is
    /// about to end itself.
    pub async fn give_up_sign_in(&self) -> Result<(), Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_lifecycle().call_give_up_sign_in(store).await
        })
        .await
    }

    /// Renews the access tokens of the person at this machine that end soon. Returns the time until the next call;
    /// `None` if there is no such person. See [`keep_tokens_fresh`](crate::token_renewal::keep_tokens_fresh).
    pub async fn renew_tokens(&self) -> Result<Option<Duration>, Error> {
        let pause = self.call(None, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_lifecycle().call_renew_tokens(store).await
        });
        Ok(pause.await?.map(|seconds| Duration::from_secs(seconds.into())))
    }

    /// A call that may also answer with an error of the component's own.
    async fn judged<T>(
        &self,
        correlation_id: impl Into<Option<String>>,
        channel: Arc<dyn ClientChannel>,
        call: impl AsyncFnOnce(
            &crate::bindings::Bundled,
            &mut wasmtime::Store<crate::instance::InstanceState>,
        ) -> wasmtime::Result<Result<T, Error>>,
    ) -> Result<T, Error> {
        self.call(correlation_id, channel, call).await?
    }

    pub(crate) async fn call<T>(
        &self,
        correlation_id: impl Into<Option<String>>,
        channel: Arc<dyn ClientChannel>,
        call: impl AsyncFnOnce(
            &crate::bindings::Bundled,
            &mut wasmtime::Store<crate::instance::InstanceState>,
        ) -> wasmtime::Result<T>,
    ) -> Result<T, Error> {
        call_in(&self.pool, &*self.random, correlation_id, channel, call).await
    }

    /// A call that records a past event. It works while every other instance is busy.
    pub(crate) async fn call_to_record<T>(
        &self,
        call: impl AsyncFnOnce(
            &crate::bindings::Bundled,
            &mut wasmtime::Store<crate::instance::InstanceState>,
        ) -> wasmtime::Result<T>,
    ) -> Result<T, Error> {
        call_in(&self.recording, &*self.random, None, Arc::new(NoChannel), call).await
    }

    /// Supplies tokens to requests of tools.
    pub(crate) fn delegations(&self) -> &Arc<Delegations> {
        &self.delegations
    }

    /// The state of the pool and its counts.
    pub fn statistics(&self) -> PoolStatistics {
        self.pool.statistics()
    }

    pub(crate) fn correlation_id(&self) -> String {
        new_correlation_id(&*self.random)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").finish_non_exhaustive()
    }
}

/// The answer to `message` if the component failed on it. A notification or an unreadable message has none; a batch
/// gets one answer.
fn internal_error(message: &str, error: &Error) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let id = if message.trim_start().starts_with('[') {
        "null"
    } else {
        serde_json::from_str::<Request<'_>>(message).ok()?.id.get()
    };
    let text = format!("internal error (correlation id {})", error.correlation_id().unwrap_or_default());
    Some(error_answer(id, INTERNAL_ERROR, &text))
}

/// A JSON-RPC error. `id` is JSON.
pub(crate) fn error_answer(id: &str, code: i32, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, serde_json::json!(message))
}

/// Configures the capabilities of the component.
pub struct PluginBuilder {
    imports: ImportsBuilder,
    component: Arc<[u8]>,
    #[cfg(feature = "code-cache")]
    code_cache: CodeCache,
    #[cfg(feature = "code-cache")]
    compiler: Option<Command>,
    http: Option<Arc<dyn Outbound>>,
    limits: PoolLimits,
    max_memory_bytes: usize,
}

impl PluginBuilder {
    /// A component in place of the bundled one (WebAssembly, binary form).
    #[must_use]
    pub fn component(mut self, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.component = bytes.into();
        self
    }

    /// The cache of compiled code; by default there is none.
    #[cfg(feature = "code-cache")]
    #[must_use]
    pub fn code_cache(mut self, cache: CodeCache) -> Self {
        self.code_cache = cache;
        self
    }

    /// A program that puts the compiled component into the code cache, with its arguments. The plugin starts it if the
    /// cache has no entry for the component. Without it, or if it fails, this process compiles the component and keeps
    /// some 60 MB of memory from then on.
    #[cfg(feature = "code-cache")]
    #[must_use]
    pub fn compiler(mut self, program: Option<Command>) -> Self {
        self.compiler = program;
        self
    }

    /// Tools that this host runs for the component; by default none.
    #[must_use]
    pub fn provided_tools(mut self, tools: Arc<dyn ProvidedTools>) -> Self {
        self.imports = self.imports.provided_tools(tools);
        self
    }

    /// The store for secrets; by default in memory.
    #[must_use]
    pub fn secret_store(mut self, store: Arc<dyn SecretStore>) -> Self {
        self.imports = self.imports.secret_store(store);
        self
    }

    /// The way to reach a person; by default there is none.
    #[must_use]
    pub fn user_agent(mut self, agent: Arc<dyn UserAgent>) -> Self {
        self.imports = self.imports.user_agent(agent);
        self
    }

    /// The identity broker of the machine; by default none. The component asks it only if its settings say so.
    #[must_use]
    pub fn identity_broker(mut self, broker: Arc<dyn IdentityBroker>) -> Self {
        self.imports = self.imports.identity_broker(broker);
        self
    }

    /// The proof to Entra ID of the application's identity; by default none, as for a public client.
    #[must_use]
    pub fn client_credential(mut self, credential: Arc<dyn ClientCredential>) -> Self {
        self.imports = self.imports.client_credential(credential);
        self
    }

    /// The sink for security events; by default the log.
    #[must_use]
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.imports = self.imports.audit(sink);
        self
    }

    /// The rate limiter; by default there are no limits.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.imports = self.imports.rate_limiter(limiter);
        self
    }

    /// The reader of clients' metadata documents; by default there is none. The component gets it only if its settings
    /// have a use for it ([`Settings::reads_client_metadata`]).
    #[must_use]
    pub fn client_metadata(mut self, source: Arc<dyn ClientMetadata>) -> Self {
        self.imports = self.imports.client_metadata(source);
        self
    }

    /// The clock of the component and of everything that expires.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.imports = self.imports.clock(clock);
        self
    }

    /// The source of randomness.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.imports = self.imports.random(random);
        self
    }

    /// The outgoing HTTP; by default, with the feature `outbound-http`, to the configured authority and Graph, with the
    /// system's roots of trust.
    #[must_use]
    pub fn outbound_http(mut self, http: impl Outbound) -> Self {
        self.http = Some(Arc::new(http));
        self
    }

    /// Maximum number of concurrent instances.
    #[must_use]
    pub fn max_instances(mut self, instances: usize) -> Self {
        self.limits.max_instances = instances.max(1);
        self
    }

    /// Idle instances that stay warm; by default a few, as one client needs.
    #[must_use]
    pub fn max_idle_instances(mut self, instances: usize) -> Self {
        self.limits.max_idle_instances = instances;
        self
    }

    /// Calls that may wait for an instance, and for how long. The plugin refuses further calls as busy. By default, a
    /// call waits as long as its caller does.
    #[must_use]
    pub fn max_queue(mut self, calls: usize, wait: Duration) -> Self {
        self.limits.max_queue = calls;
        self.limits.max_wait = Some(wait);
        self
    }

    /// Calls after which an instance is replaced; 1 gives every call an instance of its own.
    #[must_use]
    pub fn max_calls_per_instance(mut self, calls: u32) -> Self {
        self.limits.max_calls = calls;
        self
    }

    /// Largest linear memory of an instance.
    #[must_use]
    pub fn max_memory_bytes(mut self, bytes: usize) -> Self {
        self.max_memory_bytes = bytes;
        self
    }

    /// Tenths of a second that the component may compute without a pause.
    #[must_use]
    pub fn max_computing_epochs(mut self, epochs: u32) -> Self {
        self.limits.max_computing_epochs = epochs;
        self
    }

    /// Loads the component. Compiles it, unless the code cache has it.
    pub fn build(self) -> Result<Plugin, Error> {
        let http = match self.http {
            Some(http) => http,
            None => default_http(&self.imports.settings)?,
        };
        let imports = self.imports.keep_client_secret().build()?;
        let http = imports.outbound(http);
        let engine = engine()?;
        #[cfg(feature = "code-cache")]
        let component = self.code_cache.component(&engine, &self.component, self.compiler);
        #[cfg(not(feature = "code-cache"))]
        let component = wasmtime::component::Component::new(&engine, &self.component);
        let component = component.map_err(Error::Component)?;
        let random = Arc::clone(&imports.random);
        let world = InstanceResources { imports, http, max_memory_bytes: self.max_memory_bytes };
        let pool = InstancePool::new(&engine, &component, world, self.limits)?;
        let delegations = Arc::new(Delegations::new(&pool, self.limits, Arc::clone(&random)));
        let recording = Arc::new(pool.beside(self.limits.warm_beside(MAX_RECORDING_INSTANCES)));
        Ok(Plugin { pool: Arc::new(pool), delegations, recording, random })
    }
}

/// The default outgoing HTTP: to the configured authority and Graph.
#[cfg(feature = "outbound-http")]
fn default_http(settings: &Settings) -> Result<Arc<dyn Outbound>, Error> {
    use crate::outbound_http::{OutboundHttp, OutboundPolicy};
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()])?;
    Ok(Arc::new(OutboundHttp::new(policy, None)?))
}

/// There is none without the feature `outbound-http`.
#[cfg(not(feature = "outbound-http"))]
fn default_http(_: &Settings) -> Result<Arc<dyn Outbound>, Error> {
    Err(Error::Missing("way out (`PluginBuilder::outbound_http`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trapped() -> Error {
        Error::Trapped { correlation_id: "c0ffee".into() }
    }

    #[test]
    fn a_failure_is_answered_with_the_id_of_the_request() {
        for id in ["1", "\"a\\\"b\"", "null"] {
            let answer = internal_error(&format!(r#"{{"jsonrpc":"2.0","method":"x","id":{id}}}"#), &trapped());
            let expected = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"internal error (correlation id c0ffee)"}}}}"#
            );
            assert_eq!(answer, Some(expected));
        }
    }

    #[test]
    fn a_failure_on_a_notification_is_not_answered() {
        assert_eq!(internal_error(r#"{"jsonrpc":"2.0","method":"x"}"#, &trapped()), None);
        assert_eq!(internal_error("garbage", &trapped()), None);
    }
}
