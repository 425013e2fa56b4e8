//! What the server needs of its registration, what of it is missing, and what mends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Map, Value, json};
use url::Url;

use super::document::{RegistrationDocument, entry, is_enabled};
use super::graph::GRAPH_APP_ID;

/// Where a person's browser comes back to at this machine. Entra ID ignores the port.
const LOCAL_REDIRECT_URI: &str = "http://localhost";

/// Where the identity broker of the machine receives what Entra ID answers, below the authority.
const BROKER_PATH: &str = "/common/oauth2/nativeclient";

/// The version of access tokens that the server validates best, and that has a fixed audience.
const TOKEN_VERSION: u8 = 2;

/// The value of `groupMembershipClaims` that the portal sets for *Security groups*.
const GROUPS_CLAIM: &str = "SecurityGroup";

/// Optional claims: whether the token is one of an application, and whether the person is a guest.
const OPTIONAL_CLAIMS: [(&str, &str); 3] = [("accessToken", "idtyp"), ("accessToken", "acct"), ("idToken", "acct")];

/// The same of the local server: which account the page of Entra ID shall sign out.
const LOCAL_CLAIMS: [(&str, &str); 1] = [("idToken", "login_hint")];

/// What the server needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// It runs at people's own machines, as a public client.
    pub(crate) local: Option<Local>,
    /// It runs as a remote server, as a confidential client.
    pub(crate) remote: Option<Remote>,
    /// Delegated permissions of Microsoft Graph, each with its id there.
    pub(crate) permissions: Vec<(String, String)>,
    /// The same of application permissions, which the server uses for itself.
    pub(crate) app_permissions: Vec<(String, String)>,
}

/// What a server at a person's own machine needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Local {
    /// Where Entra ID sends people, and identity brokers, back to.
    redirect_uris: Vec<String>,
}

impl Local {
    /// With the Entra ID at `authority`.
    pub(crate) fn of(authority: &str) -> Self {
        Self { redirect_uris: vec![LOCAL_REDIRECT_URI.to_owned(), format!("{authority}{BROKER_PATH}")] }
    }

    /// Whether a registration was made for such a server.
    pub(crate) fn is_served_by(document: &RegistrationDocument) -> bool {
        has_redirect_uri(&document.public_client.redirect_uris, LOCAL_REDIRECT_URI)
    }

    fn lacks(&self, document: &RegistrationDocument) -> Vec<Lack> {
        let known = &document.public_client.redirect_uris;
        let missing = self.redirect_uris.iter().filter(|uri| !has_redirect_uri(known, uri));
        let mut lacks: Vec<_> = missing.cloned().map(Lack::PublicRedirectUri).collect();
        if !document.is_fallback_public_client {
            lacks.push(Lack::PublicFlows);
        }
        lacks.extend(missing_claims(document, &LOCAL_CLAIMS));
        lacks
    }
}

/// What a remote server needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Where Entra ID sends people back to.
    pub(crate) redirect_uri: String,
    /// App ID URIs. None stands for the one that Entra ID proposes, `api://{client id}`.
    pub(crate) app_id_uris: Vec<String>,
    /// The scope that clients ask for.
    pub(crate) scope: String,
    /// Roles that can be assigned.
    pub(crate) roles: Vec<String>,
    /// Whether tokens name groups.
    pub(crate) groups_claim: bool,
    /// Certificates to prove the application with, DER.
    pub(crate) certificates: Vec<Vec<u8>>,
}

impl Remote {
    /// The redirect URI of a server at `public_url`. Entra ID ignores the port of `localhost`.
    pub(crate) fn redirect_uri(public_url: &str) -> String {
        let mut url = match Url::parse(&format!("{public_url}/auth/callback")) {
            Ok(url) => url,
            Err(_) => return format!("{public_url}/auth/callback"),
        };
        if url.host_str() == Some("localhost") {
            let _ = url.set_port(None);
        }
        url.into()
    }
}

/// A part of the registration that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A redirect URI of public clients.
    PublicRedirectUri(String),
    /// Public client flows, such as the device code.
    PublicFlows,
    /// A redirect URI of web applications.
    WebRedirectUri(String),
    /// The version of tokens.
    TokenVersion(Option<u8>),
    /// A scope, which is missing or disabled.
    Scope(String),
    /// An App ID URI.
    AppIdUri(String),
    /// A role, which is missing or disabled.
    Role(String),
    /// Groups in tokens.
    GroupsClaim,
    /// An optional claim of a kind of token.
    OptionalClaim(&'static str, &'static str),
    /// A permission of Microsoft Graph.
    Permission(String),
    /// A permission of the application itself.
    AppPermission(String),
    /// A certificate, by its thumbprint.
    Certificate(String),
}

impl Lack {
    /// The part of the registration, in the words of the portal.
    pub(crate) fn part(&self) -> String {
        match self {
            Self::PublicRedirectUri(uri) => format!("redirect URI {uri} (Mobile and desktop applications)"),
            Self::PublicFlows => "Allow public client flows: Yes".to_owned(),
            Self::WebRedirectUri(uri) => format!("redirect URI {uri} (Web)"),
            Self::TokenVersion(_) => format!("requestedAccessTokenVersion {TOKEN_VERSION}"),
            Self::Scope(name) => format!("scope {name}"),
            Self::AppIdUri(uri) => format!("Application ID URI {uri}"),
            Self::Role(value) => format!("app role {value}"),
            Self::GroupsClaim => "groups claim (Security groups)".to_owned(),
            Self::OptionalClaim(token, name) => {
                let token = if *token == "idToken" { "ID" } else { "access" };
                format!("optional claim {name} in {token} tokens")
            }
            Self::Permission(name) => format!("API permission Microsoft Graph {name} (delegated)"),
            Self::AppPermission(name) => format!("API permission Microsoft Graph {name} (application)"),
            Self::Certificate(thumbprint) => format!("certificate {thumbprint}"),
        }
    }

    /// What follows from it.
    pub(crate) fn consequence(&self) -> &'static str {
        match self {
            Self::PublicRedirectUri(uri) if uri.ends_with(BROKER_PATH) => {
                "the identity broker of a machine signs no person in (AADSTS50011)"
            }
            Self::PublicRedirectUri(_) | Self::WebRedirectUri(_) => "no person can sign in by a browser (AADSTS50011)",
            Self::PublicFlows => "sign-in with a device code is refused (AADSTS7000218)",
            Self::TokenVersion(_) => "tokens for this server are of version 1, whose audience depends on the client",
            Self::Scope(_) => "clients get no token of Entra ID for this server (AADSTS650053)",
            Self::AppIdUri(_) => "clients that name the URL as the resource get no token (AADSTS9010010)",
            Self::Role(_) => "rules that name it admit no caller",
            Self::GroupsClaim => "rules that name groups ask Microsoft Graph at every decision",
            Self::OptionalClaim(_, "acct") => "guests are recognised by their identity provider only",
            Self::OptionalClaim(_, "login_hint") => "`logout` in the browser asks which account is meant",
            Self::OptionalClaim(..) => "tokens of applications do not say what they are",
            Self::Permission(_) => "people are asked for it one by one, if the tenant lets them consent",
            Self::AppPermission(_) => "the server may not ask Microsoft Graph for itself",
            Self::Certificate(_) => "Entra ID refuses the server's assertions (AADSTS700027)",
        }
    }

    /// Where in the portal, below the app registration.
    pub(crate) fn place(&self) -> &'static str {
        match self {
            Self::PublicRedirectUri(_) | Self::WebRedirectUri(_) | Self::PublicFlows => "Authentication",
            Self::TokenVersion(_) => "Manifest",
            Self::Scope(_) | Self::AppIdUri(_) => "Expose an API",
            Self::Role(_) => "App roles",
            Self::GroupsClaim | Self::OptionalClaim(..) => "Token configuration",
            Self::Permission(_) | Self::AppPermission(_) => "API permissions",
            Self::Certificate(_) => "Certificates & secrets > Certificates",
        }
    }
}

/// A GUID for a new scope or role.
pub(crate) type NewId<'a> = &'a mut dyn FnMut() -> String;

impl Needs {
    /// What a registration lacks.
    pub(crate) fn lacks(&self, document: &RegistrationDocument) -> Vec<Lack> {
        let mut lacks = Vec::new();
        if let Some(local) = &self.local {
            lacks.extend(local.lacks(document));
        }
        if let Some(remote) = &self.remote {
            lacks.extend(remote.lacks(document));
        }
        let has = |id: &str| accesses(document).any(|access| access.get("id").and_then(Value::as_str) == Some(id));
        let missing = self.permissions.iter().filter(|(_, id)| !has(id));
        lacks.extend(missing.map(|(name, _)| Lack::Permission(name.clone())));
        let missing = self.app_permissions.iter().filter(|(_, id)| !has(id));
        lacks.extend(missing.map(|(name, _)| Lack::AppPermission(name.clone())));
        lacks
    }

    /// What has to be written to mend the registration: the properties that change, each with what it had before.
    pub(crate) fn patch(
        &self,
        document: &RegistrationDocument,
        lacks: &[Lack],
        new_id: NewId<'_>,
    ) -> Map<String, Value> {
        let mut new = document.clone();
        let mut changed = Map::new();
        let mut api = Map::new();
        for lack in lacks {
            match lack {
                Lack::PublicRedirectUri(uri) => new.public_client.redirect_uris.push(uri.clone()),
                Lack::PublicFlows => new.is_fallback_public_client = true,
                Lack::WebRedirectUri(uri) => new.web.redirect_uris.push(uri.clone()),
                Lack::TokenVersion(_) => {
                    api.insert("requestedAccessTokenVersion".to_owned(), TOKEN_VERSION.into());
                }
                Lack::Scope(name) => enable(&mut new.api.oauth2_permission_scopes, name, || scope(name, new_id())),
                Lack::AppIdUri(uri) => new.identifier_uris.push(uri.clone()),
                Lack::Role(value) => enable(&mut new.app_roles, value, || role(value, new_id())),
                Lack::GroupsClaim => new.group_membership_claims = GROUPS_CLAIM.to_owned(),
                Lack::OptionalClaim(token, name) => add_claim(&mut new.optional_claims, token, name),
                Lack::Permission(name) => {
                    if let Some((_, id)) = self.permissions.iter().find(|(known, _)| known == name) {
                        add_access(&mut new.required_resource_access, "Scope", id);
                    }
                }
                Lack::AppPermission(name) => {
                    if let Some((_, id)) = self.app_permissions.iter().find(|(known, _)| known == name) {
                        add_access(&mut new.required_resource_access, "Role", id);
                    }
                }
                Lack::Certificate(thumbprint) => {
                    let certificates = self.remote.iter().flat_map(|remote| &remote.certificates);
                    let certificate = certificates.into_iter().find(|der| self::thumbprint(der) == *thumbprint);
                    new.key_credentials.extend(certificate.map(|der| key_credential(der)));
                }
            }
        }
        if new.api.oauth2_permission_scopes != document.api.oauth2_permission_scopes {
            api.insert("oauth2PermissionScopes".to_owned(), new.api.oauth2_permission_scopes.into());
        }
        let mut set = |name: &str, is_new: bool, value: Value| {
            if is_new {
                changed.insert(name.to_owned(), value);
            }
        };
        let uris = |uris: &[String]| json!({ "redirectUris": uris });
        set("publicClient", new.public_client != document.public_client, uris(&new.public_client.redirect_uris));
        let flows = new.is_fallback_public_client;
        set("isFallbackPublicClient", flows != document.is_fallback_public_client, flows.into());
        set("web", new.web != document.web, uris(&new.web.redirect_uris));
        set("api", !api.is_empty(), Value::Object(api));
        set("appRoles", new.app_roles != document.app_roles, new.app_roles.into());
        let groups = new.group_membership_claims;
        set("groupMembershipClaims", groups != document.group_membership_claims, groups.into());
        set("optionalClaims", new.optional_claims != document.optional_claims, new.optional_claims);
        let access = new.required_resource_access;
        set("requiredResourceAccess", access != document.required_resource_access, access.into());
        set("keyCredentials", new.key_credentials != document.key_credentials, new.key_credentials.into());
        set("identifierUris", new.identifier_uris != document.identifier_uris, new.identifier_uris.into());
        changed
    }
}

impl Remote {
    fn lacks(&self, document: &RegistrationDocument) -> Vec<Lack> {
        let mut lacks = Vec::new();
        if !has_redirect_uri(&document.web.redirect_uris, &self.redirect_uri) {
            lacks.push(Lack::WebRedirectUri(self.redirect_uri.clone()));
        }
        if document.api.requested_access_token_version != Some(TOKEN_VERSION) {
            lacks.push(Lack::TokenVersion(document.api.requested_access_token_version));
        }
        let in_force = |entries: &[Value], value: &str| entry(entries, value).is_some_and(is_enabled);
        if !in_force(&document.api.oauth2_permission_scopes, &self.scope) {
            lacks.push(Lack::Scope(self.scope.clone()));
        }
        let missing = |uri: &&String| !document.identifier_uris.contains(uri);
        lacks.extend(self.app_id_uris.iter().filter(missing).cloned().map(Lack::AppIdUri));
        if self.app_id_uris.is_empty() && document.identifier_uris.is_empty() && !document.app_id.is_empty() {
            lacks.push(Lack::AppIdUri(format!("api://{}", document.app_id)));
        }
        let missing = self.roles.iter().filter(|role| !in_force(&document.app_roles, role));
        lacks.extend(missing.cloned().map(Lack::Role));
        if self.groups_claim && ["", "None"].contains(&document.group_membership_claims.as_str()) {
            lacks.push(Lack::GroupsClaim);
        }
        lacks.extend(missing_claims(document, &OPTIONAL_CLAIMS));
        let known = |der: &&Vec<u8>| {
            let (print, key) = (digest(&SHA1_FOR_LEGACY_USE_ONLY, der), STANDARD.encode(der));
            let is = |entry: &Value, name: &str, text: &str| entry.get(name).and_then(Value::as_str) == Some(text);
            let id = STANDARD.encode(print.as_ref());
            document.key_credentials.iter().any(|entry| {
                is(entry, "key", &key)
                    || is(entry, "customKeyIdentifier", &id)
                    || is(entry, "customKeyIdentifier", &thumbprint(der))
            })
        };
        let missing = self.certificates.iter().filter(|der| !known(der));
        lacks.extend(missing.map(|der| Lack::Certificate(thumbprint(der))));
        lacks
    }
}

fn missing_claims(document: &RegistrationDocument, wanted: &[(&'static str, &'static str)]) -> Vec<Lack> {
    let has = |token: &str, name: &str| {
        let claims = document.optional_claims.get(token).and_then(Value::as_array);
        claims.is_some_and(|claims| claims.iter().any(|claim| claim.get("name").is_some_and(|known| known == name)))
    };
    let missing = wanted.iter().filter(|(token, name)| !has(token, name));
    missing.map(|(token, name)| Lack::OptionalClaim(token, name)).collect()
}

/// SHA-1 in hexadecimal digits, as the portal shows it.
pub(crate) fn thumbprint(der: &[u8]) -> String {
    base16ct::upper::encode_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

/// Whether one of these is the URI, or differs in nothing that Entra ID looks at.
fn has_redirect_uri(known: &[String], wanted: &str) -> bool {
    let parts = |uri: &str| {
        let url = Url::parse(uri).ok()?;
        let port = if url.host_str() == Some("localhost") && url.scheme() == "http" { None } else { url.port() };
        Some((
            url.scheme().to_owned(),
            url.host_str()?.to_owned(),
            port,
            url.path().to_owned(),
            url.query().map(str::to_owned),
        ))
    };
    known.iter().any(|uri| uri == wanted || (uri.starts_with("http://localhost") && parts(uri) == parts(wanted)))
}

fn accesses(document: &RegistrationDocument) -> impl Iterator<Item = &Value> {
    let of_graph = document.required_resource_access.iter().filter(|one| is_of_graph(one));
    of_graph.filter_map(|one| one.get("resourceAccess")?.as_array()).flatten()
}

fn is_of_graph(access: &Value) -> bool {
    access.get("resourceAppId").and_then(Value::as_str) == Some(GRAPH_APP_ID)
}

/// Enables what is there and disabled, or adds it.
fn enable(entries: &mut Vec<Value>, value: &str, new: impl FnOnce() -> Value) {
    let known = entries.iter_mut().find(|entry| entry.get("value").and_then(Value::as_str) == Some(value));
    match known.and_then(Value::as_object_mut) {
        Some(known) => drop(known.insert("isEnabled".to_owned(), true.into())),
        None => entries.push(new()),
    }
}

fn scope(name: &str, id: String) -> Value {
    json!({
        "id": id,
        "value": name,
        "type": "User",
        "isEnabled": true,
        "adminConsentDisplayName": "Use the MCP server as the user",
        "adminConsentDescription": "Allows an MCP client to use the tools of this server on behalf of the signed-in user.",
        "userConsentDisplayName": "Use the MCP server as you",
        "userConsentDescription": "Allows the MCP client to use the tools of this server on your behalf.",
    })
}

fn role(value: &str, id: String) -> Value {
    json!({
        "id": id,
        "value": value,
        "displayName": value,
        "description": format!("May call the tools of the MCP server whose access rules name {value}."),
        "allowedMemberTypes": ["User", "Application"],
        "isEnabled": true,
    })
}

fn add_claim(claims: &mut Value, token: &str, name: &str) {
    if !claims.is_object() {
        *claims = json!({ "accessToken": [], "idToken": [], "saml2Token": [] });
    }
    let Some(claims) = claims.as_object_mut() else { return };
    let claim = json!({ "name": name, "source": null, "essential": false, "additionalProperties": [] });
    match claims.get_mut(token).and_then(Value::as_array_mut) {
        Some(list) => list.push(claim),
        None => drop(claims.insert(token.to_owned(), json!([claim]))),
    }
}

fn add_access(all: &mut Vec<Value>, kind: &str, id: &str) {
    let access = json!({ "id": id, "type": kind });
    let of_graph = all.iter_mut().find(|one| is_of_graph(one));
    match of_graph.and_then(|one| one.get_mut("resourceAccess")?.as_array_mut()) {
        Some(list) => list.push(access),
        None => all.push(json!({ "resourceAppId": GRAPH_APP_ID, "resourceAccess": [access] })),
    }
}

fn key_credential(der: &[u8]) -> Value {
    json!({
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "key": STANDARD.encode(der),
        "displayName": "CN=entra-mcp",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            redirect_uri: "https://mcp.example.com/auth/callback".to_owned(),
            app_id_uris: vec!["https://mcp.example.com/mcp".to_owned()],
            scope: "access_as_user".to_owned(),
            roles: vec!["Mcp.Reader".to_owned()],
            groups_claim: true,
            certificates: vec![vec![1, 2, 3]],
        }
    }

    fn needs() -> Needs {
        let permissions = vec![("User.Read".to_owned(), "e1fe6dd8-ba31-4d61-89e7-88639da4683d".to_owned())];
        let app_permissions =
            vec![("GroupMember.Read.All".to_owned(), "98830695-27a2-44f7-8c18-0c3ebc9698f6".to_owned())];
        let local = Some(Local::of("https://login.microsoftonline.us"));
        Needs { local, remote: Some(remote()), permissions, app_permissions }
    }

    /// The registration after a patch.
    fn patched(document: &RegistrationDocument, patch: &Map<String, Value>) -> RegistrationDocument {
        let mut new = json!({ "id": document.id, "appId": document.app_id, "displayName": document.display_name });
        for (name, value) in patch {
            new[name] = value.clone();
        }
        serde_json::from_value(new).unwrap()
    }

    #[test]
    fn what_is_mended_lacks_nothing() {
        let bare = RegistrationDocument { app_id: "a".to_owned(), ..RegistrationDocument::default() };
        let lacks = needs().lacks(&bare);
        assert_eq!(lacks.len(), 16, "{lacks:?}");
        let mut number = 0;
        let mut new_id = || {
            number += 1;
            number.to_string()
        };
        let patch = needs().patch(&bare, &lacks, &mut new_id);
        let new = patched(&bare, &patch);
        assert_eq!(needs().lacks(&new), []);
        let uris = ["http://localhost", "https://login.microsoftonline.us/common/oauth2/nativeclient"];
        assert_eq!(new.public_client.redirect_uris, uris);
        assert_eq!(needs().patch(&new, &[], &mut new_id), Map::new());
    }

    #[test]
    fn what_is_there_stays() {
        let mut document = RegistrationDocument { app_id: "a".to_owned(), ..RegistrationDocument::default() };
        document.web.redirect_uris = vec!["https://other.example.com/".to_owned()];
        document.app_roles = vec![json!({ "id": "1", "value": "Other" })];
        document.required_resource_access = vec![json!({ "resourceAppId": "other", "resourceAccess": [] })];
        let lacks = needs().lacks(&document);
        let patch = needs().patch(&document, &lacks, &mut || "2".to_owned());
        assert_eq!(patch["web"]["redirectUris"].as_array().unwrap().len(), 2);
        assert_eq!(patch["appRoles"][0], document.app_roles[0]);
        assert_eq!(patch["requiredResourceAccess"][0], document.required_resource_access[0]);
    }

    #[test]
    fn a_disabled_scope_is_enabled_and_keeps_its_id() {
        let mut document = RegistrationDocument { app_id: "a".to_owned(), ..RegistrationDocument::default() };
        document.api.oauth2_permission_scopes =
            vec![json!({ "id": "7", "value": "access_as_user", "isEnabled": false })];
        let needs = needs();
        let lacks = needs.lacks(&document);
        assert!(lacks.contains(&Lack::Scope("access_as_user".to_owned())), "{lacks:?}");
        let patch = needs.patch(&document, &lacks, &mut || "2".to_owned());
        let scopes = &patch["api"]["oauth2PermissionScopes"];
        assert_eq!(scopes, &json!([{ "id": "7", "value": "access_as_user", "isEnabled": true }]));
    }

    #[test]
    fn the_port_of_localhost_does_not_count_and_any_other_does() {
        let has = |known: &str, wanted: &str| has_redirect_uri(&[known.to_owned()], wanted);
        assert!(has("http://localhost:3001/auth/callback", "http://localhost/auth/callback"));
        assert!(has("http://localhost/", "http://localhost"));
        assert!(!has("http://localhost/other", "http://localhost/auth/callback"));
        assert!(!has("https://mcp.example.com:8443/auth/callback", "https://mcp.example.com/auth/callback"));
        assert_eq!(Remote::redirect_uri("http://localhost:3001"), "http://localhost/auth/callback");
        assert_eq!(Remote::redirect_uri("https://a.example:8443"), "https://a.example:8443/auth/callback");
    }

    #[test]
    fn the_app_id_uri_that_entra_id_proposes_is_enough_where_none_is_asked_for() {
        let needs = Needs { remote: Some(Remote { app_id_uris: Vec::new(), ..remote() }), ..Needs::default() };
        let mut document = RegistrationDocument { app_id: "a".to_owned(), ..RegistrationDocument::default() };
        assert!(needs.lacks(&document).contains(&Lack::AppIdUri("api://a".to_owned())));
        document.identifier_uris = vec!["api://other".to_owned()];
        assert!(!needs.lacks(&document).iter().any(|lack| matches!(lack, Lack::AppIdUri(_))));
    }
}
