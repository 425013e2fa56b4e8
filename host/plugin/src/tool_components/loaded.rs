//! A tool component, found good, compiled and linked.

use std::fs;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::error::{LoadProblem, UnknownImport};
use super::settings::ComponentSource;
use super::state::{ToolState, link, tool_grant};
use crate::bindings::tools::ToolsPre;
use crate::code_cache::CodeCache;

const TOOL_PROVIDER: &str = "entra-mcp:plugin/tool-provider@0.2.";
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER: &str = "wasi:http/handler@0.3";

/// What a tool component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `entra-mcp:plugin/tool-provider`: tools, for which the component that decides speaks MCP.
    Provider,
    /// `wasi:http/incoming-handler`: a whole MCP server.
    Http,
}

/// The exports, ready to be instantiated.
pub(super) enum Exports {
    Provider(ToolsPre<ToolState>),
    Http(ProxyPre<ToolState>),
}

/// A component that can be instantiated.
pub(super) struct Loaded {
    pub(super) exports: Exports,
    /// The names of the imports, in order.
    pub(super) imports: Vec<String>,
}

impl Loaded {
    pub(super) fn load(
        engine: &Engine,
        source: &ComponentSource,
        cache: &CodeCache,
        compiler: Option<&super::CompilerOf>,
    ) -> Result<Self, LoadProblem> {
        let (bytes, compiler): (Arc<[u8]>, _) = match source {
            ComponentSource::Bytes(bytes) => (Arc::clone(bytes), None),
            ComponentSource::File(path) => {
                let bytes = fs::read(path).map_err(LoadProblem::Unreadable)?;
                (bytes.into(), compiler.and_then(|compiler| compiler(path)))
            }
        };
        check_form(&bytes)?;
        let component = cache.component(engine, &bytes, compiler).map_err(LoadProblem::Invalid)?;
        Self::link(engine, &component)
    }

    fn link(engine: &Engine, component: &Component) -> Result<Self, LoadProblem> {
        let of_type = component.component_type();
        let exports: Vec<String> = of_type.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
        let is_provider = has(TOOL_PROVIDER);
        if !is_provider && !has(INCOMING_HANDLER) {
            return Err(match exports.iter().find(|name| name.starts_with(HANDLER)) {
                Some(name) => LoadProblem::UnsupportedShape(name.clone()),
                None => LoadProblem::NoTools(exports),
            });
        }
        let imports = of_type.imports(engine).map(|(name, item)| (name.to_owned(), item.ty));
        let imports: Vec<(String, ComponentItem)> = imports.collect();
        let is_unknown =
            |(name, item): &&(String, ComponentItem)| tool_grant(name).is_none() && !is_types_only(engine, item);
        let unknown: Vec<UnknownImport> = imports
            .iter()
            .filter(is_unknown)
            .map(|(name, _)| UnknownImport { name: name.clone(), needed: needed(name) })
            .collect();
        if !unknown.is_empty() {
            return Err(LoadProblem::UnknownImports(unknown));
        }
        let mut linker = Linker::new(engine);
        link(&mut linker).map_err(LoadProblem::Invalid)?;
        let pre = linker.instantiate_pre(component).map_err(LoadProblem::Invalid)?;
        let exports = if is_provider {
            Exports::Provider(ToolsPre::new(pre).map_err(LoadProblem::Invalid)?)
        } else {
            Exports::Http(ProxyPre::new(pre).map_err(LoadProblem::Invalid)?)
        };
        Ok(Self { exports, imports: imports.into_iter().map(|(name, _)| name).collect() })
    }

    pub(super) fn shape(&self) -> Shape {
        match self.exports {
            Exports::Provider(_) => Shape::Provider,
            Exports::Http(_) => Shape::Http,
        }
    }
}

/// Whether the bytes are a component, by their first eight.
pub(super) fn check_form(bytes: &[u8]) -> Result<(), LoadProblem> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(LoadProblem::CoreModule),
        _ => Err(LoadProblem::NotWebAssembly),
    }
}

/// An interface without functions and resources gives nothing, and takes nothing.
fn is_types_only(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => true,
        _ => false,
    }
}

/// What would make an unknown import known.
fn needed(import: &str) -> &'static str {
    if import.starts_with("wasi:") && import.contains("@0.3") {
        "WASI 0.3: build the component for WASI 0.2"
    } else if import.starts_with("wasi:") && !import.contains("@0.2") {
        "an interface of WASI that this host does not have: tools keep nothing between calls, and reach services over \
         wasi:http"
    } else if import.starts_with("entra-mcp:") {
        "an interface of the component that decides, which tools do not get"
    } else {
        "not part of WASI 0.2: compose the component with one that exports it, by `wac plug`"
    }
}
