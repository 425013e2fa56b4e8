//! Whatever a component does costs one call, never the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entra_mcp_plugin::Error;
use entra_mcp_plugin::client_channel::NoChannel;
use entra_mcp_plugin::{MessageContext, Plugin};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::hostile::{builder, component, component_with};

const REQUEST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#;

/// The counter of the instance that answered, or the whole answer if it was an error.
async fn handle(plugin: &Plugin, message: &str) -> String {
    let caller = MessageContext { correlation_id: Some("c0ffee".to_owned()), ..MessageContext::new("test") };
    plugin.handle(message, &caller, Arc::new(NoChannel)).await.unwrap_or_default()
}

/// The error that answers [`REQUEST`] when the component fails.
fn failed() -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "error": {
        "code": -32603, "message": "internal error (correlation id c0ffee)"
    }})
}

fn parsed(answer: &str) -> Value {
    serde_json::from_str(answer).unwrap()
}

#[tokio::test]
async fn an_instance_is_reused() {
    let plugin = builder(component("call $count")).build().unwrap();
    assert_eq!(handle(&plugin, REQUEST).await, "1");
    assert_eq!(handle(&plugin, REQUEST).await, "2");
}

#[tokio::test]
async fn an_instance_is_replaced_after_its_calls() {
    let plugin = builder(component("call $count")).max_calls_per_instance(2).build().unwrap();
    let mut counters = Vec::new();
    for _ in 0..5 {
        counters.push(handle(&plugin, REQUEST).await);
    }
    assert_eq!(counters, ["1", "2", "1", "2", "1"]);
}

#[tokio::test]
async fn a_trap_costs_one_call_and_its_instance() {
    // The second call of an instance traps.
    let body = "(drop (call $count)) (if (i32.eq (i32.load8_u (i32.const 64)) (i32.const 50)) (then unreachable))
        i32.const 128";
    let plugin = builder(component(body)).build().unwrap();
    assert_eq!(handle(&plugin, REQUEST).await, "1");
    assert_eq!(parsed(&handle(&plugin, REQUEST).await), failed());
    assert_eq!(handle(&plugin, REQUEST).await, "1");
}

#[tokio::test]
async fn a_trap_on_a_notification_is_not_answered() {
    let plugin = builder(component("unreachable")).build().unwrap();
    let answer =
        plugin.handle(r#"{"jsonrpc":"2.0","method":"x"}"#, &MessageContext::new("test"), Arc::new(NoChannel)).await;
    assert_eq!(answer, None);
}

#[tokio::test]
async fn a_component_that_computes_without_end_is_stopped_and_lets_others_run_meanwhile() {
    let plugin = builder(component("call $spin unreachable")).max_computing_epochs(3).build().unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let other = Arc::clone(&ran);
    // On this runtime of one thread the other task runs only when the component is suspended.
    tokio::spawn(async move { other.store(true, Ordering::SeqCst) });

    let answer = handle(&plugin, REQUEST).await;

    assert_eq!(parsed(&answer), failed());
    assert!(ran.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_call_whose_caller_gives_up_ends_and_frees_its_place() {
    // A message of one byte never ends.
    let body = "(if (i32.eq (local.get 1) (i32.const 1)) (then (call $spin))) call $count";
    let plugin = builder(component(body)).max_instances(1).build().unwrap();
    assert_eq!(handle(&plugin, REQUEST).await, "1");

    let given_up = handle(&plugin, "x").now_or_never();

    assert_eq!(given_up, None);
    assert_eq!(handle(&plugin, REQUEST).await, "1");
}

#[tokio::test]
async fn memory_ends_at_its_limit() {
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 15)) (i32.const -1)))) call $size";
    let plugin = builder(component(grow)).max_memory_bytes(4 * 1024 * 1024).build().unwrap();
    assert_eq!(handle(&plugin, REQUEST).await, "3");
}

#[tokio::test]
async fn the_limit_is_one_for_all_memories_of_an_instance() {
    let grow = |memory: &str| format!("(loop (br_if 0 (i32.ne (memory.grow {memory} (i32.const 15)) (i32.const -1))))");
    // The second memory follows the function that this is the body of.
    let body = format!("{} {} call $size) (memory $second 1) (func", grow("$second"), grow("0"));
    let plugin = builder(component(&body)).max_memory_bytes(4 * 1024 * 1024).build().unwrap();
    assert_eq!(handle(&plugin, REQUEST).await, "0");
}

#[tokio::test]
async fn an_instance_that_has_taken_much_memory_is_not_kept() {
    let grow = |pages: u32| {
        let plugin = builder(component(&format!("(drop (memory.grow (i32.const {pages}))) call $count")));
        plugin.build().unwrap()
    };
    let (modest, greedy) = (grow(16), grow(320));
    for counter in ["1", "2"] {
        assert_eq!(handle(&modest, REQUEST).await, counter);
    }
    for counter in ["1", "1"] {
        assert_eq!(handle(&greedy, REQUEST).await, counter);
    }
}

#[tokio::test]
async fn a_component_that_starts_too_large_fails_its_calls_only() {
    let plugin = builder(component("call $count")).max_memory_bytes(1024).build().unwrap();
    assert_eq!(parsed(&handle(&plugin, REQUEST).await), failed());
}

#[test]
fn a_component_that_imports_more_than_is_granted_does_not_load() {
    let sockets = component_with(
        "import wasi:sockets/instance-network@0.2.12;",
        r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func (result i32)))"#,
        "call $count",
    );
    let error = builder(sockets).build().unwrap_err();
    assert!(matches!(&error, Error::Component(error) if format!("{error:#}").contains("wasi:sockets")), "{error}");
}

#[test]
fn bytes_that_are_no_component_do_not_load() {
    for bytes in [b"".to_vec(), b"garbage".to_vec(), b"\0asm\x01\0\0\0".to_vec()] {
        assert!(matches!(builder(bytes).build().unwrap_err(), Error::Component(_)));
    }
}
