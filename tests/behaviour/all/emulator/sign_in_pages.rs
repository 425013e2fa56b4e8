//! The sign-in pages, as a plain HTTP client walks them.

use entra_mcp_emulator::user_agent::{AgentError, HeadlessBrowser, Person};

use crate::support::lab::{Authorize, CURIOUS, LOCAL, Lab, PASSWORD, REMOTE, TASKS, app, refused, sent_back};

const ALICE: &str = "alice@contoso.example";
const ADMIN: &str = "admin@contoso.example";

fn person(name: &str) -> Person {
    Person::new(&format!("{name}@contoso.example"), PASSWORD)
}

#[tokio::test]
async fn a_second_sign_in_is_silent_and_select_account_shows_the_picker() {
    let mut lab = Lab::new().await;
    lab.graph_tokens(ALICE).await;
    assert_eq!(lab.authorize(&Authorize::new(LOCAL), ALICE).await.unwrap().pages, [""; 0]);
    let select = Authorize::new(LOCAL).with("prompt", "select_account");
    assert_eq!(lab.authorize(&select, ALICE).await.unwrap().pages, ["Pick an account"]);
    let other = lab.authorize(&select, "bob@contoso.example").await.unwrap();
    assert_eq!(other.pages, ["Pick an account", "Sign in", "Enter password"]);
    assert_eq!(lab.authorize(&Authorize::new(LOCAL), "bob@contoso.example").await.unwrap().pages, ["Pick an account"]);
}

#[tokio::test]
async fn prompts_and_hints_choose_the_first_page() {
    let mut lab = Lab::new().await;
    let hint = Authorize::new(LOCAL).with("login_hint", ALICE);
    assert_eq!(lab.authorize(&hint, ALICE).await.unwrap().pages, ["Enter password"]);
    let login = Authorize::new(LOCAL).with("prompt", "login").with("login_hint", ALICE);
    assert_eq!(lab.authorize(&login, ALICE).await.unwrap().pages, ["Enter password"]);
    let consent = Authorize::new(LOCAL).with("prompt", "consent");
    assert_eq!(lab.authorize(&consent, ALICE).await.unwrap().pages, ["Permissions requested"]);
}

#[tokio::test]
async fn a_browser_session_ends_after_a_day() {
    let mut lab = Lab::new().await;
    lab.graph_tokens(ALICE).await;
    lab.advance(86_401);
    assert_eq!(lab.authorize(&Authorize::new(LOCAL), ALICE).await.unwrap().pages, ["Sign in", "Enter password"]);
}

#[tokio::test]
async fn mistakes_are_shown_where_they_were_made() {
    let cases = [
        (Person::new("nobody@contoso.example", PASSWORD), 50_034, "Sign in"),
        (Person::new(ALICE, "wrong"), 50_126, "Enter password"),
        (person("dora"), 50_057, "Enter password"),
        (person("paul"), 50_055, "Enter password"),
        (Person { one_time_code: "000000".to_owned(), ..person("mia") }, 500_121, "Verify your identity"),
        (person("carl"), 53_003, "You cannot access this right now"),
    ];
    for (person, code, title) in cases {
        let mut lab = Lab::new().await;
        let outcome = lab.authorize_as(&Authorize::new(LOCAL), &person).await;
        assert_eq!(refused(outcome), (code, title.to_owned()), "{}", person.username);
    }
}

#[tokio::test]
async fn second_factors_are_asked_for_and_remembered() {
    let mut lab = Lab::new().await;
    let landing = lab.authorize_as(&Authorize::new(LOCAL), &person("mia")).await.unwrap();
    assert_eq!(landing.pages, ["Sign in", "Enter password", "Verify your identity"]);
    assert_eq!(lab.authorize_as(&Authorize::new(LOCAL), &person("mia")).await.unwrap().pages, [""; 0]);
    let mut lab = Lab::new().await;
    let landing = lab.authorize_as(&Authorize::new(LOCAL), &person("nora")).await.unwrap();
    assert_eq!(landing.pages, ["Sign in", "Enter password", "More information required"]);
}

#[tokio::test]
async fn a_protected_api_asks_for_a_second_factor_and_others_do_not() {
    let mut lab = Lab::new().await;
    let landing = lab.authorize_as(&Authorize::new(LOCAL), &person("stella")).await.unwrap();
    assert_eq!(landing.pages, ["Sign in", "Enter password"]);
    let vault = Authorize::new(LOCAL).scope(&format!("openid api://{}/Vault.Open", app(6)));
    let silent = lab.authorize_as(&vault.clone().with("prompt", "none"), &person("stella")).await.unwrap();
    assert_eq!(sent_back(&silent), ("interaction_required".to_owned(), 50_076));
    assert_eq!(lab.authorize_as(&vault, &person("stella")).await.unwrap().pages, ["Verify your identity"]);
}

#[tokio::test]
async fn consent_is_asked_once_and_can_be_declined() {
    let mut lab = Lab::new().await;
    let request = Authorize::new(CURIOUS);
    let declined = lab.authorize_as(&request, &person("alice").declining()).await.unwrap();
    assert_eq!(sent_back(&declined), ("access_denied".to_owned(), 65_004));
    let silent = lab.authorize(&request.clone().with("prompt", "none"), ALICE).await.unwrap();
    assert_eq!(sent_back(&silent).0, "login_required", "declining signs no user in");
    let accepted = lab.authorize(&request, ALICE).await.unwrap();
    assert_eq!(accepted.pages.last().unwrap(), "Permissions requested");
    assert_eq!(lab.authorize(&request, ALICE).await.unwrap().pages, [""; 0]);
    let more = request.scope("openid Mail.Read").with("prompt", "none");
    assert_eq!(sent_back(&lab.authorize(&more, ALICE).await.unwrap()), ("consent_required".to_owned(), 65_001));
}

#[tokio::test]
async fn permissions_of_administrators_need_one() {
    let mut lab = Lab::new().await;
    let request = Authorize::new(LOCAL).scope("openid https://graph.microsoft.com/Directory.Read.All");
    let (code, title) = refused(lab.authorize(&request, ALICE).await);
    assert_eq!((code, title.as_str()), (90_094, "Need admin approval"));
    let back = lab.authorize_as(&request, &person("alice").going_back()).await.unwrap();
    assert_eq!(sent_back(&back), ("consent_required".to_owned(), 90_094));
    let mut admin = HeadlessBrowser::new().staying();
    let url = request.url(&lab.endpoints().authority);
    let landing = admin.sign_in(&url, ADMIN, PASSWORD).await.unwrap();
    assert_eq!(landing.pages.last().unwrap(), "Permissions requested");
    let own = Authorize::new(LOCAL).scope(&format!("openid api://{}/Tasks.Manage.All", app(TASKS)));
    assert_eq!(refused(lab.authorize(&own, ALICE).await).0, 90_094, "one scope's consent is not another's");
}

#[tokio::test]
async fn only_assigned_users_may_use_a_restricted_application() {
    let mut lab = Lab::new().await;
    let (code, title) = refused(lab.authorize(&Authorize::new(9), "bob@contoso.example").await);
    assert_eq!((code, title.as_str()), (50_105, "You don't have access to this app"));
    let mut lab = Lab::new().await;
    assert!(lab.authorize(&Authorize::new(9), ALICE).await.unwrap().parameter("code").is_some());
}

#[tokio::test]
async fn a_blocked_user_can_go_back_to_the_application() {
    let mut lab = Lab::new().await;
    let back = lab.authorize_as(&Authorize::new(LOCAL), &person("carl").going_back()).await.unwrap();
    assert_eq!(sent_back(&back), ("access_denied".to_owned(), 53_003));
}

#[tokio::test]
async fn a_form_works_only_in_the_browser_that_began_and_within_an_hour() {
    let mut lab = Lab::new().await;
    let url = Authorize::new(LOCAL).url(&lab.endpoints().authority);
    let page = lab.browser.get(&url).await.unwrap().body;
    let field = |name: &str| {
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let (context, canary) = (field("ctx"), field("canary"));
    let action = format!("{}/common/login", lab.endpoints().authority);
    let form = [("ctx", context.as_str()), ("canary", &canary), ("action", "username"), ("loginfmt", ALICE)];
    let elsewhere = lab.post(&action, &form).await;
    assert_eq!(elsewhere.status, 400, "another browser has no cookie");
    assert!(String::from_utf8_lossy(&elsewhere.bytes).contains("AADSTS90038"));
}

#[tokio::test]
async fn what_others_wrote_is_escaped() {
    let mut lab = Lab::new().await;
    lab.control().change_application(&app(LOCAL), |app| app.name = "<script>alert(1)</script>".to_owned()).unwrap();
    let url =
        Authorize::new(LOCAL).with("login_hint", "\"><script>").with("prompt", "login").url(&lab.endpoints().authority);
    let page = lab.browser.get(&url).await.unwrap().body;
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
}

#[tokio::test]
async fn pages_forbid_framing_and_caching() {
    let lab = Lab::new().await;
    let url = Authorize::new(LOCAL).url("");
    let page = lab.get(&url).await;
    assert_eq!((page.header("x-frame-options"), page.header("cache-control")), ("DENY", "no-store, no-cache"));
    let cookie = page.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
}

#[tokio::test]
async fn the_browser_refuses_addresses_beyond_this_machine() {
    let mut browser = HeadlessBrowser::new();
    assert!(matches!(browser.get("http://192.0.2.1/").await, Err(AgentError::NotLoopback(_))));
    let mut lab = Lab::new().await;
    let native = "https://login.microsoftonline.com/common/oauth2/nativeclient";
    let landing = lab.authorize(&Authorize::new(LOCAL).with("redirect_uri", native), ALICE).await.unwrap();
    assert!(landing.status.is_none() && landing.url.starts_with(native));
}

#[tokio::test]
async fn a_confidential_client_signs_users_in_over_its_own_redirect() {
    let mut lab = Lab::new().await;
    let request = Authorize::new(REMOTE).with("redirect_uri", "https://mcp.contoso.example/auth/callback");
    let landing = lab.authorize(&request, ALICE).await.unwrap();
    assert!(landing.url.starts_with("https://mcp.contoso.example/auth/callback?code="));
}
