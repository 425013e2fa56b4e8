//! The settings, from variables that have the names of the program's.
//!
//! What a setting is called, what applies otherwise and what is accepted is not written here: `declared` is made from
//! the program's own declarations. Here is which of them this artefact has, and what they come to: the document that the
//! component reads, where records are, the credential, and bounds.
//!
//! A variable with the program's prefix that has no effect here is refused: it may restrict something, such as a proxy that
//! is trusted, and no message would tell the operator that it does not.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use base::Secret;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use self::urls::Clouds;
use crate::limiter::{Rate, rates};
use crate::store::StoreKey;

mod declared;
pub mod local;
mod rules;
mod urls;
pub mod wrapped;

#[cfg(test)]
mod tests;

use declared::DECLARED;

/// What the program says of one of its settings.
struct Declared {
    name: &'static str,
    /// Its variables: the first that is set counts.
    variables: &'static [&'static str],
    default: Option<&'static str>,
    accepted: Option<&'static str>,
}

/// What every variable of the program's own begins with.
const PREFIX: &str = "ENTRA_MCP_";
/// Variables that this artefact reads in its own way: the program has the keys of its store too, and no header.
pub const STORE_KEY: &str = "ENTRA_MCP_STORE_KEY";
/// The same as a file.
pub const STORE_KEY_FILE: &str = "ENTRA_MCP_STORE_KEY_FILE";
/// The header in which the proxy in front names the client's address.
pub const CLIENT_ADDRESS_HEADER: &str = "ENTRA_MCP_CLIENT_ADDRESS_HEADER";
const OWN: [&str; 3] = [STORE_KEY, STORE_KEY_FILE, CLIENT_ADDRESS_HEADER];

/// The settings of the program that this artefact has.
const SUPPORTED: [&str; 28] = [
    "AZURE_CLIENT_SECRET",
    "allow-redirect-scheme",
    "allow-tenant",
    "allowed-host",
    "allowed-origin",
    "app-id-uri",
    "audit-usernames",
    "authority",
    "client-id",
    "client-secret-file",
    "clock-tolerance",
    "cloud",
    "graph-resource",
    "graph-url",
    "max-streams-per-caller",
    "no-client-id-metadata",
    "no-dynamic-registration",
    "no-legacy-sse",
    "profile-cache-seconds",
    "public-url",
    "rate-limit",
    "refresh-grace-seconds",
    "required-scope",
    "rewrite-authority-metadata",
    "store",
    "tenant-id",
    "token-mode",
    "trusted-proxy",
];

/// Tenants that stand for many.
const MULTI_TENANT: [&str; 2] = ["common", "organizations"];
/// Bytes of the key of the store.
const KEY_BYTES: usize = 32;

/// Why the settings are refused. The texts are for the operator, and quote no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable has to be set.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A value is not accepted.
    #[error("{variable} is not accepted: {expected}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// What it has to be.
        expected: String,
    },
    /// A setting of the program that this artefact does not have.
    #[error("{variable} has no effect in {artefact}: unset it")]
    Unsupported {
        /// The variable.
        variable: String,
        /// The file.
        artefact: &'static str,
    },
    /// No setting.
    #[error("{0} is not a setting: unset it")]
    Unknown(String),
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// A secret, or the file that it is in.
#[derive(Debug, Clone)]
pub enum ArtefactSecret {
    /// The secret itself.
    Given(Secret<String>),
    /// A file with nothing else in it.
    File(String),
}

/// What the variables come to.
pub struct Configuration {
    /// What the component reads, as JSON.
    pub document: String,
    /// The folder of the records.
    pub folder: String,
    /// The key that seals them.
    pub key: ArtefactSecret,
    /// How the component proves to Entra ID which application it is. A public client does not.
    pub credential: Option<ArtefactSecret>,
    /// How often operations may be done.
    pub rates: HashMap<String, Rate>,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("document", &self.document).finish_non_exhaustive()
    }
}

/// Reads the variables of the process.
pub fn read(variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    let artefact = Artefact { name: "entra_mcp.standard.wasm", own: &OWN, supported: &SUPPORTED };
    read_for(variables, &artefact).map(|(configuration, _)| configuration)
}

/// What an artefact has of the settings.
struct Artefact<'a> {
    /// For the operator.
    name: &'static str,
    /// Variables that it reads in its own way.
    own: &'a [&'a str],
    /// Settings of the program.
    supported: &'a [&'a str],
}

/// The same for an artefact. Also the document.
fn read_for(variables: &[(String, String)], artefact: &Artefact<'_>) -> Result<(Configuration, Value), SettingsError> {
    let variables = Variables(variables);
    variables.refuse_unsupported(artefact)?;
    let Application { tenant, client_id, clouds: Clouds { authority, graph, graph_resource } } =
        variables.application()?;
    let allowed_tenants = variables.list("allow-tenant");
    for tenant in &allowed_tenants {
        check_guid("ENTRA_MCP_ALLOW_TENANT", tenant)?;
    }
    if MULTI_TENANT.contains(&tenant) && allowed_tenants.is_empty() {
        return Err(SettingsError::Conflict(format!(
            "the tenant id {tenant:?} stands for many tenants: name those whose users may sign in with \
             ENTRA_MCP_ALLOW_TENANT"
        )));
    }
    let public_url = urls::public_url(variables.required("public-url")?)?;
    let token_mode = variables.choice("token-mode")?;
    if token_mode != "session" && !MULTI_TENANT.contains(&tenant) && !is_guid(tenant) {
        return Err(SettingsError::Conflict(
            "with ENTRA_MCP_TOKEN_MODE=bearer or both, ENTRA_MCP_TENANT_ID has to be the directory's GUID, because clients \
             compare the issuer in Entra ID's metadata, which names it, with the one that this server names"
                .to_owned(),
        ));
    }
    let rewrite = variables.is_on("rewrite-authority-metadata")?;
    if rewrite && token_mode != "bearer" {
        return Err(SettingsError::Conflict(
            "ENTRA_MCP_REWRITE_AUTHORITY_METADATA needs ENTRA_MCP_TOKEN_MODE=bearer".to_owned(),
        ));
    }
    // Documents are read at addresses that clients choose, which only a host with a guarded way there can do.
    if variables.text("no-client-id-metadata").is_some() && !variables.is_on("no-client-id-metadata")? {
        return Err(SettingsError::Conflict(
            "entra_mcp.standard.wasm reads no Client ID Metadata Documents: unset ENTRA_MCP_NO_CLIENT_ID_METADATA"
                .to_owned(),
        ));
    }
    if variables.text("trusted-proxy").is_some() {
        return Err(SettingsError::Conflict(format!(
            "ENTRA_MCP_TRUSTED_PROXY has no effect here, because the host does not say which address a request comes from: \
             name the header that your proxy sets, and removes from what clients send, with {CLIENT_ADDRESS_HEADER}"
        )));
    }
    let app_id_uri = variables.text("app-id-uri");
    let mut audiences = vec![client_id.to_owned()];
    if token_mode != "session" {
        // Version 1 tokens name the application by its App ID URI; with and without the slash that Entra ID may add.
        let uri = app_id_uri.map_or_else(|| format!("{}/mcp", public_url.text), str::to_owned);
        let uri = uri.trim_end_matches('/');
        audiences.extend([format!("{uri}/"), uri.to_owned()]);
    }
    let mut allowed_hosts = vec![public_url.host];
    for host in variables.list("allowed-host") {
        if !allowed_hosts.contains(&host) {
            allowed_hosts.push(host);
        }
    }
    let document = json!({
        "client-type": "confidential-client",
        "tenant": tenant,
        "client-id": client_id,
        "authority": authority,
        "graph": graph,
        "graph-resource": graph_resource,
        "token": {
            "audiences": audiences,
            "allowed-tenants": allowed_tenants,
            "clock-tolerance-seconds": variables.number("clock-tolerance")?,
        },
        "profile-cache-seconds": variables.number("profile-cache-seconds")?,
        "audit-usernames": variables.is_on("audit-usernames")?,
        "http": {
            "public-url": public_url.text,
            "allowed-hosts": allowed_hosts,
            "allowed-origins": variables.list("allowed-origin"),
            "client-address-header": variables.address_header()?,
            "legacy-sse": !variables.is_on("no-legacy-sse")?,
            "dynamic-registration": !variables.is_on("no-dynamic-registration")?,
            "allowed-redirect-schemes": variables.list("allow-redirect-scheme"),
            "client-id-metadata-documents": false,
            "token-mode": token_mode,
            "app-id-uri": app_id_uri,
            "required-scope": variables.text_or_default("required-scope")?,
            "rewrite-authority-metadata": rewrite,
            "max-streams-per-caller": variables.number("max-streams-per-caller")?,
            "refresh-grace-seconds": variables.number("refresh-grace-seconds")?,
        },
    });
    let document = without_nulls(document);
    let configuration = Configuration {
        document: document.to_string(),
        folder: variables.required("store")?.to_owned(),
        key: variables.store_key()?,
        credential: Some(variables.secret(
            ("AZURE_CLIENT_SECRET", variables.text("AZURE_CLIENT_SECRET")),
            ("ENTRA_MCP_CLIENT_SECRET_FILE", variables.text("client-secret-file")),
        )?),
        rates: variables.rates()?,
    };
    Ok((configuration, document))
}

/// The key of the store from what an operator has written: 32 random bytes in base64 of either alphabet.
pub fn store_key(text: &Secret<String>) -> Result<StoreKey, SettingsError> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = text.reveal().trim();
    let decoded = [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .map(StoreKey::new);
    decoded.filter(|key| key.reveal().len() == KEY_BYTES).ok_or(SettingsError::Invalid {
        variable: STORE_KEY,
        expected: "32 random bytes as base64 are expected, such as `openssl rand -base64 32` prints".to_owned(),
    })
}

/// Which application the component is, and where Entra ID and Microsoft Graph are.
struct Application<'v> {
    tenant: &'v str,
    client_id: &'v str,
    clouds: Clouds,
}

/// The variables of the process. An empty one counts as not set.
struct Variables<'v>(&'v [(String, String)]);

impl<'v> Variables<'v> {
    fn application(&self) -> Result<Application<'v>, SettingsError> {
        let tenant = self.required("tenant-id")?;
        check_tenant(tenant)?;
        let client_id = self.required("client-id")?;
        check_guid("ENTRA_MCP_CLIENT_ID", client_id)?;
        Ok(Application { tenant, client_id, clouds: urls::clouds(self)? })
    }

    /// The key that seals the records.
    fn store_key(&self) -> Result<ArtefactSecret, SettingsError> {
        self.secret((STORE_KEY, self.own(STORE_KEY)), (STORE_KEY_FILE, self.own(STORE_KEY_FILE)))
    }

    fn refuse_unsupported(&self, artefact: &Artefact<'_>) -> Result<(), SettingsError> {
        for (name, value) in self.0 {
            if !name.starts_with(PREFIX) || value.is_empty() || artefact.own.contains(&name.as_str()) {
                continue;
            }
            let declared = DECLARED.iter().find(|declared| declared.variables.contains(&name.as_str()));
            // Other artefacts have it.
            let is_elsewhere = OWN.iter().chain(&wrapped::OWN).any(|own| own == name);
            match declared {
                Some(declared) if artefact.supported.contains(&declared.name) => {}
                None if !is_elsewhere => return Err(SettingsError::Unknown(name.clone())),
                _ => {
                    return Err(SettingsError::Unsupported { variable: name.clone(), artefact: artefact.name });
                }
            }
        }
        Ok(())
    }

    fn own(&self, variable: &str) -> Option<&'v str> {
        let found = self.0.iter().find(|(name, _)| name == variable);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn text(&self, setting: &str) -> Option<&'v str> {
        declared(setting)?.variables.iter().find_map(|variable| self.own(variable))
    }

    fn required(&self, setting: &'static str) -> Result<&'v str, SettingsError> {
        self.text(setting).ok_or(SettingsError::Missing(variable(setting)))
    }

    fn text_or_default(&self, setting: &'static str) -> Result<&'v str, SettingsError> {
        let default = || declared(setting).and_then(|declared| declared.default);
        self.text(setting).or_else(default).ok_or(SettingsError::Missing(variable(setting)))
    }

    fn list(&self, setting: &str) -> Vec<String> {
        let elements = self.text(setting).unwrap_or_default().split(',').map(str::trim);
        elements.filter(|element| !element.is_empty()).map(str::to_owned).collect()
    }

    fn choice(&self, setting: &'static str) -> Result<&'v str, SettingsError> {
        let text = self.text_or_default(setting)?;
        let accepted = declared(setting).and_then(|declared| declared.accepted).unwrap_or_default();
        match accepted.split(", ").any(|choice| choice == text) {
            true => Ok(text),
            false => Err(invalid(setting, format!("one of {accepted} is expected"))),
        }
    }

    fn is_on(&self, setting: &'static str) -> Result<bool, SettingsError> {
        Ok(self.choice(setting)? == "true")
    }

    /// A number within the accepted range; none if it is not set and the default is not a number.
    fn number(&self, setting: &'static str) -> Result<Option<u32>, SettingsError> {
        let Some(declared) = declared(setting) else { return Ok(None) };
        let Some(text) = self.text(setting) else {
            return Ok(declared.default.and_then(|default| default.parse().ok()));
        };
        let accepted = declared.accepted.unwrap_or_default();
        let bounds = accepted.split_once(" to ").and_then(|(from, to)| Some(from.parse().ok()?..=to.parse().ok()?));
        let number = text.parse::<u32>().ok();
        match number.filter(|number| bounds.as_ref().is_none_or(|bounds| bounds.contains(number))) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(setting, format!("a number is expected, {accepted}"))),
        }
    }

    fn address_header(&self) -> Result<Option<String>, SettingsError> {
        let Some(text) = self.own(CLIENT_ADDRESS_HEADER) else { return Ok(None) };
        let name = http::HeaderName::from_str(text).map(|name| name.as_str().to_owned());
        let expected = "the name of a header is expected that the proxy sets in every request, such as X-Real-IP";
        let invalid = || SettingsError::Invalid { variable: CLIENT_ADDRESS_HEADER, expected: expected.to_owned() };
        // Lists, in which clients write too.
        match name {
            Ok(name) if !matches!(name.as_str(), "x-forwarded-for" | "forwarded") => Ok(Some(name)),
            _ => Err(invalid()),
        }
    }

    fn secret(
        &self,
        (given, secret): (&'static str, Option<&str>),
        (file, path): (&'static str, Option<&str>),
    ) -> Result<ArtefactSecret, SettingsError> {
        match (secret, path) {
            (Some(secret), None) => Ok(ArtefactSecret::Given(Secret::from(secret))),
            (None, Some(path)) => Ok(ArtefactSecret::File(path.to_owned())),
            (None, None) => Err(SettingsError::Missing(given)),
            (Some(_), Some(_)) => Err(SettingsError::Conflict(format!("{given} and {file} are set: keep one of them"))),
        }
    }

    fn rates(&self) -> Result<HashMap<String, Rate>, SettingsError> {
        let default = declared("rate-limit").and_then(|declared| declared.default).unwrap_or_default();
        rates(default, &self.list("rate-limit")).ok_or_else(|| {
            let expected = "OPERATION=COUNT/TIME is expected, such as token=50/15m or token=off, or `off`";
            invalid("rate-limit", expected.to_owned())
        })
    }
}

fn declared(setting: &str) -> Option<&'static Declared> {
    DECLARED.iter().find(|declared| declared.name == setting)
}

/// The variable of a setting.
fn variable(setting: &'static str) -> &'static str {
    declared(setting).and_then(|declared| declared.variables.first().copied()).unwrap_or(setting)
}

fn invalid(setting: &'static str, expected: String) -> SettingsError {
    SettingsError::Invalid { variable: variable(setting), expected }
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Ids are compared exactly with those in tokens, which are in lower case.
fn check_guid(variable: &'static str, text: &str) -> Result<(), SettingsError> {
    if is_guid(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let expected = "a GUID in lower case is expected, such as 00001111-aaaa-2222-bbbb-3333cccc4444".to_owned();
    Err(SettingsError::Invalid { variable, expected })
}

fn check_tenant(text: &str) -> Result<(), SettingsError> {
    if is_guid(text) {
        return check_guid("ENTRA_MCP_TENANT_ID", text);
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(plain);
    let is_domain = text.len() <= 253 && text.contains('.') && text.split('.').all(is_label);
    if is_domain || matches!(text, "common" | "organizations" | "consumers") {
        return Ok(());
    }
    let expected = "a GUID, a domain in lower case, `common`, `organizations` or `consumers` is expected".to_owned();
    Err(SettingsError::Invalid { variable: "ENTRA_MCP_TENANT_ID", expected })
}

/// A setting that is left out is absent in the document.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}
