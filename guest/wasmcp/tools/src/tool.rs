//! What clients read of the tool. The program says the same of it (`guest/server/src/tools/get_user_details.rs`), whose crate
//! would double this component: a test compares the two.

/// The name that clients call it by.
pub const NAME: &str = "getUserDetails";
/// What it is called where people read it.
pub const TITLE: &str = "Get user details";
/// What it does.
pub const DESCRIPTION: &str = "Returns the signed-in user's display name, mail address and user principal name from Microsoft Graph. Takes no \
                               arguments.";
/// It takes no arguments, and looks at none: some clients send a placeholder.
pub const INPUT_SCHEMA: &str = r#"{"additionalProperties":false,"properties":{},"type":"object"}"#;
/// Graph answers `null` for what is not filled in.
pub const OUTPUT_SCHEMA: &str = concat!(
    r#"{"properties":{"displayName":{"anyOf":[{"type":"string"},{"type":"null"}]},"#,
    r#""mail":{"anyOf":[{"type":"string"},{"type":"null"}]},"#,
    r#""userPrincipalName":{"anyOf":[{"type":"string"},{"type":"null"}]}},"#,
    r#""required":["displayName","mail","userPrincipalName"],"type":"object"}"#,
);

/// What a client without a token is told.
pub const NO_CALLER: &str = "sign in first: this call has no access token";
/// What a client is told that sent something else than text as its token.
pub const NO_TOKEN: &str = "the access token is not valid for this server";
/// What clients are told where the settings are not valid. The log says why.
pub const NOT_SET_UP: &str = "the server is not configured correctly: its operator finds the reason in the log";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_program_says_the_same_of_the_tool() {
        let source = include_str!("../../../server/src/tools/get_user_details.rs");
        let source = source.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\ ", "");
        for (name, text) in [("NAME", NAME), ("TITLE", TITLE), ("DESCRIPTION", DESCRIPTION)] {
            assert!(source.contains(&format!("const {name}: &'static str = \"{text}\";")), "{name}");
        }
    }

    #[test]
    fn the_schemas_are_those_of_the_program() {
        let schemas = [INPUT_SCHEMA, OUTPUT_SCHEMA].map(|schema| serde_json::from_str::<Value>(schema).unwrap());
        let nullable = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        // As in guest/server/src/tools/tests.rs.
        let expected = [
            json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            json!({
                "type": "object",
                "properties": { "displayName": nullable, "mail": nullable, "userPrincipalName": nullable },
                "required": ["displayName", "mail", "userPrincipalName"],
            }),
        ];
        assert_eq!(schemas, expected);
    }
}
