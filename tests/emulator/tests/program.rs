//! The emulator as a program of its own.

#![allow(clippy::disallowed_methods, reason = "the test starts the program")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_program_says_where_it_listens_and_listens_there() {
    let program = env!("CARGO_BIN_EXE_entra-mcp-emulator");
    let mut child = Command::new(program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoints: serde_json::Value = serde_json::from_str(&line).unwrap();
    let authority = url::Url::parse(endpoints["authority"].as_str().unwrap()).unwrap();
    let address = authority.socket_addrs(|| None).unwrap();
    let connected = std::net::TcpStream::connect(address.as_slice());
    child.kill().unwrap();
    child.wait().unwrap();
    connected.unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let program = env!("CARGO_BIN_EXE_entra-mcp-emulator");
    let output = Command::new(program).args(["--config", "no-such-file.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("entra-mcp-emulator: no-such-file.toml cannot be read: "), "{text}");
}
