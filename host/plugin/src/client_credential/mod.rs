//! How the component proves to Entra ID which application it is (`wit/client-credential.wit`).
//!
//! The host decides where the credential comes from. The component receives what it sends to the token endpoint. For a
//! certificate, that is a signed assertion, and the private key stays here; for a secret, it is a stand-in
//! (`stand_in.rs`). A public client has no credential.
//!
//! Why this is not `azure_identity` (looked at: 1.0.0 and 1.1.0-beta.1): `docs/src/explanation/credentials.md`.

use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::bindings::client_credential as wit;

#[cfg(feature = "credentials")]
mod azure_cli;
#[cfg(feature = "credentials")]
mod certificate;
#[cfg(feature = "credentials")]
mod federated_exchange;
#[cfg(feature = "credentials")]
mod federated_file;
#[cfg(feature = "credentials")]
mod jwt;
#[cfg(feature = "credentials")]
mod kept_token;
#[cfg(feature = "credentials")]
mod managed_identity;
mod secret;
mod stand_in;
#[cfg(feature = "credentials")]
mod vault_certificate;

#[cfg(feature = "credentials")]
pub use azure_cli::AzureCli;
#[cfg(feature = "credentials")]
pub use certificate::{CertificateFacts, CertificateFault, ClientCertificates};
#[cfg(feature = "credentials")]
pub use federated_exchange::FederatedExchange;
#[cfg(feature = "credentials")]
pub use federated_file::FederatedTokenFile;
#[cfg(feature = "credentials")]
pub use managed_identity::{IdentityFault, IdentityService, ManagedIdentity};
pub use secret::{ClientSecret, MAX_SECRET_BYTES, checked_secret, read_secret_file, secret_record};
pub(crate) use stand_in::StandIns;
#[cfg(feature = "credentials")]
pub use vault_certificate::{VaultCertificate, VaultCertificateFacts, VaultCertificateFault};

/// The credential to send to the token endpoint.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing but the client id.
    None,
    /// `client_secret`.
    Secret(Zeroizing<String>),
    /// `client_assertion`.
    Assertion(Zeroizing<String>),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret([redacted])",
            Self::Assertion(_) => "Assertion([redacted])",
        })
    }
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

    /// Another credential than `refused`, which the token endpoint has refused; [`Credential::None`] if there is none.
    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let now = self.obtain(audience).await?;
        Ok(if now == *refused { Credential::None } else { now })
    }
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

type Answer = Result<wit::Credential, wit::CredentialError>;

fn answer(obtained: Result<Credential, CredentialError>) -> Answer {
    match obtained {
        Ok(Credential::None) => Ok(wit::Credential::None),
        Ok(Credential::Secret(secret)) => Ok(wit::Credential::Secret(secret.to_string())),
        Ok(Credential::Assertion(assertion)) => Ok(wit::Credential::Assertion(assertion.to_string())),
        Err(CredentialError::NotConfigured(setting)) => Err(wit::CredentialError::NotConfigured(setting)),
        Err(CredentialError::Unavailable(reason)) => Err(wit::CredentialError::Unavailable(reason)),
    }
}

impl wit::Host for ClientCredentialCtx {
    async fn obtain(&mut self, audience: String) -> wasmtime::Result<Answer> {
        Ok(answer(self.source.obtain(&audience).await))
    }

    async fn replacement(&mut self, audience: String, refused: wit::Credential) -> wasmtime::Result<Answer> {
        let refused = match refused {
            wit::Credential::None => Credential::None,
            wit::Credential::Secret(secret) => Credential::Secret(Zeroizing::new(secret)),
            wit::Credential::Assertion(assertion) => Credential::Assertion(Zeroizing::new(assertion)),
        };
        Ok(answer(self.source.replacement(&audience, &refused).await))
    }
}
