//! The imports of the component, for an instance in a [`Linker`] of the embedder's own.
//!
//! [`Plugin`](crate::Plugin) does all of this itself. A program that has a wasmtime [`Engine`](wasmtime::Engine) and a
//! [`Store`](wasmtime::Store) already links the imports of `entra-mcp:plugin` with [`add_to_linker`], and those of WASI
//! with `wasmtime-wasi` and `wasmtime-wasi-http`.
//!
//! This module sets no limits, and it does not restrict the destinations that the instance reaches over `wasi:http`.
//! Bound the memory and computing time of the instance, and send its requests to the authority and to Microsoft Graph
//! only: the component refuses other destinations, but a sandbox does not rely on its content.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};

use crate::audit::{AuditCtx, AuditSink, LogAudit};
use crate::bindings;
use crate::client_channel::{ClientChannel, ClientChannelCtx, ClientChannelCtxView, HasClientChannel, NoChannel};
use crate::client_credential::{ClientCredential, ClientCredentialCtx, NoCredential, StandIns};
use crate::client_metadata::{ClientMetadata, ClientMetadataCtx, NoClientMetadata};
use crate::clock::{Clock, SystemClock};
use crate::environment::{EnvironmentCtx, Settings};
use crate::error::Error;
use crate::identity_broker::{
    HasIdentityBroker, IdentityBroker, IdentityBrokerCtx, IdentityBrokerCtxView, NoIdentityBroker,
};
use crate::outbound::Outbound;
use crate::provided_tools::{NoProvidedTools, ProvidedTools, ProvidedToolsCtx};
use crate::random::{Random, SystemRandomness};
use crate::rate_limiter::{NoRateLimiter, RateLimiter, RateLimiterCtx};
use crate::secret_store::{MemoryStore, SecretStore, SecretStoreCtx};
use crate::signatures::SignaturesCtx;
use crate::user_agent::{HasUserAgent, LoopbackListeners, NoUserAgent, UserAgent, UserAgentCtx, UserAgentCtxView};

/// Configures the capabilities of the component.
pub struct ImportsBuilder {
    pub(crate) settings: Settings,
    store: Option<Arc<dyn SecretStore>>,
    user_agent: Arc<dyn UserAgent>,
    identity_broker: Arc<dyn IdentityBroker>,
    credential: Arc<dyn ClientCredential>,
    keeps_client_secret: bool,
    audit: Arc<dyn AuditSink>,
    rate_limiter: Arc<dyn RateLimiter>,
    client_metadata: Arc<dyn ClientMetadata>,
    provided_tools: Arc<dyn ProvidedTools>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl ImportsBuilder {
    /// Tools that this host runs for the component; by default none.
    #[must_use]
    pub fn provided_tools(mut self, tools: Arc<dyn ProvidedTools>) -> Self {
        self.provided_tools = tools;
        self
    }

    /// The store for secrets; by default in memory.
    #[must_use]
    pub fn secret_store(mut self, store: Arc<dyn SecretStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// The way to reach a person; by default there is none.
    #[must_use]
    pub fn user_agent(mut self, agent: Arc<dyn UserAgent>) -> Self {
        self.user_agent = agent;
        self
    }

    /// The identity broker of the machine; by default none. The component asks it only if its settings say so.
    #[must_use]
    pub fn identity_broker(mut self, broker: Arc<dyn IdentityBroker>) -> Self {
        self.identity_broker = broker;
        self
    }

    /// The proof to Entra ID of the application's identity; by default none, as for a public client.
    #[must_use]
    pub fn client_credential(mut self, credential: Arc<dyn ClientCredential>) -> Self {
        self.credential = credential;
        self
    }

    /// Keeps a client secret out of the component, which gets a stand-in. [`Imports::outbound`] then carries the requests of
    /// the component, and puts the secret in its place. By default, the component gets the secret itself.
    #[must_use]
    pub fn keep_client_secret(mut self) -> Self {
        self.keeps_client_secret = true;
        self
    }

    /// The sink for security events; by default the log.
    #[must_use]
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = sink;
        self
    }

    /// The rate limiter; by default nothing is limited.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.rate_limiter = limiter;
        self
    }

    /// The reader of clients' metadata documents; by default there is none. The component gets it only if its settings
    /// have a use for it ([`Settings::reads_client_metadata`]).
    #[must_use]
    pub fn client_metadata(mut self, source: Arc<dyn ClientMetadata>) -> Self {
        self.client_metadata = source;
        self
    }

    /// The clock of everything that expires.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of randomness.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The state that all instances share.
    pub fn build(self) -> Result<Imports, Error> {
        let settings = serde_json::to_string(&self.settings).map_err(Error::Settings)?;
        // The only way to the public Internet is closed where it is of no use: the component does not decide that.
        let client_metadata: Arc<dyn ClientMetadata> =
            if self.settings.reads_client_metadata() { self.client_metadata } else { Arc::new(NoClientMetadata) };
        let stand_ins = self.keeps_client_secret.then(|| {
            let (source, random) = (Arc::clone(&self.credential), Arc::clone(&self.random));
            Arc::new(StandIns::new(source, &self.settings.authority, random))
        });
        let credential = match &stand_ins {
            Some(stand_ins) => Arc::clone(stand_ins) as Arc<dyn ClientCredential>,
            None => self.credential,
        };
        Ok(Imports {
            settings: settings.into(),
            store: self.store.unwrap_or_else(|| Arc::new(MemoryStore::new(Arc::clone(&self.clock)))),
            user_agent: self.user_agent,
            identity_broker: self.identity_broker,
            listeners: LoopbackListeners::new(Arc::clone(&self.clock), Arc::clone(&self.random)),
            credential,
            stand_ins,
            audit: self.audit,
            rate_limiter: self.rate_limiter,
            client_metadata,
            provided_tools: self.provided_tools,
            clock: self.clock,
            random: self.random,
        })
    }
}

impl fmt::Debug for ImportsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportsBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The resources behind the imports, shared by all instances.
pub struct Imports {
    /// As JSON.
    settings: Arc<str>,
    store: Arc<dyn SecretStore>,
    user_agent: Arc<dyn UserAgent>,
    identity_broker: Arc<dyn IdentityBroker>,
    listeners: LoopbackListeners,
    credential: Arc<dyn ClientCredential>,
    /// If the client secret stays here.
    stand_ins: Option<Arc<StandIns>>,
    audit: Arc<dyn AuditSink>,
    rate_limiter: Arc<dyn RateLimiter>,
    client_metadata: Arc<dyn ClientMetadata>,
    provided_tools: Arc<dyn ProvidedTools>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Imports {
    /// Starts a builder for a component that is configured with `settings`.
    pub fn builder(settings: Settings) -> ImportsBuilder {
        ImportsBuilder {
            settings,
            store: None,
            user_agent: Arc::new(NoUserAgent),
            identity_broker: Arc::new(NoIdentityBroker),
            credential: Arc::new(NoCredential),
            keeps_client_secret: false,
            audit: Arc::new(LogAudit),
            rate_limiter: Arc::new(NoRateLimiter),
            client_metadata: Arc::new(NoClientMetadata),
            provided_tools: Arc::new(NoProvidedTools),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandomness::default()),
        }
    }

    /// The carrier of the component's requests over `http`. If the client secret stays here
    /// ([`ImportsBuilder::keep_client_secret`]), it puts the secret into token requests to the configured authority.
    /// Give it to the instances with [`OutboundHooks`](crate::outbound::OutboundHooks).
    pub fn outbound(&self, http: Arc<dyn Outbound>) -> Arc<dyn Outbound> {
        match &self.stand_ins {
            Some(stand_ins) => stand_ins.filled_in(http),
            None => http,
        }
    }

    /// The state of one instance. Keep it in the data of the instance's store.
    pub fn context(&self) -> EntraCtx {
        EntraCtx {
            environment: EnvironmentCtx::new(Arc::clone(&self.settings)),
            secret_store: SecretStoreCtx::new(Arc::clone(&self.store)),
            user_agent: UserAgentCtx::new(Arc::clone(&self.user_agent), self.listeners.clone()),
            identity_broker: IdentityBrokerCtx::new(Arc::clone(&self.identity_broker), Arc::clone(&self.clock)),
            credential: ClientCredentialCtx::new(Arc::clone(&self.credential)),
            audit: AuditCtx::new(Arc::clone(&self.audit), Arc::clone(&self.clock)),
            rate_limiter: RateLimiterCtx::new(Arc::clone(&self.rate_limiter)),
            client_metadata: ClientMetadataCtx::new(Arc::clone(&self.client_metadata)),
            provided_tools: ProvidedToolsCtx::new(Arc::clone(&self.provided_tools)),
            signatures: SignaturesCtx,
            channel: ClientChannelCtx { channel: Arc::new(NoChannel), clock: Arc::clone(&self.clock) },
        }
    }
}

impl fmt::Debug for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imports").finish_non_exhaustive()
    }
}

/// The state of one instance: the data of its imports.
pub struct EntraCtx {
    environment: EnvironmentCtx,
    secret_store: SecretStoreCtx,
    user_agent: UserAgentCtx,
    identity_broker: IdentityBrokerCtx,
    credential: ClientCredentialCtx,
    audit: AuditCtx,
    rate_limiter: RateLimiterCtx,
    client_metadata: ClientMetadataCtx,
    provided_tools: ProvidedToolsCtx,
    signatures: SignaturesCtx,
    channel: ClientChannelCtx,
}

impl EntraCtx {
    /// Sets the connection of the next call. Without one, the component reaches no client.
    pub fn set_channel(&mut self, channel: Arc<dyn ClientChannel>) {
        self.channel.channel = channel;
    }
}

impl fmt::Debug for EntraCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntraCtx").finish_non_exhaustive()
    }
}

/// The state of an instance with its table of resources.
pub struct EntraCtxView<'a> {
    /// The state.
    pub ctx: &'a mut EntraCtx,
    /// The table, which the implementation of WASI shares.
    pub table: &'a mut ResourceTable,
}

impl fmt::Debug for EntraCtxView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntraCtxView").finish_non_exhaustive()
    }
}

/// Access to the state, for the data of a store.
pub trait EntraView: Send {
    /// The state of the imports.
    fn entra(&mut self) -> EntraCtxView<'_>;
}

/// Links all imports of `entra-mcp:plugin`.
///
/// ```
/// use entra_mcp_plugin::environment::Settings;
/// use entra_mcp_plugin::imports::{self, EntraCtx, EntraCtxView, EntraView, Imports};
/// use wasmtime::component::{Linker, ResourceTable};
/// use wasmtime::{Config, Engine, Store};
///
/// /// The data of a store of yours.
/// struct State {
///     entra: EntraCtx,
///     table: ResourceTable,
/// }
///
/// impl EntraView for State {
///     fn entra(&mut self) -> EntraCtxView<'_> {
///         EntraCtxView { ctx: &mut self.entra, table: &mut self.table }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::new();
/// entra_mcp_plugin::configure(&mut config);
/// let engine = Engine::new(&config)?;
///
/// let mut linker = Linker::<State>::new(&engine);
/// imports::add_to_linker(&mut linker)?;
/// // Here, `wasmtime_wasi` and `wasmtime_wasi_http` link the rest.
///
/// let settings = Settings::local("contoso.example", "00000000-0000-0000-0000-000000000001");
/// let shared = Imports::builder(settings).build()?;
/// let store = Store::new(&engine, State { entra: shared.context(), table: ResourceTable::new() });
/// # drop(store);
/// # Ok(())
/// # }
/// ```
pub fn add_to_linker<T: EntraView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::environment::add_to_linker::<T, HasSelf<_>>(linker, |state| &mut state.entra().ctx.environment)?;
    bindings::secret_store::add_to_linker::<T, HasSelf<_>>(linker, |state| &mut state.entra().ctx.secret_store)?;
    bindings::client_credential::add_to_linker::<T, HasSelf<_>>(linker, |state| &mut state.entra().ctx.credential)?;
    bindings::client_channel::add_to_linker::<T, HasClientChannel>(linker, |state| {
        let EntraCtxView { ctx, table } = state.entra();
        ClientChannelCtxView { ctx: &mut ctx.channel, table }
    })?;
    bindings::audit::add_to_linker::<T, HasSelf<_>>(linker, |state| &mut state.entra().ctx.audit)?;
    let mut unstable = bindings::rate_limiter::LinkOptions::default();
    bindings::rate_limiter::add_to_linker::<T, HasSelf<_>>(linker, unstable.rate_limiter(true), |state| {
        &mut state.entra().ctx.rate_limiter
    })?;
    let mut unstable = bindings::client_metadata::LinkOptions::default();
    bindings::client_metadata::add_to_linker::<T, HasSelf<_>>(linker, unstable.client_metadata(true), |state| {
        &mut state.entra().ctx.client_metadata
    })?;
    let mut unstable = bindings::signatures::LinkOptions::default();
    bindings::signatures::add_to_linker::<T, HasSelf<_>>(linker, unstable.signatures(true), |state| {
        &mut state.entra().ctx.signatures
    })?;
    let mut unstable = bindings::provided_tools::LinkOptions::default();
    bindings::provided_tools::add_to_linker::<T, HasSelf<_>>(linker, unstable.provided_tools(true), |state| {
        &mut state.entra().ctx.provided_tools
    })?;
    let mut unstable = bindings::identity_broker::LinkOptions::default();
    bindings::identity_broker::add_to_linker::<T, HasIdentityBroker>(
        linker,
        unstable.identity_broker(true),
        |state| {
            let EntraCtxView { ctx, table } = state.entra();
            IdentityBrokerCtxView { ctx: &mut ctx.identity_broker, table }
        },
    )?;
    bindings::user_agent::add_to_linker::<T, HasUserAgent>(linker, |state| {
        let EntraCtxView { ctx, table } = state.entra();
        UserAgentCtxView { ctx: &mut ctx.user_agent, table }
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::bindings::client_metadata::Host as _;
    use crate::client_metadata::{Document, FetchError};
    use crate::environment::TokenMode;

    struct Reader;

    #[async_trait]
    impl ClientMetadata for Reader {
        async fn fetch(&self, _: &str, _: Option<std::net::IpAddr>) -> Result<Document, FetchError> {
            Err(FetchError::TooLarge)
        }
    }

    /// Whether a component with these settings gets at the reader that the host has.
    async fn is_granted(settings: Settings) -> bool {
        let imports = Imports::builder(settings).client_metadata(Arc::new(Reader)).build().unwrap();
        let fetched =
            imports.context().client_metadata.fetch("https://client.example/".to_owned(), None).await.unwrap();
        match fetched {
            Err(FetchError::TooLarge) => true,
            Err(FetchError::Denied(_)) => false,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_public_internet_is_granted_only_where_documents_of_clients_are_of_use() {
        let id = "00000000-0000-0000-0000-000000000001";
        let remote = || Settings::remote(id, id, "https://mcp.example.com").unwrap();
        let with = |documents: bool, mode: TokenMode| {
            let mut settings = remote();
            let http = settings.http.as_mut().unwrap();
            (http.client_id_metadata_documents, http.token_mode) = (documents, mode);
            settings
        };
        for (settings, granted) in [
            (with(true, TokenMode::Session), true),
            (with(true, TokenMode::Both), true),
            (with(true, TokenMode::Bearer), false),
            (with(false, TokenMode::Session), false),
            (with(false, TokenMode::Both), false),
            (Settings::local(id, id), false),
            (Settings::validator(id, id, id), false),
        ] {
            assert_eq!(is_granted(settings.clone()).await, granted, "{settings:?}");
        }
    }
}
