//! Which credential the remote server proves itself with to Entra ID.
//!
//! With `auto`, what was configured for this program goes before what the platform offers, and what cannot be copied before
//! what can: certificate, secret, workload identity, managed identity. What is configured and does not work is an error,
//! and never a reason to take the next one. The Azure CLI is taken by name only.

use std::sync::Arc;

use entra_mcp_plugin::client_credential::{
    AzureCli, ClientCertificates, ClientCredential, ClientSecret, CredentialError, FederatedTokenFile, ManagedIdentity,
    VaultCertificate, secret_record,
};
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::secret_store::SecretStore;

use super::key_vault::key_vault;
use crate::config::{CredentialConfig, CredentialName, SecretSource};

/// A credential, and why it is not another one.
pub struct Chosen {
    /// What was chosen, unless there is none.
    pub name: Option<CredentialName>,
    /// Where it comes from, in words.
    pub source: String,
    /// The credential.
    pub credential: Result<Arc<dyn ClientCredential>, CredentialError>,
    /// All others, in the order of `auto`, and why each was not taken. Empty if it was chosen by name.
    pub others: Vec<(CredentialName, String)>,
}

/// The order of `auto`. The last one is never taken by it.
const ORDER: [CredentialName; 5] = [
    CredentialName::Certificate,
    CredentialName::Secret,
    CredentialName::WorkloadIdentity,
    CredentialName::ManagedIdentity,
    CredentialName::AzureCli,
];

/// The endpoint that the first assertion is for.
pub fn token_endpoint(settings: &Settings) -> String {
    format!("{}/{}/oauth2/v2.0/token", settings.authority, settings.tenant)
}

struct Sources<'a> {
    config: &'a CredentialConfig,
    settings: &'a Settings,
    store: &'a Arc<dyn SecretStore>,
    clock: &'a Arc<dyn Clock>,
}

/// Chooses the credential, by name or in the order of `auto`.
pub async fn choose(
    config: &CredentialConfig,
    settings: &Settings,
    store: &Arc<dyn SecretStore>,
    clock: &Arc<dyn Clock>,
) -> Chosen {
    let sources = Sources { config, settings, store, clock };
    let name = match config.name {
        CredentialName::Auto => None,
        name => Some(name),
    };
    let mut chosen = name;
    let mut others = Vec::new();
    for name in ORDER.into_iter().filter(|_| name.is_none()) {
        let reason = match chosen {
            Some(chosen) => Some(sources.behind(name, chosen).await),
            None => sources.missing(name).await,
        };
        match reason {
            Some(reason) => others.push((name, reason)),
            None => chosen = Some(name),
        }
    }
    match chosen {
        Some(name) => {
            Chosen { name: Some(name), source: sources.described(name), credential: sources.credential(name), others }
        }
        None => {
            let reasons: Vec<_> = others.iter().map(|(name, reason)| format!("{}: {reason}", word(*name))).collect();
            let error = CredentialError::NotConfigured(format!(
                "there is no credential for the application. {}. Configure one of them (see \"Run without a secret\" in \
                 the documentation)",
                reasons.join("; ")
            ));
            Chosen { name: None, source: String::new(), credential: Err(error), others }
        }
    }
}

impl Chosen {
    /// Says which credential was chosen, and why the others were not.
    pub fn log(&self) {
        for (name, reason) in &self.others {
            tracing::info!(credential = word(*name), "not used: {reason}");
        }
        let Some(name) = self.name else { return };
        tracing::info!(credential = word(name), "the application proves itself with {}", self.source);
        if name == CredentialName::AzureCli {
            tracing::warn!("the Azure CLI as a credential is for development only");
        }
    }
}

/// As `--credential` takes it.
pub fn word(name: CredentialName) -> &'static str {
    match name {
        CredentialName::Auto => "auto",
        CredentialName::Secret => "secret",
        CredentialName::Certificate => "certificate",
        CredentialName::WorkloadIdentity => "workload-identity",
        CredentialName::ManagedIdentity => "managed-identity",
        CredentialName::AzureCli => "azure-cli",
    }
}

impl Sources<'_> {
    /// Why `auto` passes over it.
    async fn missing(&self, name: CredentialName) -> Option<String> {
        match name {
            CredentialName::Certificate => {
                let is_missing = self.config.certificates.is_empty() && self.config.vault_certificate.is_none();
                is_missing.then(|| "neither --certificate-file nor --certificate-vault-url is set".to_owned())
            }
            CredentialName::Secret => self.missing_secret().await,
            CredentialName::WorkloadIdentity => self.config.federated_token.is_none().then(|| {
                "AZURE_FEDERATED_TOKEN_FILE is not set (in Kubernetes, the label azure.workload.identity/use sets it)".to_owned()
            }),
            CredentialName::ManagedIdentity => match self.managed_identity() {
                Err(error) => Some(error.to_string()),
                // The platform says so: then it is an error if there is none.
                Ok(_) if self.config.identity_service.as_ref().is_ok_and(|service| service.is_announced()) => None,
                Ok(identity) => identity.token().await.err().map(|fault| fault.to_string()),
            },
            CredentialName::Auto | CredentialName::AzureCli => Some("it is taken by name only".to_owned()),
        }
    }

    /// Why `auto` does not take one that comes after `chosen`.
    async fn behind(&self, name: CredentialName, chosen: CredentialName) -> String {
        let service = self.config.identity_service.as_ref();
        let missing = match name {
            // To ask the metadata service would take seconds where there is none.
            CredentialName::ManagedIdentity if service.is_ok_and(|service| !service.is_announced()) => {
                return format!("{} goes before it, so it was not asked for", word(chosen));
            }
            name => self.missing(name).await,
        };
        missing.unwrap_or_else(|| format!("it is there, and {} goes before it", word(chosen)))
    }

    async fn missing_secret(&self) -> Option<String> {
        if !matches!(self.config.secret, SecretSource::Store) {
            return None;
        }
        match self.store.get(&secret_record(&self.settings.client_id)).await {
            Ok(None) => Some(
                "there is no client secret: set AZURE_CLIENT_SECRET, or pass --client-secret-file, or run `entra-mcp \
                 client-secret set`"
                    .to_owned(),
            ),
            // A store that fails does so again where the secret is used, and there it is an error.
            Ok(Some(_)) | Err(_) => None,
        }
    }

    fn managed_identity(&self) -> Result<ManagedIdentity, CredentialError> {
        let service = self.config.identity_service.clone()?;
        let identity = self.config.managed_identity.clone();
        Ok(ManagedIdentity::new(service, identity, self.config.exchange_audience, Arc::clone(self.clock)))
    }

    fn credential(&self, name: CredentialName) -> Result<Arc<dyn ClientCredential>, CredentialError> {
        let Self { config, settings, store, clock } = self;
        let not_set = |text: &str| CredentialError::NotConfigured(text.to_owned());
        Ok(match name {
            CredentialName::Auto => return Err(not_set("there is no credential for the application")),
            CredentialName::Secret => {
                let secret = match &config.secret {
                    SecretSource::Given(secret) => ClientSecret::Given(secret.clone()),
                    SecretSource::File(path) => ClientSecret::File(path.clone()),
                    SecretSource::Store => {
                        ClientSecret::Store { store: Arc::clone(store), client_id: settings.client_id.clone() }
                    }
                };
                secret.warn_if_exposed();
                Arc::new(secret)
            }
            CredentialName::Certificate => {
                let (clock, random) = (Arc::clone(clock), Arc::new(SystemRandomness::default()));
                let client_id = &settings.client_id;
                match &config.vault_certificate {
                    Some((object, access)) => {
                        let vault = key_vault(object, access, &clock)?;
                        Arc::new(VaultCertificate::new(vault, object.clone(), client_id, clock, random))
                    }
                    None => {
                        let password = config.certificate_password.clone();
                        Arc::new(ClientCertificates::new(client_id, &config.certificates, password, clock, random))
                    }
                }
            }
            CredentialName::WorkloadIdentity => {
                let path = config.federated_token.clone();
                let path = path.ok_or_else(|| not_set("AZURE_FEDERATED_TOKEN_FILE is not set"))?;
                Arc::new(FederatedTokenFile::new(path, Arc::clone(clock)))
            }
            CredentialName::ManagedIdentity => Arc::new(self.managed_identity()?),
            CredentialName::AzureCli => Arc::new(AzureCli::new(config.exchange_audience, Arc::clone(clock))),
        })
    }

    fn described(&self, name: CredentialName) -> String {
        let config = self.config;
        match name {
            CredentialName::Auto => String::new(),
            CredentialName::Secret => match &config.secret {
                SecretSource::Given(_) => "the client secret of AZURE_CLIENT_SECRET".to_owned(),
                SecretSource::File(path) => format!("the client secret in {}", path.display()),
                SecretSource::Store => "the client secret in the store".to_owned(),
            },
            CredentialName::Certificate if config.vault_certificate.is_some() => {
                let object = config.vault_certificate.as_ref().map(|(object, _)| object.to_string());
                format!("the certificate {} in Azure Key Vault", object.unwrap_or_default())
            }
            CredentialName::Certificate => {
                let files: Vec<_> = config.certificates.iter().map(|path| path.display().to_string()).collect();
                format!("the certificate in {}", files.join(" or "))
            }
            CredentialName::WorkloadIdentity => {
                let path = config.federated_token.as_deref().unwrap_or(std::path::Path::new(""));
                format!("the federated token in {}", path.display())
            }
            CredentialName::ManagedIdentity => {
                let service = config.identity_service.as_ref().map_or("", |service| service.name());
                let identity = config.managed_identity.as_deref().unwrap_or("system-assigned");
                format!("the managed identity ({service}, {identity})")
            }
            CredentialName::AzureCli => "what the Azure CLI is signed in with".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use entra_mcp_plugin::client_credential::IdentityService;
    use entra_mcp_plugin::clock::ManualClock;
    use entra_mcp_plugin::secret_store::{MemoryStore, SecretBytes};
    use url::Url;

    use super::*;

    /// A machine at which nothing answers, with nothing configured.
    fn nothing(place: &str) -> CredentialConfig {
        CredentialConfig {
            name: CredentialName::Auto,
            secret: SecretSource::Store,
            vault_certificate: None,
            certificates: Vec::new(),
            certificate_password: None,
            federated_token: None,
            identity_service: Ok(IdentityService::Imds { authority: Url::parse(place).unwrap() }),
            managed_identity: None,
            exchange_audience: "api://AzureADTokenExchange",
        }
    }

    async fn chosen(config: &CredentialConfig) -> Chosen {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_794_996_000));
        let store: Arc<dyn SecretStore> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let id = "00000000-0000-0000-0000-000000000001";
        let settings = Settings::remote("contoso.example", id, "https://mcp.example.com").unwrap();
        choose(config, &settings, &store, &clock).await
    }

    fn reason(chosen: &Chosen, of: CredentialName) -> &str {
        &chosen.others.iter().find(|(name, _)| *name == of).unwrap().1
    }

    /// The clock of the runtime stands still and goes on by itself where nothing else happens, so this takes no time.
    #[tokio::test(start_paused = true)]
    async fn a_machine_without_a_credential_knows_it_within_three_seconds_and_says_what_to_change() {
        // A network for documentation, which leads nowhere.
        for place in ["http://192.0.2.1", "http://127.0.0.1:1"] {
            let config = nothing(place);
            let chosen = tokio::time::timeout(Duration::from_secs(3), chosen(&config)).await.unwrap();
            assert_eq!(chosen.name, None);
            let names: Vec<_> = chosen.others.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, ORDER, "each is named");
            let absent = reason(&chosen, CredentialName::ManagedIdentity);
            let begin = format!("no managed identity service answers at {place} (");
            assert!(absent.starts_with(&begin), "{absent}");
            let change = "Switch the identity on under Identity in the portal, or use another --credential";
            assert!(absent.ends_with(change), "{absent}");
            let Err(CredentialError::NotConfigured(said)) = &chosen.credential else { panic!("there is one") };
            assert!(said.contains(change) && said.contains("set AZURE_CLIENT_SECRET"), "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_there_behind_the_chosen_one_is_named_and_not_asked() {
        // Nothing is listening: to ask it would be an error, and take its time.
        let mut config = nothing("http://192.0.2.1");
        config.certificates = vec![PathBuf::from("/none/client.pem")];
        config.secret = SecretSource::Given(SecretBytes::new(b"forgotten".to_vec()));
        let chosen = chosen(&config).await;
        assert_eq!(chosen.name, Some(CredentialName::Certificate));
        assert_eq!(
            chosen.others,
            [
                (CredentialName::Secret, "it is there, and certificate goes before it".to_owned()),
                (
                    CredentialName::WorkloadIdentity,
                    "AZURE_FEDERATED_TOKEN_FILE is not set (in Kubernetes, the label azure.workload.identity/use sets it)"
                        .to_owned()
                ),
                (
                    CredentialName::ManagedIdentity,
                    "certificate goes before it, so it was not asked for".to_owned()
                ),
                (CredentialName::AzureCli, "it is taken by name only".to_owned()),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_chosen_by_name_is_compared_with_nothing() {
        let mut config = nothing("http://192.0.2.1");
        config.name = CredentialName::Secret;
        let chosen = chosen(&config).await;
        assert_eq!((chosen.name, chosen.others), (Some(CredentialName::Secret), Vec::new()));
    }
}
