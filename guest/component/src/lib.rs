//! The component: its exports, and its imports behind the capabilities of `world`. It is the only crate of the
//! component that knows WIT. It decides nothing: an export makes the world of the call, converts types and delegates to
//! the crates below.

#[cfg(target_family = "wasm")]
mod bindings;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports {
    use std::rc::Rc;

    use base::Secret;
    use caller::PersonWorld;
    use caller::local::interactive::{self, NoClient, SignInRequest};
    use caller::local::{SignInError, accounts, background, silent};
    use entra::check;
    use entra::graph::groups;
    use entra::token;
    use server::http::authorized::{self, MessageOrigin};
    use server::message::HttpResponse;
    use server::{gatekeeper, http, mcp, setup, tools};
    use wasip2::http::types::{IncomingRequest, ResponseOutparam};
    use wit::sign_in::SignInError as WitSignInError;
    use world::{Trail, UserAgentError};
    use wstd::runtime::block_on;

    use crate::bindings::exports::entra_mcp::plugin as wit;
    use crate::bindings::exports::wasi::http::incoming_handler::Guest as IncomingHandler;
    use crate::bindings::whole_requests::{self, PlainRequest};
    use crate::bindings::{export, gatekeeper as convert, incoming, instance};

    struct Component;

    impl wit::mcp_server::Guest for Component {
        fn handle(message: String, context: wit::mcp_server::Context) -> Option<String> {
            let instance = instance();
            let wit::mcp_server::Context { correlation_id, transport: _, authorization, client_address } = context;
            let trail = Trail::new(instance.recorder(), correlation_id);
            if let Some(authorization) = authorization.map(Secret::new) {
                let Some(server) = instance.server(&trail) else { return authorized::not_set_up(&message) };
                let origin = MessageOrigin { authorization: &authorization, client_address: client_address.as_deref() };
                return block_on(authorized::handle(&server, instance.channel(), &origin, &message));
            }
            match instance.local(&trail) {
                Some(local) => block_on(mcp::handle(&local, &message)),
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
            let resolver = groups::resolver(env.settings);
            match block_on(token::validate_access_token_with(&env, &token, &needs, resolver)) {
                Ok(validated) => Ok(Rc::unwrap_or_clone(validated).into_principal().into()),
                Err(error) => {
                    let clock = error.clock_evidence(&env);
                    let mut error = wit::token_validator::TokenError::from(error);
                    error.evidence.extend(clock.map(|(name, fact)| (name.to_owned(), fact.into())));
                    Err(error)
                }
            }
        }
    }

    impl wit::tool_catalog::Guest for Component {
        fn remote() -> Vec<String> {
            tools::remote().into_iter().map(|tool| tool.name().to_owned()).collect()
        }
    }

    impl wit::gatekeeper::Guest for Component {
        fn admit(mut request: wit::gatekeeper::Request) -> wit::gatekeeper::Admission {
            let instance = instance();
            let id = std::mem::take(&mut request.correlation_id);
            let trail = match id.is_empty() {
                true => Trail::unnamed(instance.recorder()),
                false => Trail::new(instance.recorder(), id),
            };
            let Some(server) = instance.server(&trail) else {
                return wit::gatekeeper::Admission::OwnPath;
            };
            let address_header = server.site.settings.client_address_header.as_deref();
            convert::admission(match convert::request(request, address_header) {
                Ok(request) => block_on(gatekeeper::admit(&server, request)),
                Err(status) => match http::unreadable(&server, status) {
                    HttpResponse::Full(answer) => gatekeeper::Admission::Answer(answer),
                    HttpResponse::Stream(..) => gatekeeper::Admission::OwnPath,
                },
            })
        }

        fn answered(handle: String, head: wit::gatekeeper::AnswerHead) -> wit::gatekeeper::AnsweredResult {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            let answered = match instance.server(&trail) {
                Some(server) => block_on(gatekeeper::answered(&server, &handle, &convert::answer_head(head))),
                None => Err(gatekeeper::answer_of_no_server()),
            };
            convert::answered(answered)
        }

        fn judge_answer(handle: String, message: String) -> String {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            match instance.server(&trail) {
                Some(server) => block_on(gatekeeper::judge_answer(&server, &handle, message)),
                None => gatekeeper::message_of_no_server(),
            }
        }

        fn delegated_token(
            handle: String,
            permissions: Vec<String>,
            challenge: Option<wit::gatekeeper::Challenge>,
        ) -> wit::gatekeeper::Delegated {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            let challenge = challenge.map(convert::challenge);
            let token = match instance.server(&trail) {
                Some(server) => {
                    let token = gatekeeper::delegated_token(&server, &handle, &permissions, challenge.as_ref());
                    block_on(token)
                }
                None => match instance.person(&trail) {
                    Some(person) => {
                        let challenge = challenge.map(Into::into);
                        block_on(gatekeeper::local::local_token(&person, &handle, &permissions, challenge.as_ref()))
                    }
                    None => Err(gatekeeper::handle_invalid()),
                },
            };
            token.map(|token| token.reveal().clone()).map_err(Into::into)
        }
    }

    impl wit::lifecycle::Guest for Component {
        fn check_settings() -> Vec<wit::lifecycle::Problem> {
            setup::problems(&instance().settings).into_iter().map(Into::into).collect()
        }

        fn check_authority() -> Vec<wit::lifecycle::Problem> {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            block_on(check::authority(&instance.entra(&trail))).into_iter().map(Into::into).collect()
        }

        fn give_up_sign_in() {
            // What cannot be given up now is taken over by the next call a few seconds later.
            let _ = with_person(|person| block_on(interactive::give_up(person)));
        }

        fn renew_tokens() -> Option<u32> {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            let person = instance.person(&trail)?;
            // The host has logged what is wrong with the store, and asks again.
            let pause = block_on(background::renew(&person)).unwrap_or(background::PAUSE_AFTER_FAILURE);
            Some(u32::try_from(pause.as_secs()).unwrap_or(u32::MAX))
        }
    }

    impl IncomingHandler for Component {
        fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            block_on(incoming::serve(instance.server(&trail).as_ref(), request, response_out));
        }
    }

    impl wit::whole_requests::Guest for Component {
        fn serve(
            method: String,
            authority: String,
            path_with_query: String,
            fields: Vec<u8>,
            body: Vec<u8>,
        ) -> wit::whole_requests::Served {
            let instance = instance();
            let trail = Trail::unnamed(instance.recorder());
            let request = PlainRequest { method, authority, path_with_query, fields, body };
            block_on(whole_requests::serve(instance.server(&trail).as_ref(), request))
        }
    }

    impl wit::sign_in::Guest for Component {
        fn accounts() -> Result<Vec<wit::sign_in::Account>, WitSignInError> {
            with_person(|person| {
                let accounts = block_on(accounts::list(&person.entra.records))?;
                Ok(accounts.into_iter().map(Into::into).collect())
            })
        }

        fn acquire_token_silent(
            scopes: Vec<String>,
            account: Option<String>,
        ) -> Result<wit::sign_in::AccessToken, WitSignInError> {
            with_person(|person| {
                let token = block_on(async {
                    let account = accounts::choose(person, account.as_deref()).await?;
                    silent::acquire(person, &account, &scopes, None).await
                })?;
                Ok(token.into())
            })
        }

        fn start(
            redirect_uri: String,
            scopes: Vec<String>,
            login_hint: Option<String>,
        ) -> Result<wit::sign_in::Pending, WitSignInError> {
            with_person(|person| {
                let start = interactive::start(&person.entra, redirect_uri, scopes, login_hint.as_deref());
                let attempt = block_on(start)?;
                Ok(wit::sign_in::Pending { id: attempt.id, authorization_url: attempt.instruction.url })
            })
        }

        fn complete(id: String, response: String) -> Result<wit::sign_in::Account, WitSignInError> {
            with_person(|person| Ok(block_on(interactive::redeem(&person.entra, &id, &response))?.into()))
        }

        fn interactive(
            scopes: Vec<String>,
            login_hint: Option<String>,
        ) -> Result<wit::sign_in::Account, WitSignInError> {
            with_person(|person| {
                let request = SignInRequest {
                    scopes,
                    login_hint: login_hint.as_deref(),
                    select_account: login_hint.is_none(),
                    ..SignInRequest::default()
                };
                Ok(block_on(interactive::sign_in(person, &request, &NoClient))?.into())
            })
        }

        fn sign_out_url(
            home_account_id: String,
            post_logout_redirect_uri: Option<String>,
        ) -> Result<String, WitSignInError> {
            with_person(|person| {
                let redirect_uri = post_logout_redirect_uri.as_deref();
                block_on(accounts::sign_out_url(&person.entra, &home_account_id, redirect_uri))
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
        person.and_then(|person| action(&person)).map_err(Into::into)
    }

    export!(Component with_types_in crate::bindings);
}
