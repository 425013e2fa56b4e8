//! Metadata documents: of the protected resource (RFC 9728) and of the authorization server (RFC 8414).
//!
//! Clients compare the strings in them character for character, with each other and with what they asked for, so all
//! of them are made of the configured public URL and of nothing that a request says.

use serde_json::{Value, json};

use crate::access::{self, Name};
use crate::environment::{HttpSettings, Settings};

/// The path of the MCP endpoint.
pub const MCP_PATH: &str = "/mcp";
/// The path of the event stream of HTTP+SSE.
pub const SSE_PATH: &str = "/sse";
/// The scope of a session, in the short form.
pub const SCOPE: &str = "User.Read";

/// Authentication at `/token`, `/revoke`, and what a client may register.
pub(super) const AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
/// Grant types, at `/token` and in registrations.
pub(super) const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];
/// Response types, at `/authorize` and in registrations.
pub(super) const RESPONSE_TYPES: [&str; 1] = ["code"];

const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";

/// The resource identifier (RFC 8707) of the endpoint at `path`; an empty path is the server as a whole.
pub fn resource(settings: &HttpSettings, path: &str) -> String {
    [&settings.public_url, path].concat()
}

/// The scope that clients are told to ask for. Where Entra ID may be who they ask, it is fully qualified, and the short
/// form is said nowhere: Entra ID would take it for a permission of Microsoft Graph.
pub fn requested_scope(settings: &HttpSettings) -> String {
    if settings.token_mode.takes_entra_tokens() {
        qualified(settings, &settings.required_scope)
    } else {
        SCOPE.to_owned()
    }
}

/// The scope that clients are told to ask for when a tool needs `scopes`, which are in the short form: that of the server
/// and all of these, in the form of [`requested_scope`].
pub fn scopes_with(settings: &HttpSettings, scopes: &[Name]) -> String {
    let mut all = requested_scope(settings);
    for scope in scopes.iter().filter(|scope| **scope != settings.required_scope && **scope != SCOPE) {
        all.push(' ');
        all.push_str(&clients_form(settings, scope));
    }
    all
}

/// The form in which clients ask for a scope of a rule.
pub(super) fn clients_form(settings: &HttpSettings, scope: &str) -> String {
    if settings.token_mode.takes_entra_tokens() { qualified(settings, scope) } else { scope.to_owned() }
}

/// A scope of our application as Entra ID wants it: qualified with the App ID URI.
pub fn qualified(settings: &HttpSettings, scope: &str) -> String {
    match &settings.app_id_uri {
        Some(uri) => format!("{}/{scope}", uri.trim_end_matches('/')),
        None => format!("{}/{scope}", resource(settings, MCP_PATH)),
    }
}

/// Metadata of the resource at `path` (RFC 9728); an empty path is the server as a whole.
pub fn protected_resource(settings: &Settings, http: &HttpSettings, path: &str) -> Value {
    let mut authorization_servers = Vec::new();
    if http.token_mode.has_sessions() || http.stands_in_for_the_authority() {
        authorization_servers.push(http.public_url.clone());
    }
    if http.token_mode.takes_entra_tokens() && !http.stands_in_for_the_authority() {
        authorization_servers.push(format!("{}/{}/v2.0", settings.authority, settings.tenant));
    }
    json!({
        "resource": resource(http, path),
        "resource_name": "entra-mcp",
        "authorization_servers": authorization_servers,
        "scopes_supported": [requested_scope(http)],
        "bearer_methods_supported": ["header"],
    })
}

/// Metadata of the authorization server (RFC 8414).
pub fn authorization_server(settings: &HttpSettings) -> Value {
    let url = |path: &str| format!("{}{path}", settings.public_url);
    let mut scopes = vec![SCOPE.to_owned()];
    scopes.extend(access::scopes(settings).iter().map(|scope| clients_form(settings, scope)));
    let mut document = json!({
        "issuer": settings.public_url,
        "authorization_endpoint": url("/authorize"),
        "token_endpoint": url("/token"),
        "revocation_endpoint": url("/revoke"),
        "service_documentation": url("/"),
        "scopes_supported": scopes,
        "response_types_supported": RESPONSE_TYPES,
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    if let Some(members) = document.as_object_mut() {
        if settings.dynamic_registration {
            members.insert("registration_endpoint".to_owned(), url("/register").into());
        }
        if settings.client_id_metadata_documents {
            members.insert("client_id_metadata_document_supported".to_owned(), true.into());
        }
    }
    document
}

/// The URL of the metadata of the resource at `path` (RFC 9728 section 3.1), for `resource_metadata` in challenges.
pub fn resource_metadata_url(settings: &HttpSettings, path: &str) -> String {
    let (origin, _) = split(&settings.public_url);
    format!("{origin}{}", resource_metadata_path(settings, path))
}

/// The path on the host at which the metadata of the resource at `path` is found: the well-known name stands before
/// the path prefix of the public URL, so compare it with the path of a request before the prefix is taken off.
pub fn resource_metadata_path(settings: &HttpSettings, path: &str) -> String {
    let (_, prefix) = split(&settings.public_url);
    format!("{PROTECTED_RESOURCE}{prefix}{path}")
}

/// The same for the metadata of the authorization server (RFC 8414 section 3.1).
pub fn authorization_server_metadata_path(settings: &HttpSettings) -> String {
    let (_, prefix) = split(&settings.public_url);
    format!("{AUTHORIZATION_SERVER}{prefix}")
}

/// A public URL as origin and path prefix, which is empty or begins with a slash.
fn split(public_url: &str) -> (&str, &str) {
    let authority = public_url.find("://").map_or(0, |scheme| scheme + 3);
    let end = public_url.get(authority..).and_then(|rest| rest.find('/')).map(|slash| authority + slash);
    public_url.split_at(end.unwrap_or(public_url.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::TokenMode;
    use crate::environment::fake::{PUBLIC_URL, remote_settings};

    fn settings() -> HttpSettings {
        remote_settings().http.unwrap()
    }

    fn in_mode(token_mode: TokenMode) -> HttpSettings {
        HttpSettings { token_mode, ..settings() }
    }

    fn protected_resource(http: &HttpSettings, path: &str) -> Value {
        super::protected_resource(&remote_settings(), http, path)
    }

    #[test]
    fn a_resource_that_takes_entras_tokens_names_entra_and_the_qualified_scope() {
        let entra = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0";
        for (mode, servers) in [(TokenMode::Bearer, json!([entra])), (TokenMode::Both, json!([PUBLIC_URL, entra]))] {
            let document = protected_resource(&in_mode(mode), MCP_PATH);
            assert_eq!(document["authorization_servers"], servers);
            assert_eq!(document["scopes_supported"], json!(["https://mcp.example.com/mcp/access_as_user"]));
            assert_eq!(document["resource"], "https://mcp.example.com/mcp");
        }
        let own = HttpSettings {
            app_id_uri: Some("api://mcp/".to_owned()),
            required_scope: "Use".to_owned(),
            ..in_mode(TokenMode::Bearer)
        };
        assert_eq!(protected_resource(&own, MCP_PATH)["scopes_supported"], json!(["api://mcp/Use"]));
    }

    #[test]
    fn a_resource_names_itself_and_its_authorization_server() {
        for (path, resource) in [("", ""), (MCP_PATH, "/mcp"), (SSE_PATH, "/sse")] {
            assert_eq!(
                protected_resource(&settings(), path),
                json!({
                    "resource": format!("{PUBLIC_URL}{resource}"),
                    "resource_name": "entra-mcp",
                    "authorization_servers": [PUBLIC_URL],
                    "scopes_supported": ["User.Read"],
                    "bearer_methods_supported": ["header"],
                })
            );
        }
    }

    #[test]
    fn the_issuer_is_the_public_url_and_what_the_resource_names() {
        let document = authorization_server(&settings());
        assert_eq!(document["issuer"], PUBLIC_URL);
        assert_eq!(protected_resource(&settings(), MCP_PATH)["authorization_servers"][0], document["issuer"]);
    }

    #[test]
    fn what_is_implemented_is_advertised() {
        assert_eq!(
            authorization_server(&settings()),
            json!({
                "issuer": "https://mcp.example.com",
                "authorization_endpoint": "https://mcp.example.com/authorize",
                "token_endpoint": "https://mcp.example.com/token",
                "registration_endpoint": "https://mcp.example.com/register",
                "revocation_endpoint": "https://mcp.example.com/revoke",
                "service_documentation": "https://mcp.example.com/",
                "scopes_supported": ["User.Read"],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
                "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
                "client_id_metadata_document_supported": true,
            })
        );
    }

    #[test]
    fn what_is_turned_off_is_not_advertised() {
        let off = HttpSettings { dynamic_registration: false, client_id_metadata_documents: false, ..settings() };
        let document = authorization_server(&off);
        assert_eq!(document.get("registration_endpoint"), None);
        assert_eq!(document.get("client_id_metadata_document_supported"), None);
    }

    #[test]
    fn offline_access_is_nowhere() {
        let all = [authorization_server(&settings()), protected_resource(&settings(), MCP_PATH)];
        assert!(all.iter().all(|document| !document.to_string().contains("offline_access")));
    }

    #[test]
    fn metadata_is_found_below_the_well_known_name() {
        assert_eq!(
            resource_metadata_url(&settings(), MCP_PATH),
            "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
        );
        assert_eq!(
            resource_metadata_url(&settings(), ""),
            "https://mcp.example.com/.well-known/oauth-protected-resource"
        );
        assert_eq!(authorization_server_metadata_path(&settings()), "/.well-known/oauth-authorization-server");
    }

    #[test]
    fn the_well_known_name_stands_before_a_path_prefix() {
        let settings = HttpSettings { public_url: "https://example.com:8443/tools/entra".to_owned(), ..settings() };
        assert_eq!(
            resource_metadata_url(&settings, MCP_PATH),
            "https://example.com:8443/.well-known/oauth-protected-resource/tools/entra/mcp"
        );
        assert_eq!(resource_metadata_path(&settings, ""), "/.well-known/oauth-protected-resource/tools/entra");
        assert_eq!(
            authorization_server_metadata_path(&settings),
            "/.well-known/oauth-authorization-server/tools/entra"
        );
        assert_eq!(resource(&settings, MCP_PATH), "https://example.com:8443/tools/entra/mcp");
    }
}
