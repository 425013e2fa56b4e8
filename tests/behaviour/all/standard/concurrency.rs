//! Several instances on one folder at the same time. `guest/standard` goes through the orders of operations; here are real
//! instances, threads and files.

use std::path::Path;

use entra_mcp_compose::ADAPTER;
use tempfile::TempDir;
use wasmtime::Store;
use wasmtime::component::{Component, Func, Val};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use super::host::{ENGINE, FOLDER, KEY, State, linker, store};

const INSTANCES: usize = 8;
const ROUNDS: usize = 20;
const INTERFACE: &str = "entra-mcp:plugin/secret-store@0.2.0";

/// The store of one instance of the adapter.
struct Instance {
    store: Store<State>,
    get: Func,
    swap: Func,
    put: Func,
    take: Func,
}

fn variables() -> Vec<(String, String)> {
    [
        ("ENTRA_MCP_TENANT_ID", "c0117050-0000-4000-a000-000000000001"),
        ("ENTRA_MCP_CLIENT_ID", "a0000000-0000-4000-a000-000000000002"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
        ("ENTRA_MCP_STORE", FOLDER),
        ("ENTRA_MCP_STORE_KEY", KEY),
        ("AZURE_CLIENT_SECRET", "secret"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl Instance {
    async fn new(component: &Component, folder: &Path) -> Self {
        let mut store = store(&variables(), folder, FsPerms::ReadWrite, MemoryOutputPipe::new(1 << 20));
        let instance = linker().instantiate_async(&mut store, component).await.expect("an instance");
        let interface = instance.get_export_index(&mut store, None, INTERFACE).expect("the store");
        let mut function = |name: &str| {
            let index = instance.get_export_index(&mut store, Some(&interface), name).expect("a function");
            instance.get_func(&mut store, index).expect("a function")
        };
        let (get, swap, put, take) = (function("get"), function("compare-and-swap"), function("put"), function("take"));
        Self { store, get, swap, put, take }
    }

    async fn call(&mut self, function: Func, arguments: &[Val]) -> Val {
        let mut results = [Val::Bool(false)];
        function.call_async(&mut self.store, arguments, &mut results).await.expect("the call returns");
        let [result] = results;
        result
    }

    /// What a lookup has found.
    async fn found(&mut self, function: Func) -> Option<Vec<u8>> {
        match self.call(function, &[Val::String("record".to_owned())]).await {
            Val::Variant(case, value) if case == "found" => Some(bytes(&value.expect("a value"))),
            Val::Variant(case, None) if case == "none" => None,
            other => panic!("{other:?}"),
        }
    }

    async fn put(&mut self, value: &[u8]) {
        let arguments = [Val::String("record".to_owned()), list(value), Val::Option(None)];
        assert_eq!(self.call(self.put, &arguments).await, Val::Result(Ok(None)));
    }

    async fn swap(&mut self, expected: Option<&[u8]>, value: &[u8]) -> bool {
        let expected = Val::Option(expected.map(|expected| Box::new(list(expected))));
        let arguments = [Val::String("record".to_owned()), expected, list(value), Val::Option(None)];
        match self.call(self.swap, &arguments).await {
            Val::Result(Ok(Some(swapped))) => *swapped == Val::Bool(true),
            other => panic!("{other:?}"),
        }
    }
}

fn list(bytes: &[u8]) -> Val {
    Val::List(bytes.iter().map(|byte| Val::U8(*byte)).collect())
}

fn bytes(value: &Val) -> Vec<u8> {
    let Val::List(bytes) = value else { panic!("{value:?}") };
    bytes.iter().map(|byte| if let Val::U8(byte) = byte { *byte } else { panic!("{byte:?}") }).collect()
}

async fn instances() -> (TempDir, Vec<Instance>) {
    let folder = tempfile::tempdir().expect("a folder");
    let component = Component::new(&ENGINE, ADAPTER).expect("the adapter compiles");
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(Instance::new(&component, folder.path()).await);
    }
    (folder, instances)
}

fn number(value: Option<&[u8]>) -> usize {
    value.map_or(0, |value| String::from_utf8_lossy(value).parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_is_lost_when_several_instances_compare_and_swap_one_record() {
    let (_folder, instances) = instances().await;
    let tasks = instances.into_iter().map(|mut instance| {
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let current = instance.found(instance.get).await;
                    let next = (number(current.as_deref()) + 1).to_string();
                    if instance.swap(current.as_deref(), next.as_bytes()).await {
                        break;
                    }
                }
            }
            instance
        })
    });
    let mut last = None;
    for task in tasks.collect::<Vec<_>>() {
        last = Some(task.await.expect("no task panicked"));
    }
    let mut last = last.expect("an instance");
    let value = last.found(last.get).await;
    assert_eq!(number(value.as_deref()), INSTANCES * ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_instances_that_take_a_record_one_gets_it() {
    let (folder, mut instances) = instances().await;
    for round in 0..ROUNDS {
        let value = round.to_string().into_bytes();
        instances[0].put(&value).await;
        let tasks = instances.into_iter().map(|mut instance| {
            tokio::spawn(async move {
                let taken = instance.found(instance.take).await;
                (instance, taken)
            })
        });
        let mut taken = Vec::new();
        instances = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            let (instance, found) = task.await.expect("no task panicked");
            instances.push(instance);
            taken.extend(found);
        }
        assert_eq!(taken, [value]);
    }
    assert_eq!(super::host::files(folder.path()), [], "what was taken leaves nothing");
}
