//! Tokens for the tools that the person at this machine calls: in the name of the account that the call was made for.
//!
//! The tool's call and the question for a token are two calls of the host, of two instances. What joins them is a handle,
//! sealed by this machine's key: it names the account and the server, and for ten minutes.

use base::Secret;
use caller::local::accounts::{self, Account};
use caller::local::interactive::{self, NoClient, SignInRequest};
use caller::local::{PersonWorld, SignInError, silent};
use caller::{NoToken, claims};
use entra::EntraWorld;
use entra::graph::GraphChallenge;
use serde::{Deserialize, Serialize};
use world::provided_tools::DelegationError;
use world::records::{Partition, Sealed};
use world::{BodyOnce, StoreError};

use super::delegation::{granted, no_token, not_granted};
use super::handle::handle_invalid;

/// Binds the ciphertext to its purpose and form.
const PURPOSE: &[u8] = b"entra-mcp local-handle v1";
/// How long a handle is good for: longer than any call lasts, the person's own sign-in included.
const LIFETIME_SECONDS: u64 = 600;

/// The call that tokens are for.
#[derive(Serialize, Deserialize)]
struct LocalHandle {
    server: String,
    /// Home account id.
    account: String,
    /// Unix time in seconds.
    expires_at: u64,
}

/// Handles as the host gets them. No sign-in would repair a damaged key, and all that its loss costs are the calls that are
/// under way.
const HANDLES: Sealed<LocalHandle> = Sealed::json(Partition::Application, "local-handle-key").with_replaceable_key();

/// Makes the handle of a call of a tool of this server, for this account.
pub async fn seal(env: &EntraWorld<'_>, server: &str, account: &Account) -> Result<Secret<String>, StoreError> {
    let handle = LocalHandle {
        server: server.to_owned(),
        account: account.home_account_id.clone(),
        expires_at: env.clock.now() + LIFETIME_SECONDS,
    };
    env.records.seal(&HANDLES, PURPOSE, &handle).await.map(Secret::new)
}

/// An access token for the account of a handle. The permissions have to be one entry of the server's in the settings. Where
/// Entra ID wants the person, the browser is opened: no client takes part in this call.
#[inline(never)]
pub fn local_token<'f>(
    person: &'f PersonWorld<'_>,
    handle: &'f str,
    permissions: &'f [String],
    challenge: Option<&'f GraphChallenge>,
) -> BodyOnce<'f, Result<Secret<String>, DelegationError>> {
    Box::pin(async move {
        let env = &person.entra;
        let failed = |error: SignInError| no_token(env.clock, &NoToken::SignIn(error));
        let opened = env.records.open(&HANDLES, PURPOSE, handle).await.map_err(|error| failed(error.into()))?;
        let handle = opened.filter(|handle| env.clock.now() < handle.expires_at).ok_or_else(handle_invalid)?;
        let permissions = granted(env.settings, &handle.server, permissions)
            .ok_or_else(|| not_granted(&handle.server, permissions))?;
        let challenge = challenge.map(|challenge| GraphChallenge {
            // Claims that Entra ID could not be told of count as none.
            claims: challenge.claims.clone().filter(|claims| claims::are_usable(claims)),
            refused: challenge.refused.clone(),
        });
        let token = acquire(person, &handle.account, permissions, challenge.as_ref()).await;
        token.map_err(failed)
    })
}

async fn acquire(
    person: &PersonWorld<'_>,
    account: &str,
    permissions: &[String],
    challenge: Option<&GraphChallenge>,
) -> Result<Secret<String>, SignInError> {
    let account = accounts::choose(person, Some(account)).await?;
    let claims = match silent::for_call(person, &account, permissions, challenge).await {
        Err(SignInError::InteractionRequired { claims, .. }) => claims,
        other => return other.map(|token| token.token),
    };
    let request = SignInRequest {
        scopes: permissions.to_vec(),
        login_hint: Some(&account.username).filter(|name| !name.is_empty()).map(String::as_str),
        claims,
        ..SignInRequest::default()
    };
    let signed_in = interactive::sign_in(person, &request, &NoClient).await?;
    if signed_in.home_account_id != account.home_account_id {
        return Err(SignInError::AccountSelection(
            "Another account than the one that called the tool has signed in: call the tool again.".to_owned(),
        ));
    }
    silent::for_call(person, &account, permissions, challenge).await.map(|token| token.token)
}

#[cfg(test)]
mod tests;
