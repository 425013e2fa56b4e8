//! The Model Context Protocol, server side.
//!
//! Two eras are served on the same connection: the revisions that start with `initialize` (2024-11-05 to
//! 2025-11-25), and 2026-07-28, in which every request carries what is needed to answer it.

mod calls;
pub(crate) mod challenge;
mod dispatch;
mod envelope;
mod not_admitted;
mod person;
pub(crate) mod relay;
mod request_error;
mod request_state;
mod results;
mod streamable_http;
mod version;

#[cfg(test)]
mod tests;

pub use dispatch::{handle, not_set_up, on_connection, receive};
pub use not_admitted::{NotAdmitted, not_admitted};
pub use streamable_http::{RepeatedField, RepeatedFields, handle_http};
pub use version::McpConnection;

use std::time::Duration;

use base::Identity;
use base::policy::Name;
use caller::{Caller, CallerAuthentication};
use entra::EntraWorld;
use world::limits;

use crate::local_world::LocalWorld;
use crate::server_world::ServerWorld;

/// The operation of the rate limiter.
const CALL: &str = "call";

/// The other side of the connection, and what the answer may use of the world.
#[derive(Clone, Copy)]
pub enum Peer<'a> {
    /// A client of the person at this machine: on a local transport nothing else can send messages.
    Local(&'a LocalWorld<'a>),
    /// A client of the remote server, and the caller that it acts for.
    Remote(&'a ServerWorld<'a>, &'a dyn Caller),
}

impl<'a> Peer<'a> {
    /// The protocol.
    fn entra(self) -> &'a EntraWorld<'a> {
        match self {
            Self::Local(env) => &env.person.entra,
            Self::Remote(env, _) => &env.entra,
        }
    }

    /// Counts requests of a remote caller. An error says after which time to try again.
    pub(crate) async fn count(self, requests: usize) -> Result<(), Duration> {
        let Self::Remote(env, caller) = self else { return Ok(()) };
        let Some(who) = caller.identity() else { return Ok(()) };
        for _ in 0..requests {
            limits::admit_caller(env.limiter, env.entra.trail, CALL, who).await?;
        }
        Ok(())
    }

    /// By what a remote caller is known.
    fn authentication(self) -> Option<CallerAuthentication> {
        match self {
            Self::Local(_) => None,
            Self::Remote(_, caller) => Some(caller.kind()),
        }
    }

    /// The owner of sealed state.
    fn principal(self) -> String {
        let (kind, identity) = match self {
            Self::Local(_) => (CallerAuthentication::Person, None),
            Self::Remote(_, caller) => (caller.kind(), caller.identity()),
        };
        let Some(Identity { tenant_id, object_id, client_id }) = identity else { return kind.name().to_owned() };
        // A tenant and an object are GUIDs, so nothing but the client id can contain a slash.
        format!("{}/{tenant_id}/{object_id}/{client_id}", kind.name())
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
    /// more: the user has to sign in again. Never for [`Peer::Local`]: there the tools themselves ask the person.
    SignInAgain,
    /// One API behind the tool, or a rule about it, wants the user to sign in once more; the session goes on for everything
    /// else. Only for [`CallerAuthentication::Session`].
    StepUp,
    /// The client has to come with a token that satisfies these claims, which are JSON. Only for
    /// [`CallerAuthentication::Bearer`].
    ClaimsChallenge(String),
    /// The client has to come with a token that has all of these scopes, which are in the short form. Never for
    /// [`Peer::Local`].
    InsufficientScope(Vec<Name>),
    /// The caller has made too many calls, or caused too many requests to Graph. Time after which to try again. Never for
    /// [`Peer::Local`].
    TooMany(Duration),
}
