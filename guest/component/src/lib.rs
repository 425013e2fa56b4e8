//! The component: its exports, and its imports behind the capabilities of `world`. It is the only crate that knows WIT, and
//! it decides nothing: an export makes the world of the call, converts types and delegates to the crates below.

#[cfg(target_family = "wasm")]
mod bindings;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports {
    use std::rc::Rc;

    use caller::PersonWorld;
    use caller::local::interactive::{self, NoClient, Request};
    use caller::local::{Account, SignInError, accounts, silent};
    use entra::graph::groups;
    use entra::graph::profile::profile_scope;
    use entra::token;
    use server::{mcp, tools};
    use wasip2::http::types::{IncomingRequest, ResponseOutparam};
    use wit::sign_in::SignInError as WitSignInError;
    use world::{Trail, UserAgentError};
    use wstd::runtime::block_on;

    use crate::bindings::exports::entra_mcp::plugin as wit;
    use crate::bindings::exports::wasi::http::incoming_handler::Guest as IncomingHandler;
    use crate::bindings::{export, incoming, instance};

    struct Component;

    impl wit::mcp_server::Guest for Component {
        fn handle(message: String, caller: wit::mcp_server::Caller) -> Option<String> {
            let instance = instance();
            let trail = Trail::new(instance.recorder(), caller.correlation_id);
            match instance.person(&trail) {
                Some(person) => block_on(mcp::handle(&person, &message)),
                None => Some(mcp::not_set_up()),
            }
        }
    }

    impl wit::token_validator::Guest for Component {
        fn validate(
            token: String,
            needs: wit::token_validator::Requirements,
        ) -> Result<wit::token_validator::Principal, wit::token_validator::TokenError> {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            let env = instance.entra(&trail);
            let needs = needs.into();
            let resolver = groups::resolver(&env);
            match block_on(token::validate_access_token_with(&env, &token, &needs, resolver)) {
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
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            block_on(incoming::serve(instance.server(&trail).as_ref(), request, response_out));
        }
    }

    impl wit::sign_in::Guest for Component {
        fn accounts() -> Result<Vec<wit::sign_in::Account>, WitSignInError> {
            with_person(|person| {
                let accounts = block_on(accounts::list(&person.entra))?;
                Ok(accounts.into_iter().map(account_to_wit).collect())
            })
        }

        fn acquire_token_silent(
            scopes: Vec<String>,
            account: Option<String>,
        ) -> Result<wit::sign_in::AccessToken, WitSignInError> {
            with_person(|person| {
                let token = block_on(async {
                    let account = accounts::choose(person, account.as_deref()).await?;
                    silent::acquire(&person.entra, &account, &scopes, None).await
                })?;
                Ok(wit::sign_in::AccessToken {
                    token: token.token.reveal().clone(),
                    expires_at: token.expires_at,
                    account: account_to_wit(token.account),
                })
            })
        }

        fn start(redirect_uri: String, login_hint: Option<String>) -> Result<wit::sign_in::Pending, WitSignInError> {
            with_person(|person| {
                let scopes = vec![profile_scope(&person.entra)];
                let start = interactive::start(&person.entra, redirect_uri, scopes, login_hint.as_deref());
                let attempt = block_on(start)?;
                Ok(wit::sign_in::Pending { id: attempt.id, authorization_url: attempt.instruction.url })
            })
        }

        fn complete(id: String, response: String) -> Result<wit::sign_in::Account, WitSignInError> {
            with_person(|person| block_on(interactive::redeem(&person.entra, &id, &response)).map(account_to_wit))
        }

        fn interactive(login_hint: Option<String>) -> Result<wit::sign_in::Account, WitSignInError> {
            with_person(|person| {
                let request = Request {
                    scopes: vec![profile_scope(&person.entra)],
                    login_hint: login_hint.as_deref(),
                    select_account: login_hint.is_none(),
                    ..Request::default()
                };
                block_on(interactive::sign_in(person, &request, &NoClient)).map(account_to_wit)
            })
        }

        fn sign_out(home_account_id: String) -> Result<(), WitSignInError> {
            with_person(|person| block_on(accounts::sign_out(&person.entra, &home_account_id)))
        }
    }

    /// Does something with the person at this machine.
    fn with_person<T>(action: impl FnOnce(&PersonWorld<'_>) -> Result<T, SignInError>) -> Result<T, WitSignInError> {
        let instance = instance();
        let trail = Trail::unnamed(instance.recorder());
        let person = instance.person(&trail).ok_or(SignInError::NoBrowser(UserAgentError::Unsupported));
        person.and_then(|person| action(&person)).map_err(to_wit)
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
            SignInError::Store(_) | SignInError::Unrecorded(_) => WitSignInError::Store(message),
            SignInError::Deferred { .. }
            | SignInError::Unavailable(_)
            | SignInError::JoinedFailed(_)
            | SignInError::TakenOver
            | SignInError::NoBrowser(_) => WitSignInError::Unavailable(message),
        }
    }

    export!(Component with_types_in crate::bindings);
}
