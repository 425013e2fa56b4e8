//! What a tool component offers, what it would be granted, and what to write into the configuration for it.

use std::path::Path;
use std::sync::Arc;

use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::provided_tools::{Hints, Tool};
use entra_mcp_plugin::tool_components::{
    ComponentSource, Description, LoadError, NoTokens, Shape, ToolComponentSettings, ToolComponents,
};
use serde::Serialize;

use crate::commands::CommandError;
use crate::composition::behind::runtime_settings;
use crate::config::{GrantedTools, ToolsConfig, behind};
use crate::console;

/// The imports that send requests.
const OUTGOING: [&str; 2] = ["wasi:http/outgoing-handler@", "wasi:http/client@"];

/// What there is to know about a tool component.
#[derive(Debug, Serialize)]
pub(super) struct ToolComponentReport {
    /// Which exports it has: `tool-provider`, or `wasi:http`.
    shape: &'static str,
    /// The version of WASI that it is written for: `0.2` or `0.3`.
    wasi: &'static str,
    /// Its tools. A component of the shape `wasi:http` lists them to clients only.
    tools: Vec<ToolReport>,
    imports: Vec<ImportReport>,
    /// What a `[[tools]]` without any setting grants.
    grants: Vec<String>,
    /// The table to write into the configuration file.
    configuration: String,
    /// What the tables of a configuration grant that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configured: Vec<ConfiguredReport>,
}

#[derive(Debug, Serialize)]
struct ConfiguredReport {
    /// The name of the server.
    name: String,
    /// Where its clients reach it.
    path: String,
    grants: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ToolReport {
    name: String,
    title: Option<String>,
    description: String,
    read_only: bool,
    destructive: bool,
}

#[derive(Debug, Serialize)]
struct ImportReport {
    name: String,
    granted: &'static str,
}

/// Loads a component as `[[tools]]` would be, with no settings.
pub(super) fn load(file: &Path, bytes: &[u8], code_cache: &CodeCache) -> Result<ToolComponents, LoadError> {
    let settings = ToolComponentSettings::new(name_of(file), ComponentSource::Bytes(bytes.into()));
    ToolComponents::builder(Arc::new(NoTokens)).code_cache(code_cache.clone()).load(vec![settings])
}

/// Asks a component that was loaded for its tools.
pub(super) async fn report(file: &Path, components: &ToolComponents) -> Result<ToolComponentReport, CommandError> {
    let name = name_of(file);
    let failed = |reason: String| CommandError::ToolsUnknown { path: file.display().to_string(), reason };
    let described = components.describe(&name).await.ok_or_else(|| failed("it was not loaded".to_owned()))?;
    let Description { shape, wasi, tools, imports, grants } =
        described.map_err(|error| failed(format!("{error:?}")))?;
    let sends = imports.iter().any(|(name, _)| OUTGOING.iter().any(|outgoing| name.starts_with(outgoing)));
    Ok(ToolComponentReport {
        shape: match shape {
            Shape::Provider => "tool-provider",
            Shape::Http => "wasi:http",
        },
        wasi: wasi.as_str(),
        tools: tools.into_iter().map(ToolReport::of).collect(),
        imports: imports.into_iter().map(|(name, granted)| ImportReport { name, granted }).collect(),
        grants,
        configuration: configuration(file, &name, sends),
        configured: Vec::new(),
    })
}

/// The name for the `[[tools]]` of a file: the one that it has by default, where the file gives one.
fn name_of(file: &Path) -> String {
    let name = behind::name_of(file);
    if behind::is_name(&name) { name } else { "tools".to_owned() }
}

fn configuration(file: &Path, name: &str, sends: bool) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut table = format!("[[tools]]\nname = {}\nfile = {}\n", quoted(name), quoted(&file.display().to_string()));
    if sends {
        table.push_str("# Where its requests may go, and the permissions of the token that each of them gets:\n");
        table.push_str("# { to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }\negress = []\n");
    }
    table
}

impl ToolReport {
    fn of(tool: Tool) -> Self {
        Self {
            read_only: tool.hints.contains(Hints::READ_ONLY),
            destructive: tool.hints.contains(Hints::DESTRUCTIVE),
            name: tool.name,
            title: tool.title,
            description: tool.description,
        }
    }

    /// What it says about its effects.
    fn effects(&self) -> &'static str {
        match (self.read_only, self.destructive) {
            (true, _) => ", reads only",
            (_, true) => ", may destroy something",
            (false, false) => "",
        }
    }
}

impl ToolComponentReport {
    /// Adds what the configuration grants.
    pub(super) async fn add_configured(
        &mut self,
        file: &Path,
        granted: GrantedTools,
        code_cache: &CodeCache,
    ) -> Result<(), CommandError> {
        let unknown = |reason: String| CommandError::ToolsUnknown { path: file.display().to_string(), reason };
        let settings = granted.tools.iter().map(runtime_settings).collect();
        let components = ToolComponents::builder(Arc::new(NoTokens)).graph(granted.graph);
        let components = components.code_cache(code_cache.clone()).load(settings);
        let components = components.map_err(|error| unknown(error.problem.to_string()))?;
        for ToolsConfig { place, .. } in granted.tools {
            let described = components.describe(&place.name).await;
            let described = described.ok_or_else(|| unknown("it was not loaded".to_owned()))?;
            let Description { grants, .. } = described.map_err(|error| unknown(format!("{error:?}")))?;
            self.configured.push(ConfiguredReport { name: place.name, path: place.path, grants });
        }
        Ok(())
    }

    pub(super) fn print(&self) {
        console::result(&format!("Shape      {}, WASI {}", self.shape, self.wasi));
        console::result("\nTools:");
        for tool in &self.tools {
            console::result(&format!("  {}{}", tool.name, tool.effects()));
            console::result(&format!("    {}", tool.description));
        }
        if self.tools.is_empty() {
            console::result("  It lists them to MCP clients only.");
        }
        console::result("\nImports, and what the host grants for them:");
        let width = self.imports.iter().map(|import| import.name.len()).max().unwrap_or_default();
        for ImportReport { name, granted } in &self.imports {
            console::result(&format!("  {name:width$}  {granted}"));
        }
        if !self.configured.is_empty() {
            for ConfiguredReport { name, path, grants } in &self.configured {
                console::result(&format!("\nGranted by the configuration, as {name} at {path}:"));
                grants.iter().for_each(|grant| console::result(&format!("  {grant}")));
            }
            return;
        }
        console::result("\nGranted, unless the configuration says more:");
        for grant in &self.grants {
            console::result(&format!("  {grant}"));
        }
        console::result(&format!("\nFor the configuration file:\n\n{}", self.configuration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_takes_the_table_for_the_configuration() {
        use crate::config::{Environment, Layer, Sources};

        let folder = tempfile::tempdir().unwrap();
        for (file, name) in [("order_desk.wasm", "order-desk"), ("Mail 2.0.wasm", "mail-2-0"), ("Ä.wasm", "tools")] {
            let file = folder.path().join(file);
            std::fs::write(&file, "").unwrap();
            let config = folder.path().join("config.toml");
            let ids = ["tenant-id", "client-id"].map(|key| format!("{key} = '11111111-1111-1111-1111-111111111111'\n"));
            std::fs::write(&config, ids.concat() + &configuration(&file, &name_of(&file), true)).unwrap();
            let variables = [("HOME", "/home/u"), ("ENTRA_MCP_CONFIG", config.to_str().unwrap())];
            let sources = Sources::read_stdio(Layer::default(), Default::default(), Environment::of(&variables));
            let loaded = sources.unwrap().local_server().unwrap();
            assert_eq!(loaded.behind.tools[0].place.name, name);
        }
    }

    #[test]
    fn the_table_for_the_configuration_is_one() {
        let file = Path::new("./to \"ols\"/mail.wasm");
        for sends in [false, true] {
            let table: toml::Table = configuration(file, &name_of(file), sends).parse().unwrap();
            let entry = &table["tools"][0];
            assert_eq!(entry["name"].as_str(), Some("mail"));
            assert_eq!(entry["file"].as_str(), Some("./to \"ols\"/mail.wasm"));
            assert_eq!(entry.get("egress").is_some(), sends);
        }
    }
}
