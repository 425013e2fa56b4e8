//! How processes begin and end.

use super::*;

fn ping() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "pid"})
}

#[tokio::test]
async fn a_crash_answers_what_is_in_flight_and_the_next_request_starts_anew() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    let process = client.process().await;
    let (waiting, crashed) = tokio::join!(client.call("never", json!({})), client.call("crash", json!({})));
    assert_eq!(waiting["error"]["code"], -32603);
    assert_eq!(crashed["error"]["code"], -32603);
    assert_ne!(client.process().await, process);

    // The second crash in a row makes the caller wait, and no other one.
    client.call("crash", json!({})).await;
    let busy = "the last processes of this caller ended by themselves";
    assert_eq!(client.post(ping()).await.err(), Some(BehindError::Busy(busy.into())));
    fixture.client("bob").process().await;
    fixture.clock.advance(super::super::settings::FIRST_PAUSE);
    client.process().await;
}

#[tokio::test]
async fn a_process_ends_with_its_children() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let process = client.process().await;
    let child = client.result("child", json!({})).await.as_u64().unwrap();
    assert!(runs(child));
    client.send(Method::DELETE, String::new()).await.unwrap();
    gone(process).await;
    gone(child).await;
}

/// Part of the test after it: starts a process that listens to nothing, names it, and waits to be killed.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "another test runs it as a program"]
async fn starts_a_process_and_waits() {
    assert!(std::env::args().any(|argument| argument == "--exact"), "a part of another test, which starts it");
    let script = "trap '' HUP TERM; read -r line; echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":'$$'}'; while :; do /bin/sleep 1; done";
    let fixture =
        Fixture::with(|settings| settings.command = ["/bin/sh", "-c", script].map(str::to_owned).into(), None);
    println!("\nprocess {}", fixture.client("alice").process().await);
    std::future::pending::<()>().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the program that is killed is this one")]
async fn a_process_is_killed_with_the_program_that_has_started_it() {
    use tokio::io::AsyncBufReadExt as _;

    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap());
    program.args(["process::tests::lifecycle::starts_a_process_and_waits", "--exact", "--ignored", "--nocapture"]);
    let mut program = program.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(program.stdout.take().unwrap()).lines();
    let process: u64 = loop {
        let line = lines.next_line().await.unwrap().expect("it names the process");
        if let Some(process) = line.strip_prefix("process ") {
            break process.parse().unwrap();
        }
    };
    assert!(runs(process));
    program.kill().await.unwrap();
    gone(process).await;
}

#[tokio::test]
async fn children_that_do_not_listen_are_killed() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let child = client.result("child", json!({"stubborn": true})).await.as_u64().unwrap();
    client.send(Method::DELETE, String::new()).await.unwrap();
    gone(child).await;

    // After a crash as well.
    let client = fixture.client("alice");
    let child = client.result("child", json!({"stubborn": true})).await.as_u64().unwrap();
    client.call("crash", json!({})).await;
    gone(child).await;
}

#[tokio::test]
async fn a_process_that_does_not_end_when_asked_is_killed_two_seconds_later() {
    let script = "trap '' TERM; while read -r line; do echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":'$$'}'; done; while :; do /bin/sleep 1; done";
    let fixture =
        Fixture::with(|settings| settings.command = ["/bin/sh", "-c", script].map(str::to_owned).into(), None);
    let process = fixture.client("alice").process().await;
    let ending = tokio::spawn({
        let upstream = Arc::clone(&fixture.upstream);
        async move { upstream.end().await }
    });
    while fixture.clock.next_wait().await > super::super::settings::END_WITHIN {
        tokio::task::yield_now().await;
    }
    assert!(runs(process));
    assert!(!ending.is_finished());
    fixture.clock.advance(super::super::settings::END_WITHIN);
    gone(process).await;
    fixture.clock.advance(super::super::settings::END_WITHIN);
    ending.await.unwrap();
}

#[tokio::test]
async fn an_idle_process_ends_and_one_in_use_does_not() {
    let fixture = Fixture::new();
    let idle = fixture.client("alice").process().await;
    let listening = fixture.session("bob").await;
    let mut events = Events::of(listening.get(None).await);
    let used = listening.process().await;
    let waiting = fixture.client("carol");
    let at_work = waiting.process().await;
    let never = tokio::spawn(async move { waiting.call("never", json!({})).await });
    tokio::task::yield_now().await;
    fixture.clock.advance(IDLE - Duration::from_secs(1));
    assert!(runs(idle));
    fixture.clock.advance(Duration::from_secs(1));
    gone(idle).await;
    assert!(runs(used) && runs(at_work));
    assert_eq!(listening.process().await, used);
    assert_ne!(fixture.client("alice").process().await, idle);
    never.abort();
    fixture.upstream.end().await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn the_oldest_idle_process_gives_way_and_one_at_work_does_not() {
    let fixture = Fixture::with(|settings| settings.max_processes = 2, None);
    let (alice, bob, carol) = (fixture.client("alice"), fixture.client("bob"), fixture.client("carol"));
    let first = alice.process().await;
    fixture.clock.advance(Duration::from_secs(1));
    let second = bob.process().await;
    fixture.clock.advance(Duration::from_secs(1));
    carol.process().await;
    assert!(!runs(first));
    assert!(runs(second));

    let params = json!({"_meta": {"progressToken": 1}, "wait": true});
    let at_work = json!({"jsonrpc": "2.0", "id": 1, "method": "progress", "params": params});
    let one = bob.post(at_work.clone()).await.unwrap();
    let other = carol.post(at_work).await.unwrap();
    let busy = BehindError::Busy("all processes are at work".into());
    assert_eq!(alice.post(ping()).await.err(), Some(busy));
    drop((one, other));
    alice.process().await;
}

#[tokio::test]
async fn a_person_has_a_bound_of_its_own_and_displaces_no_other() {
    let fixture = Fixture::with(|settings| settings.max_processes_per_person = 2, None);
    let bob = fixture.client("bob");
    let of_bob = bob.process().await;
    fixture.clock.advance(Duration::from_secs(1));
    let mut first = None;
    for _ in 0..4 {
        let session = fixture.session("alice").await;
        fixture.clock.advance(Duration::from_secs(1));
        first.get_or_insert(session);
    }
    assert_eq!(first.unwrap().post(ping()).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(bob.process().await, of_bob);
}

#[tokio::test]
async fn all_processes_end_with_the_server() {
    let fixture = Fixture::new();
    let processes = [fixture.client("alice").process().await, fixture.session("bob").await.process().await];
    let client = fixture.client("alice");
    fixture.upstream.end().await;
    assert!(!processes.iter().any(|process| runs(*process)));
    assert_eq!(client.post(ping()).await.err(), Some(BehindError::Busy("the server is ending".into())));
}

#[test]
fn a_process_is_killed_with_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (fixture, process, child) = runtime.block_on(async {
        let fixture = Fixture::new();
        let client = fixture.client("alice");
        let child = client.result("child", json!({"stubborn": true})).await.as_u64().unwrap();
        let process = client.process().await;
        (fixture, process, child)
    });
    runtime.shutdown_background();
    drop(fixture);
    while runs(process) || runs(child) {
        std::thread::yield_now();
    }
}

#[test]
fn a_command_that_cannot_be_used_is_refused_at_the_start() {
    let new = |change: &dyn Fn(&mut ProcessSettings)| {
        let mut settings = settings("/tmp".into());
        change(&mut settings);
        let clock = Arc::new(ManualClock::new(0));
        ProcessUpstream::new(settings, None, clock, Arc::new(SystemRandomness::default())).err()
    };
    use crate::process::ServerCommandError;
    assert_eq!(new(&|_| {}), None);
    assert_eq!(new(&|settings| settings.command.clear()), Some(ServerCommandError::Empty));
    let missing = new(&|settings| settings.command = vec!["missing".into()]);
    assert_eq!(missing, Some(ServerCommandError::NotFound("missing".into())));
    let folder = new(&|settings| settings.folder = Some("/nowhere".into()));
    assert_eq!(folder, Some(ServerCommandError::NoFolder("/nowhere".into())));
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_an_error_and_makes_its_caller_wait() {
    let fixture = Fixture::with(|settings| settings.command = vec!["/bin/true".into()], None);
    let client = fixture.client("alice");
    let answer = whole(client.post(ping()).await.unwrap()).await;
    assert_eq!(answer["error"]["code"], -32603);
    let answer = whole(client.post(ping()).await.unwrap()).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert!(matches!(client.post(ping()).await, Err(BehindError::Busy(_))));
}
