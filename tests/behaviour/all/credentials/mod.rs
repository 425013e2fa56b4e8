//! What the program proves itself with to Entra ID: each kind of credential in the built binary, when a person signs in and
//! when a caller's token is exchanged.

mod faults;
mod guest_memory;
pub(crate) mod kinds;
mod rotation;
mod vault;
mod vault_versions;

use entra_mcp_emulator::{Builder, Emulator, Endpoint, RecordedRequest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::records::{ALICE, Site};
use crate::support::lab::{REMOTE, app, claims, header};
use crate::tools::mail::bearer;

/// The identity of the machine, and one that is assigned to it besides.
const USER_ASSIGNED: &str = "b0000000-0000-4000-a000-000000000002";
const USER_ASSIGNED_SUBJECT: &str = "33333333-0000-4000-a000-000000000002";

/// What is there before the server starts.
struct Bench {
    emulator: Emulator,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { emulator: Builder::new().start().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn authority(&self) -> String {
        self.emulator.endpoints().authority.clone()
    }

    /// Writes a file that only its owner can read; its name.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        write(&self.folder, name, content)
    }

    /// Starts the server, for clients with sessions and for clients with tokens of Entra ID. It has no client secret.
    fn serve(self, arguments: &[&str], variables: &[(&str, &str)]) -> Site {
        // Every call asks Graph, so every token of a client is exchanged.
        let both = ["--token-mode", "both", "--required-scope", "Mcp.Access", "--profile-cache-seconds", "0"];
        let arguments: Vec<_> = both.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let without_secret = [&[("AZURE_CLIENT_SECRET", "")], variables].concat();
        Site::of(self.emulator, self.folder, &arguments, &without_secret)
    }
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(name);
    // A new file takes the place of the old one, as tools that renew certificates do it.
    let new = folder.path().join(format!("{name}.new"));
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The person that a call finds in Graph.
fn person(answer: &(u16, Value)) -> &Value {
    assert_eq!((answer.0, &answer.1["result"]["isError"]), (200, &json!(false)), "{}", answer.1);
    &answer.1["result"]["structuredContent"]["mail"]
}

/// A person signs in and calls a tool, and so does a client with a token of Entra ID. Returns the requests of the server for
/// tokens.
async fn serves(site: &Site) -> Vec<RecordedRequest> {
    let session = site.sign_in().await;
    let answer = site.call(&session.access_token, &[]).await;
    assert!(person(&answer).as_str().is_some_and(|mail| mail.contains("alice")), "{}", answer.1);
    let token = bearer(&site.emulator, ALICE).await;
    assert_eq!(person(&site.call(&token, &[]).await), person(&answer));
    let requests = site.emulator.control().requests(Endpoint::Token);
    let own = &site.emulator.endpoints().confidential_client_id;
    let own: Vec<_> = requests.into_iter().filter(|request| request.form("client_id") == Some(own)).collect();
    for grant in ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"] {
        assert!(own.iter().any(|request| request.form("grant_type") == Some(grant)), "{grant}");
    }
    own
}

/// The same with assertions: every request carries one, and none a secret. Returns the assertions.
async fn serves_with_assertions(site: &Site) -> Vec<String> {
    let requests = serves(site).await;
    requests
        .iter()
        .map(|request| {
            assert_eq!(request.form("client_secret"), None);
            request.form("client_assertion").expect("an assertion").to_owned()
        })
        .collect()
}

/// Checks assertions that a certificate has signed: for this application and token endpoint, for ten minutes at most.
fn are_of_a_certificate(assertions: &[String], endpoint: &str) {
    for assertion in assertions {
        let (header, claims) = (header(assertion), claims(assertion));
        assert_eq!((&header["alg"], header["x5t#S256"].is_string()), (&json!("PS256"), true), "{header}");
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(app(REMOTE)), &json!(endpoint)));
        assert!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap() <= 600, "{claims}");
    }
}
