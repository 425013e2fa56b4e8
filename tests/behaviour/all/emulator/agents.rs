//! AI agents: a blueprint vouches for an agent identity, which gets tokens in three forms.

use entra_mcp_emulator::Config;
use serde_json::{Value, json};

use crate::support::lab::{Answer, Authorize, CONTOSO, LOCAL, Lab, REMOTE, app};

const ALICE: &str = "alice@contoso.example";
const SECRET: &str = "blueprint-secret-of-the-emulator";
const EXCHANGE: &str = "api://AzureADTokenExchange/.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ON_BEHALF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const BLUEPRINT: u8 = 0x0f;
const AGENT: u8 = 0x10;

/// The blueprint vouches for this identity.
async fn vouch(lab: &Lab, agent: &str) -> Answer {
    let blueprint = app(BLUEPRINT);
    let form = [
        ("client_id", blueprint.as_str()),
        ("client_secret", SECRET),
        ("grant_type", "client_credentials"),
        ("scope", EXCHANGE),
        ("fmi_path", agent),
    ];
    lab.token(CONTOSO, &form).await
}

/// A request of the agent identity, by what its blueprint said.
async fn as_agent(lab: &Lab, assertion: &str, form: &[(&str, &str)]) -> Answer {
    let agent = app(AGENT);
    let mut all =
        vec![("client_id", agent.as_str()), ("client_assertion_type", ASSERTION), ("client_assertion", assertion)];
    all.extend(form);
    lab.token(CONTOSO, &all).await
}

fn facets(answer: &Answer) -> (Value, Value, Value, Value) {
    let claims = answer.claims("access_token");
    let of = |name: &str| claims[name].clone();
    (of("azp"), of("xms_act_fct"), of("xms_sub_fct"), of("xms_par_app_azp"))
}

fn expected(subject: &str) -> (Value, Value, Value, Value) {
    (json!(app(AGENT)), json!("3 9 11"), json!(subject), json!(app(BLUEPRINT)))
}

/// The account of the agent identity.
fn give_user(lab: &Lab) -> String {
    let mut user = Config::default().users.into_iter().nth(1).unwrap();
    user.id = "11111111-0000-4000-a000-0000000000a9".to_owned();
    user.username = "research-agent@contoso.example".to_owned();
    user.agent = Some(app(AGENT));
    lab.control().put_user(user.clone()).unwrap();
    user.username
}

#[tokio::test]
async fn an_agent_identity_gets_tokens_for_itself_on_behalf_of_a_person_and_for_its_user() {
    let mut lab = Lab::new().await;
    let vouched = vouch(&lab, &app(AGENT)).await;
    let vouched = vouched.text("access_token");
    let (access, default) = (format!("api://{}/Mcp.Access", app(REMOTE)), format!("api://{}/.default", app(REMOTE)));

    let own = as_agent(&lab, vouched, &[("grant_type", "client_credentials"), ("scope", &default)]).await;
    assert_eq!(facets(&own), expected("3 9 11"));
    assert_eq!(
        (&own.claims("access_token")["idtyp"], &own.claims("access_token")["scp"]),
        (&json!("app"), &Value::Null)
    );

    let for_blueprint = format!("api://{}/Agent.Use", app(BLUEPRINT));
    let person = lab.tokens(&Authorize::new(LOCAL).scope(&for_blueprint), ALICE).await;
    let form = [
        ("grant_type", ON_BEHALF),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", person.text("access_token")),
        ("scope", access.as_str()),
    ];
    let on_behalf = as_agent(&lab, vouched, &form).await;
    assert_eq!(facets(&on_behalf), expected("3"));
    assert_eq!(on_behalf.claims("access_token")["oid"], "11111111-0000-4000-a000-000000000001");

    let username = give_user(&lab);
    let credential = as_agent(&lab, vouched, &[("grant_type", "client_credentials"), ("scope", EXCHANGE)]).await;
    let form = [
        ("grant_type", "user_fic"),
        ("user_federated_identity_credential", credential.text("access_token")),
        ("username", username.as_str()),
        ("scope", access.as_str()),
    ];
    let user = as_agent(&lab, vouched, &form).await;
    assert_eq!(facets(&user), expected("3 13"));
    assert_eq!(user.claims("access_token")["scp"], "Mcp.Access");
    // Nothing of this is in the token of a person or of an application.
    let person = lab.tokens(&Authorize::new(LOCAL).scope(&access), ALICE).await;
    assert_eq!(facets(&person), (json!(app(LOCAL)), Value::Null, Value::Null, Value::Null));
}

#[tokio::test]
async fn nothing_but_its_blueprint_vouches_for_an_agent_identity() {
    let mut lab = Lab::new().await;
    let unknown = (401, "invalid_client", 700_213);
    assert_eq!(vouch(&lab, &app(REMOTE)).await.refusal(), unknown, "an application is no agent identity");
    assert_eq!(vouch(&lab, "x").await.refusal(), unknown);
    let agent = app(AGENT);
    let by_another = [("grant_type", "client_credentials"), ("scope", EXCHANGE), ("fmi_path", agent.as_str())];
    assert_eq!(lab.confidential(&by_another).await.refusal(), unknown, "of another blueprint");
    let no_path = [("grant_type", "client_credentials"), ("scope", EXCHANGE)];
    assert_eq!(lab.confidential(&no_path).await.refusal(), (400, "invalid_request", 900_144));

    let vouched = vouch(&lab, &app(AGENT)).await;
    let vouched = vouched.text("access_token");
    let default = format!("api://{}/.default", app(REMOTE));
    let form = [("grant_type", "client_credentials"), ("scope", default.as_str())];
    let mut with_secret = vec![("client_id", agent.as_str()), ("client_secret", SECRET)];
    with_secret.extend(form);
    assert_eq!(lab.token(CONTOSO, &with_secret).await.refusal(), (401, "invalid_client", 7_000_215));
    assert_eq!(as_agent(&lab, "x", &form).await.refusal(), (401, "invalid_client", 50_027));
    let person = lab.tokens(&Authorize::new(LOCAL).scope(&format!("api://{}/Mcp.Access", app(REMOTE))), ALICE).await;
    let not_for_exchange = as_agent(&lab, person.text("access_token"), &form).await;
    assert_eq!(not_for_exchange.refusal(), (401, "invalid_client", 700_212));
    let own = as_agent(&lab, vouched, &[("grant_type", "client_credentials"), ("scope", EXCHANGE)]).await;
    assert_eq!(as_agent(&lab, own.text("access_token"), &form).await.refusal(), unknown, "its own word counts nothing");

    let username = give_user(&lab);
    let access = format!("api://{}/Mcp.Access", app(REMOTE));
    let of = |credential: &str, username: &str| {
        [
            ("grant_type", "user_fic".to_owned()),
            ("user_federated_identity_credential", credential.to_owned()),
            ("username", username.to_owned()),
            ("scope", access.clone()),
        ]
    };
    for (credential, username, refusal) in
        [(own.text("access_token"), ALICE, (400, "invalid_grant", 50_034)), (vouched, username.as_str(), unknown)]
    {
        let form = of(credential, username);
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(as_agent(&lab, vouched, &form).await.refusal(), refusal, "{username}");
    }
    lab.advance(7_200);
    assert_eq!(as_agent(&lab, vouched, &form).await.refusal(), (401, "invalid_client", 700_024));
}
