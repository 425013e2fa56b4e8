//! The Azure CLI of this machine as a source of tokens: for development only.
//!
//! Entra ID takes a token of its own as a credential of an application only if it is one of a managed identity. So the CLI
//! has to be signed in as one (`az login --identity`), on a development machine in Azure or in the Cloud Shell.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::kept_token::{KeptToken, Token};
use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::Clock;
use crate::key_vault::VaultTokens;

/// How long the CLI may take. It starts an interpreter and asks Entra ID.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What to do.
const SIGN_IN: &str =
    "sign the Azure CLI in as a managed identity with `az login --identity`, or use another --credential";

/// Tokens of the account that the Azure CLI is signed in with.
pub struct AzureCli {
    program: String,
    /// `api://AzureADTokenExchange` or what it is called in another cloud, or a key vault.
    resource: String,
    /// The token of a person is good as well.
    people: bool,
    kept: KeptToken<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "accessToken")]
    access_token: String,
}

impl AzureCli {
    /// Tokens for `resource` from the program `az` on the search path.
    pub fn new(resource: &str, clock: Arc<dyn Clock>) -> Self {
        let kept = KeptToken::new("the Azure CLI", clock);
        Self { program: "az".to_owned(), resource: resource.to_owned(), people: false, kept }
    }

    /// Tokens for a key vault, which may be those of the person that has signed in.
    pub fn for_vault(resource: &str, clock: Arc<dyn Clock>) -> Self {
        Self { people: true, ..Self::new(resource, clock) }
    }

    async fn token(&self) -> Result<Zeroizing<String>, String> {
        self.kept.token(self.ask()).await
    }

    #[allow(clippy::disallowed_methods, reason = "the one program that is asked for a token; its output is read here")]
    async fn ask(&self) -> Result<Token, String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["account", "get-access-token", "--output", "json", "--resource", &self.resource]);
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let output = match tokio::time::timeout(TIMEOUT, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(format!(
                    "the Azure CLI cannot be started ({error}): install it, and put `az` on the search path"
                ));
            }
            Err(_) => {
                return Err(format!(
                    "the Azure CLI has not answered within {} seconds: run `az account get-access-token` to see why",
                    TIMEOUT.as_secs()
                ));
            }
        };
        let stdout = Zeroizing::new(output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = errors.lines().find(|line| line.contains("ERROR")).or(errors.lines().next()).unwrap_or_default();
            let line: String = line.chars().take(200).filter(|character| !character.is_control()).collect();
            return Err(format!("the Azure CLI has no token ({line}): {SIGN_IN}"));
        }
        let answer: Answer = serde_json::from_slice(&stdout)
            .map_err(|_| "the Azure CLI answered with something unexpected".to_owned())?;
        let text = Zeroizing::new(answer.access_token);
        let claims = jwt::part(&text, 1).unwrap_or_default();
        if !self.people
            && ["scp", "upn", "unique_name", "preferred_username"].iter().any(|name| claims.get(name).is_some())
        {
            return Err(format!(
                "the Azure CLI is signed in as a person, whose token is no credential of an application: {SIGN_IN}"
            ));
        }
        let expires = jwt::expiry(&text).unwrap_or_default();
        Ok(Token { text, expires })
    }
}

#[async_trait]
impl ClientCredential for AzureCli {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        self.token().await.map(Credential::Assertion).map_err(CredentialError::Unavailable)
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        self.kept.forget(refused);
        let now = self.obtain(audience).await?;
        Ok(if now == *refused { Credential::None } else { now })
    }
}

#[async_trait]
impl VaultTokens for AzureCli {
    async fn token(&self) -> Result<Zeroizing<String>, String> {
        Self::token(self).await
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn a_token_that_cannot_be_renewed_yet_is_used_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("az");
        let (header, claims) = (serde_json::json!({ "alg": "RS256" }), serde_json::json!({ "exp": 1_600 }));
        let token = format!("{}.{}.c2ln", jwt::encoded(&header), jwt::encoded(&claims));
        let write = |script: String| {
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        };
        write(format!("#!/bin/sh\necho '{{\"accessToken\":\"{token}\"}}'\n"));
        let clock = ManualClock::new(1_000);
        let program = path.to_str().unwrap().to_owned();
        let cli = AzureCli { program, ..AzureCli::new("resource", Arc::new(clock.clone())) };
        assert_eq!(cli.token().await.unwrap().as_str(), token);
        write("#!/bin/sh\necho 'ERROR: no network' >&2\nexit 1\n".to_owned());
        clock.advance(Duration::from_secs(301));
        assert_eq!(cli.token().await.unwrap().as_str(), token, "it is good for five minutes");
        clock.advance(Duration::from_secs(299));
        assert!(cli.token().await.unwrap_err().contains("no network"));
    }
}
