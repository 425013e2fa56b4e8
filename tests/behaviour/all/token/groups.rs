//! Groups that did not fit into the token are asked for at Microsoft Graph, with the application's own token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_emulator::{Clock, Control, Endpoint, Fault};
use entra_mcp_plugin::PluginBuilder;
use entra_mcp_plugin::client_credential::{ClientCredential, Credential, CredentialError};
use entra_mcp_plugin::environment::{ClientType, Settings};
use entra_mcp_plugin::token_validator::{Requirements, TokenError};
use serde_json::{Value, json};

use super::{Validator, build, nothing, settings, verdict};
use crate::support::lab::{Authorize, CONTOSO, FABRIKAM, LOCAL, Lab, REMOTE, app};

const OLGA: &str = "olga@contoso.example";
const OLGAS_ID: &str = "11111111-0000-4000-a000-000000000008";
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// A group without members.
const STRANGERS: &str = "99999999-0000-4000-a000-000000000001";

struct TestSecret(String);

#[async_trait]
impl ClientCredential for TestSecret {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Secret(self.0.clone().into()))
    }
}

/// The secret that the emulator announces.
fn with_secret(builder: PluginBuilder) -> PluginBuilder {
    builder.client_credential(Arc::new(TestSecret("confidential-client-secret-of-the-emulator".to_owned())))
}

fn grant_permission(control: &Control) {
    let granted = control.change_application(&app(REMOTE), |application| {
        application.granted_roles.entry(GRAPH.to_owned()).or_default().push("GroupMember.Read.All".to_owned());
    });
    granted.unwrap();
}

/// Olga, whose token says that she is in too many groups, and a validator that may ask Graph about her.
struct Scene {
    validator: Validator,
    token: String,
    /// One of her groups.
    group: String,
}

impl Scene {
    async fn new() -> Self {
        let scene = Self::with(|_| {}, with_secret).await;
        grant_permission(&scene.validator.lab.control());
        scene
    }

    async fn with(configure: impl FnOnce(&mut Settings), change: impl FnOnce(PluginBuilder) -> PluginBuilder) -> Self {
        let mut validator = Validator::configured(configure, change).await;
        let group = last_group(&mut validator.lab).await;
        let scope = format!("openid profile api://{}/Mcp.Access", app(REMOTE));
        let answer = validator.lab.tokens(&Authorize::new(LOCAL).scope(&scope), OLGA).await;
        let token = answer.text("access_token").to_owned();
        validator.lab.control().clear_requests();
        Self { validator, token, group }
    }

    async fn requires(&self, groups: &[&str]) -> Result<(), TokenError> {
        self.validate(&self.token, groups).await
    }

    async fn validate(&self, token: &str, groups: &[&str]) -> Result<(), TokenError> {
        let any_group = groups.iter().map(|group| (*group).to_owned()).collect();
        let needs = Requirements { any_group, ..nothing() };
        verdict(self.validator.plugin.validate_token(token, &needs).await).map(drop)
    }

    /// The reason why Graph could not be asked.
    async fn unavailable(&self) -> String {
        let error = self.requires(&[&self.group]).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.status()), ("groups-unavailable", 503));
        error.text("reason").unwrap().to_owned()
    }

    fn control(&self) -> Control {
        self.validator.lab.control()
    }

    /// Requests for tokens, and requests for groups.
    fn asked(&self) -> (u64, u64) {
        asked(&self.control())
    }
}

fn asked(control: &Control) -> (u64, u64) {
    (control.request_count(Endpoint::Token), control.request_count(Endpoint::GraphMemberObjects))
}

/// The last of Olga's groups, which only a whole answer has. She asks for herself.
async fn last_group(lab: &mut Lab) -> String {
    let token = lab.graph_tokens(OLGA).await.text("access_token").to_owned();
    let url = format!("{}/v1.0/me/getMemberObjects", lab.endpoints().graph);
    let request = lab.client().post(url).bearer_auth(token).json(&json!({ "securityEnabledOnly": true }));
    let answer = lab.send(request).await;
    let groups = answer.body["value"].as_array().unwrap();
    assert!(groups.len() > 200);
    groups.last().and_then(Value::as_str).unwrap().to_owned()
}

#[tokio::test]
async fn a_user_is_admitted_for_a_group_that_graph_lists() {
    let scene = Scene::new().await;
    scene.requires(&[STRANGERS, &scene.group]).await.unwrap();
    assert_eq!(scene.asked(), (1, 1));

    let token_request = &scene.control().requests(Endpoint::Token)[0];
    assert_eq!(token_request.path, format!("/{CONTOSO}/oauth2/v2.0/token"));
    assert_eq!(token_request.form("grant_type"), Some("client_credentials"));
    assert_eq!(token_request.form("scope"), Some("https://graph.microsoft.com/.default"));
    let question = &scene.control().requests(Endpoint::GraphMemberObjects)[0];
    assert_eq!(question.path, format!("/graph/v1.0/users/{OLGAS_ID}/getMemberObjects"));
    assert!(!question.header("authorization").unwrap().contains(&scene.token));
}

#[tokio::test]
async fn a_user_is_refused_for_a_group_that_graph_does_not_list() {
    let scene = Scene::new().await;
    let refused = scene.requires(&[STRANGERS]).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status()), ("groups-missing", 403));
    assert_eq!(refused.texts("any-of").unwrap(), [STRANGERS]);
}

#[tokio::test]
async fn nothing_is_asked_when_no_group_is_required() {
    let scene = Scene::new().await;
    scene.requires(&[]).await.unwrap();
    assert_eq!(scene.asked(), (0, 0));
}

#[tokio::test]
async fn an_answer_is_remembered_for_five_minutes_by_all_instances() {
    let scene = Scene::with(|_| {}, |builder| with_secret(builder).max_calls_per_instance(1)).await;
    grant_permission(&scene.control());
    for _ in 0..5 {
        scene.requires(&[&scene.group]).await.unwrap();
        assert_eq!(scene.requires(&[STRANGERS]).await.unwrap_err().code, "groups-missing");
    }
    assert_eq!(scene.asked(), (1, 1));

    scene.control().change_user(OLGA, |user| user.groups = 201).unwrap();
    scene.validator.advance(299);
    scene.requires(&[&scene.group]).await.unwrap();
    scene.validator.advance(1);
    assert_eq!(scene.requires(&[&scene.group]).await.unwrap_err().code, "groups-missing");
    assert_eq!(scene.asked(), (1, 2), "the token is still good");
}

#[tokio::test]
async fn a_token_is_replaced_five_minutes_before_it_expires() {
    let scene = Scene::new().await;
    scene.control().change_policy(|policy| {
        (policy.access_token_shortest, policy.access_token_longest) = (3600, 3600);
        policy.continuous_access_token = 3600;
    });
    let long_lived = scene.validator.token_of(OLGAS_ID);
    for (seconds, expected) in [(0, (1, 1)), (2999, (1, 2)), (301, (2, 3))] {
        scene.validator.advance(seconds);
        scene.validate(&long_lived, &[&scene.group]).await.unwrap();
        assert_eq!(scene.asked(), expected, "{seconds} s later");
    }
}

#[tokio::test]
async fn the_directory_that_is_asked_is_the_users() {
    let scene = Scene::with(
        |settings| {
            settings.tenant = "organizations".to_owned();
            settings.token.allowed_tenants = vec![CONTOSO.to_owned(), FABRIKAM.to_owned()];
        },
        with_secret,
    )
    .await;
    grant_permission(&scene.control());
    scene.requires(&[&scene.group]).await.unwrap();
    let paths: Vec<_> = scene.control().requests(Endpoint::Token).into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [format!("/{CONTOSO}/oauth2/v2.0/token")]);
}

#[tokio::test]
async fn a_challenged_token_is_replaced_once() {
    let scene = Scene::new().await;
    scene.control().challenge_graph(1);
    scene.requires(&[&scene.group]).await.unwrap();
    assert_eq!(scene.asked(), (2, 2));
}

#[tokio::test]
async fn no_caller_is_admitted_while_graph_is_down() {
    let scene = Scene::new().await;
    scene.control().inject(Fault::on(Endpoint::GraphMemberObjects).always().status(500));
    assert!(scene.unavailable().await.contains("HTTP status 500"));
    assert_eq!(scene.asked(), (1, 1));

    // The failure is remembered for a moment: a flood of calls asks no more.
    for _ in 0..10 {
        scene.unavailable().await;
    }
    assert_eq!(scene.asked(), (1, 1));

    scene.control().clear_faults();
    scene.validator.advance(5);
    scene.requires(&[&scene.group]).await.unwrap();
    assert_eq!(scene.asked(), (1, 2));
}

#[tokio::test]
async fn an_overloaded_graph_is_asked_again_before_a_caller_is_refused() {
    let scene = Scene::new().await;
    let (clock, control) = (scene.validator.clock.clone(), scene.control());
    let time = tokio::spawn(async move {
        loop {
            let wait = clock.next_wait().await;
            // A longer one is a deadline of the host, not a pause between two requests.
            if wait < Duration::from_secs(4) {
                control.advance_clock(wait);
                clock.advance(wait);
            }
            tokio::task::yield_now().await;
        }
    });
    scene.control().inject(Fault::on(Endpoint::GraphMemberObjects).times(3).status(503).header("retry-after", "1"));
    scene.requires(&[&scene.group]).await.unwrap();
    assert_eq!(scene.asked(), (1, 4));
    time.abort();
}

#[tokio::test]
async fn an_incomplete_answer_admits_no_caller() {
    for body in [
        json!({ "value": [STRANGERS], "@odata.nextLink": "https://graph.microsoft.com/next" }),
        json!({ "value": ["not an id"] }),
        json!({ "value": STRANGERS }),
        json!({ "value": vec![STRANGERS; 11_001] }),
    ] {
        let scene = Scene::new().await;
        let fault = Fault::on(Endpoint::GraphMemberObjects).status(200).body(body.to_string());
        scene.control().inject(fault);
        let undecided = scene.requires(&[STRANGERS]).await.unwrap_err();
        assert_eq!(undecided.code, "groups-unavailable", "{undecided:?}");
    }
}

#[tokio::test]
async fn as_many_groups_as_graph_lists_are_remembered() {
    let scene = Scene::new().await;
    scene.control().change_user(OLGA, |user| user.groups = 11_000).unwrap();
    for _ in 0..2 {
        scene.requires(&[&scene.group]).await.unwrap();
    }
    assert_eq!(scene.asked(), (1, 1));
}

#[tokio::test]
async fn a_wrong_secret_admits_no_caller_and_graph_is_not_asked() {
    let wrong = |builder: PluginBuilder| builder.client_credential(Arc::new(TestSecret("wrong".to_owned())));
    let scene = Scene::with(|_| {}, wrong).await;
    grant_permission(&scene.control());
    assert!(scene.unavailable().await.contains("AADSTS7000215"));
    scene.unavailable().await;
    assert_eq!(scene.asked(), (1, 0));
    assert_eq!(scene.validator.failures(), ["aadsts-7000215"]);
}

#[tokio::test]
async fn an_application_without_the_permission_admits_no_caller() {
    let scene = Scene::with(|_| {}, with_secret).await;
    assert!(scene.unavailable().await.contains("Authorization_RequestDenied"));
    // The permission is in the next token, so the one without it is not kept.
    grant_permission(&scene.control());
    scene.validator.advance(5);
    scene.requires(&[&scene.group]).await.unwrap();
    assert_eq!(scene.asked(), (2, 2));
}

#[tokio::test]
async fn a_public_client_admits_no_caller_and_sends_no_request() {
    let scene = Scene::with(|settings| settings.client_type = ClientType::PublicClient, with_secret).await;
    assert_eq!(scene.unavailable().await, "the token's groups are in overage and nothing resolves them");
    assert_eq!(scene.asked(), (0, 0));
}

#[tokio::test]
async fn a_host_without_a_credential_admits_no_caller_and_sends_no_request() {
    let scene = Scene::with(|_| {}, |builder| builder).await;
    assert!(scene.unavailable().await.contains("no credential"));
    assert_eq!(scene.asked(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_at_once_ask_once_together() {
    const CALLS: usize = 16;
    let mut lab = Lab::with(|builder| builder.clock(Clock::real())).await;
    grant_permission(&lab.control());
    let group = last_group(&mut lab).await;
    let plugin = Arc::new(build(with_secret(entra_mcp_plugin::Plugin::builder(settings(&lab)).max_instances(CALLS))));
    let token = lab.control().sign(&overage(&lab, OLGAS_ID), false).unwrap();
    lab.control().clear_requests();
    lab.control().inject(Fault { delay_ms: 500, ..Fault::on(Endpoint::GraphMemberObjects) });
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let (plugin, token) = (Arc::clone(&plugin), token.clone());
            let needs = Requirements { any_group: vec![group.clone()], ..nothing() };
            tokio::spawn(async move { verdict(plugin.validate_token(&token, &needs).await).err() })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap();
        assert!(error.is_none(), "{error:?}");
    }
    assert_eq!(asked(&lab.control()), (1, 1));
}

/// The claims of a user in overage, whose pointer leads to somewhere else. Valid for a week.
fn overage(lab: &Lab, object_id: &str) -> Value {
    let now = lab.control().now();
    json!({
        "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority),
        "iat": now, "nbf": now, "exp": now + 7 * 24 * 3600, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
        "oid": object_id, "sub": "subject", "scp": "Mcp.Access",
        "_claim_names": { "groups": "src1" },
        "_claim_sources": { "src1": { "endpoint": "https://attacker.example/groups" } },
    })
}

impl Validator {
    fn token_of(&self, object_id: &str) -> String {
        self.lab.control().sign(&overage(&self.lab, object_id), false).unwrap()
    }
}
