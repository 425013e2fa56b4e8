//! The entra-mcp component: MCP, OAuth with Microsoft Entra ID, token validation and the tools.
//!
//! This file holds the exports only: it converts WIT types and delegates.

pub mod environment;
pub mod secret;

#[cfg(target_family = "wasm")]
mod bindings;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports {
    use crate::bindings::exports::entra_mcp::plugin as wit;

    struct Component;

    impl wit::mcp_server::Guest for Component {
        fn handle(message: String, caller: wit::mcp_server::Caller) -> Option<String> {
            let env = crate::bindings::environment();
            let _ = (caller, env.clock.now());
            Some(message)
        }
    }
    impl wit::sign_in::Guest for Component {
        fn accounts() -> Result<Vec<wit::sign_in::Account>, wit::sign_in::SignInError> { Ok(vec![]) }
        fn acquire_token_silent(_: Vec<String>, _: Option<String>) -> Result<wit::sign_in::AccessToken, wit::sign_in::SignInError> { Err(wit::sign_in::SignInError::TimedOut) }
        fn start(_: String, _: Option<String>) -> Result<wit::sign_in::Pending, wit::sign_in::SignInError> { Err(wit::sign_in::SignInError::TimedOut) }
        fn complete(_: String, _: String) -> Result<wit::sign_in::Account, wit::sign_in::SignInError> { Err(wit::sign_in::SignInError::TimedOut) }
        fn interactive(_: Option<String>) -> Result<wit::sign_in::Account, wit::sign_in::SignInError> { Err(wit::sign_in::SignInError::TimedOut) }
        fn sign_out(_: String) -> Result<(), wit::sign_in::SignInError> { Ok(()) }
    }
    crate::bindings::export!(Component with_types_in crate::bindings);
}
