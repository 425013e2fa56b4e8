//! How long a server takes from its start to its first answer, when its program is in the memory of the machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::report::Report;
use crate::server::Server;
use crate::servers::{Contender, World};
use crate::{native, processors};

/// Starts of which the median counts. One more, before them, loads the program into memory, and compiles what is kept.
const STARTS: usize = 11;
/// The same of other servers.
const STARTS_OF_OTHERS: usize = 5;
/// Starts with the code not compiled yet.
const FIRST_STARTS: usize = 3;
/// Between two questions whether the server is ready.
const PAUSE: Duration = Duration::from_millis(1);

const STDIO: &str = "starts: stdio, to the first answer, ms";
const STDIO_FIRST: &str = "starts: stdio, the same with an empty code cache, ms";
const SERVE: &str = "starts: HTTP, until it is ready, ms";
const SERVE_FIRST: &str = "starts: HTTP, the same with an empty code cache, ms";
/// The aims, in milliseconds.
const AIM: f64 = 25.0;
const AIM_FIRST: f64 = 1_000.0;

pub(crate) async fn measure(world: &World, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, compiled) = (Contender::Ours, Path::new(env!("CARGO_TARGET_TMPDIR")));
    let warm = || stdio_of_ours(world, folder.path(), compiled);
    first_answer(warm());
    report.put(STDIO, ours, median((0..STARTS).map(|_| first_answer(warm()))));
    let first = || stdio_of_ours(world, folder.path(), &empty(folder.path()));
    report.put(STDIO_FIRST, ours, median((0..FIRST_STARTS).map(|_| first_answer(first()))));
    report.aim(STDIO, AIM);
    report.aim(STDIO_FIRST, AIM_FIRST);
    for contender in [Contender::Rmcp, Contender::TypeScript, Contender::FastMcpJwt] {
        if let Some(command) = world.on_stdio(contender, folder.path()) {
            first_answer(command);
            let start = |_| first_answer(world.on_stdio(contender, folder.path()).unwrap());
            report.put(STDIO, contender, median((0..STARTS_OF_OTHERS).map(start)));
        }
    }

    serve(world, compiled).await;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(serve(world, compiled).await);
    }
    report.put(SERVE, ours, median(times));
    let mut times = Vec::new();
    for _ in 0..FIRST_STARTS {
        times.push(serve(world, &empty(folder.path())).await);
    }
    report.put(SERVE_FIRST, ours, median(times));
    report.aim(SERVE_FIRST, AIM_FIRST);
    for contender in [Contender::Rmcp, Contender::TypeScript, Contender::FastMcpJwt, Contender::FastMcpAzure] {
        if world.listens_after(contender).await.is_some() {
            let mut times = Vec::new();
            for _ in 0..STARTS_OF_OTHERS {
                times.extend(world.listens_after(contender).await);
            }
            report.put(SERVE, contender, median(times));
        }
    }
}

/// In milliseconds.
fn median(times: impl IntoIterator<Item = Duration>) -> f64 {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    native::micros(times[times.len() / 2]) / 1e3
}

/// A new folder for compiled code, with nothing in it.
fn empty(folder: &Path) -> PathBuf {
    tempfile::Builder::new().prefix("cache").tempdir_in(folder).unwrap().keep()
}

fn stdio_of_ours(world: &World, folder: &Path, cache: &Path) -> Command {
    let at = world.emulator.endpoints();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-mcp-tested"));
    command
        .args(["stdio", "--tenant-id", &at.tenant_id, "--client-id", &at.public_client_id])
        .args(["--authority", &at.authority, "--graph-url", &at.graph])
        .arg("--store")
        .arg(folder.join("sign-ins.db"))
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("XDG_CACHE_HOME", cache)
        .stderr(Stdio::null());
    command
}

/// From the start of a program until it has answered on standard output.
fn first_answer(mut command: Command) -> Duration {
    let client = json!({ "name": "bench", "version": "1.0.0" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = processors::of_servers(|| command.spawn().unwrap());
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{message}").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let took = started.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the program says {line:?}"));
    assert_eq!(answer["id"], 0, "{answer}");
    assert!(answer["result"].is_object(), "{answer}");
    took
}

/// From the start of `entra-mcp serve` until it is ready: it can write its store, and has reached Entra ID.
async fn serve(world: &World, cache: &Path) -> Duration {
    let (folder, http) = (tempfile::tempdir().unwrap(), reqwest::Client::new());
    let cache = cache.display().to_string();
    let variables = [("XDG_CACHE_HOME", cache.as_str())];
    let started = Instant::now();
    let start = || Server::start_with(world.emulator.endpoints(), folder.path(), &[], &variables);
    let server = processors::of_servers(start);
    let url = server.at("/readyz");
    while !http.get(&url).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
        tokio::time::sleep(PAUSE).await;
    }
    started.elapsed()
}
