//! The generated bindings of the world `plugin`, and the capabilities of `world` on them.
//!
//! Generated types stay in this module and in `lib.rs`; every other crate speaks the traits of `world`.

#[allow(missing_docs, unsafe_code, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "bundled",
        features: ["client-metadata", "delegation", "gatekeeper", "identity-broker", "lifecycle", "provided-tools", "rate-limiter", "sign-out-url", "signatures", "tool-catalog", "whole-requests"],
        generate_all,
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
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
            "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
            "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
            "wasi:random/random@0.2.12": wasip2::random::random,
            "wasi:http/types@0.2.12": wasip2::http::types,
            "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
        },
        pub_export_macro: true,
        default_bindings_module: "crate::bindings",
    });
}

mod attributes;
pub(crate) mod gatekeeper;
mod identity_broker;
mod imports;
pub(crate) mod incoming;
mod lifecycle;
mod provided_tools;
mod sign_in;
mod token_validator;
pub(crate) mod whole_requests;

pub(crate) use generated::{export, exports};
pub(crate) use imports::instance;
