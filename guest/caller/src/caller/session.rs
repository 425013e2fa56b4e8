//! The client of a session, in the name of the session's person.

use async_trait::async_trait;
use base::Secret;
use base::decision::{Fact, Facts};
use base::principal::{Groups, PrincipalKind};
use entra::EntraWorld;
use entra::graph::{GraphChallenge, GraphError, Source, TokenSource as _, profile};

use super::{Caller, CallerAuthentication, CallerReference, NoToken};
use crate::session::{self, Membership, Session, Unconfirmed, graph};

/// A client with a session.
pub struct SessionCaller<'a> {
    /// The protocol.
    pub env: &'a EntraWorld<'a>,
    /// The session.
    pub session: &'a Session,
}

#[async_trait(?Send)]
impl Caller for SessionCaller<'_> {
    fn kind(&self) -> CallerAuthentication {
        CallerAuthentication::Session
    }

    fn reference(&self) -> CallerReference {
        let Session { id, scopes, expires_at, .. } = self.session;
        CallerReference::Session { id: id.clone(), scopes: scopes.clone(), expires_at: *expires_at }
    }

    fn facts(&self) -> Option<Facts<'_>> {
        let Session { scopes, membership, .. } = self.session;
        Some(Facts {
            identity: self.session.identity(),
            kind: PrincipalKind::User,
            // A session begins with a page that a person signs in on.
            agent: false,
            guest: Fact::Unknown,
            scopes,
            server_scope: None,
            contexts: membership.contexts(self.env.clock.now()),
            // What the session says counts for some hours: whether it does is looked at where a rule depends on it.
            roles: Fact::Unknown,
            groups: match &membership.groups {
                // That they do not fit may be old: what they are, Graph is asked for anew.
                groups @ Groups::Overage => Fact::Known(groups),
                Groups::Absent | Groups::Listed(_) => Fact::Unknown,
            },
            all_groups: Fact::Unknown,
        })
    }

    fn known_roles(&self) -> &[String] {
        let membership = &self.session.membership;
        if membership.counts(self.env.clock.now()) { &membership.roles } else { &[] }
    }

    async fn confirm(&self) -> Result<Membership, Unconfirmed> {
        let membership = &self.session.membership;
        if membership.counts(self.env.clock.now()) {
            return Ok(membership.clone());
        }
        session::confirm(self.env, self.session).await
    }

    async fn delegated(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, NoToken> {
        Ok(graph::tokens(self.env, self.session, scope.to_owned()).token(challenge).await?)
    }

    async fn unsatisfied(&self, scope: &str, challenge: &GraphChallenge) -> Option<NoToken> {
        let tokens = graph::tokens(self.env, self.session, scope.to_owned());
        tokens.unsatisfied(challenge).await.map(NoToken::from)
    }

    async fn want(&self, claims: &str) {
        session::claims::want(&self.env.records, &self.session.owner(), claims).await;
    }

    async fn profile(&self, env: &EntraWorld<'_>, tokens: &Source<'_, NoToken>) -> Result<String, GraphError<NoToken>> {
        profile::whole(env, self.session.identity(), tokens).await
    }
}
