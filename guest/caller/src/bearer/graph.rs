//! Tokens for Microsoft Graph, on behalf of the person whose token a client has brought.
//!
//! They are kept in the store by person, client, scope and presented token, for all instances and servers on it, until
//! one of the two expires. One call at a time asks Entra ID; the others wait for its answer. What Entra ID refuses is
//! remembered briefly. What Graph wants to see besides goes to the client, and Entra ID is told when the client comes
//! with another token: the claims of an authentication context are in a token for Graph only if they were asked for.
//!
//! Threat: an attacker has a token of a person whose sign-in was weaker than Graph's policies want (without a second
//! factor, or before the person's sessions were revoked). Entra ID decides whether that is enough, so what Entra ID
//! granted for another token of the same person is not handed out for this one.

use std::time::Duration;

use async_trait::async_trait;
use base::audit::{AuditEvent, Outcome};
use base::encoding::{digest, same_secret};
use base::secret::reveal;
use base::{Identity, Secret};
use entra::graph::profile::is_of_graph;
use entra::graph::{GraphChallenge, GraphError, TokenSource};
use entra::oauth::error::EntraRefusal;
use entra::oauth::{OAuthError, on_behalf_of};
use entra::{AcquireError, EntraWorld, token};
use serde::{Deserialize, Serialize};
use world::once::{Policy, once};
use world::records::{Namespace, Partition, Ttl};

use super::Bearer;
use crate::claims;

/// A token that expires sooner than this is replaced first.
const EXPIRY_MARGIN_SECONDS: u64 = 300;
/// How long a refusal is remembered: long enough that a client which repeats itself is no flood at Entra ID.
const REFUSAL: Duration = Duration::from_secs(5);
/// AADSTS numbers that say what the person, or a new token of theirs, cannot change: the consent or the assignment is
/// for an administrator to give (65001, 90094, 50105).
const NOT_FOR_THE_CLIENT: [u32; 3] = [65001, 90094, 50105];

/// Gives tokens for Graph, in the name of the person behind `bearer`. `scope` is one of Graph's, in the qualified form.
///
/// Fails with [`AcquireError::NeedsPerson`] when the client has to come with another token: for a claims
/// challenge, which the error carries then, or because Entra ID does not accept this one (any more).
pub fn tokens<'a>(env: &'a EntraWorld<'a>, bearer: &'a Bearer, scope: String) -> OnBehalfOf<'a> {
    OnBehalfOf { env, bearer, scope }
}

/// See [`tokens`].
pub struct OnBehalfOf<'a> {
    env: &'a EntraWorld<'a>,
    bearer: &'a Bearer,
    scope: String,
}

/// What Entra ID has answered.
#[derive(Serialize, Deserialize)]
enum Exchanged {
    Granted {
        #[serde(serialize_with = "reveal")]
        token: Secret<String>,
        /// Unix time in seconds.
        expires_at: u64,
        /// Unix time in seconds at which the presented token expires: after that no client asks with it.
        kept_until: u64,
    },
    Refused {
        refusal: EntraRefusal,
    },
}

impl Exchanged {
    fn ttl(&self, now: u64) -> Duration {
        match self {
            Self::Granted { expires_at, kept_until, .. } => {
                Duration::from_secs(expires_at.min(kept_until).saturating_sub(now).max(1))
            }
            Self::Refused { .. } => REFUSAL,
        }
    }
}

/// By tenant, object and [`OnBehalfOf::token_key`]. Tenant and object are GUIDs, so no two people share a record, and no two
/// of their tokens do.
const EXCHANGED: Namespace<Exchanged> =
    Namespace::json(Partition::Store, "on-behalf-of", Ttl::Computed(Exchanged::ttl))
        .last_part_hashed()
        .absent_if_unreadable();
/// The claims that Graph wants to see in the next token, whichever token is presented for it: by tenant, object and
/// [`OnBehalfOf::client_key`].
const WANTED: Namespace<String> = Namespace::text(Partition::Store, "on-behalf-of-claims", Ttl::For(claims::LIFETIME))
    .last_part_hashed()
    .absent_if_malformed();

#[async_trait(?Send)]
impl TokenSource for OnBehalfOf<'_> {
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError> {
        let (env, of) = (self.env, self.token_key());
        let key = self.key(&of);
        if let Some(challenge) = challenge {
            self.forget(&key, challenge).await?;
        }
        let wanted = |answer: &Exchanged| match answer {
            Exchanged::Granted { expires_at, .. } => *expires_at > env.clock.now() + EXPIRY_MARGIN_SECONDS,
            Exchanged::Refused { .. } => true,
        };
        let ask = async |_| self.ask().await;
        let asked: Result<Exchanged, AcquireError> =
            once(&env.records, &EXCHANGED, &key, &Policy::ANSWER, wanted, ask).await;
        match asked {
            Ok(Exchanged::Granted { token, .. }) => Ok(token),
            Ok(Exchanged::Refused { refusal }) => Err(refused(refusal)),
            // Entra ID is out of reach, but the token at hand stays good for a while.
            Err(error) => match env.records.get(&EXCHANGED, &key).await {
                Ok(Some(Exchanged::Granted { token, expires_at, .. })) if expires_at > env.clock.now() => Ok(token),
                _ => Err(error.at(env.clock.now()).into()),
            },
        }
    }
}

/// What a refusal means for the client.
fn refused(refusal: EntraRefusal) -> GraphError {
    let for_an_administrator =
        NOT_FOR_THE_CLIENT.contains(&refusal.code) || refusal.suberror.as_deref() == Some("consent_required");
    if refusal.needs_interaction() && !for_an_administrator {
        AcquireError::NeedsPerson { reason: refusal.advice(), claims: refusal.claims }.into()
    } else {
        AcquireError::Refused(refusal).into()
    }
}

impl OnBehalfOf<'_> {
    /// Application, client and scope.
    fn client_key(&self) -> String {
        let settings = self.env.settings;
        let client_id = self.bearer.identity().client_id;
        [settings.authority.as_str(), &settings.client_id, client_id, &self.scope].join("/")
    }

    /// The same, and the token that was presented.
    fn token_key(&self) -> String {
        let assertion = digest(self.bearer.token().reveal().as_bytes());
        [self.client_key(), assertion].join("/")
    }

    /// The key of a record that is about the person and `of`.
    fn key<'k>(&'k self, of: &'k str) -> [&'k str; 3] {
        let Identity { tenant_id, object_id, .. } = self.bearer.identity();
        [tenant_id, object_id, of]
    }

    /// The API has refused the token: it is not used any more. If it says what it wants to see (continuous access
    /// evaluation), only the client can bring it. If that is Graph, what was known of the person is not relied upon any more;
    /// another API speaks for itself only.
    async fn forget(&self, key: &[&str; 3], challenge: &GraphChallenge) -> Result<(), GraphError> {
        let env = self.env;
        if let Ok(Some(Exchanged::Granted { token, .. })) = env.records.get(&EXCHANGED, key).await
            && same_secret(token.reveal().as_bytes(), challenge.refused.reveal().as_bytes())
        {
            env.records.delete(&EXCHANGED, key).await?;
        }
        let Some(claims) = &challenge.claims else { return Ok(()) };
        if claims::are_usable(claims) {
            // Without them it takes one more challenge, so a store that fails here spoils nothing.
            let _ = env.records.put(&WANTED, &self.key(&self.client_key()), claims).await;
        }
        if is_of_graph(env.settings, &self.scope) {
            let Identity { tenant_id, object_id, .. } = self.bearer.identity();
            token::forget_principal(env.settings, tenant_id, object_id);
        }
        let reason = "An API behind this server wants a new sign-in: get a new token with the claims of the challenge.";
        Err(AcquireError::NeedsPerson { reason: reason.to_owned(), claims: Some(claims.clone()) }.into())
    }

    async fn ask(&self) -> Result<Exchanged, AcquireError> {
        let env = self.env;
        let tenant_id = self.bearer.identity().tenant_id;
        let began = env.clock.monotonic();
        let wanted = env.records.get(&WANTED, &self.key(&self.client_key())).await.ok().flatten();
        let answer = on_behalf_of::exchange(env, tenant_id, self.bearer.token(), &self.scope, wanted.as_deref()).await;
        let (outcome, reason) = match &answer {
            Ok(_) => (Outcome::Success, None),
            Err(OAuthError::Refused(refusal)) => (Outcome::Failure, Some(refusal.reason())),
            // Nothing was decided, so there is nothing to record.
            Err(error) => return Err(error.clone().into()),
        };
        let event = AuditEvent { reason, ..AuditEvent::new("on-behalf-of.issued", outcome) };
        let event = self.bearer.identity().attribute(event).lasting(env.clock.monotonic().saturating_sub(began));
        env.trail.record(event).await?;
        match answer {
            Ok(set) => {
                let kept_until = self.bearer.principal().expires_at;
                Ok(Exchanged::Granted { token: set.access_token, expires_at: set.expires_at, kept_until })
            }
            Err(OAuthError::Refused(refusal)) => Ok(Exchanged::Refused { refusal }),
            Err(error) => Err(error.into()),
        }
    }
}
