//! A small MCP server of the shape `wasi:http/incoming-handler`, which knows nothing of entra-mcp: Streamable HTTP
//! without sessions, answers as JSON. Its tools say what reached it.
#![cfg(target_family = "wasm")]

use serde_json::{Value, json};
use test_tools::http::{Request, read_body, seen};
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

const TOOLS: [(&str, &str); 3] = [
    ("headers", "Returns the header fields of the request that brought the call."),
    ("list_mail", "Lists the newest messages in the caller's mailbox."),
    ("fetch", "Sends a request: url, method, headers [[name, value]]."),
];

struct Server;
wasip2::http::proxy::export!(Server);

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let (status, body) = match request.method() {
            Method::Post => serve(&request),
            _ => (405, None),
        };
        respond(outparam, status, body);
    }
}

fn respond(outparam: ResponseOutparam, status: u16, body: Option<Value>) {
    let fields = Fields::new();
    let _ = fields.append("content-type", b"application/json");
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(status);
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(outparam, Ok(response));
    if let Some(body) = body {
        let stream = outgoing.write().expect("the stream is taken once");
        for chunk in body.to_string().as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

fn serve(request: &IncomingRequest) -> (u16, Option<Value>) {
    let headers = request.headers().entries().into_iter();
    let headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let body = request.consume().ok().and_then(|body| read_body(&body).ok()).unwrap_or_default();
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        let error = json!({ "code": -32700, "message": "no JSON" });
        return (400, Some(json!({ "jsonrpc": "2.0", "id": null, "error": error })));
    };
    if message.get("id").is_none() {
        return (202, None);
    }
    let answer = match message["method"].as_str().unwrap_or_default() {
        "initialize" => Ok(json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "http-server", "version": "1" },
        })),
        "server/discover" => Ok(json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "http-server", "version": "1" },
            "ttlMs": 0,
            "cacheScope": "private",
        })),
        "ping" => Ok(json!({})),
        "tools/list" => {
            let tool = |(name, description): &(&str, &str)| json!({ "name": name, "description": description, "inputSchema": { "type": "object" } });
            let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
            Ok(json!({ "resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private" }))
        }
        "tools/call" => call(&message["params"], &headers),
        method => Err(json!({ "code": -32601, "message": format!("there is no method {method}") })),
    };
    let mut envelope = json!({ "jsonrpc": "2.0", "id": message["id"] });
    match answer {
        Ok(result) => envelope["result"] = result,
        Err(error) => envelope["error"] = error,
    }
    (200, Some(envelope))
}

fn call(params: &Value, headers: &[(String, String)]) -> Result<Value, Value> {
    let arguments = &params["arguments"];
    let structured = match params["name"].as_str().unwrap_or_default() {
        "headers" => json!({ "headers": headers }),
        "list_mail" => seen(Request::get("https://graph.microsoft.com/v1.0/me/messages?$top=5").send()),
        "fetch" => seen(Request::of(arguments).send()),
        name => return Err(json!({ "code": -32602, "message": format!("there is no tool {name}") })),
    };
    Ok(json!({
        "resultType": "complete",
        "content": [{ "type": "text", "text": structured.to_string() }],
        "structuredContent": structured,
    }))
}
