//! How the component proves to Entra ID which application it is (`wit/client-credential.wit`).
//!
//! The host decides where the credential comes from. The component receives what it sends to the token endpoint. A
//! public client has no credential.

use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::bindings::client_credential as wit;

mod secret;

pub use secret::{ClientSecret, MAX_SECRET_BYTES, checked_secret, read_secret_file, secret_record};

/// What to send to the token endpoint.
pub enum Credential {
    /// Nothing but the client id.
    None,
    /// `client_secret`.
    Secret(Zeroizing<String>),
    /// `client_assertion`.
    Assertion(Zeroizing<String>),
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The text names the setting.
    #[error("{0}")]
    NotConfigured(String),
    /// The source did not answer.
    #[error("the client credential is unavailable: {0}")]
    Unavailable(String),
}

/// A source of credentials.
#[async_trait]
pub trait ClientCredential: Send + Sync + 'static {
    /// Obtains a credential for one request to the token endpoint `audience`.
    async fn obtain(&self, audience: &str) -> Result<Credential, CredentialError>;
}

/// The credential of a public client: none.
#[derive(Debug, Default)]
pub struct NoCredential;

#[async_trait]
impl ClientCredential for NoCredential {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

/// The state of an instance.
pub(crate) struct ClientCredentialCtx {
    source: Arc<dyn ClientCredential>,
}

impl ClientCredentialCtx {
    pub(crate) fn new(source: Arc<dyn ClientCredential>) -> Self {
        Self { source }
    }
}

impl wit::Host for ClientCredentialCtx {
    async fn obtain(&mut self, audience: String) -> wasmtime::Result<Result<wit::Credential, wit::CredentialError>> {
        Ok(match self.source.obtain(&audience).await {
            Ok(Credential::None) => Ok(wit::Credential::None),
            Ok(Credential::Secret(secret)) => Ok(wit::Credential::Secret(secret.to_string())),
            Ok(Credential::Assertion(assertion)) => Ok(wit::Credential::Assertion(assertion.to_string())),
            Err(CredentialError::NotConfigured(setting)) => Err(wit::CredentialError::NotConfigured(setting)),
            Err(CredentialError::Unavailable(reason)) => Err(wit::CredentialError::Unavailable(reason)),
        })
    }
}
