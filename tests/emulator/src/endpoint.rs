//! The emulator's endpoints by name: what faults aim at and what requests are counted under.

use serde::{Deserialize, Serialize};

/// An endpoint of Entra ID, Microsoft Graph, or the machine's identity service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `/common/discovery/instance`
    InstanceDiscovery,
    /// `/{tenant}/v2.0/.well-known/openid-configuration` and the v1 form.
    OpenidConfiguration,
    /// `/{tenant}/discovery/v2.0/keys` and the v1 form.
    Keys,
    /// `GET /{tenant}/oauth2/v2.0/authorize`
    Authorize,
    /// The forms of the sign-in pages.
    SignIn,
    /// `/{tenant}/oauth2/v2.0/token`
    Token,
    /// `/{tenant}/oauth2/v2.0/devicecode`
    DeviceCode,
    /// `/devicelogin`, where a person types the code.
    DeviceLogin,
    /// `/{tenant}/oauth2/v2.0/logout`
    Logout,
    /// `/error?code=`
    ErrorLookup,
    /// `/msi/token`: managed identity as App Service offers it.
    ManagedIdentityAppService,
    /// `/metadata/identity/oauth2/token`: managed identity as a virtual machine has it.
    ManagedIdentityImds,
    /// `/arc/metadata/identity/oauth2/token`: managed identity as the agent of Azure Arc offers it.
    ManagedIdentityArc,
    /// `/graph/v1.0/me`
    GraphMe,
    /// `/graph/v1.0/users/{id}`
    GraphUser,
    /// `/graph/v1.0/users`
    GraphUsers,
    /// `memberOf` and `transitiveMemberOf`
    GraphMemberOf,
    /// `getMemberObjects` and `getMemberGroups`
    GraphMemberObjects,
    /// `messages`
    GraphMessages,
    /// `photo/$value` and `photo`
    GraphPhoto,
    /// `$batch`
    GraphBatch,
    /// `/graph/v1.0/applications` and one of them
    GraphApplications,
    /// `federatedIdentityCredentials` of an application
    GraphFederatedCredentials,
    /// `/graph/v1.0/servicePrincipals` and one of them
    GraphServicePrincipals,
    /// `appRoleAssignedTo` and `appRoleAssignments` of a service principal
    GraphRoleAssignments,
    /// `/graph/v1.0/oauth2PermissionGrants` and one of them
    GraphPermissionGrants,
    /// Anything else below `/graph`.
    GraphOther,
    /// Anything else.
    Unknown,
}

impl Endpoint {
    /// Finds the endpoint of a path, with the tenant segment where there is one.
    pub(crate) fn of(path: &str) -> (Self, &str) {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            [tenant, "discovery", "instance"] => (Self::InstanceDiscovery, tenant),
            ["error"] => (Self::ErrorLookup, ""),
            ["devicelogin" | "deviceauth"] => (Self::DeviceLogin, "common"),
            ["msi", "token"] => (Self::ManagedIdentityAppService, ""),
            ["metadata", "identity", "oauth2", "token"] => (Self::ManagedIdentityImds, ""),
            ["arc", "metadata", "identity", "oauth2", "token"] => (Self::ManagedIdentityArc, ""),
            ["graph", rest @ ..] => (Self::of_graph(rest), ""),
            [tenant, ".well-known", "openid-configuration"]
            | [tenant, "v2.0", ".well-known", "openid-configuration"] => (Self::OpenidConfiguration, tenant),
            [tenant, "discovery", "keys"] | [tenant, "discovery", "v2.0", "keys"] => (Self::Keys, tenant),
            [tenant, "oauth2", "authorize"] | [tenant, "oauth2", "v2.0", "authorize"] => (Self::Authorize, tenant),
            [tenant, "oauth2", "token"] | [tenant, "oauth2", "v2.0", "token"] => (Self::Token, tenant),
            [tenant, "oauth2", "devicecode"] | [tenant, "oauth2", "v2.0", "devicecode"] => (Self::DeviceCode, tenant),
            [tenant, "oauth2", "logout"] | [tenant, "oauth2", "v2.0", "logout"] => (Self::Logout, tenant),
            [tenant, "login"] => (Self::SignIn, tenant),
            _ => (Self::Unknown, ""),
        }
    }

    /// Whether it is one of Graph's.
    pub(crate) fn is_graph(self) -> bool {
        matches!(
            self,
            Self::GraphMe
                | Self::GraphUser
                | Self::GraphUsers
                | Self::GraphMemberOf
                | Self::GraphMemberObjects
                | Self::GraphMessages
                | Self::GraphPhoto
                | Self::GraphBatch
                | Self::GraphApplications
                | Self::GraphFederatedCredentials
                | Self::GraphServicePrincipals
                | Self::GraphRoleAssignments
                | Self::GraphPermissionGrants
                | Self::GraphOther
        )
    }

    /// As [`Self::of`], for the segments after `/graph`.
    pub(crate) fn of_graph(segments: &[&str]) -> Self {
        match segments {
            ["v1.0", "me"] => Self::GraphMe,
            ["v1.0", "$batch"] => Self::GraphBatch,
            ["v1.0", "users"] => Self::GraphUsers,
            ["v1.0", "users", _] => Self::GraphUser,
            ["v1.0", first, .., "federatedIdentityCredentials"]
            | ["v1.0", first, .., "federatedIdentityCredentials", _]
                if first.starts_with("applications") =>
            {
                Self::GraphFederatedCredentials
            }
            ["v1.0", first, .., "appRoleAssignedTo" | "appRoleAssignments"]
                if first.starts_with("servicePrincipals") =>
            {
                Self::GraphRoleAssignments
            }
            ["v1.0", first, ..] if first.starts_with("applications") => Self::GraphApplications,
            ["v1.0", first, ..] if first.starts_with("servicePrincipals") => Self::GraphServicePrincipals,
            ["v1.0", "oauth2PermissionGrants", ..] => Self::GraphPermissionGrants,
            ["v1.0", "me", rest @ ..] | ["v1.0", "users", _, rest @ ..] => match rest {
                ["memberOf" | "transitiveMemberOf"] | ["memberOf" | "transitiveMemberOf", _] => Self::GraphMemberOf,
                ["getMemberObjects" | "getMemberGroups"] => Self::GraphMemberObjects,
                ["messages"] => Self::GraphMessages,
                ["photo"] | ["photo", "$value"] => Self::GraphPhoto,
                _ => Self::GraphOther,
            },
            _ => Self::GraphOther,
        }
    }
}
