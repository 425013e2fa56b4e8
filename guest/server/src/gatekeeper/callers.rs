//! The caller of an admitted request: what a server behind learns of it, and how a later call of the host finds it again.

use base::decision::Facts;
use base::principal::PrincipalKind;
use caller::bearer::{self, Bearer};
use caller::session::{self, Session, SessionError};
use caller::{BearerCaller, Caller, CallerReference, SessionCaller};
use entra::EntraWorld;
use entra::token::TokenError;
use world::Trail;
use world::provided_tools::ToolCaller;

/// What a server or a tool behind may learn of a caller. Of the person at this machine, who need not have signed in, it is
/// the correlation id only.
pub fn tool_caller(trail: &Trail<'_>, caller: &dyn Caller) -> ToolCaller {
    let text = str::to_owned;
    let correlation_id = trail.id().to_owned();
    match caller.facts() {
        Some(Facts { identity, kind, agent, scopes, .. }) => ToolCaller {
            tenant_id: text(identity.tenant_id),
            object_id: text(identity.object_id),
            client_id: text(identity.client_id),
            kind,
            agent,
            scopes: scopes.to_vec(),
            roles: caller.known_roles().to_vec(),
            correlation_id,
        },
        None => ToolCaller {
            tenant_id: String::new(),
            object_id: String::new(),
            client_id: String::new(),
            kind: PrincipalKind::User,
            agent: false,
            scopes: Vec::new(),
            roles: Vec::new(),
            correlation_id,
        },
    }
}

/// A caller that was found again.
pub(super) enum FoundAgain {
    Session(Box<Session>),
    Bearer(Bearer),
}

/// Why a caller is not found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotFound {
    /// Its session has ended.
    Ended,
    /// Its token is not accepted any more, or cannot be judged now.
    Token(TokenError),
    /// The store does not answer.
    Unavailable,
    /// It is the person at this machine, of whom the remote server knows nothing.
    Elsewhere,
}

/// Finds the caller again that a handle leads to. A session may have ended meanwhile, and a token may have expired.
pub(super) async fn again(entra: &EntraWorld<'_>, caller: &CallerReference) -> Result<FoundAgain, NotFound> {
    match caller {
        CallerReference::Person => Err(NotFound::Elsewhere),
        CallerReference::Session { id, scopes, expires_at } => {
            match session::again(entra, id, scopes.clone(), *expires_at).await {
                Ok(session) => Ok(FoundAgain::Session(Box::new(session))),
                Err(SessionError::Store(_)) => Err(NotFound::Unavailable),
                Err(SessionError::Unknown | SessionError::Expired | SessionError::WrongResource) => {
                    Err(NotFound::Ended)
                }
            }
        }
        CallerReference::Bearer(token) => {
            bearer::again(entra, token.clone()).await.map(FoundAgain::Bearer).map_err(NotFound::Token)
        }
    }
}

impl FoundAgain {
    pub(super) fn caller<'a>(&'a self, env: &'a EntraWorld<'a>) -> Box<dyn Caller + 'a> {
        match self {
            Self::Session(session) => Box::new(SessionCaller { env, session }),
            Self::Bearer(bearer) => Box::new(BearerCaller { env, bearer }),
        }
    }
}
