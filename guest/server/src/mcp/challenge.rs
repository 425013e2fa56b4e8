//! What the client of a remote call has to bring where a tool has no answer: another token, a sign-in, or patience.

use base::policy::Denial;
use caller::{Caller, CallerAuthentication};

use super::Reply;
use crate::access::context_claims;
use crate::tools::ToolError;

/// What the transport says to a caller whose sign-in has to satisfy another authentication context. `None`: something else is
/// missing.
pub(crate) fn of_denial(authentication: CallerAuthentication, denial: &Denial) -> Option<Reply> {
    let claims = context_claims(authentication, denial)?;
    match authentication {
        CallerAuthentication::Person => None,
        // The claims wait for the person: see `Access::admit`.
        CallerAuthentication::Session => Some(Reply::StepUp),
        CallerAuthentication::Bearer => Some(Reply::ClaimsChallenge(claims)),
    }
}

/// What the transport says in place of a result. `None`: the error is for the caller of the tool, as its result.
pub(crate) async fn of(caller: &dyn Caller, error: &ToolError) -> Option<Reply> {
    if let Some(after) = error.too_many() {
        return Some(Reply::TooMany(after));
    }
    let claims = error.needs_person()?;
    if caller.kind() == CallerAuthentication::Session && error.is_step_up() {
        if let Some(claims) = claims {
            caller.want(claims).await;
        }
        return Some(Reply::StepUp);
    }
    Some(match (caller.kind(), claims) {
        (CallerAuthentication::Bearer, Some(claims)) => Reply::ClaimsChallenge(claims.to_owned()),
        // A session that needs more of its user has ended; the next sign-in brings the claims.
        (CallerAuthentication::Person | CallerAuthentication::Session | CallerAuthentication::Bearer, _) => {
            Reply::SignInAgain
        }
    })
}
