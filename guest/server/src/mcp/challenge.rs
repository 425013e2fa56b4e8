//! What the client of a remote call has to bring where a tool has no answer: another token, a sign-in, or patience.

use base::policy::Denial;
use caller::{Caller, CallerAuthentication};
use serde_json::json;

use super::Reply;
use crate::tools::ToolError;

/// The claims by which a caller's sign-in satisfies the authentication context that a rule wants. `None`: something else is
/// missing.
///
/// A client with a token of Entra ID asks for them in an access token for this server. Of a session this server is the client:
/// it sees the ID token, and no access token.
pub(crate) fn context_claims(authentication: CallerAuthentication, denial: &Denial) -> Option<String> {
    let Denial::ContextMissing { any_of } = denial else { return None };
    let wanted = json!({ "acrs": { "essential": true, "value": any_of.first()? } });
    Some(match authentication {
        CallerAuthentication::Person => return None,
        CallerAuthentication::Session => json!({ "id_token": wanted }).to_string(),
        CallerAuthentication::Bearer => json!({ "access_token": wanted }).to_string(),
    })
}

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
