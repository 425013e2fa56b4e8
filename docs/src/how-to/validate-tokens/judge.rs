//! Judges access tokens by keys that the program has fetched: plain wasmtime, and no HTTP in the component.

use wasmtime::component::{Component, Linker, ResourceTable, bindgen};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

// The folder `wit/` of the repository.
bindgen!({ path: "../../wit", world: "standalone-validator-with-keys", with: { "wasi": wasmtime_wasi::p2::bindings } });

struct Host(WasiCtx, ResourceTable);

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
    }
}

/// A component that judges.
pub struct Judge(Store<Host>, StandaloneValidatorWithKeys);

impl Judge {
    /// Loads the component.
    pub fn new(component: &[u8]) -> Result<Self> {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        let mut store = Store::new(&engine, Host(WasiCtx::builder().build(), ResourceTable::new()));
        let component = Component::new(&engine, component)?;
        let instance = StandaloneValidatorWithKeys::instantiate(&mut store, &component, &linker)?;
        Ok(Self(store, instance))
    }

    /// The object id of the principal, or the code of the refusal.
    pub fn judge(&mut self, token: &str, jwks: &str, settings: &str) -> Result<Result<String, String>> {
        let interface = self.1.entra_mcp_plugin_token_verdict_with_keys();
        let verdict = interface.call_validate_with_keys(&mut self.0, token, jwks, settings, None)?;
        Ok(verdict.map(|principal| principal.object_id).map_err(|error| error.code))
    }
}
