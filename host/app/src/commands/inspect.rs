//! `entra-mcp inspect`: what a component is, what it asks for, and what it would be granted: the component that takes
//! the decisions, or a component with tools.

use std::path::Path;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::grant;
use entra_mcp_plugin::tool_components::{LoadError, LoadProblem};
use entra_mcp_plugin::{BUNDLED_COMPONENT, engine};
use ring::digest;
use serde::Serialize;
use wasmtime::component::types::ComponentItem;

use super::CommandError;
use crate::config::GrantedTools;
use crate::console;
use tool_component::ToolComponentReport;

mod tool_component;

/// What there is to know about a component.
#[derive(Debug, Serialize)]
struct ComponentReport {
    /// Where it came from.
    source: String,
    bytes: usize,
    sha256: String,
    #[serde(flatten)]
    kind: Kind,
}

/// What is known of a component depends on what it is for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Kind {
    /// The component that takes the decisions, or one that is for none of this program's purposes.
    Deciding(Interfaces),
    Tools(ToolComponentReport),
}

#[derive(Debug, Serialize)]
struct Interfaces {
    imports: Vec<Import>,
    exports: Vec<Export>,
}

#[derive(Debug, Serialize)]
struct Import {
    name: String,
    functions: Vec<String>,
    /// `None`: it is not granted, and the component does not load.
    granted: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Export {
    name: String,
    functions: Vec<String>,
}

/// Prints what is known about the component in the file `path`, or about the bundled one, and what the configuration grants
/// it.
pub async fn run(
    path: Option<&Path>,
    granted: Option<GrantedTools>,
    as_json: bool,
    code_cache: &CodeCache,
) -> Result<(), CommandError> {
    let report = match path {
        None => {
            let kind = Kind::Deciding(interfaces(BUNDLED_COMPONENT, code_cache)?);
            ComponentReport::new("the bundled component".into(), BUNDLED_COMPONENT, kind)
        }
        Some(path) => {
            let source = path.display().to_string();
            let bytes = std::fs::read(path)
                .map_err(|error| CommandError::File { path: source.clone(), reason: error.to_string() })?;
            let mut kind = kind(path, &bytes, code_cache).await?;
            if let (Kind::Tools(report), Some(granted)) = (&mut kind, granted) {
                report.add_configured(path, granted, code_cache).await?;
            }
            ComponentReport::new(source, &bytes, kind)
        }
    };
    if as_json {
        console::result(&serde_json::json!(report).to_string());
    } else {
        print(&report);
    }
    Ok(())
}

async fn kind(path: &Path, bytes: &[u8], code_cache: &CodeCache) -> Result<Kind, CommandError> {
    let refused = match tool_component::load(path, bytes, code_cache) {
        Ok(components) => return Ok(Kind::Tools(tool_component::report(path, &components).await?)),
        Err(refused) => refused,
    };
    let interfaces = interfaces(bytes, code_cache)?;
    match refused {
        // It would be one with tools, if it did not ask for too much.
        LoadError { problem: LoadProblem::UnknownImports(_) | LoadProblem::UnsupportedShape(_), .. }
            if !interfaces.decides() =>
        {
            Err(CommandError::ToolsUnknown { path: path.display().to_string(), reason: refused.problem.to_string() })
        }
        _ => Ok(Kind::Deciding(interfaces)),
    }
}

impl ComponentReport {
    fn new(source: String, bytes: &[u8], kind: Kind) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        Self { source, bytes: bytes.len(), sha256: base16ct::lower::encode_string(hash.as_ref()), kind }
    }
}

impl Interfaces {
    /// Whether it exports what the component that takes the decisions does.
    fn decides(&self) -> bool {
        self.exports.iter().any(|export| export.name.starts_with("entra-mcp:plugin/mcp-server@"))
    }
}

fn interfaces(bytes: &[u8], code_cache: &CodeCache) -> Result<Interfaces, Error> {
    let engine = engine()?;
    let component = code_cache.component(&engine, bytes, None).map_err(Error::Component)?;
    let ty = component.component_type();
    let functions = |item: &ComponentItem| match item {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(&engine)
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
            .map(|(name, _)| name.to_owned())
            .collect(),
        _ => Vec::new(),
    };
    let imports = ty.imports(&engine).map(|(name, item)| Import {
        name: name.to_owned(),
        functions: functions(&item.ty),
        granted: grant(name),
    });
    let exports =
        ty.exports(&engine).map(|(name, item)| Export { name: name.to_owned(), functions: functions(&item.ty) });
    Ok(Interfaces { imports: imports.collect(), exports: exports.collect() })
}

fn print(report: &ComponentReport) {
    console::result(&format!("Component  {}", report.source));
    console::result(&format!("Size       {} bytes", report.bytes));
    console::result(&format!("SHA-256    {}", report.sha256));
    match &report.kind {
        Kind::Deciding(interfaces) => interfaces.print(),
        Kind::Tools(tools) => tools.print(),
    }
}

impl Interfaces {
    fn print(&self) {
        console::result("\nImports, and what the host grants for them:");
        let width = self.imports.iter().map(|import| import.name.len()).max().unwrap_or_default();
        for import in &self.imports {
            let granted = import.granted.unwrap_or("NOT GRANTED: the component does not load");
            console::result(&format!("  {:width$}  {granted}", import.name));
        }
        console::result("\nExports:");
        for export in &self.exports {
            console::result(&format!("  {}", export.name));
            for function in &export.functions {
                console::result(&format!("    {function}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_component_imports_only_what_is_granted_and_no_sockets() {
        let report = interfaces(BUNDLED_COMPONENT, &CodeCache::Off).unwrap();
        for import in &report.imports {
            assert!(import.granted.is_some(), "{}", import.name);
            assert!(!import.name.starts_with("wasi:sockets/"), "{}", import.name);
        }
        let exported = |name: &str| report.exports.iter().any(|export| export.name.starts_with(name));
        assert!(exported("entra-mcp:plugin/mcp-server"));
        assert!(exported("entra-mcp:plugin/sign-in"));
    }
}
