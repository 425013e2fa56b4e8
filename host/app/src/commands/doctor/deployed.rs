//! The deployed server as its clients see it: the way there, the challenge, the two metadata documents, and whether they
//! agree with each other and with its URL, character for character.

use entra_mcp_plugin::environment::Settings;
use http::Method;
use serde_json::{Value, json};
use url::Url;

use super::clients::VisitFacts;
use super::report::Finding;
use crate::probe::{Probe, ProbeAnswer, Unanswered};

/// What a page of an attacker has as its origin, and a name that is none of the server's.
const FOREIGN_ORIGIN: &str = "https://attacker.example";
const FOREIGN_HOST: &str = "attacker.example";

/// Hosts of Entra ID, besides the configured one.
const ENTRA_HOSTS: [&str; 5] = [
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.windows.net",
    "sts.windows.net",
];

/// Looks at a deployed server.
pub(super) struct Visit<'a> {
    probe: &'a Probe,
    /// The settings of this machine, if they are known.
    settings: Option<&'a Settings>,
    findings: Vec<Finding>,
    facts: VisitFacts,
}

/// The MCP endpoint of a URL that names it, or the site that it is at `/mcp` of.
pub(super) fn endpoint(url: &Url) -> Url {
    let mut url = url.clone();
    if url.path() == "/" {
        url.set_path("/mcp");
    }
    url
}

/// The place of a well-known document for `url` (RFC 8615; RFC 9728 section 3.1, RFC 8414 section 3.1).
fn well_known(url: &Url, name: &str) -> String {
    let path = url.path().trim_end_matches('/');
    format!("{}/.well-known/{name}{path}", url.origin().ascii_serialization())
}

/// Parameters of a challenge (RFC 9110 section 11.2), as far as they are quoted strings.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    Some(rest.split('"').next()?.to_owned())
}

impl<'a> Visit<'a> {
    pub(super) fn new(probe: &'a Probe, settings: Option<&'a Settings>) -> Self {
        Self { probe, settings, findings: Vec::new(), facts: VisitFacts::default() }
    }

    /// What was found, and what clients make of it. `None`: nothing is known, because nothing answers.
    pub(super) async fn to(mut self, url: &Url, now: u64) -> (Vec<Finding>, Option<VisitFacts>) {
        let endpoint = endpoint(url);
        let (way, reached) = self.probe.way_to(&endpoint, "the deployed server", "--url", now).await;
        self.findings.extend(way);
        if !reached {
            return (self.findings, None);
        }
        self.facts.is_local = matches!(endpoint.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let challenged = self.challenge(&endpoint).await;
        if let Some(resource) = self.resource_metadata(&endpoint, challenged.as_deref()).await {
            self.authorization_server(&endpoint, &resource).await;
        }
        self.foreign(&endpoint).await;
        (self.findings, Some(self.facts))
    }

    fn good(&mut self, id: &'static str, what: impl Into<String>) {
        self.findings.push(Finding::good(id, what));
    }

    fn failure(&mut self, id: &'static str, what: impl Into<String>, change: impl Into<String>) {
        self.findings.push(Finding::failure(id, what, change));
    }

    fn warning(&mut self, id: &'static str, what: impl Into<String>, change: impl Into<String>) {
        self.findings.push(Finding::warning(id, what, change));
    }

    async fn ask(&self, endpoint: &Url, headers: &[(&str, &str)]) -> Result<ProbeAnswer, Unanswered> {
        let message = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": { "name": "entra-mcp doctor", "version": env!("CARGO_PKG_VERSION") },
            },
        });
        let mut all = vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        all.extend(headers);
        self.probe.send(Method::POST, endpoint.as_str(), &all, Some(&message)).await
    }

    /// A request without a token has to be answered with 401 and the way to a token. Returns where the metadata is said
    /// to be.
    async fn challenge(&mut self, endpoint: &Url) -> Option<String> {
        let answer = match self.ask(endpoint, &[]).await {
            Ok(answer) => answer,
            Err(reason) => {
                self.findings.push(reason.finding("the deployed server", endpoint.as_str(), "--url"));
                return None;
            }
        };
        let status = answer.status.as_u16();
        let url = endpoint.as_str();
        match status {
            401 => {}
            200 | 202 => {
                self.failure(
                    "challenge",
                    format!("{url} answers requests without a token"),
                    "switch authorization on: now every client may call it",
                );
                return None;
            }
            404 | 405 => {
                self.failure(
                    "challenge",
                    format!("{url} is no MCP endpoint (HTTP status {status})"),
                    "pass the URL of the MCP endpoint itself with --url, or let the proxy pass its path on unchanged",
                );
                return None;
            }
            400 | 403 | 421 => {
                self.failure(
                    "challenge",
                    format!("{url} refuses a request by its Host or its form (HTTP status {status})"),
                    "set --public-url to the URL that clients use, and let the proxy keep the header Host (or add its value \
                     with --allowed-host)",
                );
                return None;
            }
            300..=399 => {
                self.failure(
                    "challenge",
                    format!(
                        "{url} redirects elsewhere (HTTP status {status}); MCP clients do not follow with their message"
                    ),
                    "give clients the URL that it redirects to, and no sign-in page in front of the server",
                );
                return None;
            }
            _ => {
                self.failure(
                    "challenge",
                    format!("{url} answers with HTTP status {status} instead of 401"),
                    "see the log of the server, or of the proxy in front of it, which may not reach it",
                );
                return None;
            }
        }
        let challenge = answer.text("www-authenticate").unwrap_or_default().to_owned();
        let Some(metadata) = parameter(&challenge, "resource_metadata") else {
            self.failure(
                "challenge",
                "the answer 401 does not say where the resource metadata is",
                "let the server send `WWW-Authenticate: Bearer resource_metadata=\"…\"`, and the proxy pass that header on",
            );
            return None;
        };
        self.facts.challenge_scope = parameter(&challenge, "scope");
        self.good("challenge", format!("a request without a token gets 401 and the place of the metadata, {metadata}"));
        Some(metadata)
    }

    async fn document(&self, url: &str) -> Result<Value, String> {
        let answer = self.probe.get(url).await.map_err(|_| "it cannot be reached".to_owned())?;
        if answer.status != 200 {
            return Err(format!("HTTP status {}", answer.status.as_u16()));
        }
        answer.json().ok_or_else(|| "it is no JSON object".to_owned())
    }

    /// The metadata of the resource, wherever it is said or expected to be. Returns the one that counts.
    async fn resource_metadata(&mut self, endpoint: &Url, said: Option<&str>) -> Option<Value> {
        let by_path = well_known(endpoint, "oauth-protected-resource");
        let at_root = format!("{}/.well-known/oauth-protected-resource", endpoint.origin().ascii_serialization());
        let mut documents = Vec::new();
        let places: Vec<&str> = said.into_iter().chain([by_path.as_str(), at_root.as_str()]).collect();
        for (number, place) in places.iter().enumerate() {
            if places.iter().take(number).any(|earlier| earlier == place) {
                continue;
            }
            match self.document(place).await {
                Ok(document) => documents.push((*place, document)),
                Err(reason) if said == Some(*place) => {
                    self.failure(
                        "resource-metadata",
                        format!("the metadata that the challenge names, {place}, is not there ({reason})"),
                        "let the proxy pass /.well-known/ on to the server too, without asking for a sign-in",
                    );
                }
                Err(reason) => self.warning(
                    "resource-metadata",
                    format!("no metadata at {place} ({reason}): clients that do not read the challenge look there"),
                    "let the proxy pass /.well-known/ on to the server too, with the path of the endpoint behind it",
                ),
            }
        }
        let (place, document) = documents.first().cloned()?;
        self.facts.has_resource_metadata = true;
        // The document at the root may be about the root, which is a resource of its own then.
        let origin = endpoint.origin().ascii_serialization();
        let is_of_root = |other: &Value| {
            other.get("resource").and_then(Value::as_str).is_some_and(|name| name.trim_end_matches('/') == origin)
        };
        let differs = |other: &Value| *other != document && !is_of_root(other);
        if let Some((other, _)) = documents.iter().find(|(_, other)| differs(other)) {
            self.warning(
                "resource-metadata",
                format!("the metadata at {place} and at {other} differ"),
                "serve the same document at both: clients look at either",
            );
        }
        let resource = document.get("resource").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.facts.resource.clone_from(&resource);
        let url = endpoint.as_str();
        if resource == url {
            self.facts.resource_matches = true;
            self.good("resource", format!("`resource` is the URL of the endpoint, {resource}"));
        } else {
            let difference = match resource.trim_end_matches('/') == url.trim_end_matches('/') {
                true => " (they differ in the slash at the end)",
                false => "",
            };
            self.failure(
                "resource",
                format!("`resource` is {resource:?}, and the endpoint is {url:?}{difference}"),
                "clients compare them character for character and refuse the server: set --public-url to the URL that clients \
                 use, or give them the URL that `resource` has",
            );
        }
        Some(document)
    }

    fn is_entra(&self, server: &Url) -> bool {
        let host = server.host_str().unwrap_or_default();
        let configured = self.settings.and_then(|settings| Url::parse(&settings.authority).ok());
        ENTRA_HOSTS.contains(&host)
            || host.ends_with(".ciamlogin.com")
            || configured.is_some_and(|own| own.origin() == server.origin())
    }

    /// The authorization server that the resource names.
    async fn authorization_server(&mut self, endpoint: &Url, resource: &Value) {
        let servers = resource.get("authorization_servers").and_then(Value::as_array);
        let first = servers.and_then(|servers| servers.first()).and_then(Value::as_str).map(str::to_owned);
        let Some((name, server)) = first.and_then(|name| Url::parse(&name).ok().map(|url| (name, url))) else {
            self.failure(
                "authorization-server",
                "the resource metadata names no authorization server",
                "add `authorization_servers` with the server's own URL, or that of the tenant: \
                 https://login.microsoftonline.com/{tenant}/v2.0",
            );
            return;
        };
        self.facts.server_is_entra = self.is_entra(&server);
        let base = name.trim_end_matches('/');
        let places = [
            well_known(&server, "oauth-authorization-server"),
            well_known(&server, "openid-configuration"),
            format!("{base}/.well-known/openid-configuration"),
        ];
        let mut found = None;
        for place in &places {
            if let Ok(document) = self.document(place).await {
                found = Some((place.clone(), document));
                break;
            }
        }
        let Some((place, document)) = found else {
            self.failure(
                "authorization-server",
                format!("the authorization server {name} publishes no metadata"),
                match self.facts.server_is_entra {
                    true => "name the tenant with /v2.0 at the end: https://login.microsoftonline.com/{tenant id}/v2.0",
                    false => "let the proxy pass /.well-known/oauth-authorization-server on to the server",
                },
            );
            return;
        };
        self.facts.has_server_metadata = true;
        self.issuer(&name, &document, &place);
        self.pkce(&document);
        self.registration(&document);
        if self.facts.server_is_entra {
            self.scopes(endpoint, resource);
        }
    }

    /// Clients compare the issuer with the name by which the resource called the server (RFC 8414 section 3.3).
    fn issuer(&mut self, name: &str, document: &Value, place: &str) {
        let issuer = document.get("issuer").and_then(Value::as_str).map(str::to_owned);
        self.facts.issuer.clone_from(&issuer);
        let Some(issuer) = issuer else {
            self.failure(
                "issuer",
                format!("the metadata at {place} has no issuer"),
                "publish `issuer`: rmcp and others refuse metadata without it",
            );
            return;
        };
        if issuer == name {
            self.facts.issuer_matches = true;
            self.good("issuer", format!("`issuer` is what the resource calls its authorization server, {issuer}"));
            return;
        }
        let change = match self.facts.server_is_entra {
            true => format!(
                "write {issuer:?} into `authorization_servers` as it is, with the tenant's id instead of its domain, and \
                 with /v2.0"
            ),
            false => "set --public-url to the URL that clients use: `issuer` and `authorization_servers` come from it"
                .to_owned(),
        };
        self.failure(
            "issuer",
            format!("the resource calls its authorization server {name:?}, which calls itself {issuer:?}"),
            change,
        );
    }

    fn pkce(&mut self, document: &Value) {
        let methods = document.get("code_challenge_methods_supported").and_then(Value::as_array);
        let has = methods.is_some_and(|methods| methods.iter().any(|method| method == "S256"));
        self.facts.publishes_s256 = has;
        match (has, self.facts.server_is_entra) {
            (true, _) => self.good("pkce", "the authorization server publishes that it knows S256"),
            (false, true) => self.warning(
                "pkce",
                "Entra ID does not publish that it knows S256, though it does",
                "for the C# SDK, which refuses that: --rewrite-authority-metadata, or --token-mode session",
            ),
            (false, false) => self.failure(
                "pkce",
                "the authorization server does not publish that it knows S256",
                "publish `code_challenge_methods_supported` with S256",
            ),
        }
    }

    fn registration(&mut self, document: &Value) {
        let has = |name: &str| document.get(name).is_some_and(|value| value.is_string() || *value == Value::Bool(true));
        self.facts.registers = has("registration_endpoint");
        self.facts.reads_documents = has("client_id_metadata_document_supported");
        match (self.facts.registers, self.facts.reads_documents) {
            (false, false) => self.warning(
                "registration",
                "clients cannot register themselves: each needs a client id that is typed in",
                match self.facts.server_is_entra {
                    true => "add an app registration for the clients, with their redirect URIs, and give people its client id; \
                             or serve sessions (--token-mode session or both), where clients register themselves",
                    false => "serve without --no-dynamic-registration or --no-client-id-metadata",
                },
            ),
            _ => self.good("registration", "clients can make themselves known"),
        }
    }

    /// With Entra ID as the authorization server, the scopes have to be those of the resource, in full: it compares the two
    /// (AADSTS9010010).
    fn scopes(&mut self, endpoint: &Url, resource: &Value) {
        let scopes = resource.get("scopes_supported").and_then(Value::as_array);
        let scopes: Vec<&str> = scopes.into_iter().flatten().filter_map(Value::as_str).collect();
        let challenge = self.facts.challenge_scope.clone().unwrap_or_default();
        let openid = ["openid", "profile", "email", "offline_access"];
        let all = || scopes.iter().copied().chain(challenge.split(' ').filter(|scope| !scope.is_empty()));
        let own = || all().filter(|scope| !openid.contains(scope));
        let short: Vec<_> = own().filter(|scope| !scope.contains("://")).collect();
        let full = |scope: &&str| scope.contains("://");
        let named = self.facts.resource.trim_end_matches('/').to_owned();
        let foreign: Vec<_> = own()
            .filter(full)
            .filter(|scope| scope.rsplit_once('/').is_none_or(|(uri, _)| uri.trim_end_matches('/') != named))
            .collect();
        let (short, foreign) = (short.join(" "), foreign.join(" "));
        if !short.is_empty() {
            self.facts.short_scope = true;
            let example = format!("{}/{}", endpoint.as_str(), short.split(' ').next().unwrap_or_default());
            self.failure(
                "scopes",
                format!(
                    "the scopes {short:?} are named in short: Entra ID takes them for Microsoft Graph's (AADSTS650053, \
                         AADSTS9010010)"
                ),
                format!("name them in full, such as {example}, in `scopes_supported` and in the challenge"),
            );
        }
        if !foreign.is_empty() {
            self.facts.foreign_scope = true;
            self.failure(
                "app-id-uri",
                format!("the scopes {foreign:?} belong to another App ID URI than `resource`, {named:?}: Entra ID refuses every \
                         client that sends both (AADSTS9010010)"),
                format!(
                    "set the Application ID URI to {named} (App registrations > your app > Expose an API; its host has to be a \
                     verified domain), and name the scopes below it; where that domain cannot be verified, such as \
                     *.azurewebsites.net, serve sessions (--token-mode session)"
                ),
            );
        }
        if short.is_empty() && foreign.is_empty() && own().next().is_some() {
            self.good("scopes", "the scopes are named in full, below the URL of the endpoint");
        }
    }

    /// Pages of others and other names must not reach the server (DNS rebinding).
    async fn foreign(&mut self, endpoint: &Url) {
        match self.ask(endpoint, &[("origin", FOREIGN_ORIGIN)]).await {
            Ok(answer) if answer.status == 403 => self.good("origin", "requests of foreign web pages are refused"),
            Ok(answer) if answer.status == 401 => self.warning(
                "origin",
                "a request of a foreign web page is answered like any other",
                "refuse foreign values of `Origin` with 403, as MCP demands: otherwise a page can make a browser call a server \
                 in its network",
            ),
            Ok(answer) => self.warning(
                "origin",
                format!("a request of a foreign web page gets HTTP status {}", answer.status.as_u16()),
                "refuse foreign values of `Origin` with 403, as MCP demands",
            ),
            Err(_) => self.warning("origin", "a request of a foreign web page gets no answer", "answer it with 403"),
        }
        match self.ask(endpoint, &[("host", FOREIGN_HOST)]).await {
            Ok(answer) if answer.status == 401 => self.warning(
                "host",
                "a request for a foreign name is answered like any other",
                "let the server, or the proxy in front of it, refuse values of `Host` that are not its own",
            ),
            // Whatever it is: the server does not take itself for that name.
            Ok(_) | Err(_) => self.good("host", "requests for foreign names are refused"),
        }
    }
}
