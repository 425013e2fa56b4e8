//! One instance of the component: its state, its imports, and its limits.
//!
//! The linker grants the imports of `wit/world.wit`, and an inert form of the rest of WASI that Rust's standard library
//! imports: an empty environment, no arguments, no files, a closed standard input, a discarded standard output. There
//! is no `wasi:sockets` at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random as wasi_random;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::client_channel::{ClientChannel, NoChannel};
use crate::clock::Clock;
use crate::guest_output::GuestStderr;
use crate::imports::{self, EntraCtx, EntraCtxView, EntraView, Imports};
use crate::outbound::{Outbound, OutboundHooks};
use crate::random::RandomCtx;
use crate::wasi;

/// Largest size of the linear memories of an instance in bytes. Verifying a token takes about 2 MiB, a message is at
/// most 4 MiB.
pub(crate) const MAX_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Most elements of a table: the component's function table has a few thousand entries.
const MAX_TABLE_ELEMENTS: usize = 20_000;

/// Most core instances, tables and memories of one component instance. The toolchain makes a handful of each.
const MAX_CORE_INSTANCES: usize = 16;
const MAX_TABLES: usize = 16;
const MAX_MEMORIES: usize = 4;

/// Concurrent resources (requests, bodies, pollables, listeners) of one instance.
const MAX_RESOURCES: usize = 1_000;

/// The resources that all instances share.
pub(crate) struct InstanceResources {
    pub(crate) imports: Imports,
    pub(crate) http: Arc<dyn Outbound>,
    pub(crate) max_memory_bytes: usize,
}

/// The state of one instance, the `T` of its `Store<T>`.
pub(crate) struct InstanceState {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundHooks,
    entra: EntraCtx,
    clock: Arc<dyn Clock>,
    random: RandomCtx,
    pub(crate) limits: InstanceLimits,
}

impl InstanceState {
    pub(crate) fn new(world: &InstanceResources) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            table,
            wasi: WasiCtx::builder().stderr(GuestStderr::default()).build(),
            http: WasiHttpCtx::new(),
            outbound: OutboundHooks::new(Arc::clone(&world.http)),
            entra: world.imports.context(),
            clock: Arc::clone(&world.imports.clock),
            random: RandomCtx::new(Arc::clone(&world.imports.random)),
            limits: InstanceLimits::new(world.max_memory_bytes),
        }
    }

    /// Begins a call that came in on `channel`.
    pub(crate) fn begin(&mut self, channel: Arc<dyn ClientChannel>) {
        self.entra.set_channel(channel);
    }

    /// Forgets the data of the call that ended.
    pub(crate) fn end(&mut self) {
        self.entra.set_channel(Arc::new(NoChannel));
    }

    /// Number of resources that the instance holds now.
    pub(crate) fn resources(&mut self) -> usize {
        self.table.iter_mut().count()
    }
}

impl EntraView for InstanceState {
    fn entra(&mut self) -> EntraCtxView<'_> {
        EntraCtxView { ctx: &mut self.entra, table: &mut self.table }
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Links the imports that an instance is granted. A component with any other import fails to load.
pub(crate) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type State = InstanceState;
    let l = linker;

    // The contract.
    imports::add_to_linker(l)?;

    // The part of WASI that has an effect.
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<State, HasTable>(l, |state| &mut state.table)?;
    wasmtime_wasi::p2::bindings::io::poll::add_to_linker::<State, HasTable>(l, |state| &mut state.table)?;
    wasmtime_wasi::p2::bindings::io::streams::add_to_linker::<State, HasTable>(l, |state| &mut state.table)?;
    wall_clock::add_to_linker::<State, HasClock>(l, State::clock_view)?;
    monotonic_clock::add_to_linker::<State, HasClock>(l, State::clock_view)?;
    wasi_random::random::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    wasi_random::insecure::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    wasi_random::insecure_seed::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    http::types::add_to_linker::<State, WasiHttp>(l, &http::types::LinkOptions::default(), State::http)?;
    http::outgoing_handler::add_to_linker::<State, WasiHttp>(l, State::http)?;

    // The part of WASI that Rust's standard library imports, without an effect.
    wasi::link_command(l)
}

/// The host's part for an import, in words (`entra-mcp inspect`). `None`: the import is not granted.
pub fn grant(import: &str) -> Option<&'static str> {
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    Some(match name {
        "entra-mcp:plugin/environment" => "the settings, read-only",
        "entra-mcp:plugin/secret-store" => "encrypted records of this application",
        "entra-mcp:plugin/client-credential" => {
            "what the configured client sends to the token endpoint; nothing for a local server"
        }
        "entra-mcp:plugin/client-channel" => "messages to the MCP client that called",
        "entra-mcp:plugin/user-agent" => "opening a browser, receiving its redirect on loopback",
        "entra-mcp:plugin/identity-broker" => "tokens that the identity broker of the machine gives this application",
        "entra-mcp:plugin/audit" => "writing audit events",
        "entra-mcp:plugin/rate-limiter" => "counts of how often something was done",
        "entra-mcp:plugin/client-metadata" => {
            "public documents over https, bounded; nothing where documents of clients are of no use"
        }
        "entra-mcp:plugin/signatures" => "verifying signatures with public keys",
        "entra-mcp:plugin/provided-tools" => "calls of the tools that the host runs; nothing where there are none",
        "entra-mcp:plugin/types" | "entra-mcp:plugin/tool-types" | "entra-mcp:plugin/delegation" => "types only",
        "wasi:http/outgoing-handler" => "requests to the configured authority and Graph only",
        "wasi:http/types" => "types of requests and responses",
        "wasi:io/poll" | "wasi:io/streams" | "wasi:io/error" => "waiting and streams, no files or sockets",
        "wasi:clocks/wall-clock" | "wasi:clocks/monotonic-clock" => "time and timers",
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => "secure randomness",
        "wasi:cli/environment" => "nothing: no variables, no arguments",
        "wasi:cli/exit" => "ending its own instance",
        "wasi:cli/stdin" => "nothing: closed",
        "wasi:cli/stdout" => "nothing: discarded",
        "wasi:cli/stderr" => "lines in the log, bounded",
        name if name.starts_with("wasi:cli/terminal-") => "nothing: there is no terminal",
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => "nothing: there are no files",
        _ => return None,
    })
}

pub(crate) struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// `wasi:clocks` on the host's [`Clock`], timers included.
pub(crate) struct ClockView<'a> {
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) table: &'a mut ResourceTable,
}

impl InstanceState {
    fn clock_view(&mut self) -> ClockView<'_> {
        ClockView { clock: &self.clock, table: &mut self.table }
    }
}

pub(crate) struct HasClock;

impl HasData for HasClock {
    type Data<'a> = ClockView<'a>;
}

impl wall_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.now();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let resolution = self.clock.resolution();
        Ok(wall_clock::Datetime { seconds: resolution.as_secs(), nanoseconds: resolution.subsec_nanos() })
    }
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.clock.monotonic().as_nanos())?)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.clock.resolution().as_nanos())?)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = Timer { clock: Arc::clone(self.clock), deadline: Duration::from_nanos(when), yielded: false };
        let timer = self.table.push(timer)?;
        subscribe(self.table, timer)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = monotonic_clock::Host::now(self)?;
        self.subscribe_instant(now.saturating_add(duration))
    }
}

struct Timer {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    yielded: bool,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        if self.clock.monotonic() < self.deadline {
            self.clock.sleep_until(self.deadline).await;
        } else if !self.yielded {
            // A guest that polls sockets in a loop adds a timer that is due already. Without this pause the runtime
            // would never look at the sockets.
            self.yielded = true;
            tokio::task::yield_now().await;
        }
    }
}

/// The limits of an instance, and the memory that it has taken.
pub(crate) struct InstanceLimits {
    limits: StoreLimits,
    max_memory_bytes: usize,
    /// Bytes of all linear memories. They never shrink.
    pub(crate) memory_bytes: usize,
}

impl InstanceLimits {
    fn new(max_memory_bytes: usize) -> Self {
        let limits = StoreLimitsBuilder::new()
            .table_elements(MAX_TABLE_ELEMENTS)
            .instances(MAX_CORE_INSTANCES)
            .tables(MAX_TABLES)
            .memories(MAX_MEMORIES)
            .build();
        Self { limits, max_memory_bytes, memory_bytes: 0 }
    }
}

impl ResourceLimiter for InstanceLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let granted = total <= self.max_memory_bytes && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.memory_bytes = total;
        } else {
            tracing::warn!(total, "an instance asked for more memory than it may have");
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// Counts the epochs that the guest has been computing without a pause.
///
/// A guest that is suspended in an import takes no processor time, for however long: a pause resets the count. The
/// epoch callback suspends the guest too; that suspension is marked and does not count as a pause.
#[derive(Debug, Default)]
pub(crate) struct Runaway {
    epochs: AtomicU32,
    yielding: AtomicBool,
}

impl Runaway {
    /// The guest was computing at the end of an epoch. Returns the number of such epochs in a row.
    pub(crate) fn computing(&self) -> u32 {
        self.yielding.store(true, Ordering::Relaxed);
        self.epochs.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The guest was suspended: by the epoch callback, or because it waits.
    pub(crate) fn suspended(&self) {
        if !self.yielding.swap(false, Ordering::Relaxed) {
            self.epochs.store(0, Ordering::Relaxed);
        }
    }

    /// A call begins.
    pub(crate) fn reset(&self) {
        self.yielding.store(false, Ordering::Relaxed);
        self.epochs.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uninterrupted_computing_counts() {
        let runaway = Runaway::default();
        assert_eq!(runaway.computing(), 1);
        runaway.suspended();
        assert_eq!(runaway.computing(), 2);
        runaway.suspended();
        runaway.suspended();
        assert_eq!(runaway.computing(), 1);
    }

    #[test]
    fn sockets_are_not_granted() {
        assert_eq!(grant("wasi:sockets/tcp@0.2.12"), None);
        assert_eq!(grant("wasi:cli/stdout@0.2.12"), Some("nothing: discarded"));
    }
}
