//! Accounts of a public client, and the component's answer when there is none (`wit/sign-in.wit`).

use crate::attributes::{self, Attribute};
use crate::bindings::export::sign_in as wit;

pub use crate::bindings::export::sign_in::{Account, Pending, SignInFailure};

/// Why there is no token or account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct SignInError {
    /// What the caller can do about it.
    pub failure: SignInFailure,
    /// Stable reason code, such as `aadsts-65001`.
    pub code: String,
    /// A sentence for the person.
    pub message: String,
    /// For the log.
    pub evidence: Vec<Attribute>,
}

impl From<wit::SignInError> for SignInError {
    fn from(error: wit::SignInError) -> Self {
        let wit::SignInError { failure, code, message, evidence } = error;
        Self { failure, code, message, evidence: attributes::from_wit(evidence) }
    }
}
