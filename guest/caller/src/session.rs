//! Sessions: what a client of the remote server holds instead of tokens of Entra ID.
//!
//! A session belongs to one client, one person and one resource. The client gets random tokens of which only hashes are
//! stored; the tokens of Entra ID stay in the store and never leave the server.
//!
//! `record` is the session as it is stored. [`lifecycle`] begins a session, [`refresh`] continues it, and `ending` ends it.
//! `grace` keeps the last answer for a client that did not get it. [`entra_tokens`] keeps the tokens of Entra ID behind a
//! session, and [`graph`] hands them to requests to Microsoft Graph. [`claims`] remembers what the next sign-in has to bring.
//! `membership` is what Entra ID says of the person.

pub mod claims;
mod ending;
pub mod entra_tokens;
mod grace;
pub mod graph;
#[cfg(test)]
mod interleavings;
pub mod lifecycle;
mod membership;
mod record;
pub mod refresh;
#[cfg(test)]
mod tests;

use base::audit::{AuditEvent, Outcome};
use base::settings::Settings;
use base::{Identity, Secret};
use entra::EntraWorld;
use record::{PresentedToken, SessionRecord};
use world::StoreError;

pub use membership::{Membership, Unconfirmed, confirm};

/// A session whose access token was presented and is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names the session in the store. Not a secret, but not for clients either.
    pub id: String,
    /// The client that the session was given to.
    pub client_id: String,
    /// The resource (RFC 8707) that the access token is for.
    pub resource: String,
    /// What the person has consented to, in the short form.
    pub scopes: Vec<String>,
    /// The person's tenant.
    pub tenant_id: String,
    /// The person within the tenant.
    pub object_id: String,
    /// When the access token expires, in Unix seconds.
    pub expires_at: u64,
    /// The person's roles and groups.
    pub membership: Membership,
}

/// What a client gets.
#[derive(Debug)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: Secret<String>,
    /// The refresh token, which replaces the one before.
    pub refresh_token: Secret<String>,
    /// Seconds until the access token expires: never longer than the token of Entra ID lives.
    pub expires_in: u64,
    /// What the access token is good for.
    pub scopes: Vec<String>,
}

/// Why an access token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no such session (any more).
    #[error("the session is unknown or has ended")]
    Unknown,
    /// The access token has expired; the session may live on.
    #[error("the access token has expired")]
    Expired,
    /// The session is for another resource.
    #[error("the access token is for another resource")]
    WrongResource,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds the session that an access token belongs to, with one read of the store. `resources` are those of which
/// the session has to be for one.
pub async fn authenticate(
    env: &EntraWorld<'_>,
    access_token: &Secret<String>,
    resources: &[&str],
) -> Result<Session, SessionError> {
    let presented = PresentedToken::read(access_token).ok_or(SessionError::Unknown)?;
    let record = record::look(&env.records, &presented.id).await?.ok_or(SessionError::Unknown)?;
    let access = record.access(&presented).ok_or(SessionError::Unknown)?;
    env.trail.set_session(&presented.id);
    env.trail.set_user(record.username.as_deref());
    let now = env.clock.now();
    if record.is_over(now) || !record.owner.is_let_in(env.settings) {
        return Err(SessionError::Unknown);
    }
    if !access.is_current(now) {
        return Err(SessionError::Expired);
    }
    if !resources.contains(&record.resource.as_str()) {
        return Err(SessionError::WrongResource);
    }
    Ok(Session::of(&record, presented.id, access.scopes.clone(), access.expires_at))
}

/// Finds a session again whose access token was presented in an earlier call: one that has ended is unknown. `scopes` and
/// `expires_at` are those of the access token. That it has expired meanwhile does not matter to a call that it began.
pub async fn again(
    env: &EntraWorld<'_>,
    id: &str,
    scopes: Vec<String>,
    expires_at: u64,
) -> Result<Session, SessionError> {
    let record = record::look(&env.records, id).await?.ok_or(SessionError::Unknown)?;
    if record.is_over(env.clock.now()) || !record.owner.is_let_in(env.settings) {
        return Err(SessionError::Unknown);
    }
    Ok(Session::of(&record, id.to_owned(), scopes, expires_at))
}

/// The owner of a session.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// The client.
    pub client_id: String,
    /// The person's tenant.
    pub tenant_id: String,
    /// The person within the tenant.
    pub object_id: String,
}

impl Owner {
    /// Whether the person's tenant is still on the list of the settings. Without one it is the tenant of the settings,
    /// which is part of the name of every record.
    fn is_let_in(&self, settings: &Settings) -> bool {
        let allowed = &settings.token.allowed_tenants;
        allowed.is_empty() || allowed.contains(&self.tenant_id)
    }

    /// A security event about a session of theirs.
    pub fn event(&self, name: &'static str, outcome: Outcome) -> AuditEvent {
        AuditEvent {
            tenant_id: Some(self.tenant_id.clone()),
            object_id: Some(self.object_id.clone()),
            client_id: Some(self.client_id.clone()),
            ..AuditEvent::new(name, outcome)
        }
    }
}

impl Session {
    fn of(record: &SessionRecord, id: String, scopes: Vec<String>, expires_at: u64) -> Self {
        Self {
            id,
            scopes,
            expires_at,
            client_id: record.owner.client_id.clone(),
            resource: record.resource.clone(),
            tenant_id: record.owner.tenant_id.clone(),
            object_id: record.owner.object_id.clone(),
            membership: record.membership.clone(),
        }
    }

    /// The caller and its client.
    pub fn identity(&self) -> Identity<'_> {
        Identity { tenant_id: &self.tenant_id, object_id: &self.object_id, client_id: &self.client_id }
    }

    /// The owner of the session.
    pub fn owner(&self) -> Owner {
        Owner {
            client_id: self.client_id.clone(),
            tenant_id: self.tenant_id.clone(),
            object_id: self.object_id.clone(),
        }
    }
}
