//! The settings of `entra-mcp setup`: those of the servers that it registers an application for, as far as they are known.
//!
//! The configuration file is what `setup` writes, so it need not be there yet.

use std::path::{Path, PathBuf};

use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::secret_store::SecretBytes;

use super::endpoints::{Endpoints, one_tenant};
use super::layer::Layer;
use super::serve::{ServeLayer, exchange_audience, mcp_paths, one_place_for_the_certificate};
use super::store::{StoreLayer, StoreName, StoreOf};
use super::{Config, ConfigError, Environment, SettingOrigin, Sources};
use crate::config::BehindLayer;

/// The tenant in which a person signs in, unless one is set: that of the person.
const TENANT_OF_THE_PERSON: &str = "organizations";

/// What stands for many tenants in the place of one.
const ALIASES: [&str; 3] = ["common", "organizations", "consumers"];

/// What `setup` goes by.
#[derive(Debug)]
pub struct SetupConfig {
    /// What the sign-in for `setup` itself takes: a public client that keeps nothing.
    pub sign_in: Config,
    /// The client id of the servers, if it is set, with its source.
    pub client_id: Option<(String, SettingOrigin)>,
    /// The file that is read and written.
    pub file: PathBuf,
    /// Whether it is the one that is read where none is named.
    pub is_default_file: bool,
    /// The configured tenant, if it stands for many.
    pub several_tenants: Option<String>,
    /// What of the command line belongs into the file.
    pub given: Vec<(&'static str, toml::Value)>,
    /// The user-assigned managed identity that the server asks for.
    pub managed_identity: Option<String>,
    /// What tokens are for that a federated credential trusts: it depends on the cloud.
    pub exchange_audience: &'static str,
    /// The remote server, if there is to be one.
    pub remote: Option<RemoteSetup>,
}

/// The part about a remote server.
#[derive(Debug)]
pub struct RemoteSetup {
    /// Where clients reach it.
    pub public_url: String,
    /// The URLs of its MCP endpoints.
    pub endpoints: Vec<String>,
    /// The scope of tokens for it.
    pub scope: String,
    /// The files with its certificates.
    pub certificates: Vec<PathBuf>,
    /// The command line names these files, so they are what this run is about.
    pub are_certificates_given: bool,
    /// The password of those that are PKCS#12.
    pub certificate_password: Option<SecretBytes>,
}

impl Sources {
    /// Reads all sources. The file that `flags` names need not be there.
    pub fn read_setup(flags: Layer, serve: ServeLayer, environment: Environment) -> Result<Self, ConfigError> {
        Self::read_all(flags, Some(serve), Some(BehindLayer::default()), &[], false, environment)
    }

    /// Checks them. `client` is the public client that a person signs in to for `setup` itself.
    pub fn setup(&self, client: &str) -> Result<SetupConfig, ConfigError> {
        let mut layer = self.merged.clone();
        let client_id = layer.client_id.replace(client.to_owned());
        let values = layer.values()?;
        let tenant = one_tenant(values.tenant_id.clone(), Endpoints::new(&values)?.tenant_of_authority)?;
        if tenant.is_none() {
            layer.tenant_id = Some(TENANT_OF_THE_PERSON.to_owned());
        }
        layer.storage = StoreLayer { store: Some(StoreName::memory()), ..StoreLayer::default() };
        let sign_in = self.checked(&layer, StoreOf::Nothing)?;
        let origin = |name: &str| self.origins.iter().find(|(known, _)| *known == name).map(|(_, origin)| *origin);
        let client_id = client_id.map(|id| (id, origin("client-id").unwrap_or(SettingOrigin::File)));
        let file = self.file.clone().ok_or(ConfigError::NoHome("the configuration file", "name one with --config"))?;
        let is_default_file = self.folders.config.as_ref().is_some_and(|folder| folder.join("config.toml") == file);
        Ok(SetupConfig {
            remote: self.remote_setup(&sign_in.settings)?,
            given: self.given(&sign_in.settings, origin),
            exchange_audience: exchange_audience(&sign_in.settings.authority),
            managed_identity: self.serve.managed_identity_id.clone(),
            several_tenants: tenant.filter(|tenant| ALIASES.contains(&tenant.as_str())),
            sign_in,
            client_id,
            file,
            is_default_file,
        })
    }

    fn remote_setup(&self, settings: &Settings) -> Result<Option<RemoteSetup>, ConfigError> {
        let values = self.serve.values()?;
        let Some(public_url) = values.public_url.clone() else { return Ok(None) };
        let servers = self.behind(settings)?.settings();
        let endpoints = mcp_paths(&servers).into_iter().map(|path| format!("{public_url}{path}")).collect();
        one_place_for_the_certificate(&values)?;
        let password = self.environment.get(ServeLayer::CERTIFICATE_PASSWORD);
        Ok(Some(RemoteSetup {
            certificates: values.certificate_file.iter().map(PathBuf::from).collect(),
            are_certificates_given: self.origins.contains(&("certificate-file", SettingOrigin::Flag)),
            certificate_password: password.map(|password| SecretBytes::new(password.into_bytes())),
            public_url,
            endpoints,
            scope: values.required_scope,
        }))
    }

    /// The settings of the command line that a server needs as well.
    fn given(
        &self,
        settings: &Settings,
        origin: impl Fn(&str) -> Option<SettingOrigin>,
    ) -> Vec<(&'static str, toml::Value)> {
        let Layer { authority, graph_url, graph_resource, ca_file, cloud, .. } = &self.merged;
        let ServeLayer { certificate_file, public_url, required_scope, .. } = &self.serve;
        let text = |text: &Option<String>| text.clone().map(toml::Value::from);
        let absolute = |path: &Path| {
            toml::Value::from(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string())
        };
        let list = |files: &Vec<String>| files.iter().map(|file| absolute(Path::new(file))).collect();
        let all = [
            ("cloud", cloud.map(|cloud| super::setting::name(&cloud).into())),
            // Without the tenant that may be in it: that is a setting of its own.
            ("authority", authority.as_ref().map(|_| settings.authority.as_str().into())),
            ("graph-url", text(graph_url)),
            ("graph-resource", text(graph_resource)),
            ("ca-file", ca_file.as_deref().map(absolute)),
            ("public-url", text(public_url)),
            ("required-scope", text(required_scope)),
            ("certificate-file", certificate_file.as_ref().map(list).map(toml::Value::Array)),
        ];
        let given = all.into_iter().filter(|(name, _)| origin(name) == Some(SettingOrigin::Flag));
        given.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostLayer;

    const CLIENT: &str = "22222222-2222-2222-2222-22222222aaaa";

    fn setup(flags: Layer, serve: ServeLayer) -> SetupConfig {
        let host = HostLayer { config: Some("/none/entra-mcp.toml".into()), ..HostLayer::default() };
        let environment = Environment::of(&[("HOME", "/home/u")]);
        Sources::read_setup(Layer { host, ..flags }, serve, environment).unwrap().setup(CLIENT).unwrap()
    }

    #[test]
    fn the_tenant_is_that_of_the_person_unless_a_setting_or_the_authority_names_one() {
        let tenant = |tenant: Option<&str>, authority: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let flags = Layer { tenant_id: own(tenant), authority: own(authority), ..Layer::default() };
            setup(flags, ServeLayer::default()).sign_in.settings.tenant
        };
        assert_eq!(tenant(None, None), "organizations");
        assert_eq!(tenant(None, Some("http://127.0.0.1:1")), "organizations");
        assert_eq!(tenant(None, Some("http://127.0.0.1:1/contoso.example")), "contoso.example");
        assert_eq!(tenant(Some("contoso.example"), Some("http://127.0.0.1:1")), "contoso.example");
    }

    #[test]
    fn an_authority_is_written_without_the_tenant_in_it_and_one_that_stands_for_many_is_kept() {
        for (named, many) in [("contoso.example", None), ("organizations", Some("organizations"))] {
            let authority = Some(format!("https://login.microsoftonline.com/{named}"));
            let config = setup(Layer { authority, ..Layer::default() }, ServeLayer::default());
            assert_eq!(config.given, [("authority", "https://login.microsoftonline.com".into())]);
            assert_eq!(config.several_tenants.as_deref(), many);
        }
    }

    #[test]
    fn federated_credentials_are_for_the_audience_that_serve_asks_for_in_each_cloud() {
        use crate::config::Cloud;
        for (cloud, expected) in [
            (Cloud::Public, "api://AzureADTokenExchange"),
            (Cloud::UsGovernment, "api://AzureADTokenExchangeUSGov"),
            (Cloud::China, "api://AzureADTokenExchangeChina"),
        ] {
            let flags = Layer { cloud: Some(cloud), ..Layer::default() };
            assert_eq!(setup(flags, ServeLayer::default()).exchange_audience, expected);
        }
    }
}
