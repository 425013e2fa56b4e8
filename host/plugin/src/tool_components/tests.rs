//! Tests of tool components that are written as text: their shape, their stores and their limits. What takes HTTP is tested
//! in `egress/tests.rs`, and with components in Rust in `tests/behaviour/all/tool_components`.

use std::time::Duration;

use super::*;
use crate::bindings::types::PrincipalKind;
use crate::clock::ManualClock;
use crate::provided_tools::{ToolCaller, ToolError};

/// A `tool-provider` with the body of `call`, which has the arguments of the call at `$p` (pointer and length at 8 and 12)
/// and returns `$ok`, `$failed` or nothing at all. Imports of core functions are `$imports`.
fn provider(imports: &str, lowered: &str, call: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
  {imports}
  (core module $libc
    (memory (export "memory") 64)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  {lowered}
  (core module $tool
    (import "libc" "memory" (memory 64))
    (import "host" "host" (func $host (param i32)))
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 256) "echothe arguments{{}}wrong")
    (func $answer (param $kind i32) (param $at i32) (param $length i32) (result i32)
      (i32.store (i32.const 1024) (local.get $kind))
      (i32.store (i32.const 1028) (local.get $kind))
      (i32.store (i32.const 1032) (local.get $at))
      (i32.store (i32.const 1036) (local.get $length))
      (i32.const 1024))
    (func $ok (param $at i32) (param $length i32) (result i32)
      (call $answer (i32.const 0) (local.get $at) (local.get $length)))
    (func $forged-line (result i32) (unreachable))
    (func $failed (param $at i32) (param $length i32) (result i32)
      (call $answer (i32.const 1) (local.get $at) (local.get $length)))
    (func (export "list") (result i32)
      (i32.store (i32.const 2048) (i32.const 2056))
      (i32.store (i32.const 2052) (i32.const 1))
      ;; name, no title, description, input schema, no output schema, hints
      (i32.store (i32.const 2056) (i32.const 256)) (i32.store (i32.const 2060) (i32.const 4))
      (i32.store (i32.const 2076) (i32.const 260)) (i32.store (i32.const 2080) (i32.const 13))
      (i32.store (i32.const 2084) (i32.const 273)) (i32.store (i32.const 2088) (i32.const 2))
      (i32.store (i32.const 2104) (i32.const 1))
      (i32.const 2048))
    (func (export "call") (param $p i32) (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      {call}))
  (core instance $tool (instantiate $tool (with "libc" (instance $libc)) (with "host" (instance $host))))
  (type $kind (enum "user" "app")) (export $kind' "x-kind" (type $kind))
  (type $hints (flags "read-only" "destructive" "idempotent" "open-world")) (export $hints' "x-hints" (type $hints))
  (type $tool (record (field "name" string) (field "title" (option string)) (field "description" string)
    (field "input-schema" string) (field "output-schema" (option string)) (field "hints" $hints')))
  (export $tool' "x-tool" (type $tool))
  (type $caller (record (field "tenant-id" string) (field "object-id" string) (field "client-id" string)
    (field "kind" $kind') (field "scopes" (list string)) (field "roles" (list string))
    (field "correlation-id" string)))
  (export $caller' "x-caller" (type $caller))
  (type $content (variant (case "text" string) (case "json" string) (case "blocks" string)))
  (export $content' "x-content" (type $content))
  (type $error (variant (case "invalid-arguments" string) (case "failed" string)))
  (export $error' "x-error" (type $error))
  (func $list (result (list $tool'))
    (canon lift (core func $tool "list") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (func $call (param "name" string) (param "arguments" string) (param "caller" $caller') (result (result $content' (error $error')))
    (canon lift (core func $tool "call") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (instance $provider
    (export "tool" (type $tool')) (export "caller" (type $caller')) (export "content" (type $content'))
    (export "tool-error" (type $error')) (export "list-tools" (func $list)) (export "call" (func $call)))
  (export "entra-mcp:plugin/tool-provider@0.2.0" (instance $provider)))"#
    );
    wat::parse_str(text).unwrap()
}

/// A component that imports nothing.
fn closed(call: &str) -> Vec<u8> {
    let nothing = r#"(core module $nothing (func (export "host") (param i32)))
        (core instance $host (instantiate $nothing))"#;
    provider("", nothing, call)
}

const ECHO: &str = "(call $ok (i32.load offset=8 (local.get $p)) (i32.load offset=12 (local.get $p)))";

/// One digit: how many calls the instance has had.
const COUNT: &str = "(i32.store8 (i32.const 512) (i32.add (i32.const 48) (global.get $calls))) (call $ok (i32.const 512) (i32.const 1))";

fn settings(component: Vec<u8>) -> ToolComponentSettings {
    ToolComponentSettings::new("mail", ComponentSource::Bytes(component.into()))
}

fn loaded(settings: ToolComponentSettings) -> ToolComponents {
    ToolComponents::builder(Arc::new(NoTokens)).load(vec![settings]).unwrap()
}

fn problem(component: Vec<u8>) -> LoadProblem {
    ToolComponents::builder(Arc::new(NoTokens)).load(vec![settings(component)]).unwrap_err().problem
}

fn caller(object_id: &str) -> ToolCaller {
    ToolCaller {
        tenant_id: "tenant".to_owned(),
        object_id: object_id.to_owned(),
        client_id: String::new(),
        kind: PrincipalKind::User,
        scopes: vec!["Tools.Use".to_owned()],
        roles: Vec::new(),
        correlation_id: "c0ffee".to_owned(),
    }
}

async fn called(tools: &ToolComponents, arguments: &str) -> Result<Content, ProviderError> {
    called_by(tools, caller("alice"), arguments).await
}

async fn called_by(tools: &ToolComponents, caller: ToolCaller, arguments: &str) -> Result<Content, ProviderError> {
    let (server, name, handle) = ("mail".to_owned(), "echo".to_owned(), caller.object_id.clone());
    tools.call(ToolCall { server, name, arguments: arguments.to_owned(), caller, handle }).await
}

#[track_caller]
fn assert_text(answer: Result<Content, ProviderError>, expected: &str) {
    assert!(matches!(&answer, Ok(Content::Text(text)) if text == expected), "{answer:?}");
}

#[tokio::test]
async fn a_tool_is_listed_and_called() {
    let tools = loaded(settings(closed(ECHO)));
    let listed = tools.list_tools("mail").await.unwrap();
    let seen: Vec<_> = listed.iter().map(|tool| (&*tool.name, &*tool.description, &*tool.input_schema)).collect();
    assert_eq!(seen, [("echo", "the arguments", "{}")]);
    assert_text(called(&tools, r#"{"a":1}"#).await, r#"{"a":1}"#);
}

#[tokio::test]
async fn what_a_tool_says_itself_is_its_answer() {
    let tools = loaded(settings(closed("(call $failed (i32.const 275) (i32.const 5))")));
    let answer = called(&tools, "{}").await;
    assert!(matches!(&answer, Err(ProviderError::Tool(ToolError::Failed(text))) if text == "wrong"), "{answer:?}");
}

#[tokio::test]
async fn every_call_has_an_instance_of_its_own_unless_reuse_is_allowed() {
    let tools = loaded(settings(closed(COUNT)));
    for _ in 0..2 {
        assert_text(called(&tools, "").await, "1");
    }
    let tools = loaded(ToolComponentSettings { reuse: true, ..settings(closed(COUNT)) });
    for expected in ["1", "2", "3"] {
        assert_text(called(&tools, "").await, expected);
    }
}

#[tokio::test]
async fn an_instance_that_is_no_longer_used_is_given_back_without_another_call() {
    let clock = ManualClock::new(0);
    let reused = ToolComponentSettings { reuse: true, ..settings(closed(COUNT)) };
    let tools = ToolComponents::builder(Arc::new(NoTokens)).clock(Arc::new(clock.clone())).load(vec![reused]).unwrap();
    assert_text(called(&tools, "").await, "1");
    let server = &tools.servers["mail"];
    assert_eq!(server.idle_instances(), 1);
    let mut passed = Duration::ZERO;
    while server.idle_instances() > 0 {
        assert!(passed < Duration::from_secs(90), "it is kept");
        let wait = clock.next_wait().await;
        clock.advance(wait);
        passed += wait;
        tokio::task::yield_now().await;
    }
    assert!(passed >= Duration::from_secs(60), "{passed:?}");
    assert_text(called(&tools, "").await, "1");
}

#[tokio::test]
async fn two_calls_at_once_never_share_an_instance() {
    let tools = loaded(ToolComponentSettings { reuse: true, ..settings(closed(COUNT)) });
    let (first, second) = tokio::join!(called(&tools, ""), called(&tools, ""));
    let counts = [first, second].map(|answer| matches!(answer, Ok(Content::Text(_))));
    assert_eq!(counts, [true, true]);
}

#[tokio::test]
async fn a_trap_is_the_error_of_its_call_and_the_next_call_is_unaffected() {
    // Traps if there are arguments.
    let call = format!("(if (i32.load offset=12 (local.get $p)) (then (unreachable))) {COUNT}");
    for reuse in [false, true] {
        let tools = loaded(ToolComponentSettings { reuse, ..settings(closed(&call)) });
        assert!(matches!(called(&tools, "{}").await, Err(ProviderError::Ended(_))));
        assert_text(called(&tools, "").await, "1");
    }
}

#[tokio::test]
async fn the_names_of_functions_in_a_backtrace_end_no_line_of_the_log() {
    // The name section has the names of the text. One is replaced in the binary by another of its length.
    let mut component = closed("(call $forged-line)");
    let places: Vec<usize> =
        component.windows(11).enumerate().filter(|(_, part)| *part == b"forged-line").map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1);
    component[places[0]..places[0] + 11].copy_from_slice("fo\nged\u{2028}\re".as_bytes());
    let Err(ProviderError::Ended(reason)) = called(&loaded(settings(component)), "").await else {
        panic!("it did not end")
    };
    assert!(reason.contains("fo ged"), "{reason}");
    assert!(!reason.contains(['\n', '\r', '\u{2028}']), "{reason}");
}

#[tokio::test]
async fn an_endless_loop_is_interrupted() {
    let call = format!("(if (i32.load offset=12 (local.get $p)) (then (loop (br 0)))) {COUNT}");
    let limits = ToolComponentSettings { max_time: Duration::from_millis(200), ..settings(closed(&call)) };
    // The bound of computing holds even if the clock stands still.
    let clock = Arc::new(ManualClock::new(0));
    let tools = ToolComponents::builder(Arc::new(NoTokens)).clock(clock).load(vec![limits.clone()]).unwrap();
    assert!(matches!(called(&tools, "{}").await, Err(ProviderError::TimedOut)));
    let tools = loaded(limits);
    assert!(matches!(called(&tools, "{}").await, Err(ProviderError::TimedOut)));
    assert_text(called(&tools, "").await, "1");
}

#[tokio::test]
async fn memory_beyond_the_bound_is_refused() {
    // Takes pages until there are no more, and traps.
    let call = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let tools = loaded(ToolComponentSettings { max_memory_bytes: 8 * 1024 * 1024, ..settings(closed(call)) });
    let answer = called(&tools, "").await;
    let said = matches!(&answer, Err(ProviderError::Ended(reason)) if reason.contains("more memory than it may have"));
    assert!(said, "{answer:?}");
    // Not even its first memory fits.
    let tools = loaded(ToolComponentSettings { max_memory_bytes: 1024 * 1024, ..settings(closed(ECHO)) });
    assert!(matches!(called(&tools, "").await, Err(ProviderError::Ended(_))));
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_refused() {
    for kind in ["$ok", "$failed"] {
        let limits = |component| ToolComponentSettings { max_answer_bytes: 1000, ..settings(component) };
        let tools = loaded(limits(closed(&format!("(call {kind} (i32.const 65536) (i32.const 1001))"))));
        assert!(matches!(called(&tools, "").await, Err(ProviderError::OverBytes(1000))), "{kind}");
        let tools = loaded(limits(closed(&format!("(call {kind} (i32.const 65536) (i32.const 1000))"))));
        assert!(!matches!(called(&tools, "").await, Err(ProviderError::OverBytes(_))), "{kind}");
    }
}

#[tokio::test]
async fn calls_beyond_the_bound_are_unavailable() {
    let tools = loaded(ToolComponentSettings { max_concurrent: 1, ..settings(closed(ECHO)) });
    let place = tools.servers["mail"].admit(None, "alice").unwrap();
    assert!(matches!(called(&tools, "").await, Err(ProviderError::Unavailable(_))));
    drop(place);
    assert_text(called(&tools, "a").await, "a");
}

#[tokio::test]
async fn a_caller_with_slow_calls_keeps_no_other_caller_out() {
    let tools = loaded(ToolComponentSettings { max_concurrent: 4, ..settings(closed(ECHO)) });
    let server = &tools.servers["mail"];
    let mallory = caller("mallory");
    let slow = [(); 2].map(|()| server.admit(Some(&mallory), "mallory").unwrap());
    let refused = called_by(&tools, mallory, "a").await;
    let said = matches!(&refused, Err(ProviderError::Unavailable(reason)) if reason == "the caller has taken its 2 places for calls of \"mail\"");
    assert!(said, "{refused:?}");
    assert_text(called(&tools, "a").await, "a");
    drop(slow);
    assert_text(called_by(&tools, caller("mallory"), "a").await, "a");
}

#[tokio::test]
async fn a_tool_sees_the_configured_variables_only() {
    let imports = r#"(import "wasi:cli/environment@0.2.3" (instance $environment
        (export "get-environment" (func (result (list (tuple string string)))))))"#;
    let lowered = r#"(core func $get (canon lower (func $environment "get-environment")
          (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core instance $host (export "host" (func $get)))"#;
    // The value of the first variable, or "0" if there is none.
    let call = r"(call $host (i32.const 3072))
        (if (result i32) (i32.eq (i32.load (i32.const 3076)) (i32.const 1))
          (then (call $ok (i32.load offset=8 (i32.load (i32.const 3072))) (i32.load offset=12 (i32.load (i32.const 3072)))))
          (else (i32.store8 (i32.const 512) (i32.add (i32.const 48) (i32.load (i32.const 3076))))
            (call $ok (i32.const 512) (i32.const 1))))";
    let component = provider(imports, lowered, call);
    let tools = loaded(settings(component.clone()));
    assert_text(called(&tools, "").await, "0");
    let variables = vec![("TZ".to_owned(), "Europe/Berlin".to_owned())];
    let tools = loaded(ToolComponentSettings { variables, ..settings(component) });
    assert_text(called(&tools, "").await, "Europe/Berlin");
}

#[tokio::test]
async fn a_component_is_described_with_what_it_is_granted() {
    let entry = |to: &str, permissions: &[&str]| EgressEntry {
        to: to.to_owned(),
        permissions: permissions.iter().map(|permission| (*permission).to_owned()).collect(),
    };
    let egress = vec![
        entry("https://graph.microsoft.com", &["https://graph.microsoft.com/Mail.Read"]),
        entry("https://public.example/a", &[]),
    ];
    let variables = vec![("TOKEN".to_owned(), "secret".to_owned())];
    let tools = loaded(ToolComponentSettings { egress, variables, ..settings(closed(ECHO)) });
    let described = tools.describe("mail").await.unwrap().unwrap();
    assert_eq!((described.shape, described.tools.len(), described.imports.len()), (Shape::Provider, 1, 0));
    assert_eq!(
        described.grants,
        [
            "requests to https://graph.microsoft.com/, with a token in the caller's name for \
             https://graph.microsoft.com/Mail.Read",
            "requests to https://public.example/a/, without a token",
            "the variables TOKEN",
            "no files, no sockets, no standard input",
            "at most 64 MiB of memory, 30 s, an answer of 1024 KiB, 64 calls at the same time, 32 of them of one caller",
            "an instance of its own for each call",
        ]
    );
}

#[test]
fn what_is_no_tool_component_is_refused_by_what_it_is() {
    assert!(matches!(problem(b"#!/usr/bin/python3".to_vec()), LoadProblem::NotWebAssembly));
    assert!(matches!(problem(Vec::new()), LoadProblem::NotWebAssembly));
    assert!(matches!(problem(wat::parse_str("(module)").unwrap()), LoadProblem::CoreModule));
    let mut truncated = closed(ECHO);
    truncated.truncate(100);
    assert!(matches!(problem(truncated), LoadProblem::Invalid(_)));
    let other = r#"(component (type $t (enum "a")) (export "x-t" (type $t)))"#;
    assert!(matches!(problem(wat::parse_str(other).unwrap()), LoadProblem::NoTools(exports) if exports == ["x-t"]));
}

#[test]
fn an_import_that_this_host_does_not_have_is_named() {
    let imports = r#"(import "wasi:keyvalue/store@0.2.0-draft" (instance (export "open" (func))))
        (import "example:types/only@1.0.0" (instance (type $s string) (export "t" (type (eq $s)))))"#;
    let nothing = r#"(core module $nothing (func (export "host") (param i32)))
        (core instance $host (instantiate $nothing))"#;
    let LoadProblem::UnknownImports(unknown) = problem(provider(imports, nothing, ECHO)) else { panic!() };
    let names: Vec<_> = unknown.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(names, ["wasi:keyvalue/store@0.2.0-draft"]);
}

#[test]
fn a_provider_of_tools_that_imports_wasi_0_3_is_refused_by_what_to_build_instead() {
    let nothing = r#"(core module $nothing (func (export "host") (param i32)))
        (core instance $host (instantiate $nothing))"#;
    // The engine of WASI 0.2 does not know the second type at all.
    for (name, function) in [
        ("wasi:clocks/monotonic-clock@0.3.0", r#"(export "now" (func (result u64)))"#),
        ("wasi:http/client@0.3.0", r#"(export "send" (func async (param "request" u32) (result u32)))"#),
    ] {
        let imports = format!("(import \"{name}\" (instance {function}))");
        let problem = problem(provider(&imports, nothing, ECHO));
        let LoadProblem::MixedVersions(beyond) = &problem else { panic!("{problem}") };
        assert_eq!(beyond, &[name]);
        assert_eq!(
            problem.to_string(),
            format!(
                "its exports are of WASI 0.2 and some of its imports are of WASI 0.3: {name}. The functions of \
                 entra-mcp:plugin/tool-provider and wasi:http/incoming-handler cannot wait for those of WASI 0.3: build the \
                 component for WASI 0.2 (wasm32-wasip2), or as a whole MCP server that exports wasi:http/handler@0.3.0"
            )
        );
    }
}

#[test]
fn a_whole_server_of_a_release_candidate_is_refused() {
    for name in ["wasi:http/handler@0.3.0-rc-2026-03-15", "wasi:http/handler@0.2.0"] {
        let component = format!("(component (instance $empty) (export \"{name}\" (instance $empty)))");
        let problem = problem(wat::parse_str(component).unwrap());
        assert!(matches!(&problem, LoadProblem::UnsupportedShape(found) if found == name), "{problem}");
    }
}

#[test]
fn only_components_of_wasi_0_3_have_an_engine_with_tasks() {
    let tasks = |wasi| engine(wasi).unwrap().get_concurrency_support();
    assert!(tasks(WasiVersion::V0_3));
    assert!(!tasks(WasiVersion::V0_2));
    assert!(!crate::component::engine().unwrap().get_concurrency_support());
}

#[test]
fn a_component_that_imports_sockets_is_loaded() {
    let imports = r#"(import "wasi:sockets/network@0.2.0" (instance $networks (export "network" (type (sub resource)))))
        (alias export $networks "network" (type $of-networks))
        (import "wasi:sockets/instance-network@0.2.0" (instance
        (alias outer 1 $of-networks (type $outer))
        (export "network" (type $network (eq $outer)))
        (export "instance-network" (func (result (own $network))))))"#;
    let nothing = r#"(core module $nothing (func (export "host") (param i32)))
        (core instance $host (instantiate $nothing))"#;
    loaded(settings(provider(imports, nothing, ECHO)));
}

/// A whole MCP server that drops its request.
fn whole_server() -> Vec<u8> {
    let text = r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
          (export "incoming-request" (type (sub resource)))
          (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (core module $server (func (export "handle") (param i32 i32)))
        (core instance $server (instantiate $server))
        (func $handle (param "request" (own $request)) (param "response-out" (own $out))
          (canon lift (core func $server "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    wat::parse_str(text).unwrap()
}

#[test]
fn reuse_of_a_whole_server_is_refused() {
    assert_eq!(loaded(settings(whole_server())).shape("mail"), Some(Shape::Http));
    let reused = ToolComponentSettings { reuse: true, ..settings(whole_server()) };
    let error = ToolComponents::builder(Arc::new(NoTokens)).load(vec![reused]).unwrap_err();
    assert!(matches!(error.problem, LoadProblem::NoReuse), "{error}");
}

#[test]
fn two_servers_of_one_name_are_refused() {
    let twice = vec![settings(closed(ECHO)), settings(closed(ECHO))];
    let error = ToolComponents::builder(Arc::new(NoTokens)).load(twice).unwrap_err();
    assert!(matches!(error.problem, LoadProblem::DuplicateName));
}

#[tokio::test]
async fn a_server_that_does_not_exist_is_unavailable() {
    let tools = ToolComponents::builder(Arc::new(NoTokens)).load(Vec::new()).unwrap();
    assert!(matches!(tools.list_tools("mail").await, Err(ProviderError::Unavailable(_))));
    assert!(matches!(called(&tools, "").await, Err(ProviderError::Unavailable(_))));
    assert!(matches!(tools.serve("mail", Request::new(Bytes::new()), "").await, Err(ServeError::Unavailable(_))));
}

#[test]
fn the_values_of_variables_are_not_in_debug() {
    let variables = vec![("TOKEN".to_owned(), "secret".to_owned())];
    let shown = format!("{:?}", ToolComponentSettings { variables, ..settings(Vec::new()) });
    assert!(shown.contains("TOKEN") && !shown.contains("secret"), "{shown}");
}

/// A component that answers with its arguments.
pub(super) fn echo() -> Vec<u8> {
    closed(ECHO)
}
