//! Tokens in the name of a caller, for requests that a call of a tool or of a server behind causes.
//!
//! Threat: a tool wants more than the operator has granted, or another caller's token. So the permissions have to be one of
//! the combinations in the settings of the handle's server, and the handle alone says which caller the token is for.

use std::time::Duration;

use base::Secret;
use base::principal::PrincipalKind;
use base::settings::Settings;
use caller::local::SignInError;
use caller::{NoToken, claims};
use entra::graph::GraphChallenge;
use entra::{AcquireError, EntraWorld};
use world::provided_tools::{DelegationError, DelegationErrorCategory as Category};

use super::TokenChallenge;
use super::callers::{NotFound, again};
use super::handle::{self, Handle, handle_invalid};
use crate::server_world::ServerWorld;

/// An access token in the name of the handle's caller.
pub async fn delegated_token(
    env: &ServerWorld<'_>,
    handle: &str,
    permissions: &[String],
    challenge: Option<&TokenChallenge>,
) -> Result<Secret<String>, DelegationError> {
    let entra = &env.entra;
    let handle = granted(entra, handle, permissions).await?;
    let again = again(entra, &handle.caller).await.map_err(not_found)?;
    let caller = again.caller(entra);
    if caller.facts().is_some_and(|facts| facts.kind == PrincipalKind::App) {
        let message = "The caller is an application that acts for itself: there is no token in the name of a person";
        return Err(error(Category::Refused, "no-user", message));
    }
    let challenge = challenge.map(of_api);
    let token = caller.delegated(&permissions.join(" "), challenge.as_ref()).await;
    token.map_err(|error| no_token(error, entra.clock.now()))
}

/// Opens a handle whose server has exactly this combination of permissions.
async fn granted(entra: &EntraWorld<'_>, handle: &str, permissions: &[String]) -> Result<Handle, DelegationError> {
    let unavailable = |_| error(Category::Unavailable, "store", "The call cannot be looked up now: try again later");
    let handle = handle::open(entra, handle).await.map_err(unavailable)?.ok_or_else(handle_invalid)?;
    let Settings { servers, .. } = entra.settings;
    let server = servers.iter().find(|server| server.name == handle.of.server);
    let is_granted = |server: &base::settings::ServerSettings| {
        server.permissions.iter().any(|combination| combination.as_slice() == permissions)
    };
    if permissions.is_empty() || !server.is_some_and(is_granted) {
        let message = "The settings do not grant these permissions, in this combination, to the server";
        return Err(error(Category::NotGranted, "not-granted", message));
    }
    Ok(handle)
}

/// Claims that Entra ID could not be told of count as none.
fn of_api(challenge: &TokenChallenge) -> GraphChallenge {
    let TokenChallenge { refused_token, claims } = challenge;
    let claims = Some(claims.clone()).filter(|claims| claims::are_usable(claims));
    GraphChallenge { refused: refused_token.clone(), claims }
}

fn error(category: Category, code: &str, message: &str) -> DelegationError {
    let (code, message) = (code.to_owned(), message.to_owned());
    DelegationError { category, code, message, claims: None, retry_after: None }
}

fn not_found(reason: NotFound) -> DelegationError {
    match reason {
        NotFound::Ended => error(Category::NeedsPerson, "session-ended", "The session has ended: sign in again"),
        NotFound::Token(refusal) if refusal.is_refusal() => {
            error(Category::NeedsPerson, refusal.reason(), "The access token of the caller is not accepted any more")
        }
        NotFound::Token(undecided) => {
            error(Category::Unavailable, undecided.reason(), "The access token of the caller cannot be checked now")
        }
        NotFound::Unavailable => error(Category::Unavailable, "store", "The caller cannot be looked up now"),
        NotFound::Elsewhere => handle_invalid(),
    }
}

/// What the host is told of a token that there is not.
fn no_token(from: NoToken, now: u64) -> DelegationError {
    let after = |at: u64| u32::try_from(Duration::from_secs(at.saturating_sub(now)).as_secs()).unwrap_or(u32::MAX);
    match from {
        NoToken::Acquire(failed) => {
            let (reason, message) = (failed.reason(), failed.public());
            match failed {
                AcquireError::NeedsPerson { claims, .. } | AcquireError::StepUp { claims, .. } => {
                    DelegationError { claims, ..error(Category::NeedsPerson, &reason, &message) }
                }
                AcquireError::Refused(_) => error(Category::Refused, &reason, &message),
                AcquireError::Unavailable(failed) => {
                    let retry_after = failed.retry_at(now).map(after);
                    DelegationError { retry_after, ..error(Category::Unavailable, &reason, &message) }
                }
                AcquireError::Store(_) | AcquireError::Unrecorded(_) => error(Category::Unavailable, &reason, &message),
            }
        }
        NoToken::SignIn(failed) => {
            let (reason, message) = (failed.reason(), failed.public());
            match failed {
                SignInError::InteractionRequired { claims, .. } => {
                    DelegationError { claims, ..error(Category::NeedsPerson, &reason, &message) }
                }
                SignInError::Declined | SignInError::Refused(_) | SignInError::Misconfigured { .. } => {
                    error(Category::Refused, &reason, &message)
                }
                _ => error(Category::Unavailable, &reason, &message),
            }
        }
        NoToken::Unavailable(_) => {
            error(Category::Unavailable, "entra-unavailable", "Microsoft Entra ID cannot be asked now: try again later")
        }
    }
}
