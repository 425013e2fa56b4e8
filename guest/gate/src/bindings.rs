//! The handler of requests.

use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

use self::generated::entra_mcp::plugin::{gatekeeper, whole_requests};
use self::generated::entra_mcp::wrap::kept;
use self::generated::seen::http::incoming_handler as tool;
use crate::request::{self, Ambiguous, Field, METHODS};

#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: ["../../wit", "../standard/wit", "../keeper/wit"],
        world: "entra-mcp:wrap/gate",
        features: ["client-metadata", "delegation", "gatekeeper", "identity-broker", "lifecycle", "provided-tools", "rate-limiter", "sign-out-url", "tool-catalog", "whole-requests"],
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
        with: {
            "wasi:cli/environment@0.2.12": wasip2::cli::environment,
            "wasi:cli/exit@0.2.12": wasip2::cli::exit,
            "wasi:cli/stdin@0.2.12": wasip2::cli::stdin,
            "wasi:cli/stdout@0.2.12": wasip2::cli::stdout,
            "wasi:cli/stderr@0.2.12": wasip2::cli::stderr,
            "wasi:cli/terminal-input@0.2.12": wasip2::cli::terminal_input,
            "wasi:cli/terminal-output@0.2.12": wasip2::cli::terminal_output,
            "wasi:cli/terminal-stdin@0.2.12": wasip2::cli::terminal_stdin,
            "wasi:cli/terminal-stdout@0.2.12": wasip2::cli::terminal_stdout,
            "wasi:cli/terminal-stderr@0.2.12": wasip2::cli::terminal_stderr,
            "wasi:random/insecure-seed@0.2.12": wasip2::random::insecure_seed,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
            "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
            "wasi:http/types@0.2.12": wasip2::http::types,
        },
    });
}

/// Longest body of a request in bytes, as the contract says.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Bytes that are read or written at once.
const CHUNK_BYTES: usize = 64 * 1024;

struct Gate;

impl generated::exports::wasi::http::incoming_handler::Guest for Gate {
    fn handle(request: IncomingRequest, client: ResponseOutparam) {
        let begun = wasip2::clocks::monotonic_clock::now();
        match read(&request) {
            Ok(read) => serve(read, begun, client),
            Err(status) => refuse(client, status),
        }
    }
}

/// A request, whole.
struct Read {
    method: String,
    path_with_query: String,
    authority: String,
    headers: Vec<Field>,
    body: Vec<u8>,
}

/// Reads a request. The error is an HTTP status.
fn read(request: &IncomingRequest) -> Result<Read, u16> {
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(other) => other,
    };
    let headers = request::screen(request.headers().entries()).map_err(|Ambiguous| 400_u16)?;
    let mut hosts = headers.iter().filter(|(name, _)| name == "host");
    let named = hosts.next().map(|(_, host)| String::from_utf8_lossy(host).into_owned());
    if hosts.next().is_some() {
        return Err(400);
    }
    let authority = request.authority().or(named).unwrap_or_default();
    let body = read_body(&request.consume().map_err(|()| 400_u16)?)?;
    Ok(Read {
        method,
        path_with_query: request.path_with_query().unwrap_or_else(|| "/".to_owned()),
        authority,
        headers,
        body,
    })
}

fn read_body(body: &IncomingBody) -> Result<Vec<u8>, u16> {
    let stream = body.stream().map_err(|()| 400_u16)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_BYTES as u64) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(400),
        }
        if bytes.len() > MAX_BODY_BYTES {
            return Err(413);
        }
    }
}

fn serve(read: Read, begun: u64, client: ResponseOutparam) {
    let mut headers = read.headers.clone();
    headers.retain(|(name, _)| name != "host");
    headers.push(("host".to_owned(), read.authority.clone().into_bytes()));
    let asked = gatekeeper::Request {
        correlation_id: String::new(),
        method: read.method.clone(),
        path_with_query: read.path_with_query.clone(),
        headers,
        body: read.body.clone(),
    };
    match gatekeeper::admit(&asked) {
        gatekeeper::Admission::Answer(answer) => respond(client, answer.status, &answer.headers, &answer.body),
        gatekeeper::Admission::OwnPath => own(&read, client),
        gatekeeper::Admission::Forward(grant) => forward(read, grant, begun, client),
    }
}

/// A path of the component itself.
fn own(read: &Read, client: ResponseOutparam) {
    let fields = request::as_one_piece(&read.headers);
    match whole_requests::serve(&read.method, &read.authority, &read.path_with_query, &fields, &read.body) {
        whole_requests::Served::Whole(answer) => {
            respond(client, answer.status, &request::from_one_piece(&answer.fields), &answer.body);
        }
        // HTTP+SSE is for the tools of the component, which a wrapped tool takes the place of.
        whole_requests::Served::Streams => refuse(client, 404),
    }
}

/// Calls the tool.
fn forward(read: Read, grant: gatekeeper::Grant, begun: u64, client: ResponseOutparam) {
    if !METHODS.contains(&read.method.as_str()) {
        return refuse(client, 405);
    }
    let reads_events = grant.judge_answer || grant.note_answer || !grant.event_key.is_empty();
    let headers = request::onward(&read.headers, &grant.drop_headers, &grant.set_headers, reads_events);
    let path = read.path_with_query.split('?').next().unwrap_or_default().to_owned();
    let call = kept::Call {
        method: read.method,
        path,
        authority: read.authority,
        headers,
        body: read.body,
        begun,
        handle: grant.handle,
        correlation_id: grant.caller.correlation_id,
        judge_answer: grant.judge_answer,
        note_answer: grant.note_answer,
        event_key: grant.event_key,
        report_answer: grant.report_answer,
    };
    let kept::Handed { request, answer } = kept::begin(&call, client);
    tool::handle(request, answer);
    kept::end();
}

/// An answer of this component itself.
fn refuse(client: ResponseOutparam, status: u16) {
    let text = match status {
        404 => "not found\n",
        405 => "the method is not allowed\n",
        413 => "the body is too long\n",
        _ => "the request cannot be read\n",
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut fields = vec![
        field("content-type", "text/plain; charset=utf-8"),
        field("cache-control", "no-store"),
        field("x-content-type-options", "nosniff"),
    ];
    if status == 405 {
        fields.push(field("allow", "GET, POST, DELETE"));
    }
    respond(client, status, &fields, text.as_bytes());
}

fn respond(client: ResponseOutparam, status: u16, fields: &[Field], body: &[u8]) {
    let Ok(fields) = Fields::from_list(fields) else {
        return ResponseOutparam::set(client, Err(ErrorCode::InternalError(None)));
    };
    let response = OutgoingResponse::new(fields);
    let (set, sent) = (response.set_status_code(status), response.body());
    let Ok(sent) = sent.and_then(|sent| set.map(|()| sent)) else {
        return ResponseOutparam::set(client, Err(ErrorCode::InternalError(None)));
    };
    ResponseOutparam::set(client, Ok(response));
    // A client that has left misses the rest.
    if let Ok(stream) = sent.write() {
        for chunk in body.chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(sent, None);
}
