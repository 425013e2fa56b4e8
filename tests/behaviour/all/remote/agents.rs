//! AI agents at the remote server, with tokens as Entra ID issues them: denied unless a rule names agents.

use entra_mcp_emulator::Config;
use entra_mcp_plugin::environment::{CallerKind, TokenMode, ToolRule};
use serde_json::json;

use super::access::rule;
use super::bearer::{authorize, fleet_with, signed, token, token_by, token_request, tool_error};
use crate::support::lab::{CONTOSO, REMOTE, app};
use crate::support::remote::{ALICE, Answer, Fleet, RESOURCE};

const SECRET: &str = "blueprint-secret-of-the-emulator";
const EXCHANGE: &str = "api://AzureADTokenExchange/.default";
const BLUEPRINT: u8 = 0x0f;
const AGENT: u8 = 0x10;

async fn fleet(rules: Option<Vec<ToolRule>>) -> Fleet {
    fleet_with(TokenMode::Bearer, |settings| settings.http.as_mut().expect("a remote server").access = rules).await
}

/// What the tool's error says.
fn refusal(answer: &Answer) -> String {
    tool_error(answer).to_owned()
}

/// A request of the agent identity.
async fn as_agent(fleet: &Fleet, form: &[(&str, &str)]) -> String {
    let (blueprint, agent) = (app(BLUEPRINT), app(AGENT));
    let vouch = [
        ("client_id", blueprint.as_str()),
        ("client_secret", SECRET),
        ("grant_type", "client_credentials"),
        ("scope", EXCHANGE),
        ("fmi_path", agent.as_str()),
    ];
    let vouched = token_request(fleet, CONTOSO, &vouch).await;
    let mut all = vec![
        ("client_id", agent.as_str()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", vouched.as_str()),
    ];
    all.extend(form);
    token_request(fleet, CONTOSO, &all).await
}

/// The three forms: for itself, on behalf of Alice, and as a user of its own.
async fn of_agents(fleet: &Fleet) -> [(&'static str, String); 3] {
    let (access, default) = (format!("{RESOURCE}/access_as_user"), format!("{RESOURCE}/.default"));
    let own = as_agent(fleet, &[("grant_type", "client_credentials"), ("scope", &default)]).await;
    let person = token_by(fleet, &authorize(&format!("api://{}/Agent.Use", app(BLUEPRINT))), ALICE).await;
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", person.as_str()),
        ("scope", access.as_str()),
    ];
    let on_behalf = as_agent(fleet, &form).await;
    let mut user = Config::default().users.into_iter().nth(1).expect("there is Bob");
    user.id = "11111111-0000-4000-a000-0000000000a9".to_owned();
    user.username = "research-agent@contoso.example".to_owned();
    user.agent = Some(app(AGENT));
    fleet.control().put_user(user.clone()).expect("the tenant exists");
    let credential = as_agent(fleet, &[("grant_type", "client_credentials"), ("scope", EXCHANGE)]).await;
    let form = [
        ("grant_type", "user_fic"),
        ("user_federated_identity_credential", credential.as_str()),
        ("username", user.username.as_str()),
        ("scope", access.as_str()),
    ];
    let users = as_agent(fleet, &form).await;
    [("autonomous", own), ("on-behalf-of-user", on_behalf), ("agent-user", users)]
}

#[tokio::test]
async fn an_agent_is_denied_in_every_form_where_no_rule_names_agents() {
    let people = ToolRule { kinds: vec![CallerKind::User, CallerKind::App], ..rule() };
    for rules in [None, Some(vec![people])] {
        let fleet = fleet(rules).await;
        for (form, token) in of_agents(&fleet).await {
            let said = refusal(&fleet.call(&token).await);
            assert!(said.contains("is not open to AI agents"), "{form}: {said}");
            let (_, event) =
                fleet.audit.events().into_iter().rfind(|(_, event)| event.name == "tool.denied").expect("");
            assert_eq!((event.reason.as_deref(), event.agent.as_deref()), (Some("agent-not-allowed"), Some(form)));
            assert_eq!(event.agent_blueprint, Some(app(BLUEPRINT)));
        }
        // The person themselves is no agent.
        assert_eq!(fleet.details(&token(&fleet, ALICE).await).await["userPrincipalName"], ALICE);
    }
}

#[tokio::test]
async fn a_rule_that_names_agents_lets_them_in_and_still_wants_everything_else_that_it_says() {
    let agents =
        |clients: &str| ToolRule { kinds: vec![CallerKind::Agent], clients: Some(vec![clients.to_owned()]), ..rule() };
    let fleet = fleet(Some(vec![agents(&app(AGENT))])).await;
    let [(_, own), (_, on_behalf), (_, users)] = of_agents(&fleet).await;
    assert_eq!(fleet.details(&on_behalf).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.details(&users).await["userPrincipalName"], "research-agent@contoso.example");
    // It is let in, and the tool has nothing for a caller that is no user.
    assert!(refusal(&fleet.call(&own).await).contains("this tool is about the user who calls it"));
    let said = refusal(&fleet.call(&token(&fleet, ALICE).await).await);
    assert!(said.contains("for applications or AI agents"), "{said}");
    // The blueprint is for records: it neither makes an agent of a caller, nor lets one in.
    let named = [("xms_par_app_azp", json!(app(BLUEPRINT))), ("azp", json!(app(AGENT)))];
    let said = refusal(&fleet.call(&signed(&fleet, &named, false)).await);
    assert!(said.contains("for applications or AI agents"), "{said}");

    let fleet = self::fleet(Some(vec![agents(&app(BLUEPRINT)), agents(&app(REMOTE))])).await;
    for (form, token) in of_agents(&fleet).await {
        let said = refusal(&fleet.call(&token).await);
        assert!(said.contains("is not open to the client"), "{form}: {said}");
    }
}
