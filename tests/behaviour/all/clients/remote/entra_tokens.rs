//! Clients that bring tokens of Entra ID: Microsoft's libraries get them, unmodified SDKs of MCP send them, and what stands
//! between the two is the program of `docs/src/tutorials/bring-a-token.md`.
//!
//! A client plays a plan (see `tests/clients/typescript/entra.mjs`) and prints what came of it; the assertions are here.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_mcp_emulator::{Application, Endpoint, GRAPH_APP_ID, Scope};
use serde_json::{Value, json};

use super::conversation::{TOOL, alice, assert_details};
use super::office::Office;
use super::programs::Programs;
use crate::clients::machine::script;
use crate::support::lab::{CONTOSO, REMOTE, app};
use crate::support::{process, tools};

const ALICE: &str = "alice@contoso.example";
const OLGA: &str = "olga@contoso.example";
const GRACE: &str = "grace@fabrikam.example";
const ALICES_OBJECT: &str = "11111111-0000-4000-a000-000000000001";
const GRACES_OBJECT_IN_CONTOSO: &str = "11111111-0000-4000-a000-0000000000f1";
/// Of the rules: needs a scope that no client asks for by itself, a group that is Olga's, a role.
const PROFILE: &str = "GetUserDetailsFromGraph";
const GROUPS: &str = "listMyGroups";
const FIND: &str = "findUser";

/// MSAL and an SDK.
#[derive(Clone, Debug)]
struct Client {
    /// Node or Python.
    program: PathBuf,
    /// Below `tests/clients`.
    script: &'static str,
    /// Requests until the client gives up, if the server refuses them all. Each message is tried twice; the Python SDK
    /// sends two, as it falls back to `initialize`.
    refused_attempts: usize,
}

impl Client {
    fn msal_python_and_the_python_sdk() -> Self {
        Self { program: tools::client("mcp-python"), script: "mcp-python/entra.py", refused_attempts: 4 }
    }

    fn msal_node_and_the_first_typescript_sdk() -> Self {
        Self { program: tools::client("mcp-sdk-1"), script: "mcp-sdk-1/entra.mjs", refused_attempts: 2 }
    }

    fn msal_node_and_the_second_typescript_sdk() -> Self {
        Self { program: tools::client("mcp-client-2"), script: "mcp-client-2/entra.mjs", refused_attempts: 2 }
    }
}

/// Every case with every client.
macro_rules! with_every_client {
    ($($case:ident)*) => {
        with_every_client! {
            @each { $($case)* }
            #[cfg_attr(not(all(client = "mcp-python", client = "msal-python")), ignore = "needs the clients mcp-python and msal-python: use tests/run")]
            msal_python_and_the_python_sdk
            #[cfg_attr(not(all(client = "mcp-sdk-1", client = "msal-node")), ignore = "needs the clients mcp-sdk-1 and msal-node: use tests/run")]
            msal_node_and_the_first_typescript_sdk
            #[cfg_attr(not(all(client = "mcp-client-2", client = "msal-node")), ignore = "needs the clients mcp-client-2 and msal-node: use tests/run")]
            msal_node_and_the_second_typescript_sdk
        }
    };
    (@each $cases:tt $(#[$needs:meta] $client:ident)*) => {
        $(with_every_client! { @client #[$needs] $client $cases })*
    };
    (@client #[$needs:meta] $client:ident { $($case:ident)* }) => {
        mod $client {
            $(
                #[tokio::test]
                #[$needs]
                async fn $case() {
                    super::$case(super::Client::$client()).await;
                }
            )*
        }
    };
}

with_every_client! {
    a_person_is_let_in
    a_person_with_a_version_1_token_is_let_in
    a_service_calls_what_is_for_services_and_nothing_else
    a_service_without_a_role_is_refused
    a_guest_is_let_in_as_who_they_are_in_the_tenant
    groups_that_do_not_fit_into_a_token_count
    missing_scopes_are_asked_for_and_the_call_succeeds
    missing_scopes_without_consent_are_consented_to
    a_second_factor_that_entra_wants_is_shown_and_the_call_succeeds
    an_authentication_context_that_graph_wants_is_shown_and_the_call_succeeds
    a_challenge_of_graph_is_answered_without_the_person
    a_revoked_person_signs_in_again
    a_disabled_person_is_refused_at_the_next_call
}

/// The record of everything that a client has seen.
struct Seen {
    whole: Value,
    office: Office,
}

impl Seen {
    /// The outcome of a step.
    fn step(&self, index: usize) -> &Value {
        self.whole["steps"].get(index).unwrap_or_else(|| panic!("no step {index} in {}", self.whole))
    }

    fn tools(&self, index: usize) -> Vec<&str> {
        let tools = self.step(index)["tools"].as_array().unwrap_or_else(|| panic!("{}", self.whole));
        let mut names: Vec<_> = tools.iter().map(|tool| tool.as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// What a call answered with.
    fn result(&self, index: usize) -> &Value {
        let result = self.step(index);
        assert_ne!(result["isError"], true, "{}", self.whole);
        &result["structuredContent"]
    }

    /// Why a call failed in the tool.
    fn tool_error(&self, index: usize) -> &str {
        let result = self.step(index);
        assert_eq!(result["isError"], true, "{}", self.whole);
        result["content"][0]["text"].as_str().unwrap()
    }

    /// The claims of the only token.
    fn token(&self) -> &Value {
        let [token] = self.tokens() else { panic!("one token, not {}", self.whole["tokens"]) };
        token
    }

    fn tokens(&self) -> &[Value] {
        self.whole["tokens"].as_array().unwrap()
    }

    /// The answers that were challenges: status, and parameters by name.
    fn challenges(&self) -> Vec<(u64, Challenge)> {
        let requests = self.whole["requests"].as_array().unwrap();
        let challenges = requests.iter().filter_map(|one| {
            let challenge = one["challenge"].as_str()?;
            Some((one["status"].as_u64().unwrap(), Challenge(challenge.to_owned())))
        });
        challenges.collect()
    }

    /// The only challenge.
    fn challenge(&self) -> (u64, Challenge) {
        let challenges = self.challenges();
        let [(status, challenge)] = challenges.as_slice() else { panic!("one challenge in {}", self.whole) };
        (*status, challenge.clone())
    }

    /// How often the person was asked.
    fn sign_ins(&self) -> u64 {
        self.office.emulator.control().request_count(Endpoint::Authorize)
    }

    /// Why the plan ended early.
    fn rejected(&self) -> &str {
        self.whole["rejected"].as_str().unwrap_or_else(|| panic!("nothing was rejected in {}", self.whole))
    }

    /// Checks that no step was left out, and that the server's log names no person.
    async fn end(self) {
        assert_eq!(self.whole["rejected"], Value::Null, "{}", self.whole);
        self.office.leave().await;
    }
}

/// The value of `WWW-Authenticate`.
#[derive(Clone, Debug)]
struct Challenge(String);

impl Challenge {
    fn parameter(&self, name: &str) -> &str {
        let start = format!(" {name}=\"");
        let rest = self.0.split_once(&start).unwrap_or_else(|| panic!("no {name} in {}", self.0)).1;
        rest.split_once('"').unwrap().0
    }

    fn claims(&self) -> Value {
        serde_json::from_slice(&STANDARD.decode(self.parameter("claims")).unwrap()).unwrap()
    }
}

/// The rules of the tools.
async fn open(mode: &str) -> Office {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("access.toml");
    std::fs::write(&rules, RULES.replace("OLGAS_GROUP", &olgas_group())).unwrap();
    let office = Office::of_msal(&[
        "--token-mode",
        mode,
        "--profile-cache-seconds",
        "0",
        "--access-file",
        rules.to_str().unwrap(),
    ])
    .await;
    let (control, url) = (office.emulator.control(), office.server.at("/mcp"));
    let registered = control.change_application(&app(REMOTE), |api| {
        api.identifier_uris.push(url);
        let scope = Scope { name: "Mcp.Profile".to_owned(), title: "See profiles".to_owned(), administrator: false };
        api.scopes.push(scope);
        api.granted_roles.entry(GRAPH_APP_ID.to_owned()).or_default().push("GroupMember.Read.All".to_owned());
    });
    registered.unwrap();
    office
}

const RULES: &str = r#"
[[access]]
tool = "getUserDetails"

[[access]]
tool = "GetUserDetailsFromGraph"
scopes = ["Mcp.Profile"]

[[access]]
tool = "listMyGroups"
groups = ["OLGAS_GROUP"]

[[access]]
tool = "findUser"
kinds = ["user", "app"]
roles = ["Directory.Reader"]
"#;

/// One of the groups of a user who is in more than fit into a token.
fn olgas_group() -> String {
    let config = entra_mcp_emulator::Config::default();
    let olga = config.users.iter().find(|user| user.username == OLGA).unwrap();
    assert!(olga.groups > config.policy.groups_in_token);
    olga.group_ids().last().unwrap()
}

/// Plays a plan.
async fn play(office: Office, client: &Client, plan: Value) -> Seen {
    let programs = Programs::write();
    let mut command = office.command(&client.program);
    command
        .arg(script(client.script))
        .env("URL", office.server.at("/mcp"))
        .env("EMULATOR", serde_json::to_string(office.emulator.endpoints()).unwrap())
        .env("PROGRAMS", programs.folder())
        .env("PLAN", plan.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(username) = plan["username"].as_str() {
        let browser = format!("{} {} %s &", client.program.display(), script("msal-python/browser.py").display());
        command.env("BROWSER", browser).env("SIGN_IN_AS", username);
    }
    let whole = office.run(&mut command).await;
    Seen { whole, office }
}

/// Plays the steps as a user.
async fn play_as(office: Office, client: &Client, username: &str, steps: Value) -> Seen {
    play(office, client, json!({ "username": username, "steps": steps })).await
}

fn call(tool: &str) -> Value {
    json!({ "call": tool })
}

fn list() -> Value {
    json!({ "list": true })
}

/// The emulator is told something between two steps.
fn control(method: &str, path: &str, body: Value) -> Value {
    json!({ "control": [method, path, body] })
}

fn requires(must: &str) -> Value {
    control("POST", &format!("/users/{ALICE}"), json!({ "must": must }))
}

async fn a_person_is_let_in(client: Client) {
    let seen =
        play_as(open("bearer").await, &client, ALICE, json!([list(), call(TOOL), call(GROUPS), call(FIND)])).await;
    assert_eq!(seen.tools(0), [TOOL]);
    assert_details(seen.step(1));
    assert!(seen.tool_error(2).contains(&olgas_group()), "{}", seen.tool_error(2));
    assert!(seen.tool_error(3).contains("Directory.Reader"), "{}", seen.tool_error(3));
    let token = seen.token();
    assert_eq!((&token["ver"], &token["aud"], &token["tid"]), (&json!("2.0"), &json!(app(REMOTE)), &json!(CONTOSO)));
    assert_eq!((&token["oid"], &token["scp"]), (&json!(ALICES_OBJECT), &json!("access_as_user")));
    assert_eq!((seen.challenges().len(), seen.sign_ins()), (0, 1));
    seen.end().await;
}

async fn a_person_with_a_version_1_token_is_let_in(client: Client) {
    let office = open("bearer").await;
    let resource = office.server.at("/mcp");
    office.emulator.control().change_application(&app(REMOTE), |api| api.access_token_version = 1).unwrap();
    let seen = play_as(office, &client, ALICE, json!([list(), call(TOOL), call(PROFILE)])).await;
    assert_eq!(seen.tools(0), [TOOL]);
    assert_details(seen.step(1));
    assert_eq!(seen.result(2)["displayName"], "Alice Anderson");
    let [first, stepped_up] = seen.tokens() else { panic!("two tokens in {}", seen.whole) };
    for token in [first, stepped_up] {
        assert_eq!((&token["ver"], &token["aud"]), (&json!("1.0"), &json!(resource)));
        assert_eq!(token["iss"], format!("https://sts.windows.net/{CONTOSO}/"));
    }
    seen.end().await;
}

/// Registers a service with these roles of the server. Returns its entry in a plan.
fn service(office: &Office, roles: &[&str]) -> Value {
    let (id, secret) = ("a0000000-0000-4000-a000-0000000000d0", "secret-of-the-service");
    let application: Application = serde_json::from_value(json!({
        "id": id,
        "name": "Service",
        "tenant": CONTOSO,
        "secrets": [{ "value": secret }],
        "granted_roles": { (app(REMOTE)): roles },
    }))
    .unwrap();
    office.emulator.control().put_application(application).unwrap();
    json!({ "id": id, "secret": secret })
}

async fn a_service_calls_what_is_for_services_and_nothing_else(client: Client) {
    // `idtyp` is optional; without it, the server recognises a service by the claims that its token lacks.
    for (version, idtyp) in [(2, false), (1, true)] {
        let office = open("bearer").await;
        let changed = office.emulator.control().change_application(&app(REMOTE), |api| {
            api.access_token_version = version;
            api.idtyp_for_applications = idtyp;
        });
        changed.unwrap();
        let service = service(&office, &["Directory.Reader"]);
        let find = json!({ "call": FIND, "arguments": { "query": "Alice" } });
        let plan = json!({ "service": service, "steps": [list(), find, call(TOOL), call(PROFILE)] });
        let seen = play(office, &client, plan).await;
        assert_eq!(seen.tools(0), [FIND]);
        assert_eq!(seen.result(1)["users"][0]["userPrincipalName"], ALICE);
        // No scope would help a service, so it is not sent for one.
        for index in [2, 3] {
            assert!(seen.tool_error(index).contains("stands for an application (app-only)"), "{}", seen.whole);
        }
        let token = seen.token();
        assert_eq!((&token["scp"], &token["roles"]), (&Value::Null, &json!(["Directory.Reader"])));
        assert_eq!((&token["ver"], token["idtyp"] == "app"), (&json!(format!("{version}.0")), idtyp));
        assert_eq!((seen.challenges().len(), seen.sign_ins()), (0, 0));
        seen.end().await;
    }
}

async fn a_service_without_a_role_is_refused(client: Client) {
    let office = open("bearer").await;
    let service = service(&office, &[]);
    let seen = play(office, &client, json!({ "service": service, "steps": [list()] })).await;
    assert!(!seen.rejected().is_empty());
    assert_eq!(seen.challenges().len(), client.refused_attempts, "{}", seen.whole);
    assert!(seen.tokens().iter().all(|token| token["roles"].is_null()), "{}", seen.whole);
    assert!(seen.challenges().iter().all(|(status, one)| (*status, one.parameter("error")) == (401, "invalid_token")));
    let log = seen.office.server.log();
    assert!(log.contains("token.refused"), "{log}");
    assert!(seen.whole["requests"].as_array().unwrap().iter().all(|one| one["status"] == 401), "{}", seen.whole);
}

async fn a_guest_is_let_in_as_who_they_are_in_the_tenant(client: Client) {
    let seen = play_as(open("bearer").await, &client, GRACE, json!([list(), call(TOOL), call(FIND)])).await;
    assert_eq!(seen.tools(0), [TOOL]);
    assert_eq!(seen.result(1)["displayName"], "Grace Garcia");
    assert!(seen.tool_error(2).contains("this tool is not open to guests of an organisation, whatever their role"));
    let token = seen.token();
    assert_eq!((&token["tid"], &token["oid"]), (&json!(CONTOSO), &json!(GRACES_OBJECT_IN_CONTOSO)));
    assert_ne!(token["idp"], Value::Null, "it says where they come from");
    seen.end().await;
}

async fn groups_that_do_not_fit_into_a_token_count(client: Client) {
    let seen = play_as(open("bearer").await, &client, OLGA, json!([list(), call(GROUPS), call(FIND)])).await;
    assert_eq!(seen.tools(0), [TOOL, GROUPS]);
    assert_eq!(seen.result(1)["groups"].as_array().map(Vec::len), Some(250), "{}", seen.whole);
    assert!(seen.tool_error(2).contains("Directory.Reader"));
    let token = seen.token();
    assert_eq!((&token["groups"], &token["_claim_names"]["groups"]), (&Value::Null, &json!("src1")));
    assert_eq!(seen.office.emulator.control().request_count(Endpoint::GraphMemberObjects), 1);
    seen.end().await;
    // A user whose groups do not fit either, and who is not in the required group.
    let office = open("bearer").await;
    office.emulator.control().change_user(ALICE, |alice| alice.groups = 201).unwrap();
    let seen = play_as(office, &client, ALICE, json!([list(), call(GROUPS)])).await;
    assert_eq!(seen.tools(0), [TOOL]);
    assert!(seen.tool_error(1).contains(&olgas_group()), "{}", seen.whole);
    assert_eq!(seen.token()["_claim_names"]["groups"], "src1");
    seen.end().await;
}

async fn missing_scopes_are_asked_for_and_the_call_succeeds(client: Client) {
    let office = open("bearer").await;
    let url = office.server.at("/mcp");
    let seen = play_as(office, &client, ALICE, json!([call(TOOL), call(PROFILE), list(), call(TOOL)])).await;
    assert_eq!(seen.result(1)["displayName"], "Alice Anderson");
    assert_eq!(seen.tools(2), [PROFILE, TOOL], "the SDK goes on with the token that it has then");
    for index in [0, 3] {
        assert_details(seen.step(index));
    }
    let (status, challenge) = seen.challenge();
    assert_eq!((status, challenge.parameter("error")), (403, "insufficient_scope"));
    assert_eq!(challenge.parameter("scope"), format!("{url}/access_as_user {url}/Mcp.Profile"));
    let scopes: Vec<_> = seen.tokens().iter().map(|token| token["scp"].as_str().unwrap()).collect();
    assert_eq!(scopes.len(), 2);
    assert_eq!(scopes[0], "access_as_user");
    let mut stepped_up: Vec<_> = scopes[1].split(' ').collect();
    stepped_up.sort_unstable();
    assert_eq!(stepped_up, ["Mcp.Profile", "access_as_user"]);
    assert_eq!(seen.sign_ins(), 1, "the permission is granted already, so the person is not asked");
    seen.end().await;
}

async fn missing_scopes_without_consent_are_consented_to(client: Client) {
    let office = open("bearer").await;
    let of_the_client = office.emulator.endpoints().public_client_id.clone();
    office.emulator.control().change_application(&of_the_client, |client| client.consent_given = false).unwrap();
    let seen = play_as(office, &client, ALICE, json!([call(TOOL), call(PROFILE), call(PROFILE)])).await;
    for index in [1, 2] {
        assert_eq!(seen.result(index)["displayName"], "Alice Anderson");
    }
    let (status, challenge) = seen.challenge();
    assert_eq!((status, challenge.parameter("error")), (403, "insufficient_scope"));
    assert_eq!((seen.tokens().len(), seen.sign_ins()), (2, 2), "the library asks the person where it has to");
    seen.end().await;
}

async fn a_second_factor_that_entra_wants_is_shown_and_the_call_succeeds(client: Client) {
    let steps = json!([list(), requires("use-mfa"), call(TOOL), call(TOOL)]);
    let seen = play_as(open("bearer").await, &client, ALICE, steps).await;
    for index in [2, 3] {
        assert_eq!(seen.result(index), &alice());
    }
    let (status, challenge) = seen.challenge();
    assert_eq!((status, challenge.parameter("error")), (401, "insufficient_claims"));
    assert!(challenge.claims()["access_token"]["capolids"].is_object(), "{challenge:?}");
    assert_eq!((seen.tokens().len(), seen.sign_ins()), (2, 2), "the person shows the second factor");
    seen.end().await;
}

async fn an_authentication_context_that_graph_wants_is_shown_and_the_call_succeeds(client: Client) {
    let steps = json!([call(TOOL), requires("authentication-context"), call(TOOL), call(TOOL)]);
    let seen = play_as(open("bearer").await, &client, ALICE, steps).await;
    for index in [0, 2, 3] {
        assert_eq!(seen.result(index), &alice());
    }
    let (status, challenge) = seen.challenge();
    assert_eq!((status, challenge.parameter("error")), (401, "insufficient_claims"));
    assert_eq!(challenge.claims()["access_token"]["acrs"]["value"], "c1");
    assert_eq!((seen.tokens().len(), seen.sign_ins()), (2, 2));
    seen.end().await;
}

async fn a_challenge_of_graph_is_answered_without_the_person(client: Client) {
    let steps =
        json!([call(TOOL), control("POST", "/graph/challenges", json!({ "times": 1 })), call(TOOL), call(TOOL)]);
    let seen = play_as(open("bearer").await, &client, ALICE, steps).await;
    for index in [0, 2, 3] {
        assert_eq!(seen.result(index), &alice());
    }
    let (status, challenge) = seen.challenge();
    assert_eq!((status, challenge.parameter("error")), (401, "insufficient_claims"));
    assert!(challenge.claims()["access_token"]["nbf"].is_object(), "{challenge:?}");
    assert_eq!((seen.tokens().len(), seen.sign_ins()), (2, 1), "the library refreshes with the claims");
    seen.end().await;
}

fn revoke() -> Value {
    control("POST", &format!("/users/{ALICE}/revoke"), Value::Null)
}

async fn a_revoked_person_signs_in_again(client: Client) {
    // Graph says so of the token that the server holds, or Entra ID when there is none yet.
    for (first, error) in [(call(TOOL), "insufficient_claims"), (list(), "invalid_token")] {
        let seen = play_as(open("bearer").await, &client, ALICE, json!([first, revoke(), call(TOOL)])).await;
        assert_eq!(seen.result(2), &alice());
        let (status, challenge) = seen.challenge();
        assert_eq!((status, challenge.parameter("error")), (401, error));
        assert_eq!((seen.tokens().len(), seen.sign_ins()), (2, 2));
        seen.end().await;
    }
}

async fn a_disabled_person_is_refused_at_the_next_call(client: Client) {
    let steps = json!([call(TOOL), requires("be-enabled"), revoke(), { "leave": true }, call(TOOL)]);
    let seen = play_as(open("bearer").await, &client, ALICE, steps).await;
    assert_eq!(seen.result(0), &alice());
    assert_eq!(seen.whole["steps"].as_array().unwrap().len(), 4, "{}", seen.whole);
    assert!(seen.rejected().contains("AbsentError"), "{}", seen.whole);
    assert_eq!((seen.challenge().0, seen.tokens().len(), seen.sign_ins()), (401, 1, 1));
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcp-python", client = "msal-python")),
    ignore = "needs the clients mcp-python and msal-python: use tests/run"
)]
async fn the_python_program_of_the_tutorial_prints_the_details() {
    let python = tools::client("mcp-python");
    let (office, programs) = (open("bearer").await, Programs::write());
    let program = programs.python(&office.server.at("/mcp"), office.emulator.endpoints());
    let printed = the_program_prints(office, &python, &program).await;
    // A dictionary of Python, which differs from JSON here in the quotes alone.
    let details: Value = serde_json::from_str(&printed.replace('\'', "\"")).unwrap();
    assert_eq!(details, alice());
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcp-client-2", client = "msal-node")),
    ignore = "needs the clients mcp-client-2 and msal-node: use tests/run"
)]
async fn the_node_program_of_the_tutorial_prints_the_details() {
    let node = tools::client("mcp-client-2");
    let (office, programs) = (open("bearer").await, Programs::write());
    let program = programs.node(&office.server.at("/mcp"), office.emulator.endpoints());
    let printed = the_program_prints(office, &node, &program).await;
    for told in ["displayName: 'Alice Anderson'", "mail: 'alice@contoso.example'"] {
        assert!(printed.contains(told), "{printed}");
    }
}

/// Runs a program for Alice.
async fn the_program_prints(office: Office, program: &Path, name: &Path) -> String {
    let mut command = office.command(program);
    // The program opens pages as a desktop does.
    let desktop = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(office.opener(), desktop.path().join("xdg-open")).unwrap();
    let path = process::path();
    let path = std::env::join_paths([desktop.path().to_owned()].into_iter().chain(std::env::split_paths(&path)));
    command.arg(name).env("PATH", path.unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    let printed = office.output(&mut command).await;
    let visits = office.leave().await;
    assert_eq!(visits.len(), 1, "{visits:?}");
    printed
}

#[tokio::test]
#[cfg_attr(
    not(all(
        client = "mcp-client-2",
        client = "mcp-python",
        client = "mcp-sdk-1",
        client = "msal-node",
        client = "msal-python"
    )),
    ignore = "needs the clients mcp-client-2 and mcp-python and mcp-sdk-1 and msal-node and msal-python: use tests/run"
)]
async fn sessions_and_tokens_that_msal_gets_live_on_one_endpoint() {
    let node = tools::client("mcp-client-2");
    let office = open("both").await;
    // The first client knows the address only, and gets a session of the server's own.
    let mut command = office.command(&node);
    command.arg(script("mcp-client-2/registered.mjs")).env("URL", office.server.at("/mcp"));
    let session = office.run(&mut command).await;
    assert_eq!(session["tokenParts"], 1, "{session}");
    session["results"].as_array().unwrap().iter().for_each(assert_details);
    // The others have tokens of Entra ID. Each is admitted under its own identity.
    let mut office = office;
    for client in [
        Client::msal_node_and_the_first_typescript_sdk(),
        Client::msal_node_and_the_second_typescript_sdk(),
        Client::msal_python_and_the_python_sdk(),
    ] {
        let seen = play_as(office, &client, GRACE, json!([call(TOOL)])).await;
        assert_eq!(seen.result(0)["displayName"], "Grace Garcia");
        assert_eq!(seen.token()["oid"], GRACES_OBJECT_IN_CONTOSO);
        office = seen.office;
    }
    office.leave().await;
}
