//! Tools that try what a host must not allow, one tool for each attack. Each says what it saw, as JSON; a test decides
//! whether that is right. What a tool cannot report, such as that it never ends, the host has to.
#![cfg(target_family = "wasm")]

use std::cell::RefCell;
use std::io::Write as _;

use serde_json::{Value, json};
use test_tools::http::{Refused, Request, answer, seen};
use test_tools::{Caller, Content, Guest, Hints, Tool, ToolError, tool};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{FutureIncomingResponse, OutgoingBody, OutgoingRequest};

/// Tools, and what each tries.
const ATTACKS: [(&str, &str); 26] = [
    ("fetch", "One request: url, or scheme, authority, path; method, headers [[name, value]], body."),
    ("fetch_many", "The same request `times` times, all started before the first answer is read."),
    ("follow", "Follows redirects by itself, at most `hops`, and reports each answer."),
    ("keep_answer", "Starts a request and leaves its answer for the next call."),
    ("read_kept_answer", "Reads the answer that an earlier call left."),
    ("keep_request", "Makes a request and leaves it, unsent, for the next call."),
    ("send_kept_request", "Sends the request that an earlier call left."),
    ("many_headers", "One request to `url` with `count` header fields (10000)."),
    ("long_header", "One request to `url` with a header field of `bytes` (1048576)."),
    ("endless_upload", "Writes a body to `url` until the host refuses, and says how much it took."),
    ("abandon", "Starts `times` requests and drops them at once."),
    ("spin", "Computes for ever."),
    ("wait", "Waits `milliseconds` on the monotonic clock."),
    ("memory", "Takes and touches `mib` of memory."),
    ("recurse", "Calls itself until the stack is used up."),
    ("trap", "Ends with a trap."),
    ("exit", "Ends the process with exit code 0."),
    ("print", "Writes `kib` to standard output and standard error."),
    ("read_input", "Reads standard input."),
    ("variables", "Lists environment variables and arguments."),
    ("folders", "Lists, reads and writes files."),
    ("clocks", "Says what time it is, and how the monotonic clock proceeds."),
    ("remember", "Keeps `text` in memory and says which texts earlier calls kept."),
    ("large_answer", "Answers with a text of `kib`."),
    ("broken_answer", "Answers with what is no JSON: `as` is json or blocks."),
    ("impersonate", "Reports its caller, and asks `url` with header fields that name another one."),
];

thread_local! {
    static KEPT_ANSWER: RefCell<Option<FutureIncomingResponse>> = const { RefCell::new(None) };
    static KEPT_REQUEST: RefCell<Option<(OutgoingRequest, OutgoingBody)>> = const { RefCell::new(None) };
    static REMEMBERED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Hostile;
test_tools::export!(Hostile with_types_in test_tools);

impl Guest for Hostile {
    fn list_tools() -> Vec<Tool> {
        ATTACKS.into_iter().map(|(name, description)| tool(name, description, Hints::empty())).collect()
    }

    fn call(name: String, arguments: String, caller: Caller) -> Result<Content, ToolError> {
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or_default();
        let number = |name: &str, default: u64| arguments[name].as_u64().unwrap_or(default);
        let report = match name.as_str() {
            "fetch" => seen(Request::of(&arguments).send()),
            "fetch_many" => fetch_many(&Request::of(&arguments), number("times", 100)),
            "follow" => follow(Request::of(&arguments), number("hops", 5)),
            "keep_answer" => keep_answer(&Request::of(&arguments)),
            "read_kept_answer" => match KEPT_ANSWER.take() {
                Some(future) => seen(answer(&future)),
                None => json!({ "kept": false }),
            },
            "keep_request" => keep_request(&Request::of(&arguments)),
            "send_kept_request" => match KEPT_REQUEST.take() {
                Some((request, body)) => seen(send(request, body)),
                None => json!({ "kept": false }),
            },
            "many_headers" => {
                let headers = (0..number("count", 10_000)).map(|index| (format!("x-{index}"), "1".to_owned()));
                seen(Request { headers: headers.collect(), ..Request::of(&arguments) }.send())
            }
            "long_header" => {
                let value = "x".repeat(number("bytes", 1024 * 1024) as usize);
                seen(Request { headers: vec![("x-long".to_owned(), value)], ..Request::of(&arguments) }.send())
            }
            "endless_upload" => endless_upload(&Request { method: Some("POST".to_owned()), ..Request::of(&arguments) }),
            "abandon" => {
                let request = Request::of(&arguments);
                let started = (0..number("times", 1000)).filter(|_| request.start().is_ok()).count();
                json!({ "started": started })
            }
            "spin" => loop {
                std::hint::black_box(());
            },
            "wait" => {
                let nanoseconds = number("milliseconds", 1000).saturating_mul(1_000_000);
                wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds).block();
                json!({ "waited": true })
            }
            "memory" => memory(number("mib", 4096)),
            "recurse" => json!({ "depth": recurse(0) }),
            "trap" => core::arch::wasm32::unreachable(),
            "exit" => std::process::exit(0),
            "print" => print(number("kib", 1024)),
            "read_input" => {
                let mut text = String::new();
                let read = std::io::Read::read_to_string(&mut std::io::stdin(), &mut text);
                json!({ "text": text, "error": read.err().map(|error| error.to_string()) })
            }
            "variables" => {
                let variables: Vec<(String, String)> = std::env::vars().collect();
                json!({ "variables": variables, "arguments": std::env::args().collect::<Vec<_>>() })
            }
            "folders" => folders(),
            "clocks" => clocks(),
            "remember" => REMEMBERED.with_borrow_mut(|texts| {
                let report = json!({ "remembered": texts });
                texts.push(arguments["text"].as_str().unwrap_or_default().to_owned());
                report
            }),
            "large_answer" => return Ok(Content::Text("x".repeat(number("kib", 1024) as usize * 1024))),
            "broken_answer" => {
                return Ok(match arguments["as"].as_str() {
                    Some("blocks") => Content::Blocks("[{\"type\":".to_owned()),
                    _ => Content::Json("{\"a\":1,\"a\":".to_owned()),
                });
            }
            "impersonate" => impersonate(&arguments, &caller),
            _ => return Err(ToolError::InvalidArguments(format!("there is no attack {name}"))),
        };
        Ok(Content::Json(report.to_string()))
    }
}

fn fetch_many(request: &Request, times: u64) -> Value {
    let started: Vec<_> = (0..times).map(|_| request.start()).collect();
    let results = started.into_iter().map(|future| seen(future.and_then(|future| answer(&future))));
    json!({ "answers": results.collect::<Vec<_>>() })
}

fn follow(mut request: Request, hops: u64) -> Value {
    let mut seen_at = Vec::new();
    for _ in 0..=hops {
        let result = request.send();
        let location = result.as_ref().ok().and_then(|answer| {
            answer
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("location"))
                .map(|(_, value)| value.clone())
        });
        seen_at.push(seen(result));
        let Some(location) = location else { break };
        let headers = std::mem::take(&mut request.headers);
        request = if location.starts_with('/') {
            Request { path: Some(location), headers, ..request }
        } else {
            Request { headers, ..Request::get(&location) }
        };
    }
    json!({ "answers": seen_at })
}

fn keep_answer(request: &Request) -> Value {
    match request.start() {
        Ok(future) => {
            let earlier = KEPT_ANSWER.replace(Some(future)).is_some();
            json!({ "kept": true, "earlier": earlier })
        }
        Err(refused) => seen(Err(refused)),
    }
}

fn keep_request(request: &Request) -> Value {
    match request.outgoing() {
        Ok(parts) => {
            let earlier = KEPT_REQUEST.replace(Some(parts)).is_some();
            json!({ "kept": true, "earlier": earlier })
        }
        Err(refused) => seen(Err(refused)),
    }
}

fn send(request: OutgoingRequest, body: OutgoingBody) -> Result<test_tools::http::Answer, Refused> {
    let future = outgoing_handler::handle(request, None).map_err(Refused::Code)?;
    OutgoingBody::finish(body, None).map_err(Refused::Code)?;
    answer(&future)
}

/// Ends when the host closes the stream or ends the call.
fn endless_upload(request: &Request) -> Value {
    let chunk = [b'x'; 4096];
    let mut written: u64 = 0;
    let result = request.outgoing().and_then(|(request, body)| {
        let future = outgoing_handler::handle(request, None).map_err(Refused::Code)?;
        let stream = body.write().map_err(|()| Refused::Part("body".to_owned()))?;
        while stream.blocking_write_and_flush(&chunk).is_ok() {
            written = written.saturating_add(chunk.len() as u64);
        }
        drop(stream);
        OutgoingBody::finish(body, None).map_err(Refused::Code)?;
        answer(&future)
    });
    json!({ "written": written, "answer": seen(result) })
}

fn memory(mib: u64) -> Value {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut block = Vec::new();
        if block.try_reserve_exact(1024 * 1024).is_err() {
            return json!({ "mib": taken.len(), "refused": true });
        }
        block.resize(1024 * 1024, 1);
        taken.push(std::hint::black_box(block));
    }
    json!({ "mib": taken.len(), "refused": false })
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let local = std::hint::black_box([depth; 64]);
    if local[1] == u64::MAX {
        return depth;
    }
    recurse(depth.wrapping_add(1)).wrapping_add(local[0])
}

fn print(kib: u64) -> Value {
    let block = [b'x'; 1024];
    let mut report = json!({});
    for (name, mut output) in
        [("output", Box::new(std::io::stdout()) as Box<dyn std::io::Write>), ("error", Box::new(std::io::stderr()))]
    {
        let written = (0..kib).take_while(|_| output.write_all(&block).is_ok()).count();
        let _ = output.flush();
        report[name] = json!(written);
    }
    report
}

fn folders() -> Value {
    let error = |result: Result<String, std::io::Error>| match result {
        Ok(found) => json!({ "found": found }),
        Err(error) => json!({ "refused": error.kind().to_string() }),
    };
    let list = |path: &str| {
        error(std::fs::read_dir(path).map(|entries| {
            entries.flatten().map(|entry| entry.path().display().to_string()).collect::<Vec<_>>().join(" ")
        }))
    };
    json!({
        "preopened": wasip2::filesystem::preopens::get_directories().len(),
        "list": { "/": list("/"), ".": list("."), "/tmp": list("/tmp") },
        "read": error(std::fs::read_to_string("/etc/passwd")),
        "write": error(std::fs::write("/tmp/hostile", "x").map(|()| "written".to_owned())),
    })
}

fn clocks() -> Value {
    use wasip2::clocks::{monotonic_clock, wall_clock};
    // Reads until the clock has moved on a few times.
    let mut last = monotonic_clock::now();
    let mut steps = Vec::new();
    while steps.len() < 5 {
        let now = monotonic_clock::now();
        if now != last {
            steps.push(now.saturating_sub(last));
            last = now;
        }
    }
    json!({
        "wall-seconds": wall_clock::now().seconds,
        "wall-nanoseconds": wall_clock::now().nanoseconds,
        "monotonic-resolution-nanoseconds": monotonic_clock::resolution(),
        "steps-nanoseconds": steps,
    })
}

/// Asks as another user, in every form that a server behind a gateway may believe.
fn impersonate(arguments: &Value, caller: &Caller) -> Value {
    let other = arguments["as"].as_str().unwrap_or("11111111-0000-4000-a000-00000000000c");
    let names = [
        "authorization",
        "Authorization",
        "AUTHORIZATION",
        "proxy-authorization",
        "cookie",
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "x-ms-token-aad-access-token",
        "forwarded",
        "x-forwarded-for",
        "traceparent",
    ];
    let headers = names.map(|name| (name.to_owned(), format!("Bearer {other}")));
    let one_by_one: Vec<Value> = headers
        .into_iter()
        .map(|header| {
            let name = header.0.clone();
            json!({ "header": name, "answer": seen(Request { headers: vec![header], ..Request::of(arguments) }.send()) })
        })
        .collect();
    json!({ "caller": caller.object_id, "tenant": caller.tenant_id, "answers": one_by_one })
}
