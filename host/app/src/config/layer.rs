//! The settings that commands have in common, as each source may give them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::ValueEnum;
use entra_mcp_plugin::DEFAULT_MAX_INSTANCES;
use entra_mcp_plugin::transport::stdio::DEFAULT_MAX_MESSAGE_BYTES;
use serde::Deserialize;

use super::ids::{check_guid, check_tenant};
use super::setting::{choices, settings};
use super::store::StoreLayer;

/// How long a sign-in waits for the person, unless set otherwise: five minutes, as long as Entra ID's own pages.
const DEFAULT_SIGN_IN_TIMEOUT_SECONDS: u32 = 300;

/// Longest time a sign-in may be set to wait: a day.
const MAX_SIGN_IN_TIMEOUT_SECONDS: u32 = 86_400;

/// How long a profile is answered from memory, unless set otherwise.
const DEFAULT_PROFILE_CACHE_SECONDS: u32 = 60;

/// Longest life of a cached profile: a day.
const MAX_PROFILE_CACHE_SECONDS: u32 = 86_400;

/// Longest tolerance of clock differences: beyond it, expiry would lose its meaning.
const MAX_CLOCK_TOLERANCE_SECONDS: u32 = 300;

/// Bounds of the message limit: below, not even `initialize` fits; above, JSON does not fit into an instance.
const MESSAGE_BYTES: RangeInclusive<usize> = 4 * 1024..=16 * 1024 * 1024;

/// Bounds of the number of instances.
const INSTANCES: RangeInclusive<usize> = 1..=1024;

/// A Microsoft cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// The worldwide cloud.
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    pub(super) const ALL: [Self; 3] = [Self::Public, Self::UsGovernment, Self::China];

    pub(super) fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    pub(super) fn graph(self) -> &'static str {
        match self {
            Self::Public => "https://graph.microsoft.com",
            Self::UsGovernment => "https://graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

/// How a person signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignIn {
    /// The browser, or the device code flow when there is none.
    Auto,
    /// The browser, never the device code flow.
    Browser,
    /// The device code flow.
    DeviceCode,
}

/// Whether people sign in through the identity broker of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerChoice {
    /// Where one runs or can be started. What it cannot do is done as `sign-in` says.
    Auto,
    /// Never.
    Off,
    /// In no other way.
    Require,
}

/// What key vaults are asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultIdentityName {
    /// Workload identity, if there is its token file; else the managed identity.
    Auto,
    /// The identity of the machine in Azure.
    ManagedIdentity,
    /// A token in a file, which Kubernetes renews.
    WorkloadIdentity,
    /// What the Azure CLI of this machine is signed in with.
    AzureCli,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

choices!(Cloud, SignIn, BrokerChoice, LogFormat, VaultIdentityName);

settings! {
    /// What one source says: flags, environment or file. The same names everywhere.
    pub struct Layer checked as Values, under "Settings" {
        /// Directory (tenant) id, or a domain, `common`, `organizations`, `consumers`
        tenant_id: String, value("ID"), also("AZURE_TENANT_ID"), alias("tenant"), check(check_tenant);
        /// Application (client) id
        client_id: String, value("GUID"), also("AZURE_CLIENT_ID"), check(check_guid);
        /// Microsoft cloud
        cloud: Cloud, otherwise("public");
        /// Authority, instead of the cloud's
        authority: String, value("URL"), also("AZURE_AUTHORITY_HOST");
        /// Microsoft Graph, instead of the cloud's
        graph_url: String, value("URL");
        /// Resource of the Graph scopes, if it is not the URL of Graph
        graph_resource: String, value("URL");
        /// How people sign in
        sign_in: SignIn = SignIn::Auto;
        /// Whether people sign in through the identity broker of this machine: on Linux, the Microsoft identity broker
        broker: BrokerChoice = BrokerChoice::Auto;
        /// How long a sign-in waits for the person, in seconds
        sign_in_timeout: u32 = DEFAULT_SIGN_IN_TIMEOUT_SECONDS, value("SECONDS"),
            range(1..=MAX_SIGN_IN_TIMEOUT_SECONDS);
        /// The account to use when several are signed in: user name or home account id
        account: String;
        /// Redirect URI of the application to which the sign-out page of Entra ID leads
        post_logout_redirect_uri: String, value("URL");
        /// How long the server answers with a profile without asking Graph again, in seconds; 0: never
        profile_cache_seconds: u32 = DEFAULT_PROFILE_CACHE_SECONDS, value("SECONDS"),
            range(0..=MAX_PROFILE_CACHE_SECONDS);
        /// Tolerated difference between the clocks of this machine and of Entra ID, in seconds
        clock_tolerance: u32, value("SECONDS"), otherwise("60 for access tokens, 300 for ID tokens"),
            range(0..=MAX_CLOCK_TOLERANCE_SECONDS);
        /// Certificates (PEM) to trust besides the system's
        ca_file: PathBuf, value("FILE");
        /// Credential for Azure Key Vault, if one keeps a key or a certificate; `auto` is workload identity if its
        /// token file exists, else the managed identity
        vault_identity: VaultIdentityName = VaultIdentityName::Auto;
        /// Longest MCP message in bytes
        max_message_bytes: usize = DEFAULT_MAX_MESSAGE_BYTES, value("BYTES"), range(MESSAGE_BYTES);
        /// Maximum number of instances of the component
        max_instances: usize = DEFAULT_MAX_INSTANCES, value("NUMBER"), range(INSTANCES);
    }
    variables {
        /// Browsers to open the sign-in page with: commands separated by colons, in which `%s` stands for the URL
        BROWSER = "BROWSER";
    }
    with {
        /// Where records are kept.
        storage: StoreLayer;
        /// How the program itself runs.
        host: HostLayer;
    }
}

settings! {
    /// What one source says about what does not concern an application: how the program itself runs.
    pub struct HostLayer checked as HostValues, under "Settings" {
        /// Configuration file
        config: PathBuf, value("FILE"), otherwise("config.toml in the user's configuration folder"), not_in_file();
        /// Form of the log on standard error
        log_format: LogFormat = LogFormat::Text;
        /// Compile the component at every start
        no_code_cache: bool = false;
    }
    variables {
        /// Filter of the log, in the syntax of the `tracing` ecosystem, such as `warn,entra_mcp_app=debug`
        LOG_FILTER = "RUST_LOG";
    }
}
