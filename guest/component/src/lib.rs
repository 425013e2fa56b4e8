//! The entra-mcp component: MCP, OAuth with Microsoft Entra ID, token validation and the tools.
//!
//! This file holds the exports only: it converts WIT types and delegates.

pub mod access;
pub mod audit;
pub mod authorization_server;
pub mod bearer;
pub mod encoding;
pub mod entra;
pub mod environment;
pub mod graph;
pub mod identity;
pub mod mcp;
pub mod oauth;
pub(crate) mod sealed;
pub mod secret;
pub mod session;
pub mod sign_in;
pub(crate) mod single_flight;
pub mod token;
pub mod tools;
pub mod transport;

#[cfg(target_family = "wasm")]
mod bindings;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports {
    use std::rc::Rc;

    use wasip2::http::types::{IncomingRequest, ResponseOutparam};
    use wstd::runtime::block_on;

    use crate::bindings::exports::entra_mcp::plugin as wit;
    use crate::bindings::exports::wasi::http::incoming_handler::Guest as IncomingHandler;
    use crate::bindings::{environment, export, incoming};
    use crate::encoding::random_uuid;
    use crate::environment::Environment;
    use crate::graph::groups;
    use crate::graph::profile::profile_scope;
    use crate::mcp;
    use crate::sign_in::interactive::{self, NoClient, Request};
    use crate::sign_in::{Account, SignInError, accounts, silent};
    use crate::tools;
    use wit::sign_in::SignInError as WitSignInError;

    struct Component;

    impl wit::mcp_server::Guest for Component {
        fn handle(message: String, caller: wit::mcp_server::Caller) -> Option<String> {
            block_on(mcp::handle(environment(), &caller.correlation_id, &message))
        }
    }

    impl wit::token_validator::Guest for Component {
        fn validate(
            token: String,
            needs: wit::token_validator::Requirements,
        ) -> Result<wit::token_validator::Principal, wit::token_validator::TokenError> {
            let env = environment();
            let needs = needs.into();
            let resolver = groups::resolver(env);
            match block_on(crate::token::validate_access_token_with(env, &token, &needs, resolver)) {
                Ok(validated) => Ok(Rc::unwrap_or_clone(validated).into_principal().into()),
                Err(error) => Err(error.into()),
            }
        }
    }

    impl wit::tool_catalog::Guest for Component {
        fn remote() -> Vec<String> {
            tools::remote().iter().map(|tool| tool.name().to_owned()).collect()
        }
    }

    impl IncomingHandler for Component {
        fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
            let env = environment();
            block_on(incoming::serve(env, request, response_out));
        }
    }

    impl wit::sign_in::Guest for Component {
        fn accounts() -> Result<Vec<wit::sign_in::Account>, WitSignInError> {
            let accounts = accounts::list(environment()).map_err(|error| to_wit(error.into()))?;
            Ok(accounts.into_iter().map(account_to_wit).collect())
        }

        fn acquire_token_silent(
            scopes: Vec<String>,
            account: Option<String>,
        ) -> Result<wit::sign_in::AccessToken, WitSignInError> {
            let env = environment();
            let account = accounts::choose(env, account.as_deref()).map_err(to_wit)?;
            let token = block_on(silent::acquire(env, &account, &scopes, None, &correlation_id(env)));
            token.map_err(to_wit).map(|token| wit::sign_in::AccessToken {
                token: token.token.reveal().clone(),
                expires_at: token.expires_at,
                account: account_to_wit(token.account),
            })
        }

        fn start(redirect_uri: String, login_hint: Option<String>) -> Result<wit::sign_in::Pending, WitSignInError> {
            let env = environment();
            let scopes = vec![profile_scope(env)];
            interactive::start(env, redirect_uri, scopes, login_hint.as_deref(), &correlation_id(env))
                .map(|attempt| wit::sign_in::Pending { id: attempt.id, authorization_url: attempt.instruction.url })
                .map_err(to_wit)
        }

        fn complete(id: String, response: String) -> Result<wit::sign_in::Account, WitSignInError> {
            let env = environment();
            let account = block_on(interactive::redeem(env, &id, &response, &correlation_id(env)));
            account.map(account_to_wit).map_err(to_wit)
        }

        fn interactive(login_hint: Option<String>) -> Result<wit::sign_in::Account, WitSignInError> {
            let env = environment();
            let request = Request {
                scopes: vec![profile_scope(env)],
                login_hint: login_hint.as_deref(),
                select_account: login_hint.is_none(),
                correlation_id: &correlation_id(env),
                ..Request::default()
            };
            block_on(interactive::sign_in(env, &request, &NoClient)).map(account_to_wit).map_err(to_wit)
        }

        fn sign_out(home_account_id: String) -> Result<(), WitSignInError> {
            let env = environment();
            accounts::sign_out(env, &home_account_id, &correlation_id(env)).map_err(to_wit)
        }
    }

    fn correlation_id(env: &Environment) -> String {
        random_uuid(env.random.as_ref())
    }

    fn account_to_wit(account: Account) -> wit::sign_in::Account {
        wit::sign_in::Account {
            home_account_id: account.home_account_id,
            username: account.username,
            name: account.name,
            tenant_id: account.tenant_id,
            object_id: account.object_id,
        }
    }

    fn to_wit(error: SignInError) -> WitSignInError {
        let message = error.to_string();
        match error {
            SignInError::InteractionRequired { .. } => WitSignInError::InteractionRequired(message),
            SignInError::Declined => WitSignInError::Declined(message),
            SignInError::TimedOut(_) => WitSignInError::TimedOut,
            SignInError::Refused(refusal) => WitSignInError::Refused(wit::sign_in::Refusal {
                message: refusal.advice(),
                error: refusal.error,
                code: refusal.code,
            }),
            SignInError::Untrusted(_) => WitSignInError::UntrustedResponse(message),
            SignInError::AccountSelection(_) => WitSignInError::AccountSelection(message),
            SignInError::Store(_) | SignInError::Audit => WitSignInError::Store(message),
            SignInError::Deferred { .. }
            | SignInError::Unavailable(_)
            | SignInError::JoinedFailed(_)
            | SignInError::TakenOver
            | SignInError::NoBrowser(_) => WitSignInError::Unavailable(message),
        }
    }

    export!(Component with_types_in crate::bindings);
}
