//! Processes of `entra-mcp serve` on one store, as behind a proxy that sends every request to the next one.

use std::fs::File;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use entra_mcp_emulator::user_agent::{HeadlessBrowser, Person};
use entra_mcp_emulator::{Builder, Emulator};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use url::Url;

use crate::support::lab::{PASSWORD, VERIFIER};
use crate::support::process::{self, send_signal};
use crate::support::remote::{Answer, Authorize, PUBLIC_URL, REDIRECT, RESOURCE, Tokens, input, parameter, path_of};

/// The data key of a store on the network.
const DATA_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

/// The processes, Entra ID as the emulator, and the folder with their store.
pub(crate) struct Replicas {
    processes: Vec<Process>,
    next: AtomicUsize,
    client: reqwest::Client,
    pub(crate) emulator: Emulator,
    folder: TempDir,
    start: Start,
    /// Where requests go, if not to the processes themselves.
    proxy: Option<String>,
}

/// How a process is started.
struct Start {
    arguments: Vec<String>,
    store: String,
    filter: String,
    /// How many have been started.
    count: usize,
}

struct Process {
    child: Child,
    address: String,
}

impl Replicas {
    /// Starts `count` processes. Access tokens of Entra ID live for `lifetime_seconds`.
    pub(crate) async fn start(count: usize, lifetime_seconds: i64, filter: &str, arguments: &[&str]) -> Self {
        Self::start_on(None, count, lifetime_seconds, filter, arguments).await
    }

    /// The same on a given store.
    pub(crate) async fn start_on(
        store: Option<&str>,
        count: usize,
        lifetime_seconds: i64,
        filter: &str,
        arguments: &[&str],
    ) -> Self {
        let emulator = Builder::new().start().await.unwrap();
        let at = emulator.endpoints().clone();
        emulator.control().change_policy(|policy| {
            policy.access_token_shortest = lifetime_seconds;
            policy.access_token_longest = lifetime_seconds;
            policy.continuous_access_token = lifetime_seconds;
        });
        let callback = format!("{PUBLIC_URL}/auth/callback");
        let registered = emulator
            .control()
            .change_application(&at.confidential_client_id, |application| application.web_redirect_uris.push(callback));
        registered.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = store.map_or_else(|| folder.path().join("sessions.db").to_str().unwrap().to_owned(), str::to_owned);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let start = Start { arguments, store, filter: filter.to_owned(), count: 0 };
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let next = AtomicUsize::new(0);
        let mut fleet = Self { processes: Vec::new(), next, client, emulator, folder, start, proxy: None };
        for _ in 0..count {
            fleet.add().await;
        }
        fleet
    }

    /// Starts one more process. Returns where it listens.
    pub(crate) async fn add(&mut self) -> std::net::SocketAddr {
        let (at, number) = (self.emulator.endpoints().clone(), self.start.count);
        self.start.count += 1;
        let mut command = process::command(env!("CARGO_BIN_EXE_entra-mcp-tested"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--public-url", PUBLIC_URL])
            .args(["--tenant-id", &at.tenant_id, "--client-id", &at.confidential_client_id])
            .args(["--authority", &at.authority, "--graph-url", &at.graph])
            .args(["--profile-cache-seconds", "0"])
            .args(&self.start.arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("AZURE_CLIENT_SECRET", &at.client_secret)
            .env("ENTRA_MCP_STORE", &self.start.store)
            .env("RUST_LOG", &self.start.filter)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(self.folder.path().join(format!("{number}.log"))).unwrap())
            .kill_on_drop(true);
        if self.start.store.contains("://") {
            command.env("ENTRA_MCP_STORE_KEY", DATA_KEY);
        }
        let mut child = command.spawn().unwrap();
        let ready = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap();
        let ready: Value = serde_json::from_str(&ready.unwrap_or_default()).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(self.folder.path().join(format!("{number}.log")));
            panic!("process {number} does not start: {log:?}")
        });
        let address = ready["listening"].as_str().unwrap().to_owned();
        self.processes.push(Process { child, address: address.clone() });
        address.parse().unwrap()
    }

    /// Runs another command on the same store, such as `store check`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = process::command(env!("CARGO_BIN_EXE_entra-mcp-tested"));
        command.args(arguments).args(["--store", &self.start.store]).env_clear().env("HOME", self.folder.path());
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
        command.output().await.unwrap()
    }

    /// Lets requests go through a proxy, which knows the processes. Each has a connection of its own: a proxy that reads its
    /// configuration again closes those that wait, and a request may be on its way then.
    pub(crate) fn through(&mut self, proxy: Option<std::net::SocketAddr>) {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        self.client = client.pool_max_idle_per_host(0).build().unwrap();
        self.proxy = proxy.map(|address| address.to_string());
    }

    /// The id of a process.
    pub(crate) fn pid(&self, number: usize) -> u32 {
        self.processes[number].child.id().unwrap()
    }

    /// Where a process listens.
    pub(crate) fn address(&self, number: usize) -> std::net::SocketAddr {
        self.processes[number].address.parse().unwrap()
    }

    /// Asks a process to end, with SIGTERM; its exit code.
    pub(crate) async fn terminate(&mut self, number: usize) -> Option<i32> {
        send_signal("TERM", self.pid(number));
        self.processes[number].child.wait().await.unwrap().code()
    }

    /// Asks a process to end, and forgets it.
    pub(crate) async fn retire(&mut self, number: usize) -> Option<i32> {
        let code = self.terminate(number).await;
        self.processes.remove(number);
        code
    }

    /// Ends a process with SIGKILL.
    pub(crate) async fn kill(&mut self, number: usize) {
        self.processes.remove(number).child.kill().await.unwrap();
    }

    /// Where all processes listen.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.address.clone()).collect()
    }

    /// Ends the process whose turn it is with SIGKILL.
    pub(crate) async fn kill_next(&mut self) {
        let number = self.next.load(Ordering::Relaxed) % self.processes.len();
        self.processes.remove(number).child.kill().await.unwrap();
    }

    /// Bytes of the journal of the store, which has earlier versions of records.
    pub(crate) fn journal_bytes(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("sessions.db-wal")).unwrap().len()
    }

    /// What all processes have written.
    pub(crate) fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// Sends a request to the process whose turn it is.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.processes.len();
        self.send_to(number, request).await
    }

    pub(crate) async fn send_to(&self, number: usize, request: Request<Vec<u8>>) -> Answer {
        let address = self.proxy.as_ref().unwrap_or(&self.processes[number].address);
        exchange(&self.client, address, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Vec::new()).unwrap()).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(form_request(path, form)).await
    }

    /// Registers a public client; its id.
    pub(crate) async fn register(&self) -> String {
        let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" });
        let request = Request::post("/register").header("content-type", "application/json");
        let answer = self.send(request.body(metadata.to_string().into_bytes()).unwrap()).await;
        assert_eq!(answer.status, 201, "{}", answer.html());
        answer.body["client_id"].as_str().unwrap().to_owned()
    }

    /// Consents. Returns the cookies of the browser, and the address of the sign-in at Entra ID.
    pub(crate) async fn consent(&self, client_id: &str) -> (String, Url) {
        self.consent_to(Authorize::new(client_id)).await
    }

    async fn consent_to(&self, authorize: Authorize) -> (String, Url) {
        let path = authorize.path();
        let page = self.send(Request::get(path).header("accept", "text/html").body(Vec::new()).unwrap()).await;
        assert_eq!(page.status, 200, "{}", page.html());
        let mut cookies = cookies(&page);
        let form = [("request_id", input(&page, "request_id")), ("csrf_token", input(&page, "csrf_token"))];
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(form).append_pair("decision", "allow").finish();
        let request = Request::post("/authorize")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", PUBLIC_URL)
            .header("cookie", cookies.join("; "));
        let decided = self.send(request.body(body.into_bytes()).unwrap()).await;
        for cookie in self::cookies(&decided) {
            let name = cookie.split_once('=').unwrap().0;
            cookies.retain(|other| other.split_once('=').unwrap().0 != name);
            cookies.push(cookie);
        }
        (cookies.join("; "), decided.location())
    }

    /// Opens the page that Entra ID sends the person back to; the code for the client.
    pub(crate) async fn call_back(&self, cookies: &str, callback: &Url) -> String {
        let request = Request::get(path_of(callback)).header("cookie", cookies).header("accept", "text/html");
        let back = self.send(request.body(Vec::new()).unwrap()).await.location();
        parameter(&back, "code").unwrap_or_else(|| panic!("no code in {back}"))
    }

    pub(crate) async fn redeem(&self, client_id: &str, code: &str) -> Answer {
        self.redeem_for(client_id, code, RESOURCE).await
    }

    async fn redeem_for(&self, client_id: &str, code: &str, resource: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", client_id),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("resource", resource),
        ];
        self.post_form("/token", &form).await
    }

    pub(crate) async fn refresh(&self, tokens: &Tokens) -> Answer {
        self.send(refresh_request(tokens)).await
    }

    /// The whole way to a session, each step on the next process.
    pub(crate) async fn session(&self, username: &str) -> Tokens {
        self.session_for(username, RESOURCE).await
    }

    /// The same for another resource.
    pub(crate) async fn session_for(&self, username: &str, resource: &str) -> Tokens {
        let client_id = self.register().await;
        let (cookies, entra) = self.consent_to(Authorize::new(&client_id).set("resource", resource)).await;
        let callback = sign_in(&entra, username).await;
        let code = self.call_back(&cookies, &callback).await;
        let answer = self.redeem_for(&client_id, &code, resource).await;
        assert_eq!(answer.status, 200, "{}", answer.html());
        Tokens::of(&client_id, &answer)
    }
}

/// Sends a request to a server under its public name.
pub(crate) async fn exchange(client: &reqwest::Client, address: &str, request: Request<Vec<u8>>) -> Answer {
    let (head, body) = request.into_parts();
    let url = format!("http://{address}{}", head.uri);
    let request = client.request(head.method, url).headers(head.headers).header("host", "mcp.example.com");
    let response = request.body(body).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.unwrap().to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, headers, bytes, body }
}

/// A refresh of a session.
pub(crate) fn refresh_request(tokens: &Tokens) -> Request<Vec<u8>> {
    let form = [("grant_type", "refresh_token"), ("client_id", &tokens.client_id), ("refresh_token", &tokens.refresh)];
    form_request("/token", &form)
}

fn form_request(path: &str, form: &[(&str, &str)]) -> Request<Vec<u8>> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    request.body(body.into_bytes()).unwrap()
}

/// Signs in at Entra ID; the callback URL, not opened.
pub(crate) async fn sign_in(entra: &Url, username: &str) -> Url {
    let person = Person::new(username, PASSWORD);
    let landing = HeadlessBrowser::new().staying().sign_in_as(entra.as_str(), &person).await.unwrap();
    Url::parse(&landing.url).unwrap()
}

fn cookies(answer: &Answer) -> Vec<String> {
    let cookies = answer.headers.get_all("set-cookie").iter();
    cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}
