//! The settings that commands have in common, as each source may give them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{ConfigError, Environment};

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

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What one source says: flags, environment or file. The same names everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Settings (each also as ENTRA_MCP_… variable, and in the configuration file)")]
pub struct Layer {
    /// Directory (tenant) id, or a domain, `common`, `organizations`, `consumers` [also: AZURE_TENANT_ID]
    #[arg(long, value_name = "ID")]
    pub tenant_id: Option<String>,
    /// Application (client) id [also: AZURE_CLIENT_ID]
    #[arg(long, value_name = "GUID")]
    pub client_id: Option<String>,
    /// Microsoft cloud [default: public]
    #[arg(long)]
    pub cloud: Option<Cloud>,
    /// Authority, instead of the cloud's [also: AZURE_AUTHORITY_HOST]
    #[arg(long, value_name = "URL")]
    pub authority: Option<String>,
    /// Microsoft Graph, instead of the cloud's
    #[arg(long, value_name = "URL")]
    pub graph_url: Option<String>,
    /// Resource of the Graph scopes, if it is not the URL of Graph
    #[arg(long, value_name = "URL")]
    pub graph_resource: Option<String>,
    /// How people sign in [default: auto]
    #[arg(long)]
    pub sign_in: Option<SignIn>,
    /// How long a sign-in waits for the person, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub sign_in_timeout: Option<u32>,
    /// The account to use when several are signed in: user name or home account id
    #[arg(long)]
    pub account: Option<String>,
    /// How long a profile is answered without asking Graph again, in seconds; 0: never [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub profile_cache_seconds: Option<u32>,
    /// Where sign-ins are kept: a file, or `memory` [default: a file of this user]
    #[arg(long, value_name = "FILE|memory")]
    pub store: Option<String>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Form of the log on standard error [default: text]
    #[arg(long)]
    pub log_format: Option<LogFormat>,
    /// Longest MCP message in bytes [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub max_message_bytes: Option<usize>,
    /// Most instances of the component at the same time [default: 256]
    #[arg(long, value_name = "NUMBER")]
    pub max_instances: Option<usize>,
    /// Compile the component at every start
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_code_cache: Option<bool>,
}

impl Layer {
    /// What is set here, else what is set `below`.
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            tenant_id: self.tenant_id.or(below.tenant_id),
            client_id: self.client_id.or(below.client_id),
            cloud: self.cloud.or(below.cloud),
            authority: self.authority.or(below.authority),
            graph_url: self.graph_url.or(below.graph_url),
            graph_resource: self.graph_resource.or(below.graph_resource),
            sign_in: self.sign_in.or(below.sign_in),
            sign_in_timeout: self.sign_in_timeout.or(below.sign_in_timeout),
            account: self.account.or(below.account),
            profile_cache_seconds: self.profile_cache_seconds.or(below.profile_cache_seconds),
            store: self.store.or(below.store),
            ca_file: self.ca_file.or(below.ca_file),
            log_format: self.log_format.or(below.log_format),
            max_message_bytes: self.max_message_bytes.or(below.max_message_bytes),
            max_instances: self.max_instances.or(below.max_instances),
            no_code_cache: self.no_code_cache.or(below.no_code_cache),
        }
    }

    pub(super) fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let own = Self {
            tenant_id: environment.get("ENTRA_MCP_TENANT_ID"),
            client_id: environment.get("ENTRA_MCP_CLIENT_ID"),
            cloud: environment.choice("ENTRA_MCP_CLOUD")?,
            authority: environment.get("ENTRA_MCP_AUTHORITY"),
            graph_url: environment.get("ENTRA_MCP_GRAPH_URL"),
            graph_resource: environment.get("ENTRA_MCP_GRAPH_RESOURCE"),
            sign_in: environment.choice("ENTRA_MCP_SIGN_IN")?,
            sign_in_timeout: environment.parse("ENTRA_MCP_SIGN_IN_TIMEOUT", "a number of seconds is expected")?,
            account: environment.get("ENTRA_MCP_ACCOUNT"),
            profile_cache_seconds: environment
                .parse("ENTRA_MCP_PROFILE_CACHE_SECONDS", "a number of seconds is expected")?,
            store: environment.get("ENTRA_MCP_STORE"),
            ca_file: environment.get("ENTRA_MCP_CA_FILE").map(PathBuf::from),
            log_format: environment.choice("ENTRA_MCP_LOG_FORMAT")?,
            max_message_bytes: environment.parse("ENTRA_MCP_MAX_MESSAGE_BYTES", "a number of bytes is expected")?,
            max_instances: environment.parse("ENTRA_MCP_MAX_INSTANCES", "a number is expected")?,
            no_code_cache: environment.parse("ENTRA_MCP_NO_CODE_CACHE", "true or false is expected")?,
        };
        let common = Self {
            tenant_id: environment.get("AZURE_TENANT_ID"),
            client_id: environment.get("AZURE_CLIENT_ID"),
            authority: environment.get("AZURE_AUTHORITY_HOST"),
            ..Self::default()
        };
        Ok(own.over(common))
    }
}
