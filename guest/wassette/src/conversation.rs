//! The messages of a call, in MCP 2026-07-28.

use serde::Deserialize;
use serde_json::{Value, json};

/// The tool that answers with the profile.
const TOOL: &str = "GetUserDetailsFromGraph";

/// The name by which the component asks for the sign-in.
const SIGN_IN: &str = "sign-in";

/// What the component answers.
#[derive(Debug, PartialEq, Eq)]
pub enum ProfileOutcome {
    /// The profile.
    Profile(Box<Profile>),
    /// The person has to sign in.
    SignIn {
        /// What the next call brings along.
        state: String,
        /// A sentence for the person.
        instruction: String,
    },
    /// The state of the call before is of no use any more: the call is to be made without it.
    Foreign,
    /// There is no profile. A sentence for the person.
    Failed(String),
}

/// The profile, as the tool answers with it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// Object id.
    pub id: String,
    /// Name for display.
    pub display_name: Option<String>,
    /// Given name.
    pub given_name: Option<String>,
    /// Surname.
    pub surname: Option<String>,
    /// User principal name.
    pub user_principal_name: Option<String>,
    /// Mail address.
    pub mail: Option<String>,
    /// Job title.
    pub job_title: Option<String>,
    /// Office.
    pub office_location: Option<String>,
    /// Mobile phone number.
    pub mobile_phone: Option<String>,
    /// Business phone numbers.
    pub business_phones: Vec<String>,
    /// Language.
    pub preferred_language: Option<String>,
}

/// The call of the tool. `state` is of the call before, which the person has been shown a page and a code in answer to.
pub fn call(state: Option<&str>) -> String {
    let mut params = json!({
        "name": TOOL,
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
            },
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } },
        },
    });
    if let (Some(state), Some(params)) = (state, params.as_object_mut()) {
        params.insert("requestState".to_owned(), json!(state));
        params.insert("inputResponses".to_owned(), json!({ SIGN_IN: { "action": "accept" } }));
    }
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string()
}

/// Reads the answer to it.
pub fn answer(text: Option<&str>) -> ProfileOutcome {
    let unusable = || ProfileOutcome::Failed("The component gave no answer that can be used.".to_owned());
    let Some(message) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return unusable() };
    if let Some(error) = message.get("error") {
        return refused(error).unwrap_or_else(unusable);
    }
    let result = message.get("result");
    let asked = || sign_in(result?);
    let profile = || {
        let content = result.filter(|result| result.get("isError") != Some(&json!(true)))?.get("structuredContent")?;
        Profile::deserialize(content).ok().filter(|profile| !profile.id.is_empty()).map(Box::new)
    };
    let said = || Some(ProfileOutcome::Failed(text_of(result?)?));
    asked().or_else(|| profile().map(ProfileOutcome::Profile)).or_else(said).unwrap_or_else(unusable)
}

/// JSON-RPC error of parameters that are not accepted. The request has none of its own but the state.
const INVALID_PARAMS: i64 = -32_602;

fn refused(error: &Value) -> Option<ProfileOutcome> {
    if error.get("code").and_then(Value::as_i64) == Some(INVALID_PARAMS) {
        return Some(ProfileOutcome::Foreign);
    }
    Some(ProfileOutcome::Failed(error.get("message")?.as_str()?.to_owned()))
}

fn sign_in(result: &Value) -> Option<ProfileOutcome> {
    let state = result.get("requestState")?.as_str()?.to_owned();
    let params = result.get("inputRequests")?.get(SIGN_IN)?.get("params")?;
    let (message, page) = (params.get("message")?.as_str()?, params.get("url")?.as_str()?);
    let instruction = format!("{message}\nThe page: {page}\nThen call this tool again.");
    Some(ProfileOutcome::SignIn { state, instruction })
}

/// The text of a result.
fn text_of(result: &Value) -> Option<String> {
    let texts = result.get("content")?.as_array()?.iter().filter_map(|part| part.get("text")?.as_str());
    let text = texts.collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &Value) -> ProfileOutcome {
        answer(Some(&message.to_string()))
    }

    #[test]
    fn a_call_brings_the_state_along_that_the_call_before_has_left() {
        let first: Value = serde_json::from_str(&call(None)).unwrap();
        assert_eq!(first["params"]["name"], TOOL);
        assert_eq!(first["params"].get("requestState"), None);
        let next: Value = serde_json::from_str(&call(Some("sealed"))).unwrap();
        assert_eq!(next["params"]["requestState"], "sealed");
        assert_eq!(next["params"]["inputResponses"]["sign-in"]["action"], "accept");
    }

    #[test]
    fn a_profile_is_read_with_what_it_does_not_say() {
        let profile = json!({ "id": "1", "displayName": "Alice", "businessPhones": ["1", "2"], "other": 1 });
        let answered = of(&json!({ "result": { "structuredContent": profile, "content": [] } }));
        let expected = Profile {
            id: "1".to_owned(),
            display_name: Some("Alice".to_owned()),
            business_phones: vec!["1".to_owned(), "2".to_owned()],
            ..Profile::default()
        };
        assert_eq!(answered, ProfileOutcome::Profile(Box::new(expected)));
    }

    #[test]
    fn what_the_person_has_to_do_is_told_with_page_and_code() {
        let params = json!({ "mode": "url", "message": "Enter the code A1.", "url": "https://login.example/device" });
        let answered = of(&json!({ "result": {
            "resultType": "input_required",
            "requestState": "sealed",
            "inputRequests": { "sign-in": { "method": "elicitation/create", "params": params } },
        } }));
        let instruction = "Enter the code A1.\nThe page: https://login.example/device\nThen call this tool again.";
        assert_eq!(
            answered,
            ProfileOutcome::SignIn { state: "sealed".to_owned(), instruction: instruction.to_owned() }
        );
    }

    #[test]
    fn an_error_is_the_sentence_of_the_component() {
        let result = json!({ "isError": true, "content": [{ "type": "text", "text": "Declined." }] });
        assert_eq!(of(&json!({ "result": result })), ProfileOutcome::Failed("Declined.".to_owned()));
        let error = json!({ "code": -32603, "message": "Internal error" });
        assert_eq!(of(&json!({ "error": error })), ProfileOutcome::Failed("Internal error".to_owned()));
        assert_eq!(of(&json!({ "error": { "code": -32602, "message": "requestState" } })), ProfileOutcome::Foreign);
    }

    #[test]
    fn what_is_no_answer_is_an_error_too() {
        let unusable = answer(None);
        assert!(matches!(&unusable, ProfileOutcome::Failed(text) if text.contains("no answer")));
        for text in ["", "[]", "{}", r#"{"result":{}}"#, r#"{"result":{"structuredContent":{}}}"#, r#"{"error":{}}"#] {
            assert_eq!(answer(Some(text)), unusable, "{text}");
        }
    }
}
