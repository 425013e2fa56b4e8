//! Everything besides requests: clocks and randomness of the host, an empty environment, and an output for the operator.

use wasip2::clocks::{monotonic_clock as host_monotonic, wall_clock as host_wall};
use wasip2::io::poll::Pollable;
use wasip2::random::{insecure as host_insecure, random as host_random};

use super::Keeper;
use super::generated::exports::seen::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use super::generated::exports::seen::clocks::{monotonic_clock, wall_clock};
use super::generated::exports::seen::random::{insecure, insecure_seed, random};
use super::streams::{InputStream, OutputStream};

impl environment::Guest for Keeper {
    fn get_environment() -> Vec<(String, String)> {
        Vec::new()
    }

    fn get_arguments() -> Vec<String> {
        Vec::new()
    }

    fn initial_cwd() -> Option<String> {
        None
    }
}

/// In some hosts it would end the process. Here it ends the instance.
impl exit::Guest for Keeper {
    fn exit(_status: Result<(), ()>) {
        core::arch::wasm32::unreachable()
    }

    fn exit_with_code(_status_code: u8) {
        core::arch::wasm32::unreachable()
    }
}

impl stdin::Guest for Keeper {
    fn get_stdin() -> stdin::InputStream {
        stdin::InputStream::new(InputStream::Empty)
    }
}

impl stdout::Guest for Keeper {
    fn get_stdout() -> stdout::OutputStream {
        stdout::OutputStream::new(OutputStream::Log(Default::default()))
    }
}

impl stderr::Guest for Keeper {
    fn get_stderr() -> stderr::OutputStream {
        stderr::OutputStream::new(OutputStream::Log(Default::default()))
    }
}

/// Never made.
pub(super) struct NoTerminal;

impl terminal_input::GuestTerminalInput for NoTerminal {}
impl terminal_input::Guest for Keeper {
    type TerminalInput = NoTerminal;
}

impl terminal_output::GuestTerminalOutput for NoTerminal {}
impl terminal_output::Guest for Keeper {
    type TerminalOutput = NoTerminal;
}

impl terminal_stdin::Guest for Keeper {
    fn get_terminal_stdin() -> Option<terminal_stdin::TerminalInput> {
        None
    }
}

impl terminal_stdout::Guest for Keeper {
    fn get_terminal_stdout() -> Option<terminal_stdout::TerminalOutput> {
        None
    }
}

impl terminal_stderr::Guest for Keeper {
    fn get_terminal_stderr() -> Option<terminal_stderr::TerminalOutput> {
        None
    }
}

impl monotonic_clock::Guest for Keeper {
    fn now() -> u64 {
        host_monotonic::now()
    }

    fn resolution() -> u64 {
        host_monotonic::resolution()
    }

    fn subscribe_instant(when: u64) -> Pollable {
        host_monotonic::subscribe_instant(when)
    }

    fn subscribe_duration(when: u64) -> Pollable {
        host_monotonic::subscribe_duration(when)
    }
}

impl wall_clock::Guest for Keeper {
    fn now() -> wall_clock::Datetime {
        datetime(host_wall::now())
    }

    fn resolution() -> wall_clock::Datetime {
        datetime(host_wall::resolution())
    }
}

fn datetime(from: host_wall::Datetime) -> wall_clock::Datetime {
    wall_clock::Datetime { seconds: from.seconds, nanoseconds: from.nanoseconds }
}

impl random::Guest for Keeper {
    fn get_random_bytes(len: u64) -> Vec<u8> {
        host_random::get_random_bytes(len)
    }

    fn get_random_u64() -> u64 {
        host_random::get_random_u64()
    }
}

impl insecure::Guest for Keeper {
    fn get_insecure_random_bytes(len: u64) -> Vec<u8> {
        host_insecure::get_insecure_random_bytes(len)
    }

    fn get_insecure_random_u64() -> u64 {
        host_insecure::get_insecure_random_u64()
    }
}

impl insecure_seed::Guest for Keeper {
    fn insecure_seed() -> (u64, u64) {
        (host_random::get_random_u64(), host_random::get_random_u64())
    }
}
