//! The gate against clients and servers behind that try everything. Sessions and tokens are real; Entra ID is a fake.

mod answers;
mod bounds;
mod challenges;
mod handed_out;
mod permissions;
mod requests;
mod tokens;

use base::policy::{Rule, TargetKind, ToolRule};
use base::principal::Groups;
use base::settings::{ServerIdentity, ServerKind, ServerSettings, TokenMode};
use base::{Identity, Secret};
use caller::session::entra_tokens::EntraTokens;
use caller::session::{Membership, Owner, lifecycle};
use entra::testing::{FakeAuthority, TestKey, header, sign};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use serde_json::{Value, json};
use world::testing::{CLIENT, PUBLIC_URL, TENANT, World, run};

use super::*;
use crate::mcp::relay::Handed;
use crate::message::Request;
use crate::server_world::ServerWorld;
use crate::testing::{ServerWorlds as _, change, configure};

const MAIL: &str = "https://graph.microsoft.com/Mail.Read";

/// A gate before the server `crm`, and two people with sessions.
struct Lab {
    authority: FakeAuthority,
    env: ServerWorld<'static>,
    /// Has the role `admin`.
    alice: Secret<String>,
    bob: Secret<String>,
}

fn server(name: &str, path: &str, kind: ServerKind) -> ServerSettings {
    ServerSettings {
        name: name.to_owned(),
        path: path.to_owned(),
        kind,
        title: None,
        tools: Vec::new(),
        permissions: vec![vec![MAIL.to_owned()], vec!["api://crm/Read".to_owned(), "api://crm/Write".to_owned()]],
        identity: ServerIdentity::None,
    }
}

/// Lets those with the role `admin` use something of `crm`.
fn for_admins(kind: TargetKind, name: &'static str) -> ToolRule {
    let rule = Rule::users().with_any_role(&["admin"]);
    ToolRule { server: Some("crm".into()), kind, ..ToolRule::for_tool(name, rule) }
}

impl Lab {
    fn new(rules: Vec<ToolRule>) -> Self {
        let authority = FakeAuthority::new();
        let mut env = authority.world.remote();
        change(&mut env, |settings| {
            settings.token.audiences = vec![CLIENT.to_owned()];
            settings.servers = vec![
                server("crm", "/crm/mcp", ServerKind::Upstream),
                server("wiki", "/wiki/mcp", ServerKind::Upstream),
                server("mail", "/mail/mcp", ServerKind::Tools),
            ];
        });
        configure(&mut env, |http| {
            http.access = Some(rules);
            http.token_mode = TokenMode::Both;
        });
        let alice = begin(&env, "alice-object", "/crm/mcp", &["admin"]);
        let bob = begin(&env, "bob-object", "/crm/mcp", &[]);
        let lab = Self { authority, env, alice, bob };
        lab.hand_task("7");
        lab
    }

    /// `crm` has a task for Alice.
    fn hand_task(&self, id: &str) {
        let alice = Identity { tenant_id: TENANT, object_id: "alice-object", client_id: "client" };
        assert_eq!(run(handed::remember(&self.env.entra, "crm", alice, (Handed::Task, id))), Ok(()));
    }

    fn open() -> Self {
        Self::new(Vec::new())
    }

    fn world(&self) -> &World {
        &self.authority.world
    }

    /// Another call of the host, which knows nothing of the one before.
    fn later(&self) -> ServerWorld<'static> {
        let settings = self.env.entra.settings;
        let mut env = self.world().remote();
        change(&mut env, |new| *new = settings.clone());
        env
    }

    fn admit(&self, request: Request) -> Admission {
        run(admit(&self.later(), request))
    }

    fn grant(&self, request: Request) -> Box<Grant> {
        match self.admit(request) {
            Admission::Forward(grant) => grant,
            Admission::Answer(answer) => panic!("{answer:?} {}", String::from_utf8_lossy(answer.body())),
            Admission::OwnPath => panic!("own path"),
        }
    }

    fn refusal(&self, request: Request) -> Response<Vec<u8>> {
        match self.admit(request) {
            Admission::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn call(&self, by: &Secret<String>, tool: &str) -> Request {
        post(by, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool } }))
    }

    fn denials(&self) -> Vec<(String, String, String)> {
        let events = self.world().audited().into_iter().filter(|event| event.name == "tool.denied");
        let text = Option::unwrap_or_default;
        events.map(|event| (text(event.server), text(event.tool), text(event.reason))).collect()
    }

    /// A token of Entra ID with these claims.
    fn sign(&self, claims: &Value) -> Secret<String> {
        Secret::new(sign(&header("RS256", "rsa"), claims, &TestKey::named("rsa")))
    }
}

/// Begins a session and returns its access token.
fn begin(env: &ServerWorld<'_>, object: &str, path: &str, roles: &[&str]) -> Secret<String> {
    let now = env.entra.clock.now();
    let tokens = EntraTokens {
        access_token: Secret::from("graph"),
        expires_at: now + 4000,
        refresh_token: Some(Secret::from("refresh-1")),
        membership: Membership::at(now, roles, Groups::Absent),
    };
    let owner = Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: object.to_owned() };
    let resource = format!("{PUBLIC_URL}{path}");
    let scopes = vec!["User.Read".to_owned()];
    let beginning = lifecycle::Beginning { owner, resource, scopes, tokens, username: None };
    run(lifecycle::begin(&env.entra, beginning)).unwrap().1.access_token
}

fn request(method: Method, path: &str, by: &Secret<String>) -> Request {
    let request = Request {
        method,
        authority: Some("mcp.example.com".to_owned()),
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        body: Vec::new(),
        client_address: Some("192.0.2.1".to_owned()),
    };
    with(request, "authorization", &format!("Bearer {}", by.reveal()))
}

fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    request
}

fn post(by: &Secret<String>, body: &Value) -> Request {
    post_text(by, &body.to_string())
}

fn post_text(by: &Secret<String>, body: &str) -> Request {
    let request = with(request(Method::POST, "/crm/mcp", by), "content-type", "application/json");
    let request = with(request, "accept", "application/json, text/event-stream");
    Request { body: body.as_bytes().to_vec(), ..with(request, "mcp-protocol-version", "2025-03-26") }
}

/// A request of 2026-07-28.
fn modern(by: &Secret<String>, method: &str, mut params: Value, name: Option<&str>) -> Request {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut request = post(by, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }));
    request.headers.insert("mcp-protocol-version", HeaderValue::from_static("2026-07-28"));
    let request = with(request, "mcp-method", method);
    match name {
        Some(name) => with(request, "mcp-name", name),
        None => request,
    }
}

fn json_of(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(response.body())))
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
