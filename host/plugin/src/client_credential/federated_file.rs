//! A token of another issuer in a file, which the application trusts as a federated credential: Kubernetes renews it there
//! (workload identity).

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::Clock;

/// The content of a file at the moment of use.
pub struct FederatedTokenFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

impl FederatedTokenFile {
    /// The token in this file.
    pub fn new(path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { path, clock }
    }

    fn read(&self) -> Result<Zeroizing<String>, String> {
        let path = self.path.display();
        let unreadable = |reason: String| {
            format!(
                "the federated token file {path} cannot be read ({reason}): in Kubernetes, set the label \
                 azure.workload.identity/use of the pod and its service account; elsewhere, correct \
                 --federated-token-file or AZURE_FEDERATED_TOKEN_FILE"
            )
        };
        let mut text = Zeroizing::new(String::with_capacity(jwt::MAX_TOKEN_BYTES + 1));
        let file = File::open(&self.path).map_err(|error| unreadable(error.to_string()))?;
        let length = file.take(jwt::MAX_TOKEN_BYTES as u64 + 1).read_to_string(&mut text);
        length.map_err(|error| unreadable(error.to_string()))?;
        let token = Zeroizing::new(text.trim().to_owned());
        let Some(claims) = jwt::part(&token, 1) else {
            return Err(format!(
                "the federated token file {path} holds no token: it has to be a signed JSON Web Token"
            ));
        };
        let now = self.clock.now_seconds();
        if claims.get("exp").and_then(serde_json::Value::as_u64).is_some_and(|expires| expires <= now) {
            return Err(format!(
                "the token in the federated token file {path} has expired: see why its issuer does not renew it, and that \
                 the date of this machine is right"
            ));
        }
        Ok(token)
    }
}

#[async_trait]
impl ClientCredential for FederatedTokenFile {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        self.read().map(Credential::Assertion).map_err(CredentialError::Unavailable)
    }
}
