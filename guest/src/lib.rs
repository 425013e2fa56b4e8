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
pub mod settings_document;
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
    use crate::mcp;
    use crate::secret::Secret;
    use crate::sign_in::interactive::{self, NoClient, Request};
    use crate::sign_in::{SignInError, accounts, silent};
    use crate::tools;
    use crate::transport::http::authorized::{self, Origin};
    use wit::sign_in::SignInError as WitSignInError;

    struct Component;

    impl wit::mcp_server::Guest for Component {
        fn handle(message: String, context: wit::mcp_server::Context) -> Option<String> {
            let env = environment();
            let wit::mcp_server::Context { correlation_id, transport: _, authorization, client_address } = context;
            let Some(authorization) = authorization.map(Secret::new) else {
                return block_on(mcp::handle(env, &correlation_id, &message));
            };
            let origin = Origin {
                correlation_id: &correlation_id,
                authorization: &authorization,
                client_address: client_address.as_deref(),
            };
            block_on(authorized::handle(env, &origin, &message))
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
            let accounts = accounts::list(environment()).map_err(SignInError::from)?;
            Ok(accounts.into_iter().map(Into::into).collect())
        }

        fn acquire_token_silent(
            scopes: Vec<String>,
            account: Option<String>,
        ) -> Result<wit::sign_in::AccessToken, WitSignInError> {
            let env = environment();
            let account = accounts::choose(env, account.as_deref())?;
            Ok(block_on(silent::acquire(env, &account, &scopes, None, &correlation_id(env)))?.into())
        }

        fn start(
            redirect_uri: String,
            scopes: Vec<String>,
            login_hint: Option<String>,
        ) -> Result<wit::sign_in::Pending, WitSignInError> {
            let env = environment();
            let attempt = interactive::start(env, redirect_uri, scopes, login_hint.as_deref(), &correlation_id(env))?;
            Ok(wit::sign_in::Pending { id: attempt.id, authorization_url: attempt.instruction.url })
        }

        fn complete(id: String, response: String) -> Result<wit::sign_in::Account, WitSignInError> {
            let env = environment();
            Ok(block_on(interactive::redeem(env, &id, &response, &correlation_id(env)))?.into())
        }

        fn interactive(
            scopes: Vec<String>,
            login_hint: Option<String>,
        ) -> Result<wit::sign_in::Account, WitSignInError> {
            let env = environment();
            let request = Request {
                scopes,
                login_hint: login_hint.as_deref(),
                select_account: login_hint.is_none(),
                correlation_id: &correlation_id(env),
                ..Request::default()
            };
            Ok(block_on(interactive::sign_in(env, &request, &NoClient))?.into())
        }

        fn sign_out(home_account_id: String) -> Result<(), WitSignInError> {
            let env = environment();
            Ok(accounts::sign_out(env, &home_account_id, &correlation_id(env))?)
        }
    }

    fn correlation_id(env: &Environment) -> String {
        random_uuid(env.random.as_ref())
    }

    export!(Component with_types_in crate::bindings);
}
