//! Implements the capabilities of `world` on the component's imports.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::{AuditEvent, Outcome};
use base::settings::{Mode, Settings};
use base::settings_document;
use caller::PersonWorld;
use entra::EntraWorld;
use server::client_documents::Documents;
use server::site::Site;
use server::tool_lists::{ProvidedWorld, ToolLists};
use server::{LocalWorld, ServerWorld};
use wasip2::http::types::ErrorCode;
use world::http_error::Interrupted;
use world::records::{Partitions, Records};
use world::trail::Recorder;
use world::*;
use wstd::http::body::util::{BodyExt, Empty};

use super::attributes::Attributes;
use super::generated::entra_mcp::plugin as wit;

/// The largest response body that is read. The bundled host has the same limit; other hosts may have none.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
/// How long the exchange of one request may take to connect, and to answer with a first byte.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Notes of one instance: half of the lines that the bundled host takes, so that there is room for a panic message.
const MAX_NOTES: u32 = 100;

/// What stays the same for the life of an instance. Nothing of a call is here.
pub(crate) struct InstanceContext {
    pub(crate) settings: Settings,
    partitions: Partitions,
    notes: Notes,
    names: SessionNames,
    documents: Documents,
    lists: ToolLists,
}

thread_local! {
    // The settings are constant for the life of an instance, by contract.
    static INSTANCE: &'static InstanceContext = {
        let settings = settings();
        let partitions = Partitions::of(&settings);
        Box::leak(Box::new(InstanceContext {
            settings,
            partitions,
            notes: Notes::default(),
            names: SessionNames::default(),
            documents: Documents::default(),
            lists: ToolLists::default(),
        }))
    };
}

/// The running instance.
pub(crate) fn instance() -> &'static InstanceContext {
    INSTANCE.with(|instance| *instance)
}

impl InstanceContext {
    /// What a call needs to record its events.
    pub(crate) fn recorder(&self) -> Recorder<'_> {
        let Self { settings, names, .. } = self;
        Recorder { audit: &HostImports, records: self.records(), random: &HostImports, settings, names }
    }

    /// The records of the store.
    fn records(&self) -> Records<'_> {
        Records::new(&HostImports, &HostImports, &HostImports, &self.partitions)
    }

    /// The world of the call that has this trail.
    pub(crate) fn entra<'w>(&'w self, trail: &'w Trail<'w>) -> EntraWorld<'w> {
        EntraWorld {
            settings: &self.settings,
            http: &HostImports,
            records: self.records(),
            clock: &HostImports,
            random: &HostImports,
            signatures: HOST_SIGNATURES,
            credential: &HostImports,
            trail,
        }
    }

    /// The connection of the message that is being handled.
    pub(crate) fn channel(&self) -> &dyn Channel {
        &HostImports
    }

    /// The same with the person at this machine; none if the component is not set up for one.
    pub(crate) fn person<'w>(&'w self, trail: &'w Trail<'w>) -> Option<PersonWorld<'w>> {
        let Mode::Local(settings) = &self.settings.mode else { return None };
        Some(PersonWorld {
            entra: self.entra(trail),
            settings,
            chosen: None,
            agent: &HostImports,
            broker: &HostImports,
            channel: &HostImports,
        })
    }

    /// The same for a message of that person.
    pub(crate) fn local<'w>(&'w self, trail: &'w Trail<'w>) -> Option<LocalWorld<'w>> {
        Some(LocalWorld { person: self.person(trail)?, provided: self.provided() })
    }

    /// The tools of servers behind the component.
    fn provided(&self) -> ProvidedWorld<'_> {
        ProvidedWorld { tools: &HostImports, lists: &self.lists, log: &self.notes }
    }

    /// The same for a request to the remote server; none if the component is not set up as one.
    pub(crate) fn server<'w>(&'w self, trail: &'w Trail<'w>) -> Option<ServerWorld<'w>> {
        let Mode::Remote(settings) = &self.settings.mode else { return None };
        Some(ServerWorld {
            entra: self.entra(trail),
            site: Site::of(settings).with_servers(&self.settings.servers),
            server: None,
            limiter: &HostImports,
            client_metadata: &HostImports,
            documents: &self.documents,
            log: &self.notes,
            provided: self.provided(),
        })
    }
}

pub(super) struct HostImports;

/// The settings of the host. Without valid ones there is nothing that this instance could safely do: it says why, and
/// ends.
fn settings() -> Settings {
    settings_document::read(&wit::environment::settings()).unwrap_or_else(|error| {
        let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
        core::arch::wasm32::unreachable()
    })
}

/// WIT durations are unsigned 32-bit counts; a longer one means "as long as possible".
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[async_trait(?Send)]
impl Http for HostImports {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        let mut client = wstd::http::Client::new();
        let Patience(patience) = request.extensions().get().copied().unwrap_or(Patience(FIRST_BYTE_TIMEOUT));
        client.set_connect_timeout(CONNECT_TIMEOUT.min(patience));
        client.set_first_byte_timeout(patience);
        client.set_between_bytes_timeout(patience);
        let request = request.map(outgoing_body);
        let response = client.send(request).await.map_err(|error| http_error(&error))?;
        let (head, body) = response.into_parts();
        let body = read_body(body).await?;
        Ok(http::Response::from_parts(head, body))
    }
}

/// An empty body is sent without touching its stream: a host may drop the stream of a request that has no body
/// before anything is written to it, and `wstd` would take that for a broken connection.
fn outgoing_body(body: Vec<u8>) -> wstd::http::Body {
    if body.is_empty() { wstd::http::Body::from_http_body(Empty::<&'static [u8]>::new()) } else { body.into() }
}

async fn read_body(body: wstd::http::Body) -> Result<Vec<u8>, HttpError> {
    let mut frames = body.into_boxed_body();
    let mut bytes = Vec::new();
    while let Some(frame) = frames.frame().await {
        let frame = frame.map_err(|error| http_error(&error))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_RESPONSE_BYTES {
                return Err(HttpError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Every code of `wasi:http` as one of the reasons that people can do something about. What a host says in words is for
/// its log.
fn http_error(error: &wstd::http::Error) -> HttpError {
    let Some(code) = error.downcast_ref::<ErrorCode>() else {
        return HttpError::Broken(Interrupted::Unknown);
    };
    world::http_error_of!(ErrorCode, code)
}

fn store_error(error: wit::secret_store::StoreError) -> StoreError {
    match error {
        wit::secret_store::StoreError::TooLarge => StoreError::TooLarge,
        wit::secret_store::StoreError::Unreadable => StoreError::Unreadable,
        wit::secret_store::StoreError::Unavailable(reason) => StoreError::Unavailable(reason),
        wit::secret_store::StoreError::Full(reason) => StoreError::Full(reason),
    }
}

fn found(lookup: wit::secret_store::Lookup) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
    use wit::secret_store::Lookup;
    match lookup {
        Lookup::Found(value) => Ok(Some(Secret::new(value))),
        Lookup::None => Ok(None),
        Lookup::Failed(error) => Err(store_error(error)),
    }
}

/// The imports block, so the futures are ready at once.
#[async_trait(?Send)]
impl Store for HostImports {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        found(wit::secret_store::get(key))
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        wit::secret_store::put(key, value, ttl.map(seconds)).map_err(store_error)
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        found(wit::secret_store::take(key))
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        wit::secret_store::compare_and_swap(key, expected, value, ttl.map(seconds)).map_err(store_error)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        wit::secret_store::delete(key).map_err(store_error)
    }
}

#[async_trait(?Send)]
impl Clock for HostImports {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(wasip2::clocks::monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        wstd::task::sleep(duration.into()).await;
    }
}

impl Random for HostImports {
    fn fill(&self, bytes: &mut [u8]) {
        let random = wasip2::random::random::get_random_bytes(bytes.len() as u64);
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
    }
}

/// The host's arithmetic, if the component is built for a host that has it.
#[cfg(feature = "host-signatures")]
const HOST_SIGNATURES: Option<&dyn Signatures> = Some(&HostImports);
#[cfg(not(feature = "host-signatures"))]
const HOST_SIGNATURES: Option<&dyn Signatures> = None;

#[cfg(feature = "host-signatures")]
impl Signatures for HostImports {
    fn is_good_rs256(&self, modulus: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool> {
        match wit::signatures::judge_rs256(modulus, signed, signature) {
            wit::signatures::Verdict::Good => Some(true),
            wit::signatures::Verdict::Bad => Some(false),
            wit::signatures::Verdict::Unknown => None,
        }
    }
}

fn user_agent_error(error: wit::user_agent::UserAgentError) -> UserAgentError {
    use wit::user_agent::UserAgentError as Wit;
    match error {
        Wit::Unsupported => UserAgentError::Unsupported,
        Wit::Unavailable(reason) => UserAgentError::Unavailable(reason),
        Wit::NoSuchListener => UserAgentError::NoSuchListener,
        Wit::TooManyListeners => UserAgentError::TooManyListeners,
    }
}

impl UserAgent for HostImports {
    fn open_browser(&self, url: &str) -> Result<(), UserAgentError> {
        wit::user_agent::open_browser(url).map_err(user_agent_error)
    }

    fn prompt(&self, message: &str) {
        wit::user_agent::prompt(message);
    }

    fn listen(&self) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        let listener = wit::user_agent::LoopbackListener::open().map_err(user_agent_error)?;
        Ok(Box::new(listener))
    }

    fn attach(&self, id: &str) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        let listener = wit::user_agent::LoopbackListener::attach(id).map_err(user_agent_error)?;
        Ok(Box::new(listener))
    }
}

impl LoopbackListener for wit::user_agent::LoopbackListener {
    fn redirect_uri(&self) -> String {
        self.redirect_uri()
    }

    fn wait(&self, timeout: Duration) -> Option<String> {
        self.wait(milliseconds(timeout))
    }

    fn respond(&self, page: Page) {
        self.respond(&wit::user_agent::Page { success: page.success, title: page.title, message: page.message });
    }

    fn detach(&self, lifetime: Duration) -> String {
        self.detach(seconds(lifetime))
    }
}

impl Channel for HostImports {
    fn notify(&self, method: &str, params: &serde_json::Value) {
        wit::client_channel::notify(method, &params.to_string());
    }

    fn request(&self, method: &str, params: &serde_json::Value, timeout: Duration) -> Box<dyn PendingRequest> {
        Box::new(wit::client_channel::request(method, &params.to_string(), milliseconds(timeout)))
    }

    fn state(&self) -> Option<String> {
        wit::client_channel::state()
    }

    fn set_state(&self, value: &str) {
        wit::client_channel::set_state(value);
    }
}

impl PendingRequest for wit::client_channel::PendingRequest {
    fn wait(&self, timeout: Duration) -> Option<Result<serde_json::Value, ChannelError>> {
        use wit::client_channel::{Answer, ChannelError as Wit};
        let error = match self.wait(milliseconds(timeout)) {
            Answer::Pending => return None,
            Answer::Received(result) => {
                let result = serde_json::from_str(&result);
                return Some(result.map_err(|error| ChannelError::Refused(error.to_string())));
            }
            Answer::Failed(error) => error,
        };
        Some(Err(match error {
            Wit::Unsupported => ChannelError::Unsupported,
            Wit::Closed => ChannelError::Closed,
            Wit::TimedOut => ChannelError::TimedOut,
            Wit::Refused(error) => ChannelError::Refused(error),
        }))
    }
}

impl ClientCredential for HostImports {
    fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
        credential(wit::client_credential::obtain(audience))
    }

    fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        use wit::client_credential::Credential as Wit;
        // The bindings want a copy of their own, which is zeroised below.
        let refused = match refused {
            Credential::None => Wit::None,
            Credential::Secret(secret) => Wit::Secret(secret.reveal().clone()),
            Credential::Assertion(assertion) => Wit::Assertion(assertion.reveal().clone()),
        };
        let other = wit::client_credential::replacement(audience, &refused);
        if let Wit::Secret(text) | Wit::Assertion(text) = refused {
            drop(Secret::new(text));
        }
        credential(other)
    }
}

fn credential(
    answer: Result<wit::client_credential::Credential, wit::client_credential::CredentialError>,
) -> Result<Credential, CredentialError> {
    use wit::client_credential::{Credential as Wit, CredentialError as WitError};
    match answer {
        Ok(Wit::None) => Ok(Credential::None),
        Ok(Wit::Secret(secret)) => Ok(Credential::Secret(Secret::new(secret))),
        Ok(Wit::Assertion(assertion)) => Ok(Credential::Assertion(Secret::new(assertion))),
        Err(WitError::NotConfigured(setting)) => Err(CredentialError::NotConfigured(setting)),
        Err(WitError::Unavailable(reason)) => Err(CredentialError::Unavailable(reason)),
    }
}

/// Writes notes to standard error, which the host puts into its log.
#[derive(Default)]
struct Notes(Cell<u32>);

impl Log for Notes {
    fn note(&self, line: &str) {
        let number = self.0.get().saturating_add(1);
        self.0.set(number);
        let line = match number {
            ..=MAX_NOTES => line,
            number if number == MAX_NOTES + 1 => "further notes of this instance are left out",
            _ => return,
        };
        // A host without a log loses the note; no other place could take it.
        let _ = std::io::stderr().write_all([line, "\n"].concat().as_bytes());
    }
}

impl Audit for HostImports {
    fn record(&self, event: AuditEvent) -> Result<(), String> {
        use wit::audit::{Event, Outcome as Wit};
        let AuditEvent {
            name,
            outcome,
            reason,
            tenant_id,
            object_id,
            client_id,
            tool,
            server,
            kind,
            upstream_status,
            token_id,
            session,
            address,
            username,
            agent,
            agent_blueprint,
            latency_us,
            trace_parent,
            correlation_id,
        } = event;
        // The names are in `wit/audit.wit`.
        let attributes = Attributes::default()
            .maybe("reason", reason)
            .maybe("tenant-id", tenant_id)
            .maybe("object-id", object_id)
            .maybe("client-id", client_id)
            .maybe("tool", tool)
            .maybe("server", server)
            .maybe("kind", kind)
            .maybe("upstream-status", upstream_status)
            .maybe("token-id", token_id)
            .maybe("session", session)
            .maybe("address", address)
            .maybe("username", username)
            .maybe("agent", agent)
            .maybe("agent-blueprint", agent_blueprint)
            .maybe("latency-us", latency_us)
            .maybe("trace-parent", trace_parent);
        wit::audit::record(&Event {
            name: name.to_owned(),
            outcome: match outcome {
                Outcome::Success => Wit::Success,
                Outcome::Failure => Wit::Failure,
                Outcome::Started => Wit::Started,
            },
            correlation_id,
            attributes: attributes.into(),
        })
    }
}

impl RateLimiter for HostImports {
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        wit::rate_limiter::admit(operation, subject)
            .map_err(|exceeded| Duration::from_secs(exceeded.retry_after_seconds.into()))
    }
}

impl ClientMetadata for HostImports {
    fn fetch(&self, url: &str, client_address: Option<&str>) -> Result<Document, FetchError> {
        use wit::client_metadata::FetchError as Wit;
        match wit::client_metadata::fetch(url, &client_address.map(str::to_owned)) {
            Ok(document) => Ok(Document {
                body: document.body,
                content_type: document.content_type,
                max_age: document.max_age_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            }),
            Err(Wit::Denied(reason)) => Err(FetchError::Denied(reason)),
            Err(Wit::Status(status)) => Err(FetchError::Status(status)),
            Err(Wit::TooLarge) => Err(FetchError::TooLarge),
            Err(Wit::Unavailable(reason)) => Err(FetchError::Unavailable(reason)),
        }
    }
}
