//! A small MCP server of the shape `wasi:http/handler` of WASI 0.3, which knows nothing of entra-mcp: Streamable HTTP
//! without sessions, answers as JSON. Its tools say what reached it.
#![cfg(target_family = "wasm")]

use futures_util::future::join_all;
use serde_json::{Value, json};
use wasip3::cli::environment::get_environment;
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens::get_directories;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{IpAddressFamily, TcpSocket, UdpSocket};
use wasip3::{spawn_local, wit_future, wit_stream};

const TOOLS: [(&str, &str); 9] = [
    ("headers", "Returns the header fields of the request that brought the call."),
    ("list_mail", "Lists the newest messages in the caller's mailbox."),
    ("fetch", "Sends a request: url, headers [[name, value]]."),
    ("together", "Sends requests to all of `urls` at once."),
    ("unended", "Begins an answer, and never ends it."),
    ("surroundings", "Tries sockets, names and files, and returns the variables."),
    ("clocks", "Says what time it is, and how the clocks proceed."),
    ("loop", "Computes without an end."),
    ("hoard", "Takes more and more memory."),
];

struct Service;
wasip3::http::service::export!(Service);

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = request.get_headers().copy_all().into_iter();
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
        let body = match request.get_method() {
            Method::Post => body_of(request).await,
            _ => return Ok(response(405, None, true)),
        };
        let Ok(message) = serde_json::from_slice::<Value>(&body) else {
            let error = json!({ "code": -32700, "message": "no JSON" });
            return Ok(response(400, Some(&json!({ "jsonrpc": "2.0", "id": null, "error": error })), true));
        };
        if message.get("id").is_none() {
            return Ok(response(202, None, true));
        }
        let mut envelope = json!({ "jsonrpc": "2.0", "id": message["id"] });
        match answer(&message, &headers).await {
            Ok(result) => envelope["result"] = result,
            Err(error) => envelope["error"] = error,
        }
        Ok(response(200, Some(&envelope), message["params"]["name"] != "unended"))
    }
}

async fn body_of(request: Request) -> Vec<u8> {
    let (_, processed) = wit_future::new(|| Ok(()));
    let (body, _trailers) = Request::consume_body(request, processed);
    body.collect().await
}

fn response(status: u16, body: Option<&Value>, ends: bool) -> Response {
    let fields = Fields::new();
    let _ = fields.append("content-type", b"application/json");
    let (mut writer, reader) = wit_stream::new();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _transmitted) = Response::new(fields, Some(reader), no_trailers);
    let _ = response.set_status_code(status);
    let text = body.map(Value::to_string).unwrap_or_default();
    spawn_local(async move {
        // In two parts, so that an answer streams.
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        for part in [first, second] {
            let _ = writer.write_all(part.to_vec()).await;
        }
        if ends {
            drop(writer);
            let _ = trailers.write(Ok(None)).await;
        } else {
            std::mem::forget((writer, trailers));
        }
    });
    response
}

async fn answer(message: &Value, headers: &[(String, String)]) -> Result<Value, Value> {
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => Ok(json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "http-service", "version": "1" },
        })),
        "ping" => Ok(json!({})),
        "tools/list" => {
            let tool = |(name, description): &(&str, &str)| json!({ "name": name, "description": description, "inputSchema": { "type": "object" } });
            let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
            Ok(json!({ "resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private" }))
        }
        "tools/call" => call(&message["params"], headers).await,
        method => Err(json!({ "code": -32601, "message": format!("there is no method {method}") })),
    }
}

async fn call(params: &Value, headers: &[(String, String)]) -> Result<Value, Value> {
    let arguments = &params["arguments"];
    let structured = match params["name"].as_str().unwrap_or_default() {
        "headers" => json!({ "headers": headers }),
        "list_mail" => fetch("https://graph.microsoft.com/v1.0/me/messages?$top=5", &Value::Null).await,
        "fetch" => fetch(arguments["url"].as_str().unwrap_or_default(), &arguments["headers"]).await,
        "together" => {
            let urls = arguments["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
            json!(join_all(urls.map(|url| fetch(url, &Value::Null))).await)
        }
        "unended" => json!({}),
        "surroundings" => surroundings().await,
        "clocks" => clocks(),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "hoard" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1; 1024 * 1024]));
            }
        }
        name => return Err(json!({ "code": -32602, "message": format!("there is no tool {name}") })),
    };
    Ok(json!({
        "resultType": "complete",
        "content": [{ "type": "text", "text": structured.to_string() }],
        "structuredContent": structured,
    }))
}

/// What there is besides requests.
async fn surroundings() -> Value {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map(drop).map_err(|error| format!("{error:?}"));
    let datagrams = UdpSocket::create(IpAddressFamily::Ipv4).map(drop).map_err(|error| format!("{error:?}"));
    let names = resolve_addresses("localhost".to_owned()).await.map(drop).map_err(|error| format!("{error:?}"));
    json!({
        "tcp": socket.err(),
        "udp": datagrams.err(),
        "names": names.err(),
        "folders": get_directories().len(),
        "variables": get_environment(),
    })
}

fn clocks() -> Value {
    let marks: Vec<u64> = (0..100).map(|_| monotonic_clock::now()).collect();
    json!({ "monotonic": marks, "nanoseconds": system_clock::now().nanoseconds })
}

/// Sends a request: `status`, `headers` and `body` of the answer, or `refused`, the error code of `wasi:http`.
async fn fetch(url: &str, headers: &Value) -> Value {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let fields = Fields::new();
    for pair in headers.as_array().into_iter().flatten() {
        let _ = fields.append(pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default().as_bytes());
    }
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _transmitted) = Request::new(fields, None, no_trailers, None);
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    let parts = [
        request.set_scheme(Some(&scheme)),
        request.set_authority(Some(authority)),
        request.set_path_with_query(Some(path)),
    ];
    if parts.contains(&Err(())) {
        return json!({ "refused": "part" });
    }
    match client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let headers = response.get_headers().copy_all().into_iter();
            let headers: Vec<(String, String)> =
                headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
            let (_, processed) = wit_future::new(|| Ok(()));
            let (body, _trailers) = Response::consume_body(response, processed);
            json!({ "status": status, "headers": headers, "body": String::from_utf8_lossy(&body.collect().await) })
        }
        Err(code) => {
            let name = format!("{code:?}");
            let name = name.strip_prefix("ErrorCode::").unwrap_or(&name);
            json!({ "refused": name.split(|letter: char| !letter.is_alphanumeric()).next() })
        }
    }
}
