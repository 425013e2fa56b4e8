//! The generated bindings of the world `plugin`, and the capabilities of `world` on them.
//!
//! Generated types stay in this module and in `lib.rs`; every other crate speaks the traits of `world`.

#[allow(missing_docs, unsafe_code, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "plugin",
        generate_all,
        with: {
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

mod imports;
pub(crate) mod incoming;
mod token_validator;

pub(crate) use generated::{export, exports};
pub(crate) use imports::instance;
