//! The bearer of a token that Entra ID has issued.

use async_trait::async_trait;
use base::Secret;
use base::decision::{Fact, Facts};
use base::principal::Principal;
use entra::EntraWorld;
use entra::graph::{GraphChallenge, GraphError, Source, TokenSource as _, profile};

use super::{Caller, CallerAuthentication, CallerReference, NoToken};
use crate::bearer::{Bearer, graph};
use crate::session::{Membership, Unconfirmed};

/// A client that has brought an access token.
pub struct BearerCaller<'a> {
    /// The protocol.
    pub env: &'a EntraWorld<'a>,
    /// The token and its principal.
    pub bearer: &'a Bearer,
}

#[async_trait(?Send)]
impl Caller for BearerCaller<'_> {
    fn kind(&self) -> CallerAuthentication {
        CallerAuthentication::Bearer
    }

    fn reference(&self) -> CallerReference {
        CallerReference::Bearer(self.bearer.token().clone())
    }

    fn facts(&self) -> Option<Facts<'_>> {
        let Principal { kind, agent, guest, scopes, contexts, roles, groups, .. } = self.bearer.principal();
        Some(Facts {
            identity: self.bearer.identity(),
            kind: *kind,
            agent: agent.is_some(),
            guest: Fact::Known(*guest),
            scopes,
            server_scope: None,
            contexts,
            roles: Fact::Known(roles),
            groups: Fact::Known(groups),
            all_groups: Fact::Unknown,
        })
    }

    async fn confirm(&self) -> Result<Membership, Unconfirmed> {
        let reason = "only the token says which roles and groups the caller has".to_owned();
        Err(Unconfirmed::Unavailable { reason, retry_at: None })
    }

    async fn delegated(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, NoToken> {
        Ok(graph::tokens(self.env, self.bearer, scope.to_owned()).token(challenge).await?)
    }

    async fn profile(&self, env: &EntraWorld<'_>, tokens: &Source<'_, NoToken>) -> Result<String, GraphError<NoToken>> {
        profile::whole(env, self.bearer.identity(), tokens).await
    }
}
