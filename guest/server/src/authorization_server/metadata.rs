//! Metadata documents: of the protected resource (RFC 9728) and of the authorization server (RFC 8414).
//!
//! Clients compare the strings in them character for character, with each other and with what they asked for, so all
//! of them are made of the configured public URL and of nothing that a request says.

use std::collections::HashSet;

use base::settings::Settings;
use serde_json::{Value, json};

use crate::site::{SCOPE, Site};
use crate::tools;

/// Authentication at `/token`, `/revoke`, and what a client may register.
pub(super) const AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
/// Grant types, at `/token` and in registrations.
pub(super) const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];
/// Response types, at `/authorize` and in registrations.
pub(super) const RESPONSE_TYPES: [&str; 1] = ["code"];

/// Metadata of the resource at `path` (RFC 9728); an empty path is the server as a whole.
pub fn protected_resource(settings: &Settings, site: &Site<'_>, path: &str) -> Value {
    let http = site.settings;
    let mut authorization_servers = Vec::new();
    if http.token_mode.has_sessions() || http.stands_in_for_the_authority() {
        authorization_servers.push(http.public_url.clone());
    }
    if http.token_mode.takes_entra_tokens() && !http.stands_in_for_the_authority() {
        authorization_servers.push(format!("{}/{}/v2.0", settings.authority, settings.tenant));
    }
    let server = site.server_at(path);
    let resource_name = server.map_or("entra-mcp", |server| server.title.as_ref().unwrap_or(&server.name));
    json!({
        "resource": site.resource(path),
        "resource_name": resource_name,
        "authorization_servers": authorization_servers,
        "scopes_supported": [site.requested_scope(path)],
        "bearer_methods_supported": ["header"],
    })
}

/// Metadata of the authorization server (RFC 8414).
pub fn authorization_server(site: &Site<'_>) -> Value {
    let settings = site.settings;
    let url = |path: &str| site.url(path);
    let mut scopes = vec![SCOPE.to_owned()];
    let of_rules = tools::scopes(settings);
    for path in site.application_paths() {
        scopes.extend(of_rules.iter().map(|scope| site.clients_form(path, scope)));
    }
    let mut said = HashSet::new();
    scopes.retain(|scope| said.insert(scope.clone()));
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

#[cfg(test)]
mod tests {
    use base::settings::{HttpSettings, TokenMode};
    use world::testing::{PUBLIC_URL, http_settings};

    use super::*;
    use crate::site::{MCP_PATH, SSE_PATH};

    fn settings() -> HttpSettings {
        http_settings()
    }

    fn in_mode(token_mode: TokenMode) -> HttpSettings {
        HttpSettings { token_mode, ..settings() }
    }

    fn protected_resource(http: &HttpSettings, path: &str) -> Value {
        super::protected_resource(&world::testing::remote_settings(), &Site::of(http), path)
    }

    #[test]
    fn a_resource_that_takes_entra_tokens_names_entra_and_the_qualified_scope() {
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
        let document = authorization_server(&Site::of(&settings()));
        assert_eq!(document["issuer"], PUBLIC_URL);
        assert_eq!(protected_resource(&settings(), MCP_PATH)["authorization_servers"][0], document["issuer"]);
    }

    #[test]
    fn what_is_implemented_is_advertised() {
        assert_eq!(
            authorization_server(&Site::of(&settings())),
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
        let document = authorization_server(&Site::of(&off));
        assert_eq!(document.get("registration_endpoint"), None);
        assert_eq!(document.get("client_id_metadata_document_supported"), None);
    }

    #[test]
    fn offline_access_is_nowhere() {
        let all = [authorization_server(&Site::of(&settings())), protected_resource(&settings(), MCP_PATH)];
        assert!(all.iter().all(|document| !document.to_string().contains("offline_access")));
    }

    #[test]
    fn metadata_is_found_below_the_well_known_name() {
        assert_eq!(
            Site::of(&settings()).resource_metadata_url(MCP_PATH),
            "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
        );
        assert_eq!(
            Site::of(&settings()).resource_metadata_url(""),
            "https://mcp.example.com/.well-known/oauth-protected-resource"
        );
        assert_eq!(
            Site::of(&settings()).authorization_server_metadata_path(),
            "/.well-known/oauth-authorization-server"
        );
    }

    #[test]
    fn the_well_known_name_stands_before_a_path_prefix() {
        let settings = HttpSettings { public_url: "https://example.com:8443/tools/entra".to_owned(), ..settings() };
        assert_eq!(
            Site::of(&settings).resource_metadata_url(MCP_PATH),
            "https://example.com:8443/.well-known/oauth-protected-resource/tools/entra/mcp"
        );
        assert_eq!(Site::of(&settings).resource_metadata_path(""), "/.well-known/oauth-protected-resource/tools/entra");
        assert_eq!(
            Site::of(&settings).authorization_server_metadata_path(),
            "/.well-known/oauth-authorization-server/tools/entra"
        );
        assert_eq!(Site::of(&settings).resource(MCP_PATH), "https://example.com:8443/tools/entra/mcp");
    }
}
