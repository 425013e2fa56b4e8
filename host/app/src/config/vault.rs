//! What Azure Key Vault is asked with, where something is kept in one.

use std::path::PathBuf;

use entra_mcp_plugin::client_credential::{IdentityFault, IdentityService};

use super::endpoints::{Endpoints, one_tenant};
use super::{ConfigError, Sources, VaultIdentityName};

/// The variable of the setting of the remote server, which commands about its store read as well.
const MANAGED_IDENTITY: &str = "ENTRA_MCP_MANAGED_IDENTITY_ID";
/// Where Kubernetes writes the token of the service account.
const FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// All that a key vault is asked with.
#[derive(Clone)]
pub struct VaultAccess {
    /// Which identity.
    pub identity: VaultIdentityName,
    /// The service that gives out tokens of managed identities.
    pub service: Result<IdentityService, IdentityFault>,
    /// The user-assigned managed identity.
    pub managed_identity: Option<String>,
    /// The file with the token of another issuer.
    pub federated_token: Option<PathBuf>,
    /// The token endpoint and the application, for workload identity.
    pub application: Option<(String, String)>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for VaultAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultAccess").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Sources {
    /// What the settings and the environment say of the identity.
    pub(super) fn vault_access(&self) -> Result<VaultAccess, ConfigError> {
        let values = self.merged.values()?;
        let Endpoints { authority, tenant_of_authority, .. } = Endpoints::new(&values)?;
        let tenant = one_tenant(values.tenant_id, tenant_of_authority)?;
        let endpoint = tenant.map(|tenant| format!("{authority}/{tenant}/oauth2/v2.0/token"));
        let set = |name: &str| self.environment.get(name);
        Ok(VaultAccess {
            identity: values.vault_identity,
            service: IdentityService::of_variables(set),
            managed_identity: self.serve.managed_identity_id.clone().or_else(|| set(MANAGED_IDENTITY)),
            federated_token: self
                .serve
                .federated_token_file
                .clone()
                .or_else(|| set(FEDERATED_TOKEN_FILE).map(PathBuf::from)),
            application: endpoint.zip(values.client_id),
            ca_file: values.ca_file,
        })
    }
}
