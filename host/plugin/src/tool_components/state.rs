//! The store of a tool component, and its imports.
//!
//! It has time, randomness, its configured variables, lines in the log, and requests to its destinations. Everything else
//! that toolchains import is linked without an effect: no files, a closed standard input, and sockets and names that are
//! always denied.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::{random as wasi_random, sockets};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::p2::{body, types};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call_context::CallContext;
use super::egress::{Egress, ToolHooks};
use super::limits::ToolLimits;
use crate::clock::Clock;
use crate::guest_output::GuestStderr;
use crate::instance::{ClockView, HasClock, HasTable};
use crate::random::{Random, RandomCtx};
use crate::wasi;

pub(super) mod wasi_0_3;

/// Resources (requests, bodies, pollables) of one instance.
const MAX_RESOURCES: usize = 1_000;

/// Size of one set of header fields in bytes, with what it costs to keep them. Servers accept 8 to 16 KiB.
const MAX_FIELDS_BYTES: usize = 32 * 1024;

/// Resolution of the clocks of a tool. With a finer one, a tool could measure what the processor does for others.
const CLOCK_RESOLUTION: Duration = Duration::from_millis(1);

/// What the instances of a tool component have.
pub(super) struct Grants {
    pub(super) server: Arc<str>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) egress: Arc<Egress>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) max_memory_bytes: usize,
}

/// The state of an instance, the `T` of its `Store<T>`.
pub(super) struct ToolState {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: ToolHooks,
    clock: Arc<dyn Clock>,
    random: RandomCtx,
    pub(super) limits: ToolLimits,
}

impl ToolState {
    pub(super) fn new(grants: &Grants) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let output = GuestStderr::of_tools(Arc::clone(&grants.server));
        let wasi = WasiCtx::builder()
            .stdout(output.clone())
            .stderr(output)
            .envs(&grants.variables)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS_BYTES);
        Self {
            table,
            wasi,
            http,
            hooks: ToolHooks { egress: Arc::clone(&grants.egress), call: None },
            clock: Arc::new(CoarseClock(Arc::clone(&grants.clock))),
            random: RandomCtx::new(Arc::clone(&grants.random)),
            limits: ToolLimits::new(grants.max_memory_bytes),
        }
    }

    /// From now on, requests are those of this call.
    pub(super) fn begin(&mut self, call: Arc<CallContext>) {
        self.hooks.call = Some(call);
    }

    /// Ends the call. Returns whether the instance has kept nothing of its requests, so that it may serve another call.
    pub(super) fn end(&mut self) -> bool {
        self.hooks.call = None;
        !self.table.iter_mut().any(|resource| {
            resource.is::<types::HostOutgoingRequest>()
                || resource.is::<types::HostFutureIncomingResponse>()
                || resource.is::<types::HostIncomingResponse>()
                || resource.is::<body::HostOutgoingBody>()
                || resource.is::<body::HostIncomingBody>()
                || resource.is::<body::HostFutureTrailers>()
        })
    }

    /// Number of resources that the instance holds now.
    pub(super) fn resources(&mut self) -> usize {
        self.table.iter_mut().count()
    }

    fn clock_view(&mut self) -> ClockView<'_> {
        ClockView { clock: &self.clock, table: &mut self.table }
    }
}

impl WasiView for ToolState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for ToolState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Links everything that a tool component may import.
pub(super) fn link(linker: &mut Linker<ToolState>) -> wasmtime::Result<()> {
    type State = ToolState;
    let l = linker;

    // What has an effect.
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
    wasi::link_command(l)?;

    // What toolchains import, without an effect.
    sockets::network::add_to_linker::<State, WasiSockets>(
        l,
        &sockets::network::LinkOptions::default(),
        State::sockets,
    )?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    Ok(())
}

/// The meaning of an import for a tool component, in words. `None`: this host does not have it. Imports of WASI 0.3 are
/// for components of that version only.
pub fn tool_grant(import: &str) -> Option<&'static str> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match name.strip_prefix("wasi:") {
        None => granted(name),
        Some(_) if version.starts_with("0.2.") => granted(name),
        Some(interface) if wasi_0_3::is_released(version) => wasi_0_3::same_as(interface).and_then(granted),
        Some(_) => None,
    }
}

/// The same, by the name in WASI 0.2.
fn granted(name: &str) -> Option<&'static str> {
    Some(match name {
        "entra-mcp:plugin/types" | "entra-mcp:plugin/tool-types" => "types only",
        "wasi:http/outgoing-handler" => "requests to the configured destinations only",
        "wasi:http/types" => "types of requests and responses",
        "wasi:io/poll" | "wasi:io/streams" | "wasi:io/error" => "waiting and streams",
        "wasi:clocks/wall-clock" | "wasi:clocks/monotonic-clock" => "time and timers, to the millisecond",
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => "secure randomness",
        "wasi:cli/environment" => "the configured variables only",
        "wasi:cli/exit" => "ending its own call",
        "wasi:cli/stdin" => "nothing: closed",
        "wasi:cli/stdout" | "wasi:cli/stderr" => "lines in the log, bounded",
        name if name.starts_with("wasi:cli/terminal-") => "nothing: there is no terminal",
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => "nothing: there are no files",
        "wasi:sockets/network"
        | "wasi:sockets/instance-network"
        | "wasi:sockets/ip-name-lookup"
        | "wasi:sockets/tcp"
        | "wasi:sockets/tcp-create-socket"
        | "wasi:sockets/udp"
        | "wasi:sockets/udp-create-socket" => "nothing: every use is denied",
        _ => return None,
    })
}

/// A clock that shows only every [`CLOCK_RESOLUTION`].
struct CoarseClock(Arc<dyn Clock>);

fn coarse(time: Duration) -> Duration {
    let resolution = CLOCK_RESOLUTION.as_nanos();
    let rest = time.as_nanos().checked_rem(resolution).unwrap_or_default();
    time.saturating_sub(Duration::from_nanos(u64::try_from(rest).unwrap_or_default()))
}

#[async_trait]
impl Clock for CoarseClock {
    fn now(&self) -> Duration {
        coarse(self.0.now())
    }

    fn monotonic(&self) -> Duration {
        coarse(self.0.monotonic())
    }

    fn resolution(&self) -> Duration {
        CLOCK_RESOLUTION
    }

    async fn sleep_until(&self, deadline: Duration) {
        self.0.sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_sees_whole_milliseconds() {
        assert_eq!(coarse(Duration::from_nanos(1_999_999)), Duration::from_millis(1));
        assert_eq!(coarse(Duration::new(5, 2_000_001)), Duration::new(5, 2_000_000));
    }

    fn state() -> ToolState {
        let tools =
            crate::tool_components::destinations::Destinations::new(&[], "https://graph.microsoft.com").unwrap();
        let server: Arc<str> = "mail".into();
        let egress = Egress {
            server: Arc::clone(&server),
            destinations: tools,
            http: Arc::new(crate::outbound::NoOutbound),
            tokens: Arc::new(crate::tool_components::NoTokens),
            observer: Arc::new(crate::outbound::NoObserver),
            clock: Arc::new(crate::clock::ManualClock::new(0)),
            places: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        ToolState::new(&Grants {
            server,
            variables: Vec::new(),
            egress: Arc::new(egress),
            clock: Arc::new(crate::clock::ManualClock::new(0)),
            random: Arc::new(crate::random::SystemRandomness::default()),
            max_memory_bytes: 0,
        })
    }

    #[test]
    fn an_instance_that_keeps_a_request_past_its_call_serves_no_other() {
        let mut state = state();
        state.begin(Arc::new(CallContext::new("alice")));
        assert!(state.end());
        state.begin(Arc::new(CallContext::new("alice")));
        state.table.push(types::HostFutureIncomingResponse::Consumed).unwrap();
        assert!(!state.end());
    }

    #[test]
    fn what_is_linked_is_described_and_what_is_not_is_unknown() {
        assert_eq!(tool_grant("wasi:sockets/tcp@0.2.3"), Some("nothing: every use is denied"));
        assert_eq!(tool_grant("wasi:sockets/types@0.3.0"), Some("nothing: every use is denied"));
        assert_eq!(tool_grant("wasi:http/client@0.3.1"), Some("requests to the configured destinations only"));
        for unknown in [
            "wasi:keyvalue/store@0.2.0",
            "wasi:http/client@0.2.0",
            "wasi:http/outgoing-handler@0.3.0",
            "wasi:http/types@0.3.0-rc-2026-03-15",
            "wasi:http/types@0.4.0",
            "entra-mcp:plugin/secret-store@0.2.0",
        ] {
            assert_eq!(tool_grant(unknown), None, "{unknown}");
        }
    }
}
