//! What the tests of audit records and telemetry have in common: a server at which a user signs in and calls tools.

use std::future::ready;
use std::path::PathBuf;

use entra_mcp_emulator::{Builder, Emulator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::component::modern;
use crate::support::patience::eventually;
use crate::support::server::Server;
use crate::support::session::{Session, sign_in};

/// The user that signs in. By default, her name and address appear nowhere.
pub(crate) const ALICE: &str = "alice@contoso.example";

/// A server in a folder of its own.
pub(crate) struct Site {
    pub(crate) emulator: Emulator,
    pub(crate) server: Server,
    folder: TempDir,
}

impl Site {
    pub(crate) async fn new(arguments: impl FnOnce(&TempDir) -> Vec<String>) -> Self {
        Self::with(arguments, &[]).await
    }

    pub(crate) async fn with(arguments: impl FnOnce(&TempDir) -> Vec<String>, variables: &[(&str, &str)]) -> Self {
        let emulator = Builder::new().start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(&folder);
        Self::of(emulator, folder, &arguments, variables)
    }

    /// The same with what the caller has prepared.
    pub(crate) fn of(emulator: Emulator, folder: TempDir, arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["--rate-limit", "off"];
        all.extend(arguments.iter().map(String::as_str));
        let server = Server::start_with(emulator.endpoints(), folder.path(), &all, variables);
        let callback = server.at("/auth/callback");
        let client = &emulator.endpoints().confidential_client_id;
        emulator.control().change_application(client, |client| client.web_redirect_uris.push(callback)).unwrap();
        Self { emulator, server, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn sign_in(&self) -> Session {
        sign_in(self.server.public_url(), "/mcp", ALICE).await
    }

    /// Calls the tool; status and body.
    pub(crate) async fn call(&self, access_token: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.call_with(access_token, headers, json!({})).await
    }

    /// The same, with metadata of the message.
    pub(crate) async fn call_with(
        &self,
        access_token: &str,
        headers: &[(&str, &str)],
        metadata: Value,
    ) -> (u16, Value) {
        let params = json!({ "name": "getUserDetails", "arguments": {}, "_meta": metadata });
        self.post_call("/mcp", Some(access_token), headers, params).await
    }

    /// Calls a tool of the server at a path; status and body.
    pub(crate) async fn call_tool(
        &self,
        path: &str,
        access_token: Option<&str>,
        tool: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        self.post_call(path, access_token, headers, json!({ "name": tool, "arguments": {} })).await
    }

    /// Posts a call with these parameters.
    pub(crate) async fn post_call(
        &self,
        path: &str,
        access_token: Option<&str>,
        headers: &[(&str, &str)],
        params: Value,
    ) -> (u16, Value) {
        let mut request = reqwest::Client::new()
            .post(self.server.at(path))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", params["name"].as_str().unwrap())
            .json(&modern("tools/call", params, json!({})));
        if let Some(token) = access_token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// Registers a client; the status.
    pub(crate) async fn register(&self) -> u16 {
        let registration = json!({
            "client_name": "Test client",
            "redirect_uris": ["https://client.example/callback"],
            "token_endpoint_auth_method": "none",
        });
        let request = reqwest::Client::new().post(self.server.at("/register")).json(&registration);
        request.send().await.unwrap().status().as_u16()
    }

    /// The log, once it contains `text`: a line is written a moment after the event.
    pub(crate) async fn log_with(&self, text: &str) -> String {
        let written = eventually(|| ready(Some(self.server.log()).filter(|log| log.contains(text)))).await;
        written.unwrap_or_else(|error| panic!("{text:?} is {error} in {}", self.server.log()))
    }

    /// The records in a file.
    pub(crate) fn records(&self, name: &str) -> Vec<Value> {
        records(&std::fs::read_to_string(self.path(name)).unwrap())
    }
}

/// The records among other lines.
pub(crate) fn records(text: &str) -> Vec<Value> {
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}
