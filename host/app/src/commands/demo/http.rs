//! The remote server: `entra-mcp serve`, and a client that finds out everything by itself, as MCP clients do.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use entra_mcp_emulator::user_agent::HeadlessBrowser;
use entra_mcp_emulator::{Builder, Emulator};
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::random::{SystemRandomness, unguessable_id};
use entra_mcp_plugin::user_agent::{LoopbackListeners, Page};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use url::Url;

use super::{PROTOCOL, STEP_TIMEOUT, Steps, USER, modern, server_process, sign_ins, text};
use crate::config::Environment;
use crate::console;

/// The tool that is called.
const TOOL: &str = "getUserDetails";

/// The password of all of the emulator's users.
const PASSWORD: &str = "emulator";

/// Largest answer that the client reads, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Plays the whole conversation.
pub(super) async fn play(steps: &mut Steps, environment: &Environment) -> Result<(), String> {
    steps.begin("start the emulator");
    let emulator = Builder::new().start().await.map_err(text)?;
    steps.done(&format!("Started an emulated Entra ID and Microsoft Graph at {}", emulator.endpoints().authority));

    steps.begin("start the MCP server");
    let folder = tempfile::Builder::new().prefix("entra-mcp-demo-").tempdir().map_err(text)?;
    let server = HttpServerProcess::start(&emulator, folder.path(), environment).await?;
    let mut client = DemoClient::new(&server.url);
    steps.done(&format!("Started `entra-mcp serve`; its sandboxed component answers at {}", client.endpoint));

    steps.begin("discover how to sign in");
    client.discover().await?;
    steps.done(&format!(
        "Asked without a token: refused with 401 and where to look; followed that to the authorization server {}",
        client.metadata("issuer")?
    ));

    steps.begin("register");
    client.register().await?;
    steps.done("Registered itself as an MCP client that the server did not know (RFC 7591)");

    steps.begin("consent and sign in");
    let pages = client.sign_in().await?;
    if sign_ins(&emulator) == 0 {
        return Err("no user was asked to sign in".into());
    }
    steps.done(&format!(
        "Opened a browser: {USER} consented and signed in ({}); exchanged the code for a session, bound to this \
         client by PKCE",
        pages.join(", ")
    ));

    steps.begin("call the tool");
    let profile = client.call().await?;
    steps.done(&format!("Called {TOOL}: the server asked Graph with a token of its own, which the client never sees"));

    steps.begin("refresh");
    let asked = sign_ins(&emulator);
    client.refresh().await?;
    if client.call().await? != profile {
        return Err("the second profile is not the first".into());
    }
    if sign_ins(&emulator) != asked {
        return Err("the person was asked to sign in again".into());
    }
    steps.done("Refreshed the session and called again: silent; the old refresh token is worthless now");

    steps.begin("revoke");
    client.revoke().await?;
    let (status, ..) = client.post_mcp("tools/call", json!({ "name": TOOL, "arguments": {} })).await?;
    if status != 401 {
        return Err(format!("the revoked session is answered with {status}"));
    }
    steps.done("Revoked the session: the next call is refused with 401");

    steps.begin("end the MCP server");
    steps.done(match server.end().await? {
        ServerEnd::Asked => "Asked the server to end: it did, by itself",
        #[cfg(windows)]
        ServerEnd::Killed => "Ended the server, which cannot be asked to end by itself without a console",
    });

    console::result(&format!("\nThe details from Graph, as {TOOL} returns them:"));
    console::result(&format!("{profile:#}"));
    emulator.shutdown().await;
    Ok(())
}

/// How the server ended.
enum ServerEnd {
    /// By itself.
    Asked,
    #[cfg(windows)]
    Killed,
}

/// The server as a child process.
struct HttpServerProcess {
    child: Child,
    /// Where it says that it is.
    url: String,
}

impl HttpServerProcess {
    async fn start(emulator: &Emulator, folder: &Path, environment: &Environment) -> Result<Self, String> {
        let endpoints = emulator.endpoints();
        let store = folder.join("secrets.db").to_string_lossy().into_owned();
        let settings = [
            ("tenant-id", endpoints.tenant_id.as_str()),
            ("client-id", &endpoints.confidential_client_id),
            ("authority", &endpoints.authority),
            ("graph-url", &endpoints.graph),
            ("listen", "127.0.0.1:0"),
            ("store", &store),
        ];
        let mut process = server_process("serve", &settings, folder, environment)?;
        process.env("AZURE_CLIENT_SECRET", &endpoints.client_secret);
        #[cfg(windows)]
        process.creation_flags(crate::windows_console::GROUP_OF_ITS_OWN);
        let mut child = process.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(text)?;
        let output = child.stdout.take().ok_or("the server has no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(STEP_TIMEOUT, lines.next_line()).await.map_err(text)?.map_err(text)?;
        let line = line.ok_or("the server ended")?;
        let started: Value = serde_json::from_str(&line).map_err(text)?;
        Ok(Self { child, url: string(&started, "public_url")? })
    }

    /// Asks the server to end; it has to end well.
    async fn end(mut self) -> Result<ServerEnd, String> {
        #[cfg(unix)]
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(text)?;
        }
        #[cfg(windows)]
        if self.child.id().is_none_or(|id| crate::windows_console::ask_to_end(id).is_err()) {
            self.child.kill().await.map_err(text)?;
            return Ok(ServerEnd::Killed);
        }
        match tokio::time::timeout(STEP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(ServerEnd::Asked),
            Ok(Ok(status)) => Err(format!("the server ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server did not end".into()),
        }
    }
}

/// An MCP client that knows nothing but the address of the server.
struct DemoClient {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    endpoint: String,
    resource: Value,
    server: Value,
    client_id: String,
    redirect_uri: String,
    access_token: String,
    refresh_token: String,
    listeners: LoopbackListeners,
    next: u32,
}

type DemoResponse = (u16, HeaderMap, Value);

impl DemoClient {
    fn new(url: &str) -> Self {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandomness::default()));
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            endpoint: format!("{url}/mcp"),
            resource: Value::Null,
            server: Value::Null,
            client_id: String::new(),
            redirect_uri: String::new(),
            access_token: String::new(),
            refresh_token: String::new(),
            listeners: LoopbackListeners::new(clock, random),
            next: 1,
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<DemoResponse, String> {
        let exchange = async {
            let (head, body) = self.http.request(request).await.map_err(text)?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(text)?.to_bytes();
            Ok((head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default()))
        };
        tokio::time::timeout(STEP_TIMEOUT, exchange).await.map_err(text)?
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let request = Request::get(url).body(Full::default()).map_err(text)?;
        match self.exchange(request).await? {
            (200, _, document) => Ok(document),
            (status, ..) => Err(format!("{url} is answered with {status}")),
        }
    }

    async fn post(&self, url: &str, content_type: &str, body: String) -> Result<DemoResponse, String> {
        let request = Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, content_type);
        self.exchange(request.body(Full::from(body)).map_err(text)?).await
    }

    async fn post_form(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<Value, String> {
        let url = self.metadata(endpoint)?;
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        match self.post(&url, "application/x-www-form-urlencoded", body).await? {
            (200, _, answer) => Ok(answer),
            (status, _, answer) => Err(format!("{url} answers {status} {answer}")),
        }
    }

    /// Sends a request of MCP, with the token if there is one.
    async fn post_mcp(&mut self, method: &str, params: Value) -> Result<DemoResponse, String> {
        let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
        let mut message = modern(method, params);
        if let Some(message) = message.as_object_mut() {
            message.insert("id".into(), self.next.into());
        }
        self.next = self.next.wrapping_add(1);
        let mut request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", PROTOCOL)
            .header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        if !self.access_token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.access_token));
        }
        self.exchange(request.body(Full::from(message.to_string())).map_err(text)?).await
    }

    /// Something that the authorization server's metadata says.
    fn metadata(&self, name: &str) -> Result<String, String> {
        string(&self.server, name)
    }

    async fn discover(&mut self) -> Result<(), String> {
        let (status, headers, _) = self.post_mcp("server/discover", json!({})).await?;
        let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let location = challenge.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next());
        let (401, Some(location)) = (status, location) else {
            return Err(format!("a request without a token is answered with {status} and {challenge:?}"));
        };
        self.resource = self.get(location).await?;
        let issuer = self.resource.pointer("/authorization_servers/0").and_then(Value::as_str);
        let issuer = issuer.ok_or("the resource metadata names no authorization server")?.to_owned();
        self.server = self.get(&format!("{issuer}/.well-known/oauth-authorization-server")).await?;
        if self.metadata("issuer")? != issuer {
            return Err("the authorization server's metadata is about another issuer".into());
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), String> {
        // The port is not known before the sign-in, and does not matter (RFC 8252 section 7.3).
        self.redirect_uri = "http://localhost".to_owned();
        let metadata = json!({
            "client_name": "entra-mcp demo",
            "redirect_uris": [self.redirect_uri],
            "token_endpoint_auth_method": "none",
        });
        let url = self.metadata("registration_endpoint")?;
        match self.post(&url, "application/json", metadata.to_string()).await? {
            (201, _, registered) => self.client_id = string(&registered, "client_id")?,
            (status, _, answer) => return Err(format!("{url} answers {status} {answer}")),
        }
        Ok(())
    }

    /// Authorization code with PKCE. Returns the titles of the pages that the person saw.
    async fn sign_in(&mut self) -> Result<Vec<String>, String> {
        let random = SystemRandomness::default();
        let unguessable = || unguessable_id(&random).map_err(text);
        let (state, verifier) = (unguessable()?, format!("{}{}", unguessable()?, unguessable()?));
        let mut listener = self.listeners.open().await.map_err(text)?;
        self.redirect_uri = listener.redirect_uri();
        let challenge = base64url(digest(&SHA256, verifier.as_bytes()).as_ref());
        let mut url = Url::parse(&self.metadata("authorization_endpoint")?).map_err(text)?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &string(&self.resource, "/scopes_supported/0")?),
            ("resource", &string(&self.resource, "resource")?),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let person = tokio::spawn(async move { HeadlessBrowser::new().sign_in(url.as_str(), USER, PASSWORD).await });
        let Some(query) = listener.wait(STEP_TIMEOUT).await else {
            let why = if person.is_finished() { person.await.map_err(text)?.err().map(text) } else { None };
            return Err(why.unwrap_or_else(|| "the browser did not come back".to_owned()));
        };
        let (title, message) = ("You are signed in".to_owned(), "You can close this window.".to_owned());
        listener.respond(&Page { success: true, title, message });
        let landing = person.await.map_err(text)?.map_err(text)?;
        let parameter = |name: &str| {
            let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        if parameter("state") != Some(state) || parameter("iss") != Some(self.metadata("issuer")?) {
            return Err(format!("the answer is not from the authorization server that was asked: {query}"));
        }
        let code = parameter("code").ok_or_else(|| format!("there is no code in the answer: {query}"))?;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &self.client_id),
            ("code", &code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &verifier),
            ("resource", &string(&self.resource, "resource")?),
        ];
        let tokens = self.post_form("token_endpoint", &form).await?;
        self.keep(&tokens)?;
        Ok(landing.pages)
    }

    async fn refresh(&mut self) -> Result<(), String> {
        let form =
            [("grant_type", "refresh_token"), ("client_id", &self.client_id), ("refresh_token", &self.refresh_token)];
        let tokens = self.post_form("token_endpoint", &form).await?;
        self.keep(&tokens)
    }

    async fn revoke(&self) -> Result<(), String> {
        let form = [("client_id", self.client_id.as_str()), ("token", &self.refresh_token)];
        self.post_form("revocation_endpoint", &form).await.map(drop)
    }

    fn keep(&mut self, tokens: &Value) -> Result<(), String> {
        self.access_token = string(tokens, "access_token")?;
        self.refresh_token = string(tokens, "refresh_token")?;
        Ok(())
    }

    /// Calls the tool and returns what it found.
    async fn call(&mut self) -> Result<Value, String> {
        let (status, _, answer) = self.post_mcp("tools/call", json!({ "name": TOOL, "arguments": {} })).await?;
        match answer.pointer("/result/structuredContent") {
            Some(details) if answer.pointer("/result/isError") != Some(&true.into()) => Ok(details.clone()),
            _ => Err(format!("the tool answers {status} {answer}")),
        }
    }
}

/// A string in an object, by its name or its JSON pointer.
fn string(value: &Value, name: &str) -> Result<String, String> {
    let found = if name.starts_with('/') { value.pointer(name) } else { value.get(name) };
    found.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{name} is missing"))
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
