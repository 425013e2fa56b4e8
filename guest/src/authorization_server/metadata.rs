//! Metadata documents: of the protected resource (RFC 9728) and of the authorization server (RFC 8414).
//!
//! Clients compare the strings in them character for character, with each other and with what they asked for, so all
//! of them are made of the configured public URL and of nothing that a request says.

use serde_json::{Value, json};

use crate::environment::HttpSettings;

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
    format!("{}{path}", settings.public_url)
}

/// Metadata of the resource at `path` (RFC 9728); an empty path is the server as a whole.
pub fn protected_resource(settings: &HttpSettings, path: &str) -> Value {
    json!({
        "resource": resource(settings, path),
        "resource_name": "entra-mcp",
        "authorization_servers": [settings.public_url],
        "scopes_supported": [SCOPE],
        "bearer_methods_supported": ["header"],
    })
}

/// Metadata of the authorization server (RFC 8414).
pub fn authorization_server(settings: &HttpSettings) -> Value {
    let url = |path: &str| format!("{}{path}", settings.public_url);
    let mut document = json!({
        "issuer": settings.public_url,
        "authorization_endpoint": url("/authorize"),
        "token_endpoint": url("/token"),
        "revocation_endpoint": url("/revoke"),
        "service_documentation": url("/"),
        "scopes_supported": [SCOPE],
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
    use crate::environment::fake::{PUBLIC_URL, remote_settings};

    fn settings() -> HttpSettings {
        remote_settings().http.unwrap()
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
