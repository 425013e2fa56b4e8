//! The settings, from variables that have the names of the program's.

use base::Secret;
use base::bearer_settings::{self, Artefact, SettingsError};
use base::settings::Settings;

const GRAPH_URL: &str = "ENTRA_MCP_GRAPH_URL";
const GRAPH_RESOURCE: &str = "ENTRA_MCP_GRAPH_RESOURCE";
const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";

const ARTEFACT: Artefact = Artefact { name: "entra_mcp.wasmcp-tools.wasm", own: &[GRAPH_URL, GRAPH_RESOURCE] };

/// Microsoft's public cloud. In any other one, Graph has to be named.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const GRAPH: &str = "https://graph.microsoft.com";

/// What the variables come to.
#[derive(Debug)]
pub struct Configuration {
    /// What tokens are judged by, and where Entra ID and Graph are.
    pub settings: Settings,
    /// The scope that a person's token has to carry, in the short form.
    pub required_scope: String,
    /// How the component proves to Entra ID which application it is.
    pub secret: Secret<String>,
}

/// Reads the variables of the component.
pub fn read(variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    let bearer = bearer_settings::read(ARTEFACT, variables)?;
    let address = |name: &'static str| {
        let given = bearer_settings::variable(variables, name);
        given.map(|text| bearer_settings::url(name, text.trim_end_matches('/'))).transpose()
    };
    let graph = match address(GRAPH_URL)? {
        Some((origin, path)) => format!("{origin}{path}"),
        None if bearer.verdict.authority == AUTHORITY => GRAPH.to_owned(),
        None => return Err(SettingsError::Missing(GRAPH_URL)),
    };
    let graph_resource = match address(GRAPH_RESOURCE)? {
        Some((origin, path)) => format!("{origin}{path}"),
        // An emulated Graph takes the tokens of the real one.
        None if graph.starts_with("http://") => GRAPH.to_owned(),
        None => graph.clone(),
    };
    let secret = bearer_settings::variable(variables, CLIENT_SECRET).ok_or(SettingsError::Missing(CLIENT_SECRET))?;
    Ok(Configuration {
        settings: Settings { client_id: bearer.client_id, graph, graph_resource, ..bearer.verdict },
        required_scope: bearer.required_scope,
        secret: Secret::from(secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(changes: &[(&str, &str)]) -> Result<Configuration, String> {
        let mut variables = vec![
            ("ENTRA_MCP_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
            ("AZURE_CLIENT_SECRET", "hush"),
        ];
        for change in changes {
            variables.retain(|(name, _)| *name != change.0);
            variables.push(*change);
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn graph_is_that_of_the_public_cloud_unless_another_one_is_named() {
        let configuration = of(&[]).unwrap();
        assert_eq!(configuration.settings.client_id, "22222222-2222-3333-4444-555555555555");
        assert!(!configuration.settings.is_public_client());
        for (graph, resource, expected) in [
            ("", "", (GRAPH, GRAPH)),
            ("https://graph.microsoft.us/", "", ("https://graph.microsoft.us", "https://graph.microsoft.us")),
            ("http://127.0.0.1:80", "", ("http://127.0.0.1:80", GRAPH)),
            (
                "http://127.0.0.1:80",
                "https://graph.microsoft.us",
                ("http://127.0.0.1:80", "https://graph.microsoft.us"),
            ),
        ] {
            let settings = of(&[(GRAPH_URL, graph), (GRAPH_RESOURCE, resource)]).unwrap().settings;
            assert_eq!((settings.graph.as_str(), settings.graph_resource.as_str()), expected);
        }
        let elsewhere = of(&[("ENTRA_MCP_AUTHORITY", "https://login.microsoftonline.us")]);
        assert_eq!(elsewhere.unwrap_err(), "ENTRA_MCP_GRAPH_URL is not set");
    }

    #[test]
    fn what_is_missing_or_has_no_effect_is_named_and_the_secret_is_not_shown() {
        assert_eq!(of(&[(CLIENT_SECRET, "")]).unwrap_err(), "AZURE_CLIENT_SECRET is not set");
        let error = of(&[("ENTRA_MCP_CLIENT_SECRET_FILE", "/secret")]).unwrap_err();
        assert_eq!(error, "ENTRA_MCP_CLIENT_SECRET_FILE has no effect in entra_mcp.wasmcp-tools.wasm: unset it");
        for graph in ["http://graph.microsoft.com", "graph.microsoft.com", "https://u@graph.microsoft.com"] {
            assert!(
                of(&[(GRAPH_URL, graph)]).unwrap_err().starts_with("ENTRA_MCP_GRAPH_URL is not accepted"),
                "{graph}"
            );
        }
        assert!(!format!("{:?}", of(&[]).unwrap()).contains("hush"));
    }
}
