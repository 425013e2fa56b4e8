//! A tool component in Rust beside the same tool built in. Both ask Graph with every call, with a token that was obtained
//! before: what is compared is the sandbox of the call, and not Graph.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::Emulator;

use crate::load::Target;
use crate::native::CONNECTIONS;
use crate::server::Server;
use crate::{medians, processors, tokens};

/// Measures the built-in tool, and the component with an instance for each call and with instances that serve again.
pub(crate) async fn compare(emulator: &Emulator, tokens: &[String], rounds: usize, duration: Duration) {
    let (built_in, fresh, reused) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let servers = [
        serve(emulator, built_in.path(), None),
        serve(emulator, fresh.path(), Some(false)),
        serve(emulator, reused.path(), Some(true)),
    ];
    let mut targets = Vec::new();
    for server in &servers {
        targets.push(Arc::new(Target::new(server.pid(), &server.at("/mcp"), tokens).await));
    }
    let [built_in, fresh, reused] = targets.as_slice() else { panic!("three servers") };
    println!("\na tool that asks Graph with every call: built in, and as a component");
    for connections in CONNECTIONS {
        println!(
            "\n{connections:>2} connection(s)   built in  component  with reuse  component/built in  reuse/built in"
        );
        let rows = medians(&[built_in, fresh, reused], connections, rounds, duration).await;
        for (name, [built_in, fresh, reused]) in rows {
            println!(
                "{name:<16} {built_in:>10.1} {fresh:>10.1} {reused:>11.1} {:>19.2} {:>15.2}",
                fresh / built_in,
                reused / built_in,
            );
        }
    }
}

/// `entra-mcp serve` with the built-in tools, or with the component: `Some` says whether its instances serve again.
fn serve(emulator: &Emulator, folder: &Path, component: Option<bool>) -> Server {
    // The record of every call is written, and every call asks Graph: both are a part of what a call costs.
    let unbounded = ["called-records=off", "call=off", "graph-request=off"].map(|bound| ["--rate-limit", bound]);
    let bearer = ["--token-mode", "bearer", "--required-scope", tokens::SCOPE, "--profile-cache-seconds", "0"];
    let mut arguments = [&unbounded.concat()[..], &bearer[..]].concat();
    let configuration = folder.join("config.toml");
    if let Some(reuse) = component {
        let file = Path::new(env!("ENTRA_MCP_TEST_TOOLS")).join("profile.wasm");
        let table = format!(
            "[[tools]]\nname = \"profile\"\nfile = {file:?}\nmax-concurrent = 256\nreuse = {reuse}\n\
             egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"User.Read\"] }}]\n"
        );
        std::fs::write(&configuration, table).unwrap();
        arguments.extend(["--config", configuration.to_str().unwrap()]);
    }
    processors::of_servers(|| Server::start(emulator.endpoints(), folder, &arguments))
}
