//! The Model Context Protocol, server side.
//!
//! Two eras are served on the same connection: the revisions that start with `initialize` (2024-11-05 to
//! 2025-11-25), and 2026-07-28, in which every request carries what is needed to answer it.

mod dispatch;
mod envelope;
mod person;
mod request_state;
mod streamable_http;
mod version;

#[cfg(test)]
mod tests;

pub use dispatch::{handle, not_set_up, receive};
pub use streamable_http::{Field, Fields, handle_http};
pub use version::Connection;

use base::Identity;
use base::policy::Name;
use caller::bearer::Bearer;
use caller::local::PersonWorld;
use caller::session::Session;
use entra::EntraWorld;

use crate::server_world::ServerWorld;

/// Who sends a message, and what the answer may use of the world.
#[derive(Clone, Copy)]
pub enum Caller<'a> {
    /// The person at this machine: on a local transport nothing else can send messages.
    Person(&'a PersonWorld<'a>),
    /// A client of the remote server, with the session of one of its users.
    Session(&'a ServerWorld<'a>, &'a Session),
    /// A client of the remote server, with an access token that Entra ID has issued for it.
    Bearer(&'a ServerWorld<'a>, &'a Bearer),
}

impl<'a> Caller<'a> {
    /// The protocol.
    fn entra(self) -> &'a EntraWorld<'a> {
        match self {
            Self::Person(person) => &person.entra,
            Self::Session(env, _) | Self::Bearer(env, _) => &env.entra,
        }
    }

    /// Who calls a remote server; nobody calls a local one.
    pub fn identity(self) -> Option<Identity<'a>> {
        match self {
            Self::Person(_) => None,
            Self::Session(_, session) => Some(session.identity()),
            Self::Bearer(_, bearer) => Some(bearer.identity()),
        }
    }

    /// Whom sealed state belongs to.
    fn principal(self) -> String {
        let kind = match self {
            Self::Person(_) => "local",
            Self::Session(..) => "session",
            Self::Bearer(..) => "bearer",
        };
        let Some(Identity { tenant_id, object_id, client_id }) = self.identity() else { return kind.to_owned() };
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
    /// more: the user has to sign in again. Never for [`Caller::Person`], whom the tools themselves ask to.
    SignInAgain,
    /// The client has to come with a token that satisfies these claims, which are JSON. Only for [`Caller::Bearer`].
    ClaimsChallenge(String),
    /// The client has to come with a token that has all of these scopes, which are in the short form. Never for
    /// [`Caller::Person`].
    InsufficientScope(Vec<Name>),
}
