//! Where the application's credential comes from.

use std::path::PathBuf;

use clap::ValueEnum;
use entra_mcp_plugin::client_credential::{IdentityFault, IdentityService};
use entra_mcp_plugin::key_vault::{VaultCollection, VaultFault, VaultObject};
use entra_mcp_plugin::secret_store::SecretBytes;
use serde::Deserialize;
use url::Url;

use super::super::endpoints::is_loopback;
use super::super::ids::is_guid;
use super::super::{ConfigError, Environment, VaultAccess, invalid};
use super::{ServeLayer, ServeValues};

/// What proves to Entra ID which application this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialName {
    /// The first that is configured or at hand: certificate, secret, workload identity, managed identity.
    Auto,
    /// A client secret.
    Secret,
    /// A certificate with its private key.
    Certificate,
    /// A token in a file, which Kubernetes renews.
    WorkloadIdentity,
    /// The identity of the machine in Azure.
    ManagedIdentity,
    /// What the Azure CLI of this machine is signed in with.
    AzureCli,
}

/// Where the client secret is.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// `AZURE_CLIENT_SECRET`.
    Given(SecretBytes),
    /// A file.
    File(PathBuf),
    /// The store, where `entra-mcp client-secret set` put it.
    Store,
}

/// All that is configured of credentials.
#[derive(Clone)]
pub struct CredentialConfig {
    /// Which one is used.
    pub name: CredentialName,
    /// Where a client secret would be.
    pub secret: SecretSource,
    /// The certificate in a key vault, and what the vault is asked with.
    pub vault_certificate: Option<(VaultObject, VaultAccess)>,
    /// Files with certificates.
    pub certificates: Vec<PathBuf>,
    /// The password of those that are PKCS#12.
    pub certificate_password: Option<SecretBytes>,
    /// The file with the token of another issuer.
    pub federated_token: Option<PathBuf>,
    /// The service that gives out tokens of managed identities.
    pub identity_service: Result<IdentityService, IdentityFault>,
    /// The user-assigned identity.
    pub managed_identity: Option<String>,
    /// What tokens are for that are exchanged for those of the application.
    pub exchange_audience: &'static str,
}

impl std::fmt::Debug for CredentialConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialConfig")
            .field("name", &self.name)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// `api://AzureADTokenExchange` is called otherwise in the national clouds.
pub(in super::super) fn exchange_audience(authority: &str) -> &'static str {
    match Url::parse(authority).ok().as_ref().and_then(Url::host_str) {
        Some("login.microsoftonline.us") => "api://AzureADTokenExchangeUSGov",
        Some("login.partner.microsoftonline.cn" | "login.chinacloudapi.cn") => "api://AzureADTokenExchangeChina",
        _ => "api://AzureADTokenExchange",
    }
}

fn vault_certificate(text: &str) -> Result<VaultObject, ConfigError> {
    let wrong = |fault: VaultFault| invalid("certificate-vault-url", text, fault.to_string());
    VaultObject::parse(text, VaultCollection::Certificates).map_err(wrong)
}

pub(super) fn check_certificate_vault_url(_: &'static str, text: &str) -> Result<(), ConfigError> {
    vault_certificate(text).map(drop)
}

pub(super) fn check_identity(name: &'static str, text: &str) -> Result<(), ConfigError> {
    if is_guid(text) || text.starts_with("/subscriptions/") {
        return Ok(());
    }
    let expected = "the client id (a GUID) or the resource id (/subscriptions/…) of a user-assigned managed identity is \
                    expected: see its Overview in the portal";
    Err(invalid(name, text, expected))
}

/// What the settings and the environment say.
pub(super) fn credential(
    values: &ServeValues,
    environment: &Environment,
    authority: &str,
    access: VaultAccess,
) -> Result<CredentialConfig, ConfigError> {
    let secret = match (&values.client_secret_file, environment.get(ServeLayer::CLIENT_SECRET)) {
        (Some(file), _) => SecretSource::File(file.clone()),
        (None, Some(secret)) => SecretSource::Given(SecretBytes::new(secret.into_bytes())),
        (None, None) => SecretSource::Store,
    };
    let password = environment.get(ServeLayer::CERTIFICATE_PASSWORD);
    let config = CredentialConfig {
        name: values.credential,
        secret,
        vault_certificate: values
            .certificate_vault_url
            .as_deref()
            .map(vault_certificate)
            .transpose()?
            .map(|of| (of, access)),
        certificates: values.certificate_file.iter().map(PathBuf::from).collect(),
        certificate_password: password.map(|password| SecretBytes::new(password.into_bytes())),
        federated_token: values.federated_token_file.clone(),
        identity_service: IdentityService::of_variables(|name| environment.get(name)),
        managed_identity: values.managed_identity_id.clone(),
        exchange_audience: exchange_audience(authority),
    };
    one_place_for_the_certificate(values)?;
    let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
    match config.name {
        CredentialName::Certificate if config.certificates.is_empty() && config.vault_certificate.is_none() => {
            conflict(
                "--credential certificate needs --certificate-file, a file with a certificate and its private key (PEM or \
             PKCS#12), or --certificate-vault-url, a certificate in Azure Key Vault",
            )
        }
        CredentialName::WorkloadIdentity if config.federated_token.is_none() => conflict(
            "--credential workload-identity needs the file with the token: in Kubernetes, set the label \
             azure.workload.identity/use of the pod, which sets AZURE_FEDERATED_TOKEN_FILE; elsewhere, pass \
             --federated-token-file",
        ),
        CredentialName::ManagedIdentity => match &config.identity_service {
            Err(fault) => conflict(&fault.to_string()),
            Ok(_) => Ok(config),
        },
        CredentialName::AzureCli if !is_for_development(values) => conflict(
            "--credential azure-cli is for development: it serves clients on this machine only. Leave out --public-url, or \
             use certificate, workload-identity or managed-identity",
        ),
        _ => Ok(config),
    }
}

/// A certificate is in files or in a vault.
pub(in super::super) fn one_place_for_the_certificate(values: &ServeValues) -> Result<(), ConfigError> {
    if values.certificate_vault_url.is_none() || values.certificate_file.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Conflict(
        "--certificate-file and --certificate-vault-url are both set: there is one place for the certificate. To change from \
         one to the other, register both certificates, then change the setting"
            .to_owned(),
    ))
}

pub(super) fn is_for_development(values: &ServeValues) -> bool {
    let public = values.public_url.as_deref().map(Url::parse);
    public.is_none_or(|url| url.is_ok_and(|url| is_loopback(&url)))
}
