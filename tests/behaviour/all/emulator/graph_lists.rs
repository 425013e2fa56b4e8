//! Microsoft Graph: collections, and what Graph wants to see with a query for one.

use serde_json::{Value, json};

use crate::support::lab::{Answer, Authorize, LOCAL, Lab};

const ALICE: &str = "alice@contoso.example";
const OLGA: &str = "olga@contoso.example";
const GROUPS: &str = "/me/transitiveMemberOf/microsoft.graph.group";

/// (status, error code).
fn error(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or("no error"))
}

async fn token(lab: &mut Lab, username: &str, scope: &str) -> String {
    lab.browser.clear_cookies();
    lab.tokens(&Authorize::new(LOCAL).scope(scope), username).await.text("access_token").to_owned()
}

async fn app_token(lab: &Lab) -> String {
    let form = [("grant_type", "client_credentials"), ("scope", "https://graph.microsoft.com/.default")];
    lab.confidential(&form).await.text("access_token").to_owned()
}

/// With the header of advanced queries.
async fn eventual(lab: &Lab, path: &str, token: &str) -> Answer {
    let url = format!("{}/v1.0{path}", lab.endpoints().graph);
    lab.send(lab.client().get(url).bearer_auth(token).header("consistencylevel", "eventual")).await
}

fn names(answer: &Answer) -> Vec<&str> {
    let users = answer.body["value"].as_array().unwrap_or_else(|| panic!("{}", answer.body));
    users.iter().map(|user| user["displayName"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_cast_to_groups_is_an_advanced_query() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "GroupMember.Read.All").await;
    let unsupported = (400, "Request_UnsupportedQuery");
    assert_eq!(error(&lab.graph(GROUPS, &token).await), unsupported);
    assert_eq!(error(&eventual(&lab, GROUPS, &token).await), unsupported);
    assert_eq!(error(&lab.graph(&format!("{GROUPS}?$count=true"), &token).await), unsupported);
    let answer = eventual(&lab, &format!("{GROUPS}?$count=true&$select=id,displayName"), &token).await;
    assert_eq!(answer.body["@odata.count"], 3);
    let context = format!("{}/v1.0/$metadata#groups(id,displayName)", lab.endpoints().graph);
    assert_eq!(answer.body["@odata.context"], context);
    let group = answer.body["value"][0].as_object().unwrap();
    assert_eq!(group.keys().collect::<Vec<_>>(), ["displayName", "id"]);
    let roles = eventual(&lab, "/me/transitiveMemberOf/microsoft.graph.directoryRole?$count=true", &token).await;
    assert_eq!(roles.body["value"], json!([]));
    for path in ["/me/transitiveMemberOf/microsoft.graph.user", "/me/memberOf/x"] {
        assert_eq!(error(&eventual(&lab, path, &token).await), (400, "BadRequest"), "{path}");
    }
    let odd = format!("{GROUPS}?$count=true&$select=shoeSize");
    assert_eq!(error(&eventual(&lab, &odd, &token).await), (400, "BadRequest"));
}

#[tokio::test]
async fn the_link_to_the_next_page_repeats_the_question() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, OLGA, "GroupMember.Read.All").await;
    let mut path = format!("{GROUPS}?$select=id,displayName&$count=true&$top=100");
    let mut sizes = Vec::new();
    loop {
        let page = eventual(&lab, &path, &token).await;
        assert!(page.body["value"][0].get("mail").is_none());
        sizes.push(page.body["value"].as_array().unwrap().len());
        let Some(link) = page.body["@odata.nextLink"].as_str() else { break };
        let prefix = format!("{}/v1.0", lab.endpoints().graph);
        path = link.strip_prefix(&prefix).expect("the next page is on Graph").to_owned();
    }
    assert_eq!(sizes, [100, 100, 50]);
    for top in ["0", "1000", "x"] {
        let path = format!("{GROUPS}?$count=true&$top={top}");
        assert_eq!(error(&eventual(&lab, &path, &token).await), (400, "BadRequest"), "{top}");
    }
}

#[tokio::test]
async fn groups_need_a_permission() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    let answer = eventual(&lab, &format!("{GROUPS}?$count=true"), &token).await;
    assert_eq!(error(&answer), (403, "Authorization_RequestDenied"));
}

#[tokio::test]
async fn people_are_found_by_a_filter() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.ReadBasic.All").await;
    for (filter, expected) in [
        ("startswith(displayName,'Ali')", vec!["Alice Anderson"]),
        ("startsWith(displayName, 'ALI')", vec!["Alice Anderson"]),
        ("startswith(displayname,'Ali') or startswith(mail,'mia')", vec!["Alice Anderson", "Mia Moreno"]),
        ("startswith(displayName,'Ali') and surname eq 'Anderson'", vec!["Alice Anderson"]),
        ("startswith(displayName,'Ali') and surname eq 'Brown'", vec![]),
        ("userPrincipalName eq 'bob@contoso.example'", vec!["Bob Brown"]),
        ("startswith(displayName,'O''Neil')", vec![]),
        ("startswith(mail,'frank')", vec![]),
        ("startswith(mail,'grace')", vec!["Grace Garcia"]),
    ] {
        let path = format!("/users?$select=displayName&$filter={}", filter.replace(' ', "%20"));
        let answer = lab.graph(&path, &token).await;
        assert_eq!(names(&answer), expected, "{filter}");
    }
}

#[tokio::test]
async fn a_filter_that_graph_does_not_understand_is_refused() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.ReadBasic.All").await;
    for (filter, code) in [
        ("startswith(displayName,'O'Neil')", "BadRequest"),
        ("startswith(displayName,'Ali", "BadRequest"),
        ("startswith(displayName,'Ali'", "BadRequest"),
        ("startswith(displayName 'Ali')", "BadRequest"),
        ("startswith(displayName,Ali)", "BadRequest"),
        ("startswith(displayName,'a') or", "BadRequest"),
        ("startswith(displayName,'a') xor startswith(mail,'a')", "BadRequest"),
        ("displayName", "BadRequest"),
        ("'", "BadRequest"),
        ("shoeSize eq '5'", "BadRequest"),
        ("startswith(mobilePhone,'1')", "Request_UnsupportedQuery"),
        ("endswith(mail,'a')", "Request_UnsupportedQuery"),
    ] {
        let path = format!("/users?$filter={}", filter.replace(' ', "%20"));
        assert_eq!(error(&lab.graph(&path, &token).await), (400, code), "{filter}");
    }
    let many = ["id eq 'x'"; 16].join("%20or%20");
    let answer = lab.graph(&format!("/users?$filter={many}"), &token).await;
    assert_eq!(error(&answer), (400, "Request_UnsupportedQuery"));
    for query in ["$search=%22displayName:a%22", "$skip=1", "$top=0", "$top=1000", "$count=true", "$select=shoeSize"] {
        assert_eq!(error(&lab.graph(&format!("/users?{query}"), &token).await), (400, "BadRequest"), "{query}");
    }
    assert!(eventual(&lab, "/users?$count=true&$top=2", &token).await.body["@odata.count"].as_u64() > Some(10));
}

#[tokio::test]
async fn who_may_list_people_and_what_of_them() {
    let mut lab = Lab::new().await;
    let denied = (403, "Authorization_RequestDenied");
    let own = token(&mut lab, ALICE, "User.Read").await;
    assert_eq!(error(&lab.graph("/users", &own).await), denied);
    let guest = token(&mut lab, "grace@fabrikam.example", "User.ReadBasic.All").await;
    assert_eq!(error(&lab.graph("/users", &guest).await), denied, "guests may not");
    let basic = token(&mut lab, ALICE, "User.ReadBasic.All").await;
    let alice = "/users?$filter=startswith(displayName,'Alice')";
    let seen = lab.graph(alice, &basic).await.body["value"][0].clone();
    assert_eq!((&seen["mail"], &seen["jobTitle"]), (&json!(ALICE), &Value::Null));
    let app = app_token(&lab).await;
    let seen = lab.graph(alice, &app).await.body["value"][0].clone();
    assert_eq!((&seen["mail"], &seen["jobTitle"]), (&json!(ALICE), &json!("Product Manager")));
    let url = format!("{}/v1.0/users", lab.endpoints().graph);
    let posted = lab.send(lab.client().post(url).bearer_auth(&app).json(&json!({}))).await;
    assert_eq!(posted.status, 400);
}

#[tokio::test]
async fn a_mailbox_is_for_its_owner_who_has_to_have_the_permission() {
    let mut lab = Lab::new().await;
    let alice = token(&mut lab, ALICE, "Mail.Read").await;
    let answer = lab.graph("/me/messages?$top=2&$select=subject,toRecipients", &alice).await;
    let messages = answer.body["value"].as_array().unwrap_or_else(|| panic!("{}", answer.body));
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["subject"], "Message 1 for Alice Anderson");
    assert_eq!(messages[0]["toRecipients"][0]["emailAddress"]["address"], ALICE);
    assert!(answer.body["@odata.nextLink"].is_string());
    let olga = token(&mut lab, OLGA, "Mail.Read").await;
    let answer = lab.graph("/me/messages", &olga).await;
    assert_eq!(answer.body["value"][0]["toRecipients"][0]["emailAddress"]["address"], OLGA);

    let without = token(&mut lab, ALICE, "User.Read").await;
    let denied = (403, "ErrorAccessDenied");
    assert_eq!(error(&lab.graph("/me/messages", &without).await), denied);
    let all = token(&mut lab, ALICE, "Mail.Read User.ReadBasic.All").await;
    assert_eq!(error(&lab.graph(&format!("/users/{OLGA}/messages"), &all).await), denied);
    assert_eq!(error(&lab.graph("/me/messages?$select=shoeSize", &alice).await), (400, "BadRequest"));
}
