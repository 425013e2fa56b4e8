//! What people have consented to, remembered so that the same question is not asked again.

use crate::authorization_server::browser::RememberedUser;
use crate::authorization_server::clients::Client;
use crate::environment::{Environment, StoreError};

/// A consent: who allowed which client what, and where the answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Consent<'a> {
    /// Who allows it.
    pub user: &'a RememberedUser,
    /// Who is allowed it.
    pub client: &'a Client,
    /// What is allowed, in the short form. The order has no meaning.
    pub scopes: &'a [String],
    /// Where the code is sent.
    pub redirect_uri: &'a str,
}

/// Whether the consent was given within the last 90 days and may stand in for the page. Never for a loopback
/// redirect.
///
/// The page may be skipped only if the same person then signs in: compare the account at the callback with
/// [`super::browser::Browser::remembered_user`], or ask here again for the person who did sign in.
pub fn is_remembered(_env: &Environment, _consent: &Consent<'_>) -> Result<bool, StoreError> {
    Ok(false)
}

/// Remembers a consent, once the person who gave it has signed in. Does nothing where it must not be remembered.
pub fn remember(_env: &Environment, _consent: &Consent<'_>) -> Result<(), StoreError> {
    Ok(())
}

/// Forgets a consent.
pub fn forget(_env: &Environment, _consent: &Consent<'_>) -> Result<(), StoreError> {
    Ok(())
}
