//! Converts to the types of `sign-in`.

use super::attributes::Attributes;
use super::exports::entra_mcp::plugin::sign_in as wit;
use caller::local::silent::AccessToken;
use caller::local::{Account, SignInError};

impl From<Account> for wit::Account {
    fn from(account: Account) -> Self {
        let Account { home_account_id, username, name, tenant_id, object_id, .. } = account;
        Self { home_account_id, username, name, tenant_id, object_id }
    }
}

impl From<AccessToken> for wit::AccessToken {
    fn from(token: AccessToken) -> Self {
        Self {
            token: token.token.reveal().clone(),
            expires_at_unix_seconds: token.expires_at,
            account: token.account.into(),
        }
    }
}

impl From<SignInError> for wit::SignInError {
    fn from(error: SignInError) -> Self {
        let code = error.reason();
        let evidence = match error.refusal() {
            Some(refusal) => Attributes::default()
                .with("oauth-error", refusal.error.as_str())
                .maybe("aadsts", (refusal.code > 0).then(|| u64::from(refusal.code))),
            None => Attributes::default(),
        };
        Self { failure: failure(&error), code, message: error.to_string(), evidence: evidence.into() }
    }
}

fn failure(error: &SignInError) -> wit::SignInFailure {
    use wit::SignInFailure as Failure;
    match error {
        SignInError::InteractionRequired { .. } => Failure::InteractionRequired,
        SignInError::Declined | SignInError::TimedOut(_) => Failure::NotFinished,
        SignInError::Refused(_) | SignInError::Misconfigured { .. } => Failure::Refused,
        SignInError::Untrusted(_) => Failure::Untrusted,
        SignInError::AccountSelection(_) => Failure::AccountSelection,
        SignInError::Store(_)
        | SignInError::Unrecorded(_)
        | SignInError::Deferred { .. }
        | SignInError::Unavailable(_)
        | SignInError::JoinedFailed(_)
        | SignInError::TakenOver
        | SignInError::ClientGone
        | SignInError::Authority(_)
        | SignInError::NoBrowser(_)
        | SignInError::Broker(_) => Failure::Unavailable,
    }
}
