//! The identity that Azure Key Vault is asked with.

use std::sync::Arc;

use entra_mcp_plugin::client_credential::{AzureCli, FederatedExchange, FederatedTokenFile, ManagedIdentity};
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::key_vault::{KeyVault, VaultFault, VaultObject, VaultTokens};

use crate::config::{VaultAccess, VaultIdentityName};

/// Asks the vault of `object` with the configured identity.
pub fn key_vault(object: &VaultObject, access: &VaultAccess, clock: &Arc<dyn Clock>) -> Result<KeyVault, VaultFault> {
    let tokens = tokens(&object.resource(), access, clock)?;
    KeyVault::new(tokens, access.ca_file.as_deref(), Arc::clone(clock))
}

fn tokens(resource: &str, access: &VaultAccess, clock: &Arc<dyn Clock>) -> Result<Arc<dyn VaultTokens>, VaultFault> {
    let none = |reason: &str| VaultFault::NoToken(reason.to_owned());
    let clock = Arc::clone(clock);
    let identity = match access.identity {
        VaultIdentityName::Auto if access.federated_token.is_some() => VaultIdentityName::WorkloadIdentity,
        VaultIdentityName::Auto => VaultIdentityName::ManagedIdentity,
        named => named,
    };
    Ok(match identity {
        VaultIdentityName::AzureCli => Arc::new(AzureCli::for_vault(resource, clock)),
        VaultIdentityName::WorkloadIdentity => {
            let file = access.federated_token.clone();
            let file = file.ok_or_else(|| none("AZURE_FEDERATED_TOKEN_FILE is not set: see --vault-identity"))?;
            let application = access.application.as_ref();
            let (endpoint, client_id) =
                application.ok_or_else(|| none("workload identity needs a tenant id and a client id"))?;
            let file = Arc::new(FederatedTokenFile::new(file, Arc::clone(&clock)));
            let of = (endpoint.as_str(), client_id.as_str());
            Arc::new(FederatedExchange::new(file, of, resource, access.ca_file.as_deref(), clock)?)
        }
        VaultIdentityName::Auto | VaultIdentityName::ManagedIdentity => {
            let service = access.service.clone().map_err(|fault| VaultFault::NoToken(fault.to_string()))?;
            Arc::new(ManagedIdentity::new(service, access.managed_identity.clone(), resource, clock))
        }
    })
}
