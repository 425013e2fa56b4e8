//! A tool that tries sockets. Importing them may already be a reason to refuse the component.
#![cfg(target_family = "wasm")]

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};

use serde_json::{Value, json};
use test_tools::{Caller, Content, Guest, Hints, Tool, ToolError, tool};

struct Sockets;
test_tools::export!(Sockets with_types_in test_tools);

impl Guest for Sockets {
    fn list_tools() -> Vec<Tool> {
        vec![tool("sockets", "Connects to `address`, listens, sends a datagram, and resolves `name`.", Hints::empty())]
    }

    fn call(_name: String, arguments: String, _caller: Caller) -> Result<Content, ToolError> {
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or_default();
        let text = |name: &str, default: &str| arguments[name].as_str().unwrap_or(default).to_owned();
        let address = text("address", "127.0.0.1:80");
        let name = format!("{}:443", text("name", "localhost"));
        let outcome = |result: std::io::Result<()>| match result {
            Ok(()) => json!({ "allowed": true }),
            Err(error) => json!({ "refused": error.kind().to_string() }),
        };
        let report = json!({
            "connect": outcome(TcpStream::connect(&address).map(drop)),
            "listen": outcome(TcpListener::bind("127.0.0.1:0").map(drop)),
            "datagram": outcome(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", &address)).map(drop)),
            "resolve": outcome(name.to_socket_addrs().map(drop)),
        });
        Ok(Content::Json(report.to_string()))
    }
}
