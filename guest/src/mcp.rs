//! The Model Context Protocol, server side.
//!
//! Two eras are served on the same connection: the revisions that start with `initialize` (2024-11-05 to
//! 2025-11-25), and 2026-07-28, in which every request carries what is needed to answer it.

mod dispatch;
mod envelope;
mod not_admitted;
mod person;
mod request_state;
mod streamable_http;
mod version;

#[cfg(test)]
mod tests;

pub use dispatch::{handle, on_connection, receive};
pub use not_admitted::{NotAdmitted, not_admitted};
pub use streamable_http::{Field, Fields, handle_http};
pub use version::Connection;

use crate::access::Name;
use crate::bearer::Bearer;
use crate::identity::Identity;
use crate::session::Session;

/// Where a message comes from.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Who calls.
    pub who: Who<'a>,
    /// Names the call in logs and audit records.
    pub correlation_id: &'a str,
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// The person at this machine: on a local transport nobody else can reach us.
    Person,
    /// A client of the remote server, with the session of one of its users.
    Session(&'a Session),
    /// A client of the remote server, with an access token that Entra ID has issued for us.
    Bearer(&'a Bearer),
}

impl<'a> Who<'a> {
    /// Who calls a remote server; nobody calls a local one.
    pub fn identity(self) -> Option<Identity<'a>> {
        match self {
            Self::Person => None,
            Self::Session(session) => Some(session.identity()),
            Self::Bearer(bearer) => Some(bearer.identity()),
        }
    }
}

impl Caller<'_> {
    /// Whom sealed state belongs to.
    fn principal(&self) -> String {
        let kind = match self.who {
            Who::Person => "local",
            Who::Session(_) => "session",
            Who::Bearer(_) => "bearer",
        };
        let Some(Identity { tenant_id, object_id, client_id }) = self.who.identity() else { return kind.to_owned() };
        // A tenant and an object are GUIDs, so nothing but the client id can contain a slash.
        format!("{kind}/{tenant_id}/{object_id}/{client_id}")
    }
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has no answer.
    Nothing,
    /// The answer, as JSON.
    Message {
        /// The status that HTTP carries it with.
        status: u16,
        /// One line.
        json: String,
    },
    /// The session of the caller has no way to Entra ID any more, or Entra ID does not take the caller's token any
    /// more: the user has to sign in again. Never for [`Who::Person`], whom the tools themselves ask to.
    SignInAgain,
    /// The client has to come with a token that satisfies these claims, which are JSON. Only for [`Who::Bearer`].
    ClaimsChallenge(String),
    /// The client has to come with a token that has all of these scopes, which are in the short form. Never for
    /// [`Who::Person`].
    InsufficientScope(Vec<Name>),
}
