//! What of `[[access]]` cannot have been meant: the same as in the program, whose checks are in
//! `host/app/src/config/access.rs`. Whether fields and their types are those of the contract, the component checks.

use serde_json::{Map, Value};

/// Bytes of the longest value of an application role: Entra ID's own bound.
const MAX_ROLE: usize = 120;
/// Bytes of the longest client id: that of a Client ID Metadata Document is a URL.
const MAX_CLIENT: usize = 512;
/// Bytes of the longest scope: Entra ID's own bound.
const MAX_SCOPE: usize = 120;
/// The number in the id of the last authentication context that Conditional Access can have.
const MAX_CONTEXT: u8 = 99;

/// What is expected in place of a rule that cannot have been meant.
pub(super) fn check(rule: &Map<String, Value>) -> Result<(), &'static str> {
    // It could mean "no caller" or "every caller".
    if rule.values().any(|value| value.as_array().is_some_and(Vec::is_empty)) {
        return Err("a condition that is left out restricts nothing, and an empty list is refused");
    }
    if rule.get("tool").and_then(Value::as_str).is_some_and(str::is_empty) {
        return Err("the name of a tool is expected");
    }
    let all = |field: &str, fits: fn(&str) -> bool| entries(rule, field).all(fits);
    if !all("tenants", is_guid) || !all("groups", is_guid) {
        return Err("the tenants and groups of rules are expected as GUIDs, in lower case");
    }
    if !all("clients", |client| is_text(client, MAX_CLIENT)) {
        return Err("the clients of rules are expected as client ids");
    }
    if !all("roles", |role| is_text(role, MAX_ROLE)) {
        return Err("the roles of rules are expected as values of application roles, such as Mcp.Admin");
    }
    if !all("scopes", is_scope) {
        return Err("the scopes of rules are expected in the short form, such as access_as_user");
    }
    if !all("acrs", is_context) {
        return Err("the acrs of rules are expected as ids of authentication contexts, c1 to c99");
    }
    let is_for = |kind: &str| entries(rule, "kinds").any(|named| named == kind);
    let is_open = ["clients", "roles", "groups"].iter().all(|field| rule.get(*field).is_none_or(Value::is_null));
    if (is_for("app") || is_for("agent")) && is_open {
        return Err(
            "a rule that lets applications or AI agents call has to name roles, groups or clients, because those \
                    that act for themselves have no scopes",
        );
    }
    if is_for("app") && !is_for("user") && !is_for("agent") && rule.get("acrs").is_some_and(Value::is_array) {
        return Err("a rule with acrs cannot be for applications alone, which satisfy no authentication context");
    }
    Ok(())
}

/// The texts in a list.
fn entries<'r>(rule: &'r Map<String, Value>, field: &str) -> impl Iterator<Item = &'r str> {
    rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Ids are compared exactly with those in tokens, which are in lower case.
fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_text(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_scope(scope: &str) -> bool {
    is_text(scope, MAX_SCOPE) && scope.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte))
}

fn is_context(context: &str) -> bool {
    let number = context.strip_prefix('c').filter(|number| !number.starts_with(['0', '+']));
    number.and_then(|number| number.parse().ok()).is_some_and(|number| (1..=MAX_CONTEXT).contains(&number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(rule: &Value) -> Result<(), &'static str> {
        check(rule.as_object().unwrap())
    }

    #[test]
    fn a_rule_that_lets_applications_or_agents_call_says_which() {
        for kinds in [json!(["app"]), json!(["agent"]), json!(["user", "agent"])] {
            assert!(checked(&json!({ "tool": "*", "kinds": kinds, "scopes": ["a"] })).is_err(), "{kinds}");
            for (field, name) in
                [("roles", "Mcp.Admin"), ("clients", "client"), ("groups", "00001111-aaaa-2222-bbbb-3333cccc4444")]
            {
                let mut rule = json!({ "tool": "*", "kinds": kinds });
                rule[field] = json!([name]);
                assert_eq!(checked(&rule), Ok(()), "{rule}");
                rule[field] = Value::Null;
                assert!(checked(&rule).is_err(), "{rule}");
            }
        }
        assert_eq!(checked(&json!({ "tool": "*", "kinds": ["user"] })), Ok(()));
    }

    #[test]
    fn what_cannot_have_been_meant_is_refused() {
        for (field, good, bad) in [
            ("acrs", vec!["c1", "c99"], vec!["C1", "c0", "c01", "c+1", "c100", "1", ""]),
            ("tenants", vec!["00001111-aaaa-2222-bbbb-3333cccc4444"], vec!["contoso.com", ""]),
            ("groups", vec!["00001111-aaaa-2222-bbbb-3333cccc4444"], vec!["00001111-AAAA-2222-bbbb-3333cccc4444"]),
            ("roles", vec!["Mcp.Admin"], vec!["", "Mcp Admin"]),
            ("clients", vec!["https://client.example/x"], vec!["", "é"]),
            ("scopes", vec!["access_as_user"], vec!["", "a b", "api://contoso/Read"]),
        ] {
            for (names, fits) in [(good, true), (bad, false)] {
                for name in names {
                    let mut rule = json!({ "tool": "read", "kinds": ["user"] });
                    rule[field] = json!([name]);
                    assert_eq!(checked(&rule).is_ok(), fits, "{rule}");
                }
            }
        }
        for rule in [
            json!({ "tool": "" }),
            json!({ "tool": "a", "roles": [] }),
            json!({ "tool": "a", "kinds": [] }),
            json!({ "tool": "a", "kinds": ["app"], "roles": ["A"], "acrs": ["c1"] }),
        ] {
            assert!(checked(&rule).is_err(), "{rule}");
        }
        let on_behalf = json!({ "tool": "a", "kinds": ["app", "agent"], "roles": ["A"], "acrs": ["c1"] });
        assert_eq!(checked(&on_behalf), Ok(()));
    }
}
