//! What it says where it is refused, each time with what to do.

use entra_mcp_emulator::{DeviceOutcome, DeviceScript, Endpoint, Fault};

use super::{ADMIN, ALICE, Ran, fresh, registered, sentence, setup_as, with, writes};
use crate::host::commands::Home;
use crate::host::serve::run;

const BOB: &str = "bob@contoso.example";

async fn setup(home: &Home, username: &str, more: &[&str]) -> Ran {
    setup_as(home, username, &with(&fresh(home), more)).await
}

#[tokio::test]
async fn without_an_answer_nothing_is_changed() {
    let home = Home::new().await;
    let ran = setup(&home, ALICE, &[]).await;
    let expected = "nothing was changed: there is no terminal to ask at. Pass --yes to do what is shown, or --dry-run to see \
                    the requests";
    assert_eq!((ran.code, sentence(&ran)), (Some(2), expected));
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn an_account_that_may_not_register_applications_is_told_what_it_lacks() {
    let home = Home::new().await;
    home.emulator().control().change_policy(|policy| policy.users_register_applications = false);
    let ran = setup(&home, BOB, &["--yes"]).await;
    let expected = "Microsoft Graph refuses to register the application (403 Authorization_RequestDenied): it takes the \
                    delegated permission Application.ReadWrite.All, and an account with the role Application Developer, or \
                    that Users can register applications is set to Yes under Entra ID > Users > User settings. Sign in with \
                    another account (--account), or let an administrator run the command";
    assert_eq!((ran.code, sentence(&ran)), (Some(1), expected));
    assert!(registered(&home, "entra-mcp").is_empty() && !home.path().join("fresh.toml").exists());
    setup(&home, ADMIN, &["--yes"]).await.succeeded();
}

#[tokio::test]
async fn an_account_that_does_not_own_the_registration_is_told_so() {
    let home = Home::new().await;
    setup(&home, ALICE, &["--yes"]).await.succeeded();
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    home.emulator().control().change_application(&application.id, |app| app.allow_public_client = false).unwrap();
    let ran = setup(&home, BOB, &["--yes"]).await;
    let expected = "Microsoft Graph refuses to change the app registration (403 Authorization_RequestDenied): it takes the \
                    delegated permission Application.ReadWrite.All, and an account that owns the registration, or has the \
                    role Cloud Application Administrator. Sign in with another account (--account), or let an administrator \
                    run the command";
    assert_eq!((ran.code, sentence(&ran)), (Some(1), expected));
}

#[tokio::test]
async fn consent_for_the_organisation_takes_an_administrator() {
    let home = Home::new().await;
    let ran = setup(&home, ALICE, &["--yes", "--grant-admin-consent"]).await;
    let expected = "Microsoft Graph refuses to consent for the organisation (403 Authorization_RequestDenied): it takes the \
                    delegated permission DelegatedPermissionGrant.ReadWrite.All, and an account with the role Privileged Role \
                    Administrator or Cloud Application Administrator. Sign in with another account (--account), or let an \
                    administrator run the command";
    assert_eq!((ran.code, sentence(&ran)), (Some(1), expected));
}

#[tokio::test]
async fn a_client_without_the_permission_is_named_with_the_way_out() {
    let home = Home::new().await;
    let script = DeviceScript {
        interval: Some(0),
        outcome: Some(DeviceOutcome::ApprovedBy(ALICE.to_owned())),
        ..DeviceScript::default()
    };
    home.emulator().control().script_device_codes(script);
    let client = ["--sign-in", "device-code", "--setup-client-id", "a0000000-0000-4000-a000-000000000005"];
    let mut command = home.program(&["setup", "--yes"]);
    command.args(fresh(&home)).args(client);
    let (code, output, log) = run(command, "").await;
    let ran = Ran { code, output, log };
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    let said = sentence(&ran);
    assert!(said.starts_with("the sign-in for setup failed: "), "{said}");
    let ends = "It asks for the permission Application.ReadWrite.All; name an account that may use it with --account, or a \
                public client of your own with --setup-client-id";
    assert!(said.ends_with(ends), "{said}");
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn a_throttled_request_says_when_to_come_back_and_the_next_run_finishes() {
    let home = Home::new().await;
    let control = home.emulator().control();
    let throttled = Fault::on(Endpoint::GraphServicePrincipals).after(1).status(429).header("retry-after", "17");
    control.inject(throttled);
    let ran = setup(&home, ALICE, &["--yes"]).await;
    let expected = "Microsoft Graph has too many requests and refuses to add the application to the tenant (429): run the \
                    command again in 17 seconds. What is done already is not done twice";
    assert_eq!((ran.code, sentence(&ran)), (Some(1), expected));
    setup(&home, ALICE, &["--yes"]).await.succeeded();
    assert_eq!(registered(&home, "entra-mcp").len(), 1);
}

#[tokio::test]
async fn a_graph_that_does_not_know_yet_what_it_has_made_is_asked_again() {
    let home = Home::new().await;
    home.emulator().control().inject(Fault::on(Endpoint::GraphServicePrincipals).after(1).status(404).times(2));
    setup(&home, ALICE, &["--yes"]).await.succeeded();
    let posts = writes(&home).into_iter().filter(|write| write.ends_with("servicePrincipals")).count();
    assert_eq!(posts, 3);
}

#[tokio::test]
async fn several_registrations_of_one_name_are_listed_and_an_id_chooses() {
    let home = Home::new().await;
    setup(&home, ALICE, &["--yes", "--name", "twin"]).await.succeeded();
    let [first] = registered(&home, "twin").try_into().expect("one registration");
    let control = home.emulator().control();
    let second =
        entra_mcp_emulator::Application { id: "0badcafe-0000-4000-a000-000000000001".to_owned(), ..first.clone() };
    control.put_application(second).unwrap();
    control.clear_requests();
    let ran = setup(&home, ALICE, &["--yes", "--name", "twin"]).await;
    let expected =
        "2 app registrations are named \"twin\": choose one of them with --app-id, or another name with --name";
    assert_eq!((ran.code, sentence(&ran)), (Some(2), expected));
    for id in [&first.id, "0badcafe-0000-4000-a000-000000000001"] {
        assert!(ran.log.contains(&format!("\n  {id}  created ")), "{}", ran.log);
    }
    assert_eq!(writes(&home), [""; 0]);
    setup(&home, ALICE, &["--yes", "--app-id", &first.id]).await.succeeded();
    let unknown = setup(&home, ALICE, &["--yes", "--app-id", "0badcafe-0000-4000-a000-0000000000ff"]).await;
    let expected = "--app-id, 0badcafe-0000-4000-a000-0000000000ff, is no app registration of the tenant \
                    c0117050-0000-4000-a000-000000000001: correct it, sign in to its tenant (--tenant-id), or register a new \
                    application with --name";
    assert_eq!((unknown.code, sentence(&unknown)), (Some(2), expected));
}

#[tokio::test]
async fn an_app_id_uri_of_another_registration_is_a_conflict_that_says_what_to_do() {
    let home = Home::new().await;
    // The emulator's own remote server has it.
    let ran = setup(&home, ALICE, &["--yes", "--public-url", "https://mcp.contoso.example"]).await;
    let expected = "Microsoft Graph refuses to change the app registration: Another object with the same value for property \
                    identifierUris already exists (400 Request_BadRequest). Another registration has this \
                    Application ID URI: name that one with --app-id, or remove the URI there under Expose an API";
    assert_eq!((ran.code, sentence(&ran)), (Some(1), expected));
}

#[tokio::test]
async fn an_unknown_permission_and_a_graph_that_is_away_are_named() {
    let home = Home::new().await;
    let unknown = setup(&home, ALICE, &["--yes", "--graph-permission", "Mail.Burn"]).await;
    let expected = "Microsoft Graph has no delegated permission \"Mail.Burn\": correct --graph-permission (names are \
                    case-sensitive, such as User.Read.All)";
    assert_eq!((unknown.code, sentence(&unknown)), (Some(2), expected));
    home.emulator().control().inject(Fault::on(Endpoint::GraphServicePrincipals).drop_connection().always());
    let away = setup(&home, ALICE, &["--yes"]).await;
    assert_eq!(away.code, Some(1), "{}", away.log);
    assert!(sentence(&away).starts_with("Microsoft Graph: "), "{}", away.log);
    assert_eq!(writes(&home), [""; 0]);
}
