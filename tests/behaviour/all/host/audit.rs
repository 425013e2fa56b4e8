//! Where `entra-mcp serve` writes audit records, and what it does when it cannot.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::records::{ALICE, Site, records};
use crate::support::behind::Behind;
use crate::support::process::send_signal;
use crate::support::session::sign_in;

const FILE: &str = "audit.jsonl";

/// A user in more groups than a token has room for.
const OLGA: &str = "olga@contoso.example";

/// Writes records into a file of the site's folder.
/// Without the check at the start, whose questions to Entra ID are recorded too.
fn to_file(folder: &TempDir) -> Vec<String> {
    let file = folder.path().join(FILE);
    ["--check", "off", "--audit-file", file.to_str().unwrap()].map(str::to_owned).into()
}

impl Site {
    /// From now on there is no room for records.
    fn fill_the_disk(&self) {
        std::fs::rename(self.path(FILE), self.path("before")).unwrap();
        symlink("/dev/full", self.path(FILE)).unwrap();
    }

    fn empty_the_disk(&self) {
        std::fs::remove_file(self.path(FILE)).unwrap();
    }
}

fn events(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_sign_in_and_a_call_are_lines_of_json_on_standard_error() {
    let site = Site::new(|_| Vec::new()).await;
    let session = site.sign_in().await;
    assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
    let log = site.server.log();
    let records = records(&log);
    let names = events(&records);
    for expected in ["client.registered", "authorization.started", "tool.called"] {
        assert!(names.contains(&expected), "{expected} is not among {names:?}");
    }
    let at = site.emulator.endpoints();
    let call = records.iter().find(|record| record["event"] == "tool.called").unwrap();
    assert_eq!(call["outcome"], "success");
    assert_eq!(call["tool"], "getUserDetails");
    assert_eq!(call["tenant_id"], at.tenant_id.as_str());
    let time = call["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    for record in &records {
        assert!(record["correlation_id"].as_str().is_some_and(|id| !id.is_empty()), "{record}");
        assert!(record.as_object().unwrap().values().all(|value| !value.is_null()), "{record}");
    }
}

#[tokio::test]
async fn a_call_of_a_server_behind_is_recorded_with_how_it_ended_and_without_its_arguments() {
    let (good, bad) = (Behind::start().await, Behind::answering(StatusCode::INTERNAL_SERVER_ERROR).await);
    let config = format!(
        "[[upstream]]\nname = \"crm\"\nurl = {:?}\n[[upstream]]\nname = \"erp\"\nurl = {:?}\n\
         [[upstream]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1/mcp\"\n\
         [[access]]\nserver = \"crm\"\ntool = \"delete_record\"\nroles = [\"Crm.Admin\"]\n",
        good.url(),
        bad.url(),
    );
    let site = Site::new(|folder| {
        let file = folder.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        [to_file(folder), vec!["--config".to_owned(), file.display().to_string()]].concat()
    })
    .await;
    let arguments = json!({ "note": "recognisable-argument" });
    for (server, tool) in
        [("crm", "read_record"), ("crm", "delete_record"), ("erp", "read_record"), ("gone", "read_record")]
    {
        let path = format!("/{server}/mcp");
        let token = sign_in(site.server.public_url(), &path, ALICE).await.access_token;
        site.post_call(&path, Some(&token), &[], json!({ "name": tool, "arguments": arguments })).await;
    }
    let records = site.records(FILE);
    let of_tools =
        records.iter().filter(|record| record["event"].as_str().is_some_and(|name| name.starts_with("tool.")));
    let told = of_tools.map(|record| {
        let fields = ["event", "server", "tool", "outcome", "reason"].map(|name| record[name].as_str().unwrap_or("-"));
        let is_timed = record["latency_ms"].as_f64().is_some_and(|time| time > 0.0);
        (fields, record["upstream_status"].as_u64(), is_timed)
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (["tool.called", "crm", "read_record", "success", "-"], Some(200), true),
            (["tool.denied", "crm", "delete_record", "failure", "role-missing"], None, false),
            (["tool.called", "erp", "read_record", "failure", "upstream-status"], Some(500), true),
            (["tool.called", "gone", "read_record", "failure", "upstream-unreachable"], Some(0), true),
        ]
    );
    for text in [std::fs::read_to_string(site.path(FILE)).unwrap(), site.server.log()] {
        assert!(!text.contains("recognisable-argument"), "{text}");
    }
}

#[tokio::test]
async fn why_groups_are_not_known_is_in_the_log_under_the_correlation_id_and_not_in_the_answer() {
    const REASON: &str = "the application or the user lacks a permission";
    let rules = "[[access]]\ntool = \"getUserDetails\"\ngroups = [\"00000000-0000-4000-8000-00000000000a\"]\n";
    let site = Site::new(|folder| {
        let file = folder.path().join("access.toml");
        std::fs::write(&file, rules).unwrap();
        vec!["--access-file".to_owned(), file.to_str().unwrap().to_owned()]
    })
    .await;
    // A user in too many groups for a token, and an application that may not ask Graph for them.
    let session = sign_in(site.server.public_url(), "/mcp", OLGA).await;
    let (status, answer) = site.call(&session.access_token, &[]).await;
    assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
    let log = site.log_with(REASON).await;
    let denied: Vec<_> = records(&log).into_iter().filter(|record| record["event"] == "tool.denied").collect();
    let [denied] = denied.as_slice() else { panic!("{denied:?}") };
    assert_eq!(denied["reason"], "groups-unavailable");
    let notes: Vec<_> = log.lines().filter(|line| line.contains(REASON)).collect();
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    let correlation_id = denied["correlation_id"].as_str().unwrap();
    assert!(note.contains(correlation_id) && note.contains("guest"), "{note}");
    assert!(!note.contains(OLGA) && !note.contains(denied["object_id"].as_str().unwrap()), "{note}");
    let answer = answer.to_string();
    assert!(answer.contains(correlation_id) && !answer.contains(REASON), "{answer}");
}

#[tokio::test]
async fn user_principal_names_are_recorded_if_that_is_asked_for_and_not_otherwise() {
    for asked in [false, true] {
        let arguments = if asked { vec!["--audit-usernames".to_owned()] } else { Vec::new() };
        let site = Site::new(|_| arguments).await;
        let session = site.sign_in().await;
        assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
        let log = site.server.log();
        let named = records(&log).iter().any(|record| record["username"] == ALICE);
        assert_eq!((named, log.contains(ALICE)), (asked, asked), "{log}");
    }
}

#[tokio::test]
async fn a_file_is_private_is_rotated_and_holds_every_event() {
    let site = Site::new(|folder| {
        let rotation = ["--audit-max-bytes", "4096", "--audit-keep", "100"].map(str::to_owned);
        [to_file(folder), rotation.into()].concat()
    })
    .await;
    for _ in 0..40 {
        assert_eq!(site.register().await, 201);
    }
    let mut registered = 0;
    let mut files = 0;
    for entry in std::fs::read_dir(site.path("")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with(FILE) {
            continue;
        }
        let metadata = entry.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        assert!(metadata.len() <= 4_096, "{name}");
        registered += events(&site.records(&name)).iter().filter(|event| **event == "client.registered").count();
        files += 1;
    }
    assert_eq!(registered, 40);
    assert!(files > 1, "{files}");
    assert!(!site.server.log().contains("client.registered"), "{}", site.server.log());
}

#[tokio::test]
async fn a_file_that_logrotate_has_moved_is_opened_anew_with_and_without_a_signal() {
    let site = Site::new(to_file).await;
    for name in ["first", "second"] {
        assert_eq!(site.register().await, 201);
        std::fs::rename(site.path(FILE), site.path(name)).unwrap();
        if name == "second" {
            send_signal("HUP", site.server.pid());
        }
    }
    assert_eq!(site.register().await, 201);
    for name in ["first", "second", FILE] {
        assert_eq!(events(&site.records(name)), ["client.registered"], "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_and_works_again_when_it_can() {
    let site = Site::new(to_file).await;
    let session = site.sign_in().await;
    site.fill_the_disk();
    assert_eq!(site.register().await, 503);
    let (status, body) = site.call(&session.access_token, &[]).await;
    let told = body["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!((status, &body["result"]["isError"]), (200, &Value::Bool(true)), "{body}");
    assert!(told.starts_with("The server cannot keep its records now."), "{told}");
    let log = site.log_with("an audit event could not be recorded").await;
    assert!(log.contains("No space left"), "{log}");

    site.empty_the_disk();
    let (status, body) = site.call(&session.access_token, &[]).await;
    assert_eq!((status, body["result"]["isError"] == true), (200, false), "{body}");
    assert_eq!(events(&site.records(FILE)), ["tool.called"]);
}

#[tokio::test]
async fn with_drop_and_count_a_full_disk_refuses_no_call_and_is_in_the_log_once() {
    let site =
        Site::new(|folder| [to_file(folder), ["--audit-failure", "drop-and-count"].map(str::to_owned).into()].concat())
            .await;
    let session = site.sign_in().await;
    site.fill_the_disk();
    for _ in 0..5 {
        let (status, body) = site.call(&session.access_token, &[]).await;
        assert_eq!((status, body["result"]["isError"] == true), (200, false), "{body}");
    }
    let log = site.log_with("audit events were dropped").await;
    assert_eq!(log.matches("audit events were dropped").count(), 1, "{log}");
}

#[tokio::test]
async fn a_flood_of_denied_calls_is_a_few_lines_that_say_how_many_there_were() {
    let rules = "[[access]]\ntool = \"getUserDetails\"\nroles = [\"Nobody.Has\"]\n";
    let mut site = Site::new(|folder| {
        let file = folder.path().join("access.toml");
        std::fs::write(&file, rules).unwrap();
        let access = ["--access-file".to_owned(), file.to_str().unwrap().to_owned()];
        let bound = ["--rate-limit".to_owned(), "denied-records=5/15m".to_owned()];
        [to_file(folder), access.into(), bound.into()].concat()
    })
    .await;
    let session = site.sign_in().await;
    for _ in 0..40 {
        let (status, answer) = site.call(&session.access_token, &[]).await;
        assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
    }
    let denied = |site: &Site| {
        let records = site.records(FILE).into_iter().filter(|record| record["event"] == "tool.denied");
        records.map(|record| record["suppressed"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(denied(&site).get(..6), Some(&[None; 6][..]), "those of the bound, and the first that is over it");
    assert_eq!(site.server.end(), Some(0));
    let counted = denied(&site);
    let (alone, with_numbers) = counted.split_at(6);
    assert_eq!(alone, [None; 6]);
    let events: u64 = with_numbers.iter().map(|suppressed| suppressed.unwrap_or(0) + 1).sum();
    assert_eq!(events, 34, "the last of them says how many there were: {with_numbers:?}");
    let last = site.records(FILE).pop().unwrap();
    assert_eq!((&last["reason"], &last["tool"]), (&json!("role-missing"), &json!("getUserDetails")));
}

/// A server that has room for two small files, and their number of registrations.
async fn filled(more: &[&str]) -> (Site, usize) {
    let site = Site::new(|folder| {
        let rotation = ["--audit-max-bytes", "4096", "--audit-keep", "1"];
        let more = rotation.iter().chain(more).map(|argument| (*argument).to_owned());
        to_file(folder).into_iter().chain(more).collect()
    })
    .await;
    let mut registered = 0;
    while !site.path("audit.jsonl.1").exists() {
        assert_eq!(site.register().await, 201);
        registered += 1;
    }
    (site, registered)
}

#[tokio::test]
async fn records_are_not_rotated_away_within_a_week_and_what_finds_no_room_is_refused_until_then() {
    let (site, mut registered) = filled(&[]).await;
    let status = loop {
        match site.register().await {
            201 => registered += 1,
            status => break status,
        }
        assert!(registered < 1_000);
    };
    assert_eq!(status, 503);
    let held = |site: &Site| [FILE, "audit.jsonl.1"].map(|name| events(&site.records(name)).len());
    assert_eq!(held(&site).iter().sum::<usize>(), registered, "nothing is lost");
    let log = site.log_with("the audit files are full").await;
    assert!(log.contains("the last of the audit files is written"), "{log}");

    let oldest = std::fs::File::options().append(true).open(site.path("audit.jsonl.1")).unwrap();
    let written = oldest.metadata().unwrap().modified().unwrap();
    oldest.set_modified(written - std::time::Duration::from_secs(7 * 24 * 3_600)).unwrap();
    assert_eq!(site.register().await, 201);
    assert_eq!(held(&site)[0], 1, "the old file made room");
}

#[tokio::test]
async fn with_drop_and_count_what_finds_no_room_is_counted_and_refuses_no_client() {
    let (site, _) = filled(&["--audit-failure", "drop-and-count"]).await;
    for _ in 0..40 {
        assert_eq!(site.register().await, 201);
    }
    site.log_with("audit events were dropped").await;
    for name in [FILE, "audit.jsonl.1"] {
        assert!(std::fs::metadata(site.path(name)).unwrap().len() <= 4_096, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_the_server_with_its_name() {
    let home = super::commands::Home::new().await;
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--audit-file", "/none/audit.jsonl"]);
    let output = command.env("AZURE_CLIENT_SECRET", "secret").output().await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{log}");
    assert!(log.contains("/none/audit.jsonl"), "{log}");
}

#[tokio::test]
async fn a_standard_error_that_takes_nothing_is_as_good_as_no_record() {
    let home = super::commands::Home::new().await;
    let mut command = super::serve::serve(&home, &[]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(full).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready: Value = serde_json::from_str(&output.next_line().await.unwrap().unwrap()).unwrap();
    let url = format!("http://{}/register", ready["listening"].as_str().unwrap());
    let registration = json!({ "redirect_uris": ["https://client.example/callback"] });
    let answer = reqwest::Client::new().post(url).json(&registration).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
}
