//! The settings of components that admit callers by tokens of Entra ID and keep no state, from variables that have the names
//! of the program's.
//!
//! A variable with the program's prefix that has no effect in a component is refused, so that nothing is silently left out.

use serde_json::json;

use crate::settings::Settings;
use crate::settings_document::{SettingsDocumentError, verdict};

const PREFIX: &str = "ENTRA_MCP_";

/// What is in effect in all of them: the variable of the program, and the one that Azure's tools use for the same.
const KNOWN: [(&str, &str); 8] = [
    ("ENTRA_MCP_TENANT_ID", "AZURE_TENANT_ID"),
    ("ENTRA_MCP_CLIENT_ID", "AZURE_CLIENT_ID"),
    ("ENTRA_MCP_AUTHORITY", "AZURE_AUTHORITY_HOST"),
    ("ENTRA_MCP_PUBLIC_URL", ""),
    ("ENTRA_MCP_APP_ID_URI", ""),
    ("ENTRA_MCP_REQUIRED_SCOPE", ""),
    ("ENTRA_MCP_ALLOW_TENANT", ""),
    ("ENTRA_MCP_CLOCK_TOLERANCE", ""),
];

/// As in the program.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const REQUIRED_SCOPE: &str = "access_as_user";
const CLOCK_TOLERANCE: u64 = 60;

/// A component that reads them.
#[derive(Debug, Clone, Copy)]
pub struct Artefact {
    /// Its file, for the operator.
    pub name: &'static str,
    /// Variables with the program's prefix that it reads itself.
    pub own: &'static [&'static str],
}

/// Why the settings are refused. The texts are for the operator.
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
        expected: &'static str,
    },
    /// A variable that has no effect.
    #[error("{variable} has no effect in {artefact}: unset it")]
    Unsupported {
        /// The variable.
        variable: String,
        /// The file.
        artefact: &'static str,
    },
    /// What they come to is not accepted.
    #[error(transparent)]
    Document(#[from] SettingsDocumentError),
}

/// What the variables come to.
#[derive(Debug)]
pub struct Configuration {
    /// What tokens are judged by.
    pub verdict: Settings,
    /// The application that they are for.
    pub client_id: String,
    /// Scheme, host and port of the resource.
    pub origin: String,
    /// Its path.
    pub path: String,
    /// The scope that a person's token has to carry, in the short form.
    pub required_scope: String,
    /// The same as clients ask for it.
    pub qualified_scope: String,
    /// What issues the tokens.
    pub issuer: String,
}

/// A variable; an empty one counts as not set.
pub fn variable<'v>(variables: &'v [(String, String)], name: &str) -> Option<&'v str> {
    let set = variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    set.filter(|value| !value.is_empty())
}

/// Reads the variables of a component.
pub fn read(artefact: Artefact, variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    let is_known = |name: &str| KNOWN.iter().any(|(known, _)| *known == name) || artefact.own.contains(&name);
    for (name, value) in variables {
        if name.starts_with(PREFIX) && !value.is_empty() && !is_known(name) {
            return Err(SettingsError::Unsupported { variable: name.clone(), artefact: artefact.name });
        }
    }
    let text = |name: &str| {
        let other = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, other)| *other);
        variable(variables, name).or_else(|| other.and_then(|other| variable(variables, other)))
    };
    let required = |name: &'static str| text(name).ok_or(SettingsError::Missing(name));
    let tenant = guid("ENTRA_MCP_TENANT_ID", required("ENTRA_MCP_TENANT_ID")?)?;
    let client_id = guid("ENTRA_MCP_CLIENT_ID", required("ENTRA_MCP_CLIENT_ID")?)?;
    let (origin, path) = url("ENTRA_MCP_PUBLIC_URL", required("ENTRA_MCP_PUBLIC_URL")?)?;
    let path = format!("{path}/mcp");
    let resource = format!("{origin}{path}");
    let app_id_uri = text("ENTRA_MCP_APP_ID_URI").unwrap_or(&resource).trim_end_matches('/');
    let authority = text("ENTRA_MCP_AUTHORITY").unwrap_or(AUTHORITY).trim_end_matches('/');
    let required_scope = text("ENTRA_MCP_REQUIRED_SCOPE").unwrap_or(REQUIRED_SCOPE);
    let tolerance = match text("ENTRA_MCP_CLOCK_TOLERANCE") {
        None => CLOCK_TOLERANCE,
        Some(seconds) => seconds.parse().map_err(|_| SettingsError::Invalid {
            variable: "ENTRA_MCP_CLOCK_TOLERANCE",
            expected: "seconds are expected, 0 to 300",
        })?,
    };
    let tenants = text("ENTRA_MCP_ALLOW_TENANT").unwrap_or_default().split(',').map(str::trim);
    let tenants: Vec<_> = tenants.filter(|tenant| !tenant.is_empty()).collect();
    for tenant in &tenants {
        guid("ENTRA_MCP_ALLOW_TENANT", tenant)?;
    }
    let document = json!({
        "tenant": tenant,
        "authority": authority,
        "token": {
            // Tokens of version 1 name the application by its App ID URI; with and without the slash that Entra ID may add.
            "audiences": [client_id, app_id_uri, format!("{app_id_uri}/")],
            "allowed-tenants": tenants,
            "clock-tolerance-seconds": tolerance,
        },
    });
    Ok(Configuration {
        verdict: verdict::read(&document.to_string())?,
        client_id: client_id.to_owned(),
        qualified_scope: format!("{app_id_uri}/{required_scope}"),
        required_scope: required_scope.to_owned(),
        issuer: format!("{authority}/{tenant}/v2.0"),
        origin,
        path,
    })
}

/// Ids are compared exactly with those in tokens, which are in lower case.
fn guid<'t>(variable: &'static str, text: &'t str) -> Result<&'t str, SettingsError> {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if lengths == [8, 4, 4, 4, 12] && digits {
        return Ok(text);
    }
    let expected = "a GUID in lower case is expected, such as 00001111-aaaa-2222-bbbb-3333cccc4444";
    Err(SettingsError::Invalid { variable, expected })
}

/// Origin of a URL, and its path without a slash at its end.
pub fn url(variable: &'static str, text: &str) -> Result<(String, String), SettingsError> {
    let expected =
        "an https URL without query and without a slash at its end is expected; http is accepted on loopback only";
    let invalid = || SettingsError::Invalid { variable, expected };
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = host.map_or(authority, |(host, _)| host);
    let is_loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    let plain_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_scheme = scheme == "https" || (scheme == "http" && is_loopback);
    let is_path = path.bytes().all(plain_path) && !path.ends_with('/') && !path.contains("//");
    if !is_scheme || host.is_empty() || !authority.bytes().all(plain) || !is_path {
        return Err(invalid());
    }
    Ok((format!("{scheme}://{authority}"), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTEFACT: Artefact = Artefact { name: "component.wasm", own: &["ENTRA_MCP_GRAPH_URL"] };

    fn of(changes: &[(&str, &str)]) -> Result<Configuration, SettingsError> {
        let mut variables = vec![
            ("ENTRA_MCP_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/crm"),
        ];
        for change in changes {
            variables.retain(|(name, _)| *name != change.0);
            variables.push(*change);
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(ARTEFACT, &variables)
    }

    #[test]
    fn three_variables_are_enough() {
        let configuration = of(&[("OTHER", "x")]).unwrap();
        assert_eq!(
            (configuration.origin.as_str(), configuration.path.as_str()),
            ("https://mcp.example.com", "/crm/mcp")
        );
        assert_eq!(configuration.qualified_scope, "https://mcp.example.com/crm/mcp/access_as_user");
        assert_eq!(configuration.issuer, "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0");
        assert_eq!(configuration.verdict.token.audiences[0], "22222222-2222-3333-4444-555555555555");
        assert_eq!(configuration.client_id, "22222222-2222-3333-4444-555555555555");
        let azure = of(&[("ENTRA_MCP_TENANT_ID", ""), ("AZURE_TENANT_ID", "33333333-2222-3333-4444-555555555555")]);
        assert_eq!(azure.unwrap().verdict.tenant, "33333333-2222-3333-4444-555555555555");
    }

    #[test]
    fn what_is_missing_or_has_no_effect_is_named() {
        for name in ["ENTRA_MCP_TENANT_ID", "ENTRA_MCP_CLIENT_ID", "ENTRA_MCP_PUBLIC_URL"] {
            assert_eq!(of(&[(name, "")]).unwrap_err().to_string(), format!("{name} is not set"));
        }
        for (name, value) in [
            ("ENTRA_MCP_STORE", "/records"),
            ("ENTRA_MCP_ACCESS", "[]"),
            ("ENTRA_MCP_TENANT_ID", "contoso.com"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-55555555555A"),
            ("ENTRA_MCP_PUBLIC_URL", "http://mcp.example.com"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/"),
            ("ENTRA_MCP_PUBLIC_URL", "https://u@mcp.example.com"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com?x"),
            ("ENTRA_MCP_AUTHORITY", "http://login.example.com"),
            ("ENTRA_MCP_CLOCK_TOLERANCE", "301"),
            ("ENTRA_MCP_CLOCK_TOLERANCE", "x"),
            ("ENTRA_MCP_ALLOW_TENANT", "contoso.com"),
        ] {
            assert!(of(&[(name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_variable_that_one_component_reads_itself_has_no_effect_in_another() {
        assert!(of(&[("ENTRA_MCP_GRAPH_URL", "https://graph.microsoft.com")]).is_ok());
        let error = of(&[("ENTRA_MCP_STORE", "/records")]).unwrap_err();
        assert_eq!(error.to_string(), "ENTRA_MCP_STORE has no effect in component.wasm: unset it");
        assert!(of(&[("ENTRA_MCP_STORE", "")]).is_ok());
    }
}
