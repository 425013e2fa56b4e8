//! Calls of one tool component.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;
use wasmtime::{Store, UpdateDeadline};

use super::call_context::{CallContext, EndOfCall};
use super::error::ServeError;
use super::loaded::{Exports, Loaded, Shape};
use super::places::{CallPlace, CallPlaces, NoCallPlace};
use super::settings::ToolComponentSettings;
use super::state::{Grants, ToolState};
use crate::bindings::tools::{Tools, ToolsPre};
use crate::clock::Clock;
use crate::guest_output::printable;
use crate::instance::Runaway;
use crate::instance_pool::warm::Warm;
use crate::instance_pool::{EPOCH, Ticker, Ticking, Watched};
use crate::provided_tools::{Content, ProviderError, Tool, ToolCall, ToolCaller, ToolError};

/// Idle instances of a component that allows reuse. A client rarely has more calls in flight.
const MAX_IDLE_INSTANCES: usize = 8;

/// How long an idle instance is kept. After a burst its memory is given back.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// How often idle instances are looked at while there are some. Each look takes one from each processor at most.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);

/// Calls after which an instance is replaced, so that a slow leak never matters.
const MAX_CALLS: u32 = 1_000;

/// Resources above which an instance is not kept, so that the next call has room for its own.
const MAX_KEPT_RESOURCES: usize = 200;

/// Tasks, streams, futures and calls of imports that one instance of WASI 0.3 may have at once. A request takes some eight
/// of them while it waits.
const MAX_TASKS: usize = 4_000;

/// Tools of one component.
const MAX_TOOLS: usize = 256;

/// Longest list of tools in bytes. A model could not read a longer one.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// Data in bytes that a call may hand over to the host at once, besides its answer: a body of a request, header fields.
const MAX_HANDED_OVER_BYTES: usize = 4 * 1024 * 1024;

/// A component computed for too long without a pause.
#[derive(Debug, thiserror::Error)]
#[error("it computed for too long without a pause")]
struct Overrun;

/// A tool component that is served.
pub(super) struct Server {
    loaded: Loaded,
    grants: Grants,
    reuse: bool,
    pub(super) max_time: Duration,
    pub(super) max_answer_bytes: usize,
    places: Arc<CallPlaces>,
    ticker: Arc<Ticker>,
    idle: Arc<Idle>,
    tools: OnceCell<Vec<Tool>>,
}

/// What a call holds as long as it lasts.
pub(super) struct AdmittedCall {
    pub(super) context: Arc<CallContext>,
    _end: EndOfCall,
    _place: CallPlace,
    _ticking: Ticking,
}

/// A store that is ready for a component.
pub(super) struct ToolStore {
    pub(super) store: Store<ToolState>,
    pub(super) runaway: Arc<Runaway>,
}

/// An instance of a `tool-provider`.
struct Instance {
    store: ToolStore,
    exports: Tools,
    calls: u32,
}

impl Server {
    pub(super) fn new(loaded: Loaded, grants: Grants, settings: &ToolComponentSettings, ticker: Arc<Ticker>) -> Self {
        Self {
            loaded,
            grants,
            reuse: settings.reuse,
            max_time: settings.max_time,
            max_answer_bytes: settings.max_answer_bytes,
            places: Arc::new(CallPlaces::new(settings.max_concurrent)),
            ticker,
            idle: Arc::new(Idle {
                instances: Warm::new(MAX_IDLE_INSTANCES, MAX_IDLE_TIME),
                is_swept: AtomicBool::new(false),
            }),
            tools: OnceCell::new(),
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.grants.server
    }

    pub(super) fn shape(&self) -> Shape {
        self.loaded.shape()
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    pub(super) fn reuses(&self) -> bool {
        self.reuse
    }

    /// Instances that wait for the next call.
    #[cfg(test)]
    pub(super) fn idle_instances(&self) -> usize {
        self.idle.instances.len()
    }

    /// Calls at the same time.
    pub(super) fn places(&self) -> &Arc<CallPlaces> {
        &self.places
    }

    /// A place for a call of the caller that `handle` names. `caller` counts against its share; `None`: the calls of one
    /// caller are bounded elsewhere.
    pub(super) fn admit(&self, caller: Option<&ToolCaller>, handle: &str) -> Result<AdmittedCall, ServeError> {
        let place = self.places.enter(caller).map_err(|refusal| {
            let server = self.name();
            match refusal {
                NoCallPlace::Full => {
                    let most = self.places.most();
                    tracing::warn!(%server, most, "a call of a tool was refused: there are as many as are allowed");
                    ServeError::Unavailable(format!("all {most} places for calls of {server:?} are taken"))
                }
                NoCallPlace::ShareTaken => {
                    let most = self.places.most_of_one();
                    let correlation_id = caller.map(|caller| caller.correlation_id.as_str());
                    let text = "a call of a tool was refused: its caller has as many as one caller may have";
                    tracing::info!(%server, most, correlation_id, "{text}");
                    ServeError::Unavailable(format!("the caller has taken its {most} places for calls of {server:?}"))
                }
            }
        })?;
        let context = Arc::new(CallContext::new(handle));
        let end = EndOfCall(Arc::clone(&context));
        Ok(AdmittedCall { context, _end: end, _place: place, _ticking: self.ticker.call() })
    }

    /// A store with its limits.
    pub(super) fn store(&self, engine: &wasmtime::Engine) -> ToolStore {
        let mut store = Store::new(engine, ToolState::new(&self.grants));
        store.limiter(|state| &mut state.limits);
        if let Some(tasks) = store.concurrent_resource_table() {
            tasks.set_max_capacity(MAX_TASKS);
        }
        store.set_hostcall_fuel(self.max_answer_bytes.saturating_mul(2).saturating_add(MAX_HANDED_OVER_BYTES));
        let runaway = Arc::new(Runaway::default());
        let (watched, limit) = (Arc::clone(&runaway), self.max_computing_epochs());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if watched.computing() < limit { Ok(UpdateDeadline::Yield(1)) } else { Err(Overrun.into()) }
        });
        ToolStore { store, runaway }
    }

    /// Epochs that add up to the time limit. The clock of the time limit may be one that a test moves; this one goes on.
    fn max_computing_epochs(&self) -> u32 {
        let epochs = self.max_time.as_millis().checked_div(EPOCH.as_millis()).unwrap_or_default();
        u32::try_from(epochs).unwrap_or(u32::MAX).max(1)
    }

    /// Runs until the time limit. Dropping the future of a call drops its store.
    pub(super) async fn in_time<T>(&self, call: impl Future<Output = T>) -> Result<T, ServeError> {
        let clock = &*self.grants.clock;
        tokio::select! {
            biased;
            result = call => Ok(result),
            () = crate::clock::sleep(clock, self.max_time) => Err(ServeError::TimedOut),
        }
    }

    /// The tools. The component is asked once, without a caller.
    pub(super) async fn list_tools(&self) -> Result<Vec<Tool>, ProviderError> {
        let listed = self.tools.get_or_try_init(|| async {
            let pre = self.provider()?;
            let _admitted = self.admit(None, "")?;
            let listing = async {
                let mut instance = self.instantiate(pre).await?;
                let (exports, store) = (&instance.exports, &mut instance.store);
                let provider = exports.entra_mcp_plugin_tool_provider();
                let listing = provider.call_list_tools(&mut store.store);
                let listed = Watched::run(listing, Arc::clone(&store.runaway)).await;
                listed.map_err(|error| ended(&error, &store.store))
            };
            let tools = self.in_time(listing).await??;
            check_list(&tools)?;
            Ok::<_, ProviderError>(tools)
        });
        let server = self.name();
        listed.await.cloned().inspect_err(|error| tracing::warn!(%server, ?error, "a tool component lists no tools"))
    }

    /// Calls a tool.
    pub(super) async fn call(&self, call: ToolCall) -> Result<Content, ProviderError> {
        let pre = self.provider()?;
        let admitted = self.admit(Some(&call.caller), &call.handle)?;
        let context = &admitted.context;
        let calling = async {
            let mut instance = match self.idle.instances.take() {
                Some(instance) => instance,
                None => self.instantiate(pre).await?,
            };
            let (exports, store) = (&instance.exports, &mut instance.store);
            store.begin(Arc::clone(context));
            let provider = exports.entra_mcp_plugin_tool_provider();
            let answering = provider.call_call(&mut store.store, &call.name, &call.arguments, &call.caller);
            let answer = Watched::run(answering, Arc::clone(&store.runaway)).await;
            let answer = answer.map_err(|error| ended(&error, &store.store))?;
            self.keep(instance);
            Ok(answer)
        };
        let result = match self.in_time(calling).await.and_then(|result| result) {
            Ok(Ok(content)) => self.bounded(content_length(&content)).map(|()| content).map_err(ProviderError::from),
            Ok(Err(error)) => {
                self.bounded(error_length(&error)).map_err(ProviderError::from).and(Err(ProviderError::Tool(error)))
            }
            Err(error) => Err(error.into()),
        };
        // An answer counts whatever became of the requests. Without one, the reason is more useful than what the tool made
        // of it.
        result.map_err(|error| {
            let error = context.take_undelegated().map_or(error, ProviderError::Delegation);
            log_failed(self.name(), &call, &error);
            error
        })
    }

    fn provider(&self) -> Result<&ToolsPre<ToolState>, ServeError> {
        match &self.loaded.exports {
            Exports::Provider(pre) => Ok(pre),
            Exports::Http(_) | Exports::Service(_) => {
                Err(ServeError::Unavailable(format!("{:?} speaks MCP itself", self.name())))
            }
        }
    }

    async fn instantiate(&self, pre: &ToolsPre<ToolState>) -> Result<Instance, ServeError> {
        let mut store = self.store(pre.engine());
        let made = Watched::run(pre.instantiate_async(&mut store.store), Arc::clone(&store.runaway)).await;
        let exports = made.map_err(|error| ended(&error, &store.store))?;
        Ok(Instance { store, exports, calls: 0 })
    }

    /// Keeps an instance for the next call, if that is allowed and it holds nothing of this one's requests.
    fn keep(&self, mut instance: Instance) {
        instance.calls = instance.calls.saturating_add(1);
        let state = instance.store.store.data_mut();
        let kept = state.end() && self.reuse && instance.calls < MAX_CALLS && state.resources() <= MAX_KEPT_RESOURCES;
        let now = self.grants.clock.monotonic();
        let surplus = if kept { self.idle.instances.put(instance, now).err() } else { Some(instance) };
        drop((surplus, self.idle.instances.unneeded(now)));
        self.idle.sweep(&self.grants.clock);
    }

    fn bounded(&self, length: usize) -> Result<(), ServeError> {
        if length <= self.max_answer_bytes { Ok(()) } else { Err(self.too_large()) }
    }

    pub(super) fn too_large(&self) -> ServeError {
        ServeError::TooLarge(u64::try_from(self.max_answer_bytes).unwrap_or(u64::MAX))
    }
}

/// Instances that wait for the next call.
struct Idle {
    instances: Warm<Instance>,
    /// A task ends those that wait for too long.
    is_swept: AtomicBool,
}

impl Idle {
    /// Ends instances when their time has come, also if no call comes any more.
    fn sweep(self: &Arc<Self>, clock: &Arc<dyn Clock>) {
        if self.instances.len() == 0 || self.is_swept.swap(true, Ordering::SeqCst) {
            return;
        }
        let (idle, clock) = (Arc::downgrade(self), Arc::clone(clock));
        tokio::spawn(async move {
            loop {
                crate::clock::sleep(&*clock, SWEEP_PAUSE).await;
                let Some(idle) = idle.upgrade() else { return };
                drop(idle.instances.unneeded(clock.monotonic()));
                if idle.instances.len() > 0 {
                    continue;
                }
                idle.is_swept.store(false, Ordering::SeqCst);
                // A call may have kept an instance in between, and seen that there is a task.
                if idle.instances.len() == 0 || idle.is_swept.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }
}

impl ToolStore {
    /// A call begins.
    pub(super) fn begin(&mut self, context: Arc<CallContext>) {
        self.store.data_mut().begin(context);
        self.store.set_epoch_deadline(1);
        self.runaway.reset();
    }
}

/// Why an instance has ended. The component chooses the names of functions in a backtrace.
pub(super) fn ended(error: &wasmtime::Error, store: &Store<ToolState>) -> ServeError {
    if error.downcast_ref::<Overrun>().is_some() {
        return ServeError::TimedOut;
    }
    if store.data().limits.refused {
        return ServeError::Ended(printable(&format!("it asked for more memory than it may have: {error:#}")));
    }
    ServeError::Ended(printable(&format!("{error:#}")))
}

fn log_failed(server: &str, call: &ToolCall, error: &ProviderError) {
    let (tool, correlation_id) = (&call.name, &call.caller.correlation_id);
    match error {
        // What the tool says is for its caller.
        ProviderError::Tool(_) => tracing::debug!(%server, tool, correlation_id, "a tool failed"),
        ProviderError::Delegation(error) => {
            tracing::info!(%server, tool, correlation_id, code = error.code, "a tool got no token and failed");
        }
        error => tracing::warn!(%server, tool, correlation_id, ?error, "a tool failed"),
    }
}

fn content_length(content: &Content) -> usize {
    match content {
        Content::Text(text) | Content::Json(text) | Content::Blocks(text) => text.len(),
    }
}

fn error_length(error: &ToolError) -> usize {
    match error {
        ToolError::InvalidArguments(text) | ToolError::Failed(text) => text.len(),
    }
}

/// Checks the bounds of a list of tools. What the tools say is checked by the component that serves them.
fn check_list(tools: &[Tool]) -> Result<(), ServeError> {
    if tools.len() > MAX_TOOLS {
        return Err(ServeError::Ended(format!("it has {} tools, more than {MAX_TOOLS}", tools.len())));
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let lengths = tools.iter().map(|tool| {
        [
            tool.name.len(),
            tool.description.len(),
            tool.input_schema.len(),
            length(&tool.title),
            length(&tool.output_schema),
        ]
        .into_iter()
        .fold(0_usize, usize::saturating_add)
    });
    if lengths.fold(0_usize, usize::saturating_add) > MAX_LIST_BYTES {
        return Err(ServeError::Ended(format!("its list of tools is longer than {MAX_LIST_BYTES} bytes")));
    }
    Ok(())
}
