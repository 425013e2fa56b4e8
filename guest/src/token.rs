//! Validation of tokens. Until the validator is merged, every token is refused.

use crate::environment::Environment;

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenError;

impl TokenError {
    /// A stable reason code.
    pub fn reason(&self) -> &'static str {
        "unsupported"
    }
}

/// What an ID token has to fit.
pub struct IdTokenExpectations<'a> {
    /// The nonce of the request, if the flow has one.
    pub nonce: Option<&'a str>,
}

/// An ID token that was validated.
#[derive(Debug)]
pub struct ValidatedIdToken {
    tenant_id: String,
    object_id: String,
    preferred_username: Option<String>,
    name: Option<String>,
}

impl ValidatedIdToken {
    /// `oid`.
    pub fn object_id(&self) -> &str {
        &self.object_id
    }
    /// `tid`.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }
    /// For display only.
    pub fn preferred_username(&self) -> Option<&str> {
        self.preferred_username.as_deref()
    }
    /// For display only.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// Validates an ID token.
pub async fn validate_id_token(
    _env: &Environment,
    _token: &str,
    _expected: &IdTokenExpectations<'_>,
) -> Result<ValidatedIdToken, TokenError> {
    Err(TokenError)
}
