//! What every client program in `tests/clients` goes through, from the first request without a token to the last.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::office::{Office, Requests};
use crate::clients::machine::script;
use crate::clients::person::{Opener, Visit};
use crate::clients::scenarios::LEGACY;
use crate::support::nginx::{Gateway, Page};

pub(crate) const TOOL: &str = "getUserDetails";

/// How long a token lives: as short as a slow machine allows for a sign-in, as each test waits until it has expired.
const LIFETIME_SECONDS: i64 = 8;

/// A client, and how it is to connect.
pub(crate) struct Client {
    /// Node or Python.
    pub(crate) program: PathBuf,
    /// Below `tests/clients`.
    pub(crate) script: &'static str,
    pub(crate) transport: Transport,
    /// What the program is told of how to negotiate; `None` leaves the client to its default.
    pub(crate) era: Option<&'static str>,
    /// The revision that has to come of it.
    pub(crate) revision: &'static str,
}

impl Client {
    /// The answers of the conversation that are not a success, each as method, path and status: to the first message, and
    /// to those after the revocation.
    fn refusals(&self) -> BTreeSet<&'static str> {
        let is_typescript = self.is_typescript();
        match self.transport {
            Transport::StreamableHttp if is_typescript && self.revision == LEGACY => {
                // The SDKs in TypeScript ask for a stream in these revisions.
                BTreeSet::from(["GET /mcp 405", "POST /mcp 401", "POST /token 400"])
            }
            Transport::StreamableHttp if is_typescript => BTreeSet::from(["POST /mcp 401", "POST /token 400"]),
            Transport::StreamableHttp => BTreeSet::from(["POST /mcp 401"]),
            Transport::HttpAndSse if is_typescript => {
                BTreeSet::from(["GET /sse 401", "POST /message 401", "POST /token 400"])
            }
            Transport::HttpAndSse => BTreeSet::from(["GET /sse 401"]),
        }
    }

    /// The refreshes of the conversation. The SDKs in TypeScript try the refresh token once more after the revocation.
    fn refreshes(&self) -> &'static [u64] {
        if self.is_typescript() { &[200, 400] } else { &[200] }
    }

    fn is_typescript(&self) -> bool {
        self.script.ends_with(".mjs")
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    StreamableHttp,
    /// As in the revision of 2024-11-05.
    HttpAndSse,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::StreamableHttp => "http",
            Self::HttpAndSse => "sse",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::StreamableHttp => "/mcp",
            Self::HttpAndSse => "/sse",
        }
    }
}

/// Alice, as the tool describes her.
pub(crate) fn alice() -> Value {
    json!({
        "displayName": "Alice Anderson",
        "mail": "alice@contoso.example",
        "userPrincipalName": "alice@contoso.example",
    })
}

/// Checks the list of tools: those that Alice, who has no role for another one, may call.
pub(crate) fn assert_tools(tools: &Value) {
    let tools = tools.as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, [TOOL, "GetUserDetailsFromGraph", "listMyGroups"]);
    assert!(tools.iter().all(|tool| tool["inputSchema"]["type"] == "object"));
}

/// Checks a result that carries Alice's details.
pub(crate) fn assert_details(result: &Value) {
    assert_ne!(result["isError"], true, "{result}");
    let [content] = result["content"].as_array().unwrap().as_slice() else { panic!("one content, not {result}") };
    assert_eq!(content["type"], "text");
    let text: Value = serde_json::from_str(content["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, result["structuredContent"], "the text and the structured content differ");
    assert_eq!(text, alice());
}

/// The person consented and signed in once, and was brought back to the application.
pub(crate) fn assert_signed_in(visit: &Visit, opener: Opener) {
    assert_eq!(visit.opener, opener);
    let landing = visit.landing.as_ref().unwrap();
    assert_eq!(landing.status, Some(200));
    let [consent, user_name, password] = landing.pages.as_slice() else { panic!("three pages, not {landing:?}") };
    assert!(consent.contains("Allow access"), "{consent}");
    assert_eq!([user_name.as_str(), password], ["Sign in", "Enter password"]);
}

/// The whole conversation.
pub(crate) async fn converse(client: &Client) {
    converse_in(Office::new(LIFETIME_SECONDS).await, client, Identification::Registration).await;
}

/// The whole conversation with a server that has a certificate.
pub(crate) async fn converse_over_tls(client: &Client) {
    converse_in(Office::with_tls(LIFETIME_SECONDS).await, client, Identification::Registration).await;
}

/// The whole conversation of a client whose id is the address of a document.
pub(crate) async fn converse_as_described(client: &Client) {
    converse_in(Office::with_tls(LIFETIME_SECONDS).await, client, Identification::Document).await;
}

/// How the server comes to know the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Identification {
    Registration,
    Document,
}

/// The whole conversation with a server behind a gateway.
pub(crate) async fn converse_through(gateway: &mut Gateway, client: &Client, change: impl FnOnce(Page) -> String) {
    let office = Office::behind(LIFETIME_SECONDS, gateway, &[]).await;
    gateway.start(office.server.address(), change).await;
    converse_in(office, client, Identification::Registration).await;
}

async fn converse_in(office: Office, client: &Client, identification: Identification) {
    let url = office.server.at(client.transport.path());
    let mut command = office.command(&client.program);
    command.arg(script(client.script)).env("URL", &url).env("TRANSPORT", client.transport.name());
    if let Some(era) = client.era {
        command.env("ERA", era);
    }
    if identification == Identification::Document {
        office.describe(&mut command);
    }
    let seen = office.run(&mut command).await;

    assert_eq!(seen["protocolVersion"], client.revision);
    // A client that insists on a revision does not ask for the server's name.
    if client.era.is_none_or(|era| era == "auto" || era == "legacy") {
        assert_eq!(seen["server"]["name"], "entra-mcp");
    }
    assert_tools(&seen["tools"]);
    let results = seen["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    results.iter().for_each(assert_details);
    assert_eq!(seen["errorsBeforeRevocation"], json!([]));

    // The authorization server names itself in the same words everywhere, and the client asks for no more than it has
    // to.
    let public_url = office.server.public_url();
    assert_eq!(seen["issuer"], public_url);
    assert_eq!(seen["answer"], json!({ "code": "code", "iss": public_url }));
    assert_eq!(seen["requested"], json!({ "scope": "User.Read", "resource": url }));

    // Once the token has expired, a new one is there without a word to the person; no token comes twice.
    assert!(seen["expiresIn"].as_i64().is_some_and(|seconds| 0 < seconds && seconds <= LIFETIME_SECONDS));
    assert_eq!(seen["refreshes"], 1);
    assert_eq!(seen["distinctTokens"].as_u64().unwrap(), seen["tokenSets"].as_u64().unwrap() * 2);

    // After the revocation the client finds that it would have to ask the person again.
    assert_eq!(seen["revoked"], 200);
    assert_eq!(seen["afterRevocation"], json!({ "rejected": "UnauthorizedError" }));
    assert_eq!(seen["authorizations"], 2);

    // The server reads the document once, however many requests need it.
    let (documents, registrations) = match identification {
        Identification::Registration => (0, vec![201]),
        Identification::Document => (1, Vec::new()),
    };
    assert_eq!(seen["documents"], documents);
    let requests = seen["requests"].as_array().unwrap();
    let register = path(&office.server.at("/register"));
    assert_eq!(statuses(requests, |one| one["path"] == register), registrations);
    assert_requests(requests, &path(&url), client, &office);
    assert_eq!(office.requests(), Requests { authorize: 1, codes_redeemed: 1 });
    let visits = office.leave().await;
    let [visit] = visits.as_slice() else { panic!("one page, not {visits:?}") };
    assert_signed_in(visit, Opener::Client);
}

/// The requests of the whole conversation.
fn assert_requests(requests: &[Value], endpoint: &str, client: &Client, office: &Office) {
    let first = &requests[0];
    assert_eq!((&first["path"], &first["bearer"], &first["status"]), (&json!(endpoint), &json!(false), &json!(401)));
    assert_eq!(statuses(requests, |one| one["grant"] == "authorization_code"), [200]);
    // No client of these says which scopes it wants when it refreshes.
    assert!(requests.iter().all(|one| one["grant"] != "refresh_token" || one["scope"].is_null()));
    // Behind a gateway, the paths have a prefix.
    let prefix = path(office.server.public_url());
    let prefix = prefix.trim_end_matches('/');
    let told = |one: &Value| {
        let (method, path) = (one["method"].as_str().unwrap(), one["path"].as_str().unwrap());
        format!("{method} {} {}", path.replacen(prefix, "", 1), one["status"])
    };
    let refused = requests.iter().filter(|one| !matches!(one["status"].as_u64(), Some(200..=204)));
    let refused: BTreeSet<_> = refused.map(told).collect();
    assert_eq!(refused.iter().map(String::as_str).collect::<BTreeSet<_>>(), client.refusals());
    assert_eq!(statuses(requests, |one| one["grant"] == "refresh_token"), client.refreshes());
}

/// The path of a URL.
fn path(url: &str) -> String {
    url::Url::parse(url).unwrap().path().to_owned()
}

/// The statuses of the answers to some requests, in order.
fn statuses(requests: &[Value], wanted: impl Fn(&Value) -> bool) -> Vec<u64> {
    let wanted = requests.iter().filter(|request| wanted(request));
    wanted.map(|one| one["status"].as_u64().unwrap_or_else(|| panic!("no answer to {one}"))).collect()
}
