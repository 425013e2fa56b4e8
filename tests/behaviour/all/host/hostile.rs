//! Components that do what the real one never does, made from a few instructions.

use entra_mcp_plugin::audit::MemoryAudit;
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::{Plugin, PluginBuilder};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WorldItem};

/// The address of the counter that lasts as long as the instance, and of the answer of `handle`.
const SETUP: &str = "
    (memory (export \"memory\") 1)
    (data (i32.const 64) \"0\")
    (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    ;; Returns `some` of the counter, after adding one to it.
    (func $count (result i32)
      (i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))
      (i32.store8 (i32.const 128) (i32.const 1))
      (i32.store (i32.const 132) (i32.const 64))
      (i32.store (i32.const 136) (i32.const 1))
      i32.const 128)
    ;; The same with the size of the memory in MiB instead of the counter.
    (func $size (result i32)
      (i32.store8 (i32.const 64) (i32.add (i32.const 47) (i32.shr_u (memory.size) (i32.const 4))))
      (call $count))
    (func $spin (loop (br 0)))";

/// A component whose `handle` does what `body` says (WebAssembly text); every other function traps. The first parameters
/// of `handle` are the addresses and lengths of the message, the correlation id and the transport.
pub(crate) fn component(body: &str) -> Vec<u8> {
    component_with("", "", body)
}

/// The same, with a further import in the world (WIT) and in the core module (WebAssembly text).
pub(crate) fn component_with(world_import: &str, module_import: &str, body: &str) -> Vec<u8> {
    make(world_import, module_import, &Bodies { message: body, ..Bodies::default() })
}

/// A component whose `wasi:http/incoming-handler` does what `body` says. It leaves every request to that.
pub(crate) fn http_component(body: &str) -> Vec<u8> {
    make("", "", &Bodies { http: body, whole: STREAMS, ..Bodies::default() })
}

/// A component whose `serve` of `whole-requests` does what `body` says.
pub(crate) fn whole_component(body: &str) -> Vec<u8> {
    make("", "", &Bodies { whole: body, ..Bodies::default() })
}

/// A component whose `serve` answers with a status, header fields and as many zeroes.
pub(crate) fn answering(status: u16, fields: &str, body_bytes: usize) -> Vec<u8> {
    let escaped: String = fields.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let pages = (body_bytes / 65_536) + 1;
    whole_component(&format!(
        "(drop (memory.grow (i32.const {pages})))
         (memory.init $fields (i32.const 2048) (i32.const 0) (i32.const {length}))
         (i32.store8 (i32.const 160) (i32.const 0))
         (i32.store16 (i32.const 164) (i32.const {status}))
         (i32.store (i32.const 168) (i32.const 2048))
         (i32.store (i32.const 172) (i32.const {length}))
         (i32.store (i32.const 176) (i32.const 65536))
         (i32.store (i32.const 180) (i32.const {body_bytes}))
         i32.const 160)
         (data $fields \"{escaped}\"",
        length = fields.len(),
    ))
}

/// What the functions of a component do that do something.
struct Bodies<'a> {
    message: &'a str,
    http: &'a str,
    whole: &'a str,
}

impl Default for Bodies<'_> {
    fn default() -> Self {
        Self { message: "unreachable", http: "unreachable", whole: "unreachable" }
    }
}

/// `serve` returns `streams`.
const STREAMS: &str = "(i32.store8 (i32.const 160) (i32.const 1)) i32.const 160";

fn make(world_import: &str, module_import: &str, bodies: &Bodies<'_>) -> Vec<u8> {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(&wit).unwrap();
    let world =
        format!("package test:hostile; world hostile {{ include entra-mcp:plugin/plugin@0.2.0; {world_import} }}");
    let package = resolve.push_str("hostile.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("hostile")).unwrap();

    let mut text = format!("(module {module_import} {SETUP}");
    for (key, item) in &resolve.worlds[world].exports {
        let WorldItem::Interface { id, .. } = item else { continue };
        for func in resolve.interfaces[*id].functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestExport, func);
            let export = WasmExport::Func { interface: Some(key), func, kind: WasmExportKind::Normal };
            let name = resolve.wasm_export_name(ManglingAndAbi::Legacy(LiftLowerAbi::Sync), export);
            let body = match (func.name.as_str(), signature.results.as_slice()) {
                ("handle", []) => bodies.http,
                ("handle", _) => bodies.message,
                ("serve", _) => bodies.whole,
                _ => "unreachable",
            };
            let types = |types: &[WasmType]| types.iter().map(|ty| wat_type(*ty)).collect::<Vec<_>>().join(" ");
            let (params, results) = (types(&signature.params), types(&signature.results));
            write!(text, "(func (export {name:?}) (param {params}) (result {results}) {body})").unwrap();
        }
    }
    text.push(')');
    let mut module = wat::parse_str(&text).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

fn wat_type(ty: WasmType) -> &'static str {
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}

/// A host for such a component, without any network.
pub(crate) fn builder(component: Vec<u8>) -> PluginBuilder {
    let settings = Settings {
        client_type: ClientType::PublicClient,
        tenant: "common".to_owned(),
        client_id: "00000000-0000-0000-0000-000000000001".to_owned(),
        authority: "https://login.microsoftonline.com".to_owned(),
        graph: "https://graph.microsoft.com".to_owned(),
        graph_resource: "https://graph.microsoft.com".to_owned(),
        sign_in: SignInSettings {
            method: SignInMethod::Automatic,
            timeout_seconds: 300,
            account: None,
            broker: BrokerUse::Off,
        },
        token: TokenSettings { audiences: Vec::new(), allowed_tenants: Vec::new(), clock_tolerance_seconds: Some(60) },
        profile_cache_seconds: 60,
        audit_usernames: false,
        servers: Vec::new(),
        http: None,
    };
    Plugin::builder(settings).component(component).audit(Arc::new(MemoryAudit::default()))
}
