//! The interfaces of WASI, as the tool sees them, and the calls that the gate begins and ends.

use std::io::Write as _;

use wasip2::io::poll::Pollable;

mod answers;
mod bodies;
mod call;
mod errors;
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;
mod fields;
mod files;
mod host_streams;
mod http;
mod kept;
mod methods;
mod requests;
mod streams;
mod surroundings;
mod uploads;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: ["../../wit", "../standard/wit", "wit"],
        world: "entra-mcp:wrap/keeper",
        features: ["client-metadata", "delegation", "gatekeeper", "identity-broker", "lifecycle", "provided-tools", "rate-limiter", "sign-out-url", "tool-catalog", "whole-requests"],
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
        with: {
            "wasi:cli/environment@0.2.12": wasip2::cli::environment,
            "wasi:cli/exit@0.2.12": wasip2::cli::exit,
            "wasi:cli/stdin@0.2.12": wasip2::cli::stdin,
            "wasi:cli/stdout@0.2.12": wasip2::cli::stdout,
            "wasi:cli/stderr@0.2.12": wasip2::cli::stderr,
            "wasi:cli/terminal-input@0.2.12": wasip2::cli::terminal_input,
            "wasi:cli/terminal-output@0.2.12": wasip2::cli::terminal_output,
            "wasi:cli/terminal-stdin@0.2.12": wasip2::cli::terminal_stdin,
            "wasi:cli/terminal-stdout@0.2.12": wasip2::cli::terminal_stdout,
            "wasi:cli/terminal-stderr@0.2.12": wasip2::cli::terminal_stderr,
            "wasi:random/insecure-seed@0.2.12": wasip2::random::insecure_seed,
            "wasi:random/random@0.2.12": wasip2::random::random,
            "wasi:random/insecure@0.2.12": wasip2::random::insecure,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
            "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
            "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
            "wasi:http/types@0.2.12": wasip2::http::types,
            "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
        },
    });
}

/// The keeper.
struct Keeper;

/// A line for the operator, in one piece. Audit records are lines of JSON on the same output, and no such line is one.
fn note(text: &str) {
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let _ = std::io::stderr().write_all(format!("entra-mcp: {text}\n").as_bytes());
}

/// What is ready already.
fn ready() -> Pollable {
    wasip2::clocks::monotonic_clock::subscribe_duration(0)
}
