//! A tool component, found good, compiled and linked.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::error::{LoadProblem, UnknownImport};
use super::settings::ComponentSource;
use super::state::{ToolState, link, tool_grant, wasi_0_3};
use super::wasi::{INCOMING_HANDLER, TOOL_PROVIDER, WasiVersion, is_of_wasi_0_3};
use crate::bindings::tools::ToolsPre;
use crate::code_cache::CodeCache;

/// The exports of a tool component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `entra-mcp:plugin/tool-provider`: tools, for which the component that decides speaks MCP.
    Provider,
    /// `wasi:http/incoming-handler`, or `wasi:http/handler` of WASI 0.3: a whole MCP server.
    Http,
}

/// The exports, ready to be instantiated.
pub(super) enum Exports {
    Provider(ToolsPre<ToolState>),
    Http(ProxyPre<ToolState>),
    /// A whole MCP server of WASI 0.3.
    Service(ServicePre<ToolState>),
}

impl Exports {
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Provider(pre) => pre.engine(),
            Self::Http(pre) => pre.engine(),
            Self::Service(pre) => pre.engine(),
        }
    }
}

/// A component that was read and is not compiled yet.
pub(super) struct Read {
    bytes: Arc<[u8]>,
    compiler: Option<Command>,
    pub(super) wasi: WasiVersion,
}

/// A component that can be instantiated.
pub(super) struct Loaded {
    pub(super) exports: Exports,
    /// The names of the imports, in order.
    pub(super) imports: Vec<String>,
}

impl Read {
    pub(super) fn from_source(
        source: &ComponentSource,
        compiler: Option<&super::CompilerOf>,
    ) -> Result<Self, LoadProblem> {
        let (bytes, compiler): (Arc<[u8]>, _) = match source {
            ComponentSource::Bytes(bytes) => (Arc::clone(bytes), None),
            ComponentSource::File(path) => {
                let bytes = fs::read(path).map_err(LoadProblem::Unreadable)?;
                (bytes.into(), compiler.and_then(|compiler| compiler(path)))
            }
        };
        check(&bytes)?;
        let wasi = WasiVersion::of(&bytes);
        Ok(Self { bytes, compiler, wasi })
    }
}

impl Loaded {
    /// Compiles a component, or takes it from the cache. The engine is the one for its version of WASI.
    pub(super) fn load(engine: &Engine, read: Read, cache: &CodeCache) -> Result<Self, LoadProblem> {
        let component = cache.component(engine, &read.bytes, read.compiler).map_err(LoadProblem::Invalid)?;
        Self::link(engine, &component, read.wasi)
    }

    fn link(engine: &Engine, component: &Component, wasi: WasiVersion) -> Result<Self, LoadProblem> {
        let of_type = component.component_type();
        let exports: Vec<String> = of_type.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
        let is_provider = has(TOOL_PROVIDER);
        let handler = exports.iter().find_map(|name| Some((name, name.strip_prefix("wasi:http/handler@")?)));
        match handler {
            _ if is_provider || has(INCOMING_HANDLER) => {}
            Some((_, version)) if wasi == WasiVersion::V0_3 && wasi_0_3::is_released(version) => {}
            Some((name, _)) => return Err(LoadProblem::UnsupportedShape(name.clone())),
            None => return Err(LoadProblem::NoTools(exports)),
        }
        let imports = of_type.imports(engine).map(|(name, item)| (name.to_owned(), item.ty));
        let imports: Vec<(String, ComponentItem)> = imports.collect();
        let is_linked = |name: &str| tool_grant(name).is_some() && (wasi == WasiVersion::V0_3 || !is_of_wasi_0_3(name));
        let is_unknown = |(name, item): &&(String, ComponentItem)| !is_linked(name) && !is_types_only(engine, item);
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
        if wasi == WasiVersion::V0_3 {
            wasi_0_3::link(&mut linker).map_err(LoadProblem::Invalid)?;
        }
        let pre = linker.instantiate_pre(component).map_err(LoadProblem::Invalid)?;
        let exports = match wasi {
            WasiVersion::V0_3 => ServicePre::new(pre).map(Exports::Service),
            WasiVersion::V0_2 if is_provider => ToolsPre::new(pre).map(Exports::Provider),
            WasiVersion::V0_2 => ProxyPre::new(pre).map(Exports::Http),
        };
        let imports = imports.into_iter().map(|(name, _)| name).collect();
        Ok(Self { exports: exports.map_err(LoadProblem::Invalid)?, imports })
    }

    pub(super) fn shape(&self) -> Shape {
        match self.exports {
            Exports::Provider(_) => Shape::Provider,
            Exports::Http(_) | Exports::Service(_) => Shape::Http,
        }
    }

    pub(super) fn wasi(&self) -> WasiVersion {
        match self.exports {
            Exports::Provider(_) | Exports::Http(_) => WasiVersion::V0_2,
            Exports::Service(_) => WasiVersion::V0_3,
        }
    }
}

/// Whether the bytes are a component, by their first eight, and one of a single version of WASI: the compiler would say
/// less clearly what is wrong, and later.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadProblem> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => return Err(LoadProblem::CoreModule),
        _ => return Err(LoadProblem::NotWebAssembly),
    }
    let beyond = WasiVersion::imports_beyond(bytes);
    if beyond.is_empty() { Ok(()) } else { Err(LoadProblem::MixedVersions(beyond)) }
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
    if is_of_wasi_0_3(import) {
        "WASI 0.3, of which this host has the interfaces of the released version"
    } else if import.starts_with("wasi:") && !import.contains("@0.2") {
        "an interface of WASI that this host does not have: tools keep nothing between calls, and reach services over \
         wasi:http"
    } else if import.starts_with("entra-mcp:") {
        "an interface of the component that decides, which tools do not get"
    } else {
        "not part of WASI 0.2: compose the component with one that exports it, by `wac plug`"
    }
}
