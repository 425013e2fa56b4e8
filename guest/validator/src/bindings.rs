//! The generated bindings of the component's world, and the conversions to and from [`entra::token`].

use base::settings_document::SettingsDocumentError;
use entra::token::TokenError;

use self::exports::entra_mcp::plugin::types as wit;

/// The bindings of one of the two worlds; the interfaces of WASI that it imports are those of the crate `wasip2`.
macro_rules! bindings {
    ($world:literal, $($with:tt)*) => {
        #[allow(missing_docs, unsafe_code, clippy::all, clippy::restriction, reason = "generated code")]
        mod generated {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                generate_all,
                with: {
                    "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
                    "wasi:random/random@0.2.12": wasip2::random::random,
                    "wasi:random/insecure-seed@0.2.12": wasip2::random::insecure_seed,
                    $($with)*
                },
                pub_export_macro: true,
                default_bindings_module: "crate::bindings",
            });
        }
    };
}

#[cfg(feature = "http")]
bindings!(
    "standalone-validator",
    "wasi:io/error@0.2.12": wasip2::io::error,
    "wasi:io/poll@0.2.12": wasip2::io::poll,
    "wasi:io/streams@0.2.12": wasip2::io::streams,
    "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
    "wasi:http/types@0.2.12": wasip2::http::types,
    "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
);
#[cfg(not(feature = "http"))]
bindings!("standalone-validator-with-keys",);

pub(crate) use generated::exports::entra_mcp::plugin as verdicts;
pub(crate) use generated::{export, exports};

entra::convert_token_validator_types!(wit);

/// Settings that are none: what is wrong is for the developer of the host.
pub(crate) fn unreadable(error: SettingsDocumentError) -> wit::TokenError {
    let fault = wit::AttributeValue::Text(error.to_string());
    let mut unreadable: wit::TokenError = TokenError::ConfigurationInvalid { setting: "settings".to_owned() }.into();
    unreadable.evidence.push(("fault".to_owned(), fault));
    unreadable
}
