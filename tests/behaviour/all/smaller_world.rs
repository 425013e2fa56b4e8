//! An embedder that judges tokens: it implements the imports of the world `validator`, and every other import of the component
//! traps.

use std::collections::HashMap;

use entra_mcp_emulator::Clock;
use entra_mcp_plugin::BUNDLED_COMPONENT;
use serde_json::json;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable, ResourceType, Val};
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::bindings::Validator;
use self::bindings::entra_mcp::plugin::client_credential::{Credential, CredentialError};
use self::bindings::entra_mcp::plugin::secret_store::{Lookup, StoreError};
use self::bindings::entra_mcp::plugin::{audit, client_credential, environment, secret_store};
use self::bindings::exports::entra_mcp::plugin::token_validator::Requirements;
use crate::standard::host::ENGINE;
use crate::standard::jco::portable;
use crate::support::lab::{Authorize, CONTOSO, LOCAL, Lab, REMOTE, app};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::restriction, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "validator",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasi:cli": wasmtime_wasi::p2::bindings::cli,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:random": wasmtime_wasi::p2::bindings::random,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        },
    });
}

/// The interfaces that are linked by hand. `signatures` is, where the component imports it.
const LINKED: [&str; 5] = ["environment", "secret-store", "client-credential", "audit", "signatures"];

/// What Entra ID calls Alice.
const ALICE: &str = "11111111-0000-4000-a000-000000000001";

/// The state of an instance.
struct Embedder {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    settings: String,
    records: HashMap<String, Vec<u8>>,
}

impl WasiView for Embedder {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Embedder {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

impl environment::Host for Embedder {
    fn settings(&mut self) -> String {
        self.settings.clone()
    }
}

/// Without times to live: an instance of a test ends before any record.
impl secret_store::Host for Embedder {
    fn get(&mut self, key: String) -> Lookup {
        self.records.get(&key).cloned().map_or(Lookup::None, Lookup::Found)
    }

    fn put(&mut self, key: String, value: Vec<u8>, _: Option<u32>) -> Result<(), StoreError> {
        self.records.insert(key, value);
        Ok(())
    }

    fn take(&mut self, key: String) -> Lookup {
        self.records.remove(&key).map_or(Lookup::None, Lookup::Found)
    }

    fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        _: Option<u32>,
    ) -> Result<bool, StoreError> {
        let is_expected = self.records.get(&key) == expected.as_ref();
        if is_expected {
            self.records.insert(key, value);
        }
        Ok(is_expected)
    }

    fn delete(&mut self, key: String) -> Result<(), StoreError> {
        self.records.remove(&key);
        Ok(())
    }
}

impl client_credential::Host for Embedder {
    fn obtain(&mut self, _: String) -> Result<Credential, CredentialError> {
        Err(CredentialError::NotConfigured("no token is asked for".to_owned()))
    }

    fn replacement(&mut self, _: String, _: Credential) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

impl audit::Host for Embedder {
    fn record(&mut self, _: audit::Event) -> Result<(), String> {
        Ok(())
    }
}

/// WASI, and the imports of the world `validator`.
fn linker() -> Linker<Embedder> {
    let mut linker = Linker::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
    environment::add_to_linker::<Embedder, HasSelf<_>>(&mut linker, |embedder| embedder).unwrap();
    secret_store::add_to_linker::<Embedder, HasSelf<_>>(&mut linker, |embedder| embedder).unwrap();
    client_credential::add_to_linker::<Embedder, HasSelf<_>>(&mut linker, |embedder| embedder).unwrap();
    audit::add_to_linker::<Embedder, HasSelf<_>>(&mut linker, |embedder| embedder).unwrap();
    linker
}

/// Gives the linker all other imports of the component that are this project's: each of their functions traps.
fn trap_the_rest(linker: &mut Linker<Embedder>, component: &Component) {
    for (name, import) in component.component_type().imports(&ENGINE) {
        let ComponentItem::ComponentInstance(import) = import.ty else { continue };
        let is_linked = LINKED.iter().any(|linked| name.starts_with(&format!("entra-mcp:plugin/{linked}@")));
        if is_linked || !name.starts_with("entra-mcp:") {
            continue;
        }
        let mut instance = linker.instance(name).unwrap();
        for (item, export) in import.exports(&ENGINE) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let what = format!("the world `validator` has no {name}#{item}");
                    let trap = move |_: StoreContextMut<'_, Embedder>, _, _: &[Val], _: &mut [Val]| {
                        Err(wasmtime::Error::msg(what.clone()))
                    };
                    instance.func_new(item, trap).unwrap();
                }
                ComponentItem::Resource(_) => {
                    instance.resource(item, ResourceType::host::<()>(), |_, _| Ok(())).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// What an instance of the component says about tokens: the object id, or the code of the refusal.
async fn verdicts(component: &[u8], mut linker: Linker<Embedder>, lab: &Lab, tokens: &[&str]) -> Vec<String> {
    let component = Component::new(&ENGINE, component).unwrap();
    trap_the_rest(&mut linker, &component);
    let settings = json!({
        "client-type": "confidential-client",
        "tenant": CONTOSO,
        "client-id": app(REMOTE),
        "authority": lab.endpoints().authority,
        "token": { "audiences": [app(REMOTE)] },
    });
    let embedder = Embedder {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        settings: settings.to_string(),
        records: HashMap::new(),
    };
    let mut store = Store::new(&ENGINE, embedder);
    let validator = Validator::instantiate_async(&mut store, &component, &linker).await.unwrap();
    let nothing =
        Requirements { all_scopes: vec![], any_role: vec![], any_group: vec![], kind: None, any_client: vec![] };
    let mut verdicts = Vec::new();
    for token in tokens {
        let judged =
            validator.entra_mcp_plugin_token_validator().call_validate(&mut store, token, &nothing).await.unwrap();
        verdicts.push(match judged {
            Ok(principal) => principal.object_id,
            Err(error) => error.code,
        });
    }
    verdicts
}

/// An emulator with the time of this machine, and a token of Alice for the remote application.
async fn lab() -> (Lab, String) {
    let mut lab = Lab::with(|builder| builder.clock(Clock::real())).await;
    let scope = format!("openid profile api://{}/Mcp.Access", app(REMOTE));
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&scope), "alice@contoso.example").await;
    let token = answer.text("access_token").to_owned();
    (lab, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_judges_tokens_implements_the_imports_of_the_world_validator_only() {
    let (lab, token) = lab().await;
    // What is bundled asks the host about signatures as well. This host cannot tell.
    let mut linker = linker();
    let mut signatures = linker.instance("entra-mcp:plugin/signatures@0.2.0").unwrap();
    signatures
        .func_new("judge-rs256", move |_, _, _, results| {
            results[0] = Val::Enum("unknown".to_owned());
            Ok(())
        })
        .unwrap();
    let said = verdicts(BUNDLED_COMPONENT, linker, &lab, &["nonsense", &token]).await;
    assert_eq!(said, ["not-compact", ALICE]);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
async fn for_the_portable_component_the_imports_of_the_world_validator_are_enough() {
    let (lab, token) = lab().await;
    let said = verdicts(&portable(), linker(), &lab, &["nonsense", &token]).await;
    assert_eq!(said, ["not-compact", ALICE]);
}
