//! Whether an AI agent obtained a token (Microsoft Entra Agent ID, "Token claims reference for agents").
//!
//! Rules look at the facets, which say how an agent takes part. The blueprint is for records, and nothing is decided by it: one
//! that cannot be read counts as absent. Facets that cannot be read name an agent, because rules deny what they do not allow
//! agents.

use base::principal::{Agent, AgentRole};
use serde_json::{Map, Value};

use crate::tenants::is_guid;

/// The facet of an agent's own identity.
const AGENT_IDENTITY: &str = "11";
/// The facet of a user account that belongs to an agent.
const AGENT_USER: &str = "13";

/// The agent that the claims name, if any.
pub(super) fn of(claims: &Map<String, Value>) -> Option<Agent> {
    let acts = |facet| has_facet(claims.get("xms_act_fct"), facet);
    let is_subject = |facet| has_facet(claims.get("xms_sub_fct"), facet);
    let blueprint = claims.get("xms_par_app_azp").and_then(Value::as_str);
    let role = if is_subject(AGENT_USER) {
        AgentRole::AgentUser
    } else if is_subject(AGENT_IDENTITY) {
        AgentRole::Autonomous
    } else if acts(AGENT_IDENTITY) || acts(AGENT_USER) {
        AgentRole::OnBehalfOfUser
    } else {
        blueprint?;
        AgentRole::Unknown
    };
    Some(Agent { role, blueprint: blueprint.filter(|id| is_guid(id)).map(str::to_owned) })
}

/// Facets are numbers in a text, separated by spaces, in any order. The form is not documented to stay,
/// so a list and a number are read as well; anything else has every facet.
fn has_facet(facets: Option<&Value>, facet: &str) -> bool {
    match facets {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => text.split(|letter: char| !letter.is_ascii_digit()).any(|number| number == facet),
        Some(Value::Number(number)) => number.to_string() == facet,
        Some(Value::Array(elements)) => elements.iter().any(|element| has_facet(Some(element), facet)),
        Some(Value::Bool(_) | Value::Object(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BLUEPRINT: &str = "30cf4c22-9985-4ef7-8756-91cc888176bd";

    fn agent(claims: &Value) -> Option<Agent> {
        of(claims.as_object().unwrap())
    }

    #[test]
    fn the_facets_say_how_an_agent_takes_part_and_the_blueprint_which_one() {
        for (actor, subject, role) in [
            (Some("3 9 11"), Some("9 3 11"), AgentRole::Autonomous),
            (Some("11"), Some("3"), AgentRole::OnBehalfOfUser),
            (Some("9 11"), None, AgentRole::OnBehalfOfUser),
            (Some("13"), Some("3"), AgentRole::OnBehalfOfUser),
            (Some("9 13"), None, AgentRole::OnBehalfOfUser),
            (Some("11 3"), Some("13 3"), AgentRole::AgentUser),
            (None, Some("13"), AgentRole::AgentUser),
            (Some("9 3"), Some("1"), AgentRole::Unknown),
            (None, None, AgentRole::Unknown),
        ] {
            let claims = json!({ "xms_act_fct": actor, "xms_sub_fct": subject, "xms_par_app_azp": BLUEPRINT });
            let expected = Agent { role, blueprint: Some(BLUEPRINT.to_owned()) };
            assert_eq!(agent(&claims), Some(expected), "{claims}");
        }
    }

    #[test]
    fn other_tokens_name_no_agent() {
        for claims in [
            json!({}),
            json!({ "xms_act_fct": "9 3", "xms_sub_fct": "9 3" }),
            json!({ "xms_act_fct": "1 111 110", "xms_sub_fct": "" }),
            json!({ "xms_act_fct": "1 113 130" }),
        ] {
            assert_eq!(agent(&claims), None, "{claims}");
        }
    }

    #[test]
    fn facets_in_another_form_name_an_agent_as_well_and_those_in_no_known_form_always_do() {
        for (claims, expected) in [
            (json!({ "xms_act_fct": 11 }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_act_fct": 13 }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_act_fct": "3,9,11" }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_act_fct": [3, 11] }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_act_fct": null, "xms_sub_fct": ["11"] }), Some(AgentRole::Autonomous)),
            (json!({ "xms_sub_fct": ["3 13"] }), Some(AgentRole::AgentUser)),
            (json!({ "xms_act_fct": { "facets": [3] } }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_sub_fct": true }), Some(AgentRole::AgentUser)),
            (json!({ "xms_act_fct": [3, [11]] }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_act_fct": 9, "xms_sub_fct": [3, "111"] }), None),
            (json!({ "xms_act_fct": null, "xms_sub_fct": [] }), None),
        ] {
            assert_eq!(agent(&claims).map(|agent| agent.role), expected, "{claims}");
        }
    }

    #[test]
    fn a_blueprint_that_cannot_be_read_is_left_out_and_hides_nothing_else() {
        for (claims, expected) in [
            (json!({ "xms_act_fct": "11", "xms_par_app_azp": 1 }), Some(AgentRole::OnBehalfOfUser)),
            (json!({ "xms_par_app_azp": "not a GUID" }), Some(AgentRole::Unknown)),
        ] {
            let expected = expected.map(|role| Agent { role, blueprint: None });
            assert_eq!(agent(&claims), expected, "{claims}");
        }
    }
}
