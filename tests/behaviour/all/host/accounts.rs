//! Several accounts in one store, as the commands name and list them.

use std::process::Output;
use std::sync::Arc;

use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{SecretBytes, SecretStore as _, SqliteStore};
use serde_json::{Value, json};

use super::commands::Home;

const ALICE: &str = "alice@contoso.example";
const TENANT: &str = "c0117050-0000-4000-a000-000000000001";
/// The account of Alice.
const FIRST: &str = "11111111-0000-4000-a000-000000000001.c0117050-0000-4000-a000-000000000001";
/// Another account to which her user name is given afterwards.
const SECOND: &str = "11111111-0000-4000-a000-0000000000ff.c0117050-0000-4000-a000-000000000001";

/// Exit code, standard output and standard error of the program, with a browser that shows no page.
async fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(home.program(arguments).output().await.unwrap())
}

fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A home in which two accounts with one user name are signed in.
async fn two_accounts() -> Home {
    let home = Home::new().await;
    assert!(home.run_with_person(&["login"]).await.status.success());
    let control = home.emulator().control();
    control.change_user(ALICE, |alice| "11111111-0000-4000-a000-0000000000ff".clone_into(&mut alice.id)).unwrap();
    let (code, output, log) = said(home.run_with_person(&["login"]).await);
    assert_eq!((code, output), (Some(0), format!("Signed in as {ALICE} ({SECOND}).\n")), "{log}");
    home
}

#[tokio::test]
async fn accounts_are_a_table_and_a_user_name_that_two_share_signs_out_neither() {
    let home = two_accounts().await;
    let row = |id: &str| format!("{ALICE}  {TENANT}  {id}");
    let header = format!("{:21}  {:36}  ID", "USER NAME", "TENANT");
    let both = format!("{header}\n{}\n{}\n", row(FIRST), row(SECOND));
    assert_eq!(run(&home, &["accounts"]).await.1, both);

    let (code, output, log) = run(&home, &["logout", "--account", ALICE]).await;
    assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
    assert!(log.contains("several accounts have the user name") && log.contains("`entra-mcp accounts`"), "{log}");
    let (code, output, log) = run(&home, &["logout"]).await;
    assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
    assert!(log.contains("several accounts are signed in: name one with --account, or pass --all"), "{log}");
    assert_eq!(run(&home, &["accounts"]).await.1, both);

    let (code, output, log) = run(&home, &["logout", "--account", SECOND]).await;
    assert_eq!((code, output), (Some(0), format!("Signed out {ALICE} ({SECOND}).\n")), "{log}");
    assert_eq!(run(&home, &["accounts"]).await.1, format!("{header}\n{}\n", row(FIRST)));
}

#[tokio::test]
async fn the_configured_account_is_marked_and_all_can_be_signed_out() {
    let home = two_accounts().await;
    let (_, output, _) = run(&home, &["accounts", "--account", SECOND]).await;
    let [header, first, second] = output.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(header.ends_with("  CHOSEN"), "{output}");
    assert_eq!(first, format!("{ALICE}  {TENANT}  {FIRST}"));
    assert_eq!(second, format!("{ALICE}  {TENANT}  {SECOND}  yes"));

    let (code, output, log) = run(&home, &["logout", "--all"]).await;
    let expected = [FIRST, SECOND].map(|id| format!("Signed out {ALICE} ({id}).\n")).concat();
    assert_eq!((code, output), (Some(0), expected), "{log}");
    assert_eq!(run(&home, &["accounts", "--json"]).await.1, "[]\n");
}

#[tokio::test]
async fn the_name_of_a_person_cannot_steer_the_terminal() {
    let home = Home::new().await;
    let hostile = |name: &mut serde_json::Map<String, Value>| {
        name.insert("displayName".to_owned(), json!("\u{1b}[2JAlice\nroot"));
    };
    home.emulator().control().change_user(ALICE, |alice| hostile(&mut alice.profile)).unwrap();
    assert!(home.run_with_person(&["login"]).await.status.success());
    assert_eq!(run(&home, &["whoami"]).await.1, format!("{ALICE}   [2JAlice root  {FIRST}\n"));
}

#[tokio::test]
async fn tenant_is_another_name_of_the_flag_tenant_id_and_each_tenant_has_a_list_of_its_own() {
    let home = Home::new().await;
    let other = "c0117050-0000-4000-a000-0000000000ff";
    assert!(home.run_with_person(&["login", "--tenant", TENANT]).await.status.success());
    assert_eq!(run(&home, &["accounts", "--tenant", other]).await.1, "No account is signed in.\n");
    assert_eq!(run(&home, &["logout", "--all", "--tenant", other]).await.1, "No account is signed in.\n");
    assert!(run(&home, &["accounts", "--tenant-id", TENANT]).await.1.contains(FIRST));
    assert_eq!(home.emulator().control().request_count(Endpoint::Token), 1, "one sign-in");
}

#[tokio::test]
async fn accounts_of_all_tenants_of_the_store_are_listed_and_signed_out_unless_one_is_named() {
    let home = Home::new().await;
    let (domain, client) = ("contoso.example", home.emulator().endpoints().public_client_id.clone());
    let authority = |tenant: &str| format!("{}/{tenant}", home.emulator().endpoints().authority);
    let login = async |arguments: &[&str]| assert!(home.run_with_person(arguments).await.status.success());
    let listed = async |more: &[&str]| -> Vec<(String, String, String)> {
        let accounts = run(&home, &[&["accounts", "--json"][..], more].concat()).await.1;
        let accounts: Vec<Value> = serde_json::from_str(&accounts).unwrap();
        let text = |account: &Value, name: &str| account[name].as_str().unwrap().to_owned();
        let of =
            |account: &Value| (text(account, "homeAccountId"), text(account, "clientId"), text(account, "authority"));
        accounts.iter().map(of).collect()
    };
    let first = (FIRST.to_owned(), client.clone(), authority(TENANT));
    let second = (FIRST.to_owned(), client.clone(), authority(domain));

    login(&["login"]).await;
    assert_eq!(
        run(&home, &["accounts"]).await.1.lines().next().unwrap(),
        format!("{:21}  {:36}  ID", "USER NAME", "TENANT")
    );
    login(&["login", "--tenant", domain]).await;
    assert_eq!(listed(&[]).await, [first.clone(), second.clone()]);
    assert_eq!(listed(&["--tenant", domain]).await, std::slice::from_ref(&second));
    assert_eq!(listed(&["--tenant", TENANT]).await, std::slice::from_ref(&first));
    let table = run(&home, &["accounts"]).await.1;
    let row = |tenant: &str| format!("{ALICE}  {TENANT}  {FIRST}  {client}  {}", authority(tenant));
    let rows: Vec<_> = table.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(rows, [row(TENANT), row(domain)], "{table}");

    // The configured one comes first, and the account is signed out of one application at a time.
    let signed_out = format!("Signed out {ALICE} ({FIRST}).\n");
    let signed_out_elsewhere = format!("Signed out {ALICE} ({FIRST}) from {client} at {}.\n", authority(domain));
    let (code, output, log) = run(&home, &["logout", "--account", FIRST]).await;
    assert_eq!((code, &output), (Some(0), &signed_out), "{log}");
    // An account of the configuration is that of the configured application.
    let configured = home.program(&["logout"]).env("ENTRA_MCP_ACCOUNT", FIRST).output().await.unwrap();
    let (code, output, log) = said(configured);
    assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
    assert_eq!(listed(&[]).await, [second]);
    let (code, output, log) = run(&home, &["logout", "--account", FIRST]).await;
    assert_eq!((code, &output), (Some(0), &signed_out_elsewhere), "{log}");
    assert!(listed(&[]).await.is_empty());
    let (code, output, _) = run(&home, &["logout", "--account", FIRST]).await;
    assert_eq!((code, output.as_str()), (Some(2), ""));

    login(&["login"]).await;
    login(&["login", "--tenant", domain]).await;
    let (code, output, log) = run(&home, &["logout", "--all"]).await;
    assert_eq!((code, output), (Some(0), signed_out + &signed_out_elsewhere), "{log}");
    assert!(listed(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_accounts_are_signed_out_that_can_be_and_a_sign_out_that_may_leave_some_fails() {
    let home = Home::new().await;
    let (domain, at) = ("contoso.example", home.emulator().endpoints());
    assert!(home.run_with_person(&["login", "--tenant", domain]).await.status.success());
    // Another application, which this program cannot look at.
    {
        let path = home.path().join(".local/share/entra-mcp/secrets.db");
        let store = SqliteStore::open(&path, Arc::new(SystemClock::new())).unwrap();
        let noted = store.get("host/applications").await.unwrap().unwrap();
        let mut noted: Vec<Value> = serde_json::from_slice(noted.reveal()).unwrap();
        noted.insert(0, json!({ "authority": "no URL", "tenant": "t", "client_id": "c" }));
        let noted = SecretBytes::new(serde_json::to_vec(&noted).unwrap());
        store.put("host/applications", noted, None).await.unwrap();
    }

    let (code, output, log) = run(&home, &["logout", "--account", FIRST]).await;
    assert_eq!((code, output.as_str()), (Some(1), ""), "{log}");
    assert!(log.contains("may be signed in to an application that cannot be looked at"), "{log}");
    let place = format!("{} at {}/{domain}", at.public_client_id, at.authority);
    for expected in [format!("Signed out {ALICE} ({FIRST}) from {place}.\n"), String::new()] {
        let (code, output, log) = run(&home, &["logout", "--all"]).await;
        assert_eq!((code, output), (Some(1), expected), "{log}");
        assert!(log.contains("entra-mcp: the accounts of c at no URL/t cannot be listed: "), "{log}");
        assert!(log.contains("entra-mcp: not all accounts were signed out: the lines above say why\n"), "{log}");
    }
}
