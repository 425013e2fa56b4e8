//! What an access token for another resource says about itself, where it can be read.
//!
//! Such a token is opaque to this client, and nothing in it is verified here. What it says can be a reason to refuse a token
//! that did not come from the token endpoint over TLS; it is never a reason to accept one.

use base::encoding::from_base64url;
use base::strict_json;
use serde_json::{Map, Value};

use super::compact::MAX_TOKEN_BYTES;

/// Microsoft Graph, as tokens of version 2 name it.
const GRAPH_APPLICATION: &str = "00000003-0000-0000-c000-000000000000";

/// The application, account and resource that an access token has to be for.
pub struct Expected<'a> {
    /// The application that it was requested for.
    pub client_id: &'a str,
    /// The tenant of the account.
    pub tenant_id: &'a str,
    /// The object id of the account in that tenant.
    pub object_id: &'a str,
    /// What qualifies the scopes, such as `https://graph.microsoft.com`.
    pub resource: &'a str,
    /// Whether that is Microsoft Graph.
    pub is_graph: bool,
}

/// Which of the expectations an access token contradicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// It is for another application.
    Client,
    /// It is for another tenant or another person.
    Account,
    /// It is for another resource.
    Resource,
}

/// What an access token says that it must not say. `None` for one that cannot be read, and for one that says what is
/// expected.
pub fn contradiction(token: &str, expected: &Expected<'_>) -> Option<Contradiction> {
    let claims = claims(token)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let differs = |name: &str, expected: &str| text(name).is_some_and(|actual| actual != expected);
    if differs("appid", expected.client_id) || differs("azp", expected.client_id) {
        return Some(Contradiction::Client);
    }
    if differs("tid", expected.tenant_id) || differs("oid", expected.object_id) {
        return Some(Contradiction::Account);
    }
    let is_for = |audience: &str| {
        let named = audience.trim_end_matches('/') == expected.resource.trim_end_matches('/');
        // An API may be named by the id of its application, which the scopes do not say.
        let by_id = if expected.is_graph { audience == GRAPH_APPLICATION } else { !audience.contains(':') };
        named || by_id
    };
    text("aud").is_some_and(|audience| !is_for(audience)).then_some(Contradiction::Resource)
}

/// When an access token says that it ends, in Unix time.
pub fn end(token: &str) -> Option<u64> {
    claims(token)?.get("exp").and_then(Value::as_u64)
}

fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    strict_json::parse_object(&from_base64url(payload)?).ok()
}

#[cfg(test)]
mod tests {
    use base::encoding::base64url;
    use serde_json::json;

    use super::*;

    const GRAPH: Expected<'_> = Expected {
        client_id: "client",
        tenant_id: "tenant",
        object_id: "object",
        resource: "https://graph.microsoft.com",
        is_graph: true,
    };

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", base64url(claims.to_string().as_bytes()))
    }

    #[test]
    fn a_token_that_says_what_is_expected_or_nothing_is_not_contradicted() {
        for claims in [
            json!({}),
            json!({ "aud": "https://graph.microsoft.com", "appid": "client", "tid": "tenant", "oid": "object" }),
            json!({ "aud": "https://graph.microsoft.com/" }),
            json!({ "aud": GRAPH_APPLICATION, "azp": "client" }),
        ] {
            assert_eq!(contradiction(&token(&claims), &GRAPH), None, "{claims}");
        }
        assert_eq!(contradiction("opaque", &GRAPH), None);
        let api = Expected { resource: "api://crm", is_graph: false, ..GRAPH };
        for audience in ["api://crm", "0a0a0a0a-0000-0000-0000-000000000000"] {
            assert_eq!(contradiction(&token(&json!({ "aud": audience })), &api), None, "{audience}");
        }
    }

    #[test]
    fn a_token_for_another_client_account_or_resource_is_contradicted() {
        let api = Expected { resource: "api://crm", is_graph: false, ..GRAPH };
        for (claims, expected, contradicted) in [
            (json!({ "appid": "other" }), &GRAPH, Contradiction::Client),
            (json!({ "azp": "other" }), &GRAPH, Contradiction::Client),
            (json!({ "tid": "other" }), &GRAPH, Contradiction::Account),
            (json!({ "oid": "other" }), &GRAPH, Contradiction::Account),
            (json!({ "aud": "https://management.azure.com/" }), &GRAPH, Contradiction::Resource),
            (json!({ "aud": "0a0a0a0a-0000-0000-0000-000000000000" }), &GRAPH, Contradiction::Resource),
            (json!({ "aud": "https://graph.microsoft.com" }), &api, Contradiction::Resource),
        ] {
            assert_eq!(contradiction(&token(&claims), expected), Some(contradicted), "{claims}");
        }
    }

    #[test]
    fn the_end_is_what_the_token_says() {
        assert_eq!(end(&token(&json!({ "exp": 7 }))), Some(7));
        assert_eq!((end("opaque"), end(&token(&json!({ "exp": "7" })))), (None, None));
    }
}
