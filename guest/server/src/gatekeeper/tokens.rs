//! Tokens in the name of a caller, for requests that a call of a tool or of a server behind causes.
//!
//! Threat: a tool wants more than the operator has granted, or another caller's token. So the permissions have to be one of
//! the combinations in the settings of the handle's server, and the handle alone says which caller the token is for.

use base::Secret;
use base::principal::PrincipalKind;
use caller::claims;
use entra::graph::GraphChallenge;
use world::BodyOnce;
use world::provided_tools::{DelegationError, DelegationErrorCategory as Category};

use super::TokenChallenge;
use super::callers::{NotFound, again};
use super::delegation::{error, granted, no_token, not_granted};
use super::handle::{self, handle_invalid};
use crate::server_world::ServerWorld;

/// An access token in the name of the handle's caller.
#[inline(never)]
pub fn delegated_token<'f>(
    env: &'f ServerWorld<'_>,
    handle: &'f str,
    permissions: &'f [String],
    challenge: Option<&'f TokenChallenge>,
) -> BodyOnce<'f, Result<Secret<String>, DelegationError>> {
    Box::pin(async move {
        let entra = &env.entra;
        let unavailable =
            |_| error(Category::Unavailable, "store", "The call cannot be looked up now: try again later");
        let (handle, caller) = handle::open(entra, handle).await.map_err(unavailable)?.ok_or_else(handle_invalid)?;
        let server = &handle.of.server;
        let permissions =
            granted(entra.settings, server, permissions).ok_or_else(|| not_granted(server, permissions))?;
        let again = again(entra, &caller).await.map_err(not_found)?;
        let caller = again.caller(entra);
        if caller.facts().is_some_and(|facts| facts.kind == PrincipalKind::App) {
            let message =
                "The caller is an application that acts for itself: there is no token in the name of a person";
            return Err(error(Category::Refused, "no-user", message));
        }
        let challenge = challenge.map(of_api);
        let token = caller.delegated(&permissions.join(" "), challenge.as_ref()).await;
        token.map_err(|error| no_token(entra.clock, &error))
    })
}

/// Claims that Entra ID could not be told of count as none.
fn of_api(challenge: &TokenChallenge) -> GraphChallenge {
    let TokenChallenge { refused_token, claims } = challenge;
    let claims = Some(claims.clone()).filter(|claims| claims::are_usable(claims));
    GraphChallenge { refused: refused_token.clone(), claims }
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
