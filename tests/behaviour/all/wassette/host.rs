//! A host that does what `crates/wassette` of wassette 0.8 does with a component: the interfaces of WASI 0.2 and
//! `wasi:http`, a new store for each call, and in it what the policy of the component grants of variables, folders and
//! hosts. A tool is an exported function, and its answer the function's result as JSON (`crates/component2json`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use entra_mcp_compose::{ADAPTER, WASSETTE, functions};
use entra_mcp_emulator::user_agent::{AgentError, HeadlessBrowser, Landing, Person};
use entra_mcp_emulator::{Builder, Emulator};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable, Val};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, default_hooks,
};

use crate::standard::host::{ENGINE, KEY, files};
use crate::support::lab::PASSWORD;
use crate::support::tests_dir;

/// The artefact, of the component that this build of the program has.
pub(crate) fn artefact() -> Vec<u8> {
    functions(BUNDLED_COMPONENT, ADAPTER, WASSETTE).expect("they fit")
}

/// Bytes of standard error that are kept.
const STDERR_BYTES: usize = 1024 * 1024;

/// What a policy grants (`crates/policy`), as far as ours names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    #[allow(dead_code, reason = "wassette wants it")]
    version: String,
    #[allow(dead_code, reason = "wassette wants it")]
    description: String,
    pub(crate) permissions: Permissions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Permissions {
    pub(crate) network: Allowed<Network>,
    pub(crate) environment: Allowed<Variable>,
    pub(crate) storage: Allowed<Storage>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed<T> {
    pub(crate) allow: Vec<T>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Network {
    pub(crate) host: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Variable {
    pub(crate) key: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Storage {
    pub(crate) uri: String,
    pub(crate) access: Vec<String>,
}

/// The policy that is handed out with the artefact.
fn handed_out() -> Policy {
    let text = std::fs::read_to_string(tests_dir().join("../host/packaging/wassette/policy.yaml")).unwrap();
    serde_norway::from_str(&text).unwrap()
}

/// The hosts that a policy grants: scheme, if it names one, and host.
struct AllowedHosts(Vec<(Option<String>, String)>);

/// The body of a request or an answer.
type Body = UnsyncBoxBody<Bytes, Error>;
/// What is left to do when the head of an answer is there.
type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for AllowedHosts {
    fn send_request(
        &mut self,
        request: hyper::Request<Body>,
        options: Option<RequestOptions>,
        transmitted: Rest,
    ) -> Box<dyn Future<Output = Result<(hyper::Response<Body>, Rest), Error>> + Send> {
        let host = request.uri().host().unwrap_or_default().to_ascii_lowercase();
        let is_allowed = |(scheme, allowed): &(Option<String>, String)| {
            *allowed == host && scheme.as_deref().is_none_or(|scheme| request.uri().scheme_str() == Some(scheme))
        };
        if self.0.iter().any(is_allowed) {
            return default_hooks().send_request(request, options, transmitted);
        }
        // wassette's version of the interface refuses before the body is written. Here, the body has to find a reader.
        tokio::spawn(request.into_body().collect());
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hosts: AllowedHosts,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hosts }
    }
}

static LOADED: LazyLock<InstancePre<State>> = LazyLock::new(|| {
    let mut linker = Linker::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("the interfaces of WASI");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("those of HTTP");
    let component = Component::new(&ENGINE, artefact()).expect("the artefact compiles");
    linker.instantiate_pre(&component).expect("WASI is enough")
});

/// The host, with an emulator as Entra ID and Microsoft Graph.
pub(crate) struct Wassette {
    pub(crate) emulator: Emulator,
    pub(crate) policy: Policy,
    /// The variables of the process, of which the policy grants some.
    pub(crate) variables: HashMap<String, String>,
    folder: TempDir,
    stderr: MemoryOutputPipe,
}

impl Wassette {
    pub(crate) async fn start() -> Self {
        let emulator = Builder::new().seed(42).start().await.expect("the emulator starts");
        let at = emulator.endpoints();
        let variables = [
            ("ENTRA_MCP_TENANT_ID", at.tenant_id.as_str()),
            ("ENTRA_MCP_CLIENT_ID", &at.public_client_id),
            ("ENTRA_MCP_STORE_KEY", KEY),
            ("ENTRA_MCP_AUTHORITY", &at.authority),
            ("ENTRA_MCP_GRAPH_URL", &at.graph),
            ("ENTRA_MCP_SIGN_IN_TIMEOUT", "1"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut policy = handed_out();
        // The emulator is elsewhere, and has to be named.
        for name in ["ENTRA_MCP_AUTHORITY", "ENTRA_MCP_GRAPH_URL", "ENTRA_MCP_SIGN_IN_TIMEOUT"] {
            policy.permissions.environment.allow.push(Variable { key: name.to_owned() });
        }
        policy.permissions.network.allow = [&at.authority, &at.graph].map(|host| Network { host: host.clone() }).into();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("entra-mcp")).expect("a folder");
        Self { emulator, policy, variables, folder, stderr: MemoryOutputPipe::new(STDERR_BYTES) }
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &str) -> Result<Value, wasmtime::Error> {
        let mut store = Store::new(&ENGINE, self.state());
        let instance = LOADED.instantiate_async(&mut store).await?;
        let function = instance.get_func(&mut store, tool).expect("the function is exported");
        let mut results = vec![Val::Bool(false)];
        function.call_async(&mut store, &[], &mut results).await?;
        Ok(json_of(&results[0]))
    }

    fn state(&self) -> State {
        let Permissions { network, environment, storage } = &self.policy.permissions;
        let mut wasi = WasiCtx::builder();
        wasi.stderr(self.stderr.clone());
        for Variable { key } in &environment.allow {
            if let Some(value) = self.variables.get(key) {
                wasi.env(key, value);
            }
        }
        for Storage { uri, access } in &storage.allow {
            let path = uri.strip_prefix("fs://").expect("a folder");
            let writes = access.iter().any(|access| access == "write");
            let perms = if writes { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(self.folder.path().join(path), path, perms).expect("the folder exists");
        }
        let parsed = network.allow.iter().map(|network| {
            let url = url::Url::parse(&network.host).expect("a URL");
            (Some(url.scheme().to_owned()), url.host_str().unwrap_or_default().to_owned())
        });
        let hosts = AllowedHosts(parsed.collect());
        State { table: ResourceTable::new(), wasi: wasi.build(), http: WasiHttpCtx::new(), hosts }
    }

    /// The person enters the code that an answer shows.
    pub(crate) async fn enter_code(&self, instruction: &str, username: &str) {
        let landed = self.meet_code(instruction, &Person::new(username, PASSWORD)).await;
        landed.expect("the person signs in");
    }

    /// The person enters it, and then declines.
    pub(crate) async fn decline_code(&self, instruction: &str, username: &str) {
        let landed = self.meet_code(instruction, &Person::new(username, PASSWORD).declining()).await;
        assert!(matches!(landed, Err(AgentError::Refused { code: Some(65004), .. })), "{landed:?}");
    }

    async fn meet_code(&self, instruction: &str, person: &Person) -> Result<Landing, AgentError> {
        let code = instruction.split("the code ").nth(1).and_then(|rest| rest.split('.').next()).expect("a code");
        let page = instruction.lines().find_map(|line| line.strip_prefix("The page: ")).expect("a page");
        HeadlessBrowser::new().approve_device_code_as(page, code, person).await
    }

    /// What the calls have written to standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }

    /// The files in the granted folder, with their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(self.folder.path())
    }
}

/// As `component2json::vals_to_json`.
fn json_of(value: &Val) -> Value {
    let of = |value: &Option<Box<Val>>| value.as_deref().map_or(Value::Null, json_of);
    match value {
        Val::String(text) => json!(text),
        Val::Option(value) => of(value),
        Val::List(values) => values.iter().map(json_of).collect(),
        Val::Record(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect::<Map<_, _>>())
        }
        Val::Result(Ok(value)) => json!({ "ok": of(value) }),
        Val::Result(Err(value)) => json!({ "err": of(value) }),
        other => panic!("{other:?}"),
    }
}
