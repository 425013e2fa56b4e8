//! Answers of the middleware itself: where tokens come from, and why a request does not go on.

use serde_json::json;

use crate::request::Field;
use crate::settings::Configuration;

/// Where clients look for metadata (RFC 9728 section 3).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct WholeAnswer {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub fields: Vec<Field>,
    /// The whole body.
    pub body: String,
}

/// Why a token does not do.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'r> {
    /// HTTP status.
    pub status: u16,
    /// `error` of the challenge. None: another token would not help.
    pub error: Option<&'r str>,
    /// What the client may know.
    pub text: &'r str,
}

fn answer(status: u16, fields: Vec<(&str, String)>, body: String) -> WholeAnswer {
    let mut all: Vec<Field> = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    all.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    WholeAnswer { status, fields: all, body }
}

/// The answer to a request for metadata. None: it is for the component behind.
pub fn metadata(configuration: &Configuration, method: &str, path: &str) -> Option<WholeAnswer> {
    let path = path.split('?').next().unwrap_or_default();
    let about = path.strip_prefix(METADATA)?;
    if !(about.is_empty() || about == configuration.path) {
        return Some(answer(404, Vec::new(), String::new()));
    }
    if method != "GET" && method != "HEAD" {
        return Some(answer(405, vec![("allow", "GET, HEAD".to_owned())], String::new()));
    }
    let document = json!({
        "resource": format!("{}{}", configuration.origin, configuration.path),
        "authorization_servers": [configuration.issuer],
        "scopes_supported": [configuration.qualified_scope],
        "bearer_methods_supported": ["header"],
    });
    let body = if method == "HEAD" { String::new() } else { document.to_string() };
    // Web pages read it before they have a token.
    let fields = vec![("content-type", "application/json".to_owned()), ("access-control-allow-origin", "*".to_owned())];
    Some(answer(200, fields, body))
}

/// The answer to a request without a token that does.
pub fn refused(configuration: &Configuration, refusal: Refusal<'_>) -> WholeAnswer {
    let Refusal { status, error, text } = refusal;
    let mut fields = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
    if status == 401 || error.is_some() {
        let Configuration { origin, path, qualified_scope, .. } = configuration;
        let mut challenge =
            format!("Bearer resource_metadata=\"{origin}{METADATA}{path}\", scope=\"{qualified_scope}\"");
        if let Some(error) = error {
            challenge.push_str(&format!(", error=\"{error}\", error_description=\"{text}\""));
        }
        fields.push(("www-authenticate", challenge));
    }
    if status == 503 {
        fields.push(("retry-after", "5".to_owned()));
    }
    answer(status, fields, format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::read;

    fn configuration() -> Configuration {
        let variables = [
            ("ENTRA_MCP_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
        ];
        read(&variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
    }

    fn field<'a>(answer: &'a WholeAnswer, name: &str) -> Option<&'a str> {
        let found = answer.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_client_without_a_token_is_told_where_the_metadata_is_and_finds_it() {
        let refusal = Refusal { status: 401, error: None, text: "sign in first" };
        let answer = refused(&configuration(), refusal);
        let challenge = field(&answer, "www-authenticate").unwrap();
        assert_eq!(
            challenge,
            "Bearer resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", \
             scope=\"https://mcp.example.com/mcp/access_as_user\""
        );
        for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource?a=b"] {
            let metadata = metadata(&configuration(), "GET", path).unwrap();
            let document: serde_json::Value = serde_json::from_str(&metadata.body).unwrap();
            assert_eq!((metadata.status, &document["resource"]), (200, &json!("https://mcp.example.com/mcp")));
        }
        assert_eq!(metadata(&configuration(), "GET", "/mcp"), None);
        assert_eq!(metadata(&configuration(), "POST", "/.well-known/oauth-protected-resource").unwrap().status, 405);
        assert_eq!(metadata(&configuration(), "GET", "/.well-known/oauth-protected-resource/x").unwrap().status, 404);
    }

    #[test]
    fn a_refusal_that_no_token_changes_has_no_challenge() {
        let denied = refused(&configuration(), Refusal { status: 403, error: None, text: "not allowed" });
        assert_eq!(field(&denied, "www-authenticate"), None);
        let scope =
            refused(&configuration(), Refusal { status: 403, error: Some("insufficient_scope"), text: "scope" });
        assert!(field(&scope, "www-authenticate").unwrap().contains("error=\"insufficient_scope\""));
        let later = refused(&configuration(), Refusal { status: 503, error: None, text: "later" });
        assert_eq!((field(&later, "retry-after"), field(&later, "www-authenticate")), (Some("5"), None));
    }
}
