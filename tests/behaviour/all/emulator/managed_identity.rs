//! Managed identity in its three forms.

use entra_mcp_emulator::IDENTITY_HEADER;
use serde_json::json;

use crate::support::lab::{Answer, Lab, START, TASKS, app};

async fn imds(lab: &Lab, query: &str) -> Answer {
    let url = format!("{}/metadata/identity/oauth2/token?{query}", lab.endpoints().authority);
    lab.send(lab.client().get(url).header("Metadata", "true")).await
}

fn tasks() -> String {
    format!("api://{}", app(TASKS))
}

#[tokio::test]
async fn a_virtual_machine_gets_a_token_of_its_identity() {
    let lab = Lab::new().await;
    let answer = imds(&lab, &format!("api-version=2018-02-01&resource={}", tasks())).await;
    assert_eq!(answer.text("client_id"), "b0000000-0000-4000-a000-000000000001");
    let claims = answer.claims("access_token");
    assert_eq!((&claims["idtyp"], &claims["roles"]), (&json!("app"), &json!(["Tasks.Process.All"])));
    assert_eq!((&claims["oid"], &claims["azpacr"]), (&json!("33333333-0000-4000-a000-000000000001"), &json!("2")));
    let life: i64 = answer.text("expires_in").parse().unwrap();
    assert_eq!(answer.text("expires_on"), (START + life).to_string());
}

#[tokio::test]
async fn an_app_service_needs_its_identity_header() {
    let lab = Lab::new().await;
    let url = format!("{}/msi/token?api-version=2019-08-01&resource={}", lab.endpoints().authority, tasks());
    let answer = lab.send(lab.client().get(&url).header("X-IDENTITY-HEADER", IDENTITY_HEADER)).await;
    assert_eq!(answer.text("resource"), tasks());
    assert!(answer.body["expires_on"].is_string());
    let refused = lab.send(lab.client().get(&url).header("X-IDENTITY-HEADER", "guess")).await;
    assert_eq!((refused.status, &refused.body["statusCode"]), (401, &json!(401)));
    let old = url.replace("2019-08-01", "2017-09-01");
    assert_eq!(lab.send(lab.client().get(&old).header("X-IDENTITY-HEADER", IDENTITY_HEADER)).await.status, 400);
}

#[tokio::test]
async fn a_user_assigned_identity_is_named_by_any_of_its_ids() {
    let lab = Lab::new().await;
    let resource =
        "/subscriptions/0/resourcegroups/emulator/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mcp";
    for name in [
        "client_id=b0000000-0000-4000-a000-000000000002".to_owned(),
        "object_id=33333333-0000-4000-a000-000000000002".to_owned(),
        format!("msi_res_id={resource}"),
    ] {
        let answer = imds(&lab, &format!("api-version=2018-02-01&resource={}&{name}", tasks())).await;
        assert_eq!(answer.text("client_id"), "b0000000-0000-4000-a000-000000000002", "{name}");
        assert!(answer.claims("access_token")["roles"].is_null());
    }
    let unknown = imds(&lab, &format!("api-version=2018-02-01&resource={}&client_id=nobody", tasks())).await;
    assert_eq!((unknown.status, unknown.text("error_description")), (400, "Identity not found"));
}

#[tokio::test]
async fn the_metadata_service_refuses_what_could_be_a_forwarded_request() {
    let lab = Lab::new().await;
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}",
        lab.endpoints().authority,
        tasks()
    );
    assert_eq!(lab.send(lab.client().get(&url)).await.text("error"), "bad_request_102");
    let forwarded = lab.client().get(&url).header("Metadata", "true").header("X-Forwarded-For", "10.0.0.1");
    assert_eq!(lab.send(forwarded).await.status, 400);
    assert_eq!(imds(&lab, &format!("resource={}", tasks())).await.status, 400);
    assert_eq!(imds(&lab, "api-version=2018-02-01").await.status, 400);
    assert_eq!(imds(&lab, "api-version=2018-02-01&resource=api://nobody").await.status, 400);
}

#[tokio::test]
async fn the_agent_of_azure_arc_wants_the_content_of_the_file_that_it_names_once() {
    let lab = Lab::new().await;
    let folder = tempfile::tempdir().unwrap();
    let url = |query: &str| format!("{}/arc/metadata/identity/oauth2/token?{query}", lab.endpoints().authority);
    let good = url(&format!("api-version=2020-06-01&resource={}", tasks()));
    let ask = async |url: &str, proof: Option<&str>| {
        let request = lab.client().get(url).header("Metadata", "true");
        let proof = proof.map(|proof| format!("Basic {proof}"));
        lab.send(proof.into_iter().fold(request, |request, proof| request.header("Authorization", proof))).await
    };
    assert_eq!(ask(&good, None).await.status, 404, "there is no agent");
    lab.control().start_arc_agent(folder.path());
    assert_eq!(lab.send(lab.client().get(&good)).await.status, 400);
    for wrong in ["api-version=2018-02-01&resource=x", "api-version=2020-06-01&resource=x&client_id=y"] {
        assert_eq!(ask(&url(wrong), None).await.status, 400, "{wrong}");
    }
    let challenged = ask(&good, None).await;
    assert_eq!(challenged.status, 401);
    let file = challenged.header("www-authenticate").strip_prefix("Basic realm=").unwrap().to_owned();
    assert!(file.starts_with(folder.path().to_str().unwrap()) && file.ends_with(".key"), "{file}");
    let key = std::fs::read_to_string(&file).unwrap();
    assert_eq!(ask(&good, Some("guess")).await.status, 401);
    assert_eq!(ask(&good, Some(&key)).await.text("client_id"), "b0000000-0000-4000-a000-000000000001");
    assert_eq!(ask(&good, Some(&key)).await.status, 401, "it is good once");
}
