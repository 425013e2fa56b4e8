//! The imports of WASI 0.3, for components of that version. They have the same effects as those of WASI 0.2, which such a
//! component may import too: the standard library of Rust does.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Accessor, HasSelf, Linker};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::clocks::{monotonic_clock, system_clock, types as clock_types};
use wasmtime_wasi::p3::bindings::{cli, filesystem, random as wasi_random, sockets};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi_http::p3::bindings::http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

use super::{CLOCK_RESOLUTION, ToolState};
use crate::instance::{ClockView, HasClock};
use crate::random::RandomCtx;

/// Links the imports.
pub(in crate::tool_components) fn link(linker: &mut Linker<ToolState>) -> wasmtime::Result<()> {
    type State = ToolState;
    let l = linker;

    // What has an effect.
    http::types::add_to_linker::<State, WasiHttp>(l, State::http)?;
    http::client::add_to_linker::<State, WasiHttp>(l, State::http)?;
    clock_types::add_to_linker::<State, HasClock>(l, State::clock_view)?;
    monotonic_clock::add_to_linker::<State, HasClock>(l, State::clock_view)?;
    system_clock::add_to_linker::<State, HasClock>(l, State::clock_view)?;
    wasi_random::random::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    wasi_random::insecure::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    wasi_random::insecure_seed::add_to_linker::<State, HasSelf<_>>(l, |state| &mut state.random)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;

    // What toolchains import, without an effect.
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    sockets::types::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    Ok(())
}

/// Whether this is a version of WASI 0.3 that was released. Release candidates have other interfaces.
pub(in crate::tool_components) fn is_released(version: &str) -> bool {
    version
        .strip_prefix("0.3.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The interface of WASI 0.2 that means the same as this one of WASI 0.3, named without `wasi:`.
pub(super) fn same_as(interface: &str) -> Option<&'static str> {
    Some(match interface {
        "http/types" => "wasi:http/types",
        "http/client" => "wasi:http/outgoing-handler",
        "clocks/monotonic-clock" => "wasi:clocks/monotonic-clock",
        "clocks/system-clock" => "wasi:clocks/wall-clock",
        "random/random" | "random/insecure" | "random/insecure-seed" => "wasi:random/random",
        "cli/environment" => "wasi:cli/environment",
        "cli/exit" => "wasi:cli/exit",
        "cli/stdin" => "wasi:cli/stdin",
        "cli/stdout" | "cli/stderr" => "wasi:cli/stdout",
        "cli/terminal-input"
        | "cli/terminal-output"
        | "cli/terminal-stdin"
        | "cli/terminal-stdout"
        | "cli/terminal-stderr" => "wasi:cli/terminal-stdin",
        "filesystem/types" | "filesystem/preopens" => "wasi:filesystem/types",
        "sockets/types" | "sockets/ip-name-lookup" => "wasi:sockets/tcp",
        _ => return None,
    })
}

impl clock_types::Host for ClockView<'_> {}

impl system_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<system_clock::Instant> {
        let now = self.clock.now();
        Ok(system_clock::Instant { seconds: i64::try_from(now.as_secs())?, nanoseconds: now.subsec_nanos() })
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        resolution()
    }
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.clock.monotonic().as_nanos())?)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        resolution()
    }
}

impl<T: 'static> monotonic_clock::HostWithStore<T> for HasClock {
    async fn wait_until(store: &Accessor<T, Self>, when: u64) -> wasmtime::Result<()> {
        let clock = store.with(|mut access| Arc::clone(access.get().clock));
        let deadline = Duration::from_nanos(when);
        if clock.monotonic() < deadline {
            clock.sleep_until(deadline).await;
        } else {
            // Without this pause, a tool that waits for nothing in a loop would keep the runtime from all else.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn wait_for(store: &Accessor<T, Self>, how_long: u64) -> wasmtime::Result<()> {
        let now = store.with(|mut access| access.get().clock.monotonic());
        let when = now.saturating_add(Duration::from_nanos(how_long));
        Self::wait_until(store, u64::try_from(when.as_nanos()).unwrap_or(u64::MAX)).await
    }
}

fn resolution() -> wasmtime::Result<u64> {
    Ok(u64::try_from(CLOCK_RESOLUTION.as_nanos())?)
}

impl wasi_random::random::Host for RandomCtx {
    fn get_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(most)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl wasi_random::insecure::Host for RandomCtx {
    fn get_insecure_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(most)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl wasi_random::insecure_seed::Host for RandomCtx {
    fn get_insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.array().map(u64::from_le_bytes)?, self.array().map(u64::from_le_bytes)?))
    }
}
