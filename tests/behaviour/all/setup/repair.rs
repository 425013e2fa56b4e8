//! What a second run does: nothing where all is well, and exactly what is wrong otherwise.

use entra_mcp_emulator::{Application, Endpoint};

use super::{ADMIN, ALICE, answered, broker, fresh, registered, setting, setup_as, with, writes};
use crate::host::commands::Home;

const REMOTE: [&str; 4] = ["--public-url", "https://tools.contoso.example", "--local", "--grant-admin-consent"];

/// A registration for both servers, with nothing wrong in it.
async fn complete() -> Home {
    let home = Home::new().await;
    setup_as(&home, ADMIN, &with(&fresh(&home), &[&REMOTE[..], &["--yes"]].concat())).await.succeeded();
    home.emulator().control().clear_requests();
    home
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_says_so() {
    let home = complete().await;
    let file = home.path().join("fresh.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    // It asks nothing either.
    let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &REMOTE)).await;
    ran.succeeded();
    assert!(
        ran.output.contains("nothing to change") && ran.output.contains("Nothing had to be changed."),
        "{}",
        ran.output
    );
    assert_eq!(writes(&home), [""; 0]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(registered(&home, "entra-mcp").len(), 1);
}

#[tokio::test]
async fn a_dry_run_shows_the_requests_and_sends_none() {
    let home = Home::new().await;
    let more = [&REMOTE[..], &["--dry-run"]].concat();
    let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &more)).await;
    ran.succeeded();
    let graph = &home.emulator().endpoints().graph;
    for request in [
        format!("POST {graph}/v1.0/applications\n{{"),
        format!("PATCH {graph}/v1.0/applications/{{id}}\n{{"),
        format!("POST {graph}/v1.0/servicePrincipals\n{{\n  \"appId\": \"{{appId}}\"\n}}"),
        format!("POST {graph}/v1.0/oauth2PermissionGrants\n{{"),
    ] {
        assert!(ran.output.contains(&request), "{request} is not in\n{}", ran.output);
    }
    assert!(ran.output.contains("Nothing was changed (--dry-run)."), "{}", ran.output);
    assert_eq!(writes(&home), [""; 0]);
    // It could not have written anything either.
    let said = "Sign in with an account that may read app registrations (permission Application.Read.All and \
                DelegatedPermissionGrant.Read.All).";
    assert!(ran.log.contains(said), "{}", ran.log);
    let requests = home.emulator().control().requests(Endpoint::Authorize);
    let asked: Vec<_> = requests.iter().filter_map(|request| request.query("scope")).collect();
    assert!(!asked.is_empty() && asked.iter().all(|scope| !scope.contains("Write")), "{asked:?}");
    assert!(registered(&home, "entra-mcp").is_empty() && !home.path().join("fresh.toml").exists());
}

#[tokio::test]
async fn each_wrong_property_is_shown_and_repaired_by_one_request() {
    let home = complete().await;
    let [before] = registered(&home, "entra-mcp").try_into().expect("one registration");
    let control = home.emulator().control();
    let of_broker = format!("redirect URI {} (Mobile and desktop applications)", broker(&home));
    let cases: [(&str, fn(&mut Application)); 12] = [
        ("redirect URI http://localhost (Mobile and desktop applications)", |app| {
            app.public_redirect_uris.retain(|uri| uri != "http://localhost");
        }),
        (&of_broker, |app| app.public_redirect_uris.retain(|uri| uri == "http://localhost")),
        ("optional claim login_hint in ID tokens", |app| {
            let claims = app.registration.optional_claims.as_mut().unwrap();
            claims["idToken"].as_array_mut().unwrap().retain(|claim| claim["name"] != "login_hint");
        }),
        ("Allow public client flows: Yes", |app| app.allow_public_client = false),
        ("redirect URI https://tools.contoso.example/auth/callback (Web)", |app| app.web_redirect_uris.clear()),
        ("requestedAccessTokenVersion 2", |app| app.access_token_version = 1),
        ("scope access_as_user", |app| {
            app.scopes.clear();
            app.registration.scopes.clear();
        }),
        ("Application ID URI https://tools.contoso.example/mcp", |app| app.identifier_uris.clear()),
        ("app role Mcp.Reader", |app| {
            app.roles.retain(|role| role != "Mcp.Reader");
            app.registration.roles.retain(|role| role["value"] != "Mcp.Reader");
        }),
        ("groups claim (Security groups)", |app| app.group_claims = false),
        ("optional claim idtyp in access tokens", |app| {
            let claims = app.registration.optional_claims.as_mut().unwrap();
            claims["accessToken"].as_array_mut().unwrap().retain(|claim| claim["name"] != "idtyp");
            app.idtyp_for_applications = false;
        }),
        ("API permission Microsoft Graph User.Read (delegated)", |app| {
            app.registration.required_resource_access = Some(Vec::new());
            app.permissions.clear();
        }),
    ];
    for (part, spoil) in cases {
        control.change_application(&before.id, spoil).unwrap();
        control.clear_requests();
        let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &[&REMOTE[..], &["--yes"]].concat())).await;
        ran.succeeded();
        let added: Vec<_> = ran.output.lines().filter_map(|line| line.strip_prefix("  + ")).collect();
        assert_eq!(added, [part], "{}", ran.output);
        assert_eq!(writes(&home).len(), 1, "{part}: {:?}", writes(&home));
        let [after] = registered(&home, "entra-mcp").try_into().expect("one registration");
        let state = |app: &Application| {
            let mut public_redirect_uris = app.public_redirect_uris.clone();
            public_redirect_uris.sort();
            (
                (public_redirect_uris, app.allow_public_client, app.web_redirect_uris.clone()),
                (app.access_token_version, app.scopes.len(), app.identifier_uris.clone()),
                (app.roles.len(), app.group_claims, app.idtyp_for_applications, app.permissions.clone()),
            )
        };
        assert_eq!(state(&after), state(&before), "{part}");
    }
}

#[tokio::test]
async fn a_missing_service_principal_and_missing_consent_are_added() {
    let home = Home::new().await;
    setup_as(&home, ADMIN, &with(&fresh(&home), &["--yes"])).await.succeeded();
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    let control = home.emulator().control();
    control.change_application(&application.id, |app| app.without_service_principal = true).unwrap();
    control.clear_requests();
    let more =
        ["--grant-admin-consent", "--graph-permission", "User.Read", "--graph-permission", "GroupMember.Read.All"];
    let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &[&more[..], &["--yes"]].concat())).await;
    ran.succeeded();
    assert!(
        ran.output.contains("admin consent to Microsoft Graph User.Read GroupMember.Read.All for all users"),
        "{}",
        ran.output
    );
    assert_eq!(writes(&home).len(), 3, "{:?}", writes(&home));
    control.clear_requests();
    setup_as(&home, ADMIN, &with(&fresh(&home), &more)).await.succeeded();
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn a_configuration_file_is_changed_line_by_line_and_only_after_the_question() {
    let home = Home::new().await;
    let file = home.path().join("fresh.toml");
    let mine = "# mine\nclient-id = \"a0000000-0000-4000-a000-000000000005\"\nprofile-cache-seconds = 7\n\n[[clients]]\n\
                client-id = \"x\"\nname = \"X\"\nredirect-uris = []\n";
    std::fs::write(&file, mine).unwrap();
    let arguments = with(&fresh(&home), &["--name", "other"]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let declined = answered(&home, ALICE, &with(&arguments, &[]), "n\n").await;
    assert_eq!((declined.code, super::sentence(&declined)), (Some(1), "nothing was changed"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), mine);
    assert!(registered(&home, "other").is_empty());

    let agreed = answered(&home, ALICE, &with(&arguments, &[]), "y\n").await;
    agreed.succeeded();
    assert!(agreed.output.contains("  - client-id = \"a0000000-0000-4000-a000-000000000005\"\n"), "{}", agreed.output);
    let [application] = registered(&home, "other").try_into().expect("one registration");
    assert_eq!(setting(&home, "client-id"), application.id);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# mine\nclient-id = \"") && text.contains("profile-cache-seconds = 7\n"), "{text}");
    assert!(text.ends_with("[[clients]]\nclient-id = \"x\"\nname = \"X\"\nredirect-uris = []\n"), "{text}");
}

#[tokio::test]
async fn permissions_of_the_application_itself_are_given_once() {
    let home = Home::new().await;
    let more = ["--graph-app-permission", "Application.Read.All", "--grant-admin-consent"];
    let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &[&more[..], &["--yes"]].concat())).await;
    ran.succeeded();
    let shown = "admin consent to Microsoft Graph Application.Read.All for the application itself";
    assert!(ran.output.contains(shown), "{}", ran.output);
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    assert_eq!(application.granted_roles[entra_mcp_emulator::GRAPH_APP_ID], ["Application.Read.All"]);
    home.emulator().control().clear_requests();
    setup_as(&home, ADMIN, &with(&fresh(&home), &more)).await.succeeded();
    assert_eq!(writes(&home), [""; 0]);
}
