//! What every client program in `tests/clients` goes through.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::machine::{Browser, Machine, ONE_SIGN_IN, Requests, script};
use super::person::{Habit, Opener, Visit};
use super::profile::{assert_error, assert_profile, assert_tools};
use super::report::Report;

/// The first stateless revision.
pub(crate) const MODERN: &str = "2026-07-28";
/// The last revision that begins with `initialize`.
pub(crate) const LEGACY: &str = "2025-11-25";

/// A client, and how it is to negotiate.
pub(crate) struct Client {
    /// Node or Python.
    pub(crate) program: PathBuf,
    /// Below `tests/clients`.
    pub(crate) script: &'static str,
    /// What the program is told; `None` leaves the client to its default.
    pub(crate) era: Option<&'static str>,
    /// The revision that has to come of it.
    pub(crate) revision: &'static str,
}

/// A module of tests, one for each scenario. The client is an expression of type `Client`; the attribute, which every
/// test has, says which client they need.
macro_rules! every_scenario {
    ($(#[$needs:meta] $module:ident: $client:expr;)*) => {$(
        mod $module {
            use super::*;

            crate::clients::scenarios::every_scenario! { @tests #[$needs] $client;
                one_sign_in_lasts_beyond_the_process
                a_sign_in_on_the_command_line_is_enough
                progress_is_reported_while_the_person_signs_in
                without_a_browser_the_person_enters_a_code
                the_client_opens_the_page_if_it_can
                a_person_who_declines_is_an_error_result
                a_cancelled_call_is_not_answered_and_the_next_one_works
                a_call_that_is_cancelled_while_it_asks_holds_up_no_other
                two_calls_at_once_need_one_sign_in
                two_processes_at_once_need_one_sign_in
            }
        }
    )*};
    (@tests #[$needs:meta] $client:expr; $($scenario:ident)*) => {$(
        #[tokio::test]
        #[$needs]
        async fn $scenario() {
            crate::clients::scenarios::$scenario(&$client).await;
        }
    )*};
}
pub(crate) use every_scenario;

impl Client {
    async fn play(&self, machine: &Machine, scenario: &str, browser: Browser) -> Report {
        let mut command = machine.command(&self.program);
        command.arg(script(self.script)).arg(scenario).env("SERVER", machine.server(browser).to_string());
        if let Some(era) = self.era {
            command.env("ERA", era);
        }
        let report = Report::new(machine.run(&mut command).await);
        assert_eq!(report.get("protocolVersion"), self.revision);
        // A client that insists on a revision may begin without asking for the server's name.
        if self.era != Some(MODERN) {
            assert_eq!(report.get("server")["name"], "entra-mcp");
            assert!(report.get("instructions").as_str().unwrap().contains("sign in"));
        }
        report
    }

    fn is_modern(&self) -> bool {
        self.revision == MODERN
    }
}

/// The results of all calls are Alice's profile.
fn assert_profiles(report: &Report, calls: usize) {
    let schema = assert_tools(report.get("tools"));
    assert_eq!(report.list("results").len(), calls);
    for result in report.list("results") {
        assert_profile(result, schema);
    }
}

/// One page was opened, and the person saw there that the sign-in had succeeded.
pub(crate) fn assert_signed_in(visits: &[Visit], opener: Opener) {
    let [visit] = visits else { panic!("one page, not {visits:?}") };
    assert_eq!(visit.opener, opener);
    let landing = visit.landing.as_ref().unwrap();
    assert_eq!(landing.status, Some(200));
    assert!(landing.body.contains("You are signed in"), "{}", landing.body);
}

pub(crate) async fn one_sign_in_lasts_beyond_the_process(client: &Client) {
    let machine = Machine::new(&[]).await;

    let first = client.play(&machine, "call", Browser::Present).await;
    assert_profiles(&first, 1);
    assert_eq!(machine.requests(), ONE_SIGN_IN);

    let second = client.play(&machine, "call", Browser::Absent).await;
    assert_profiles(&second, 1);
    assert_eq!(machine.requests(), Requests { profile: 2, ..ONE_SIGN_IN });

    for report in [&first, &second] {
        assert_eq!(report.server_requests(), Vec::<&Value>::new());
        assert_eq!(report.sent("server", "notifications/progress"), Vec::<&Value>::new());
    }
    assert_signed_in(&machine.leave().await, Opener::Server);
}

pub(crate) async fn a_sign_in_on_the_command_line_is_enough(client: &Client) {
    let machine = Machine::new(&[]).await;
    machine.login().await;
    let report = client.play(&machine, "call", Browser::Absent).await;
    assert_profiles(&report, 1);
    assert_eq!(machine.requests(), ONE_SIGN_IN);
    assert_signed_in(&machine.leave().await, Opener::Server);
}

pub(crate) async fn progress_is_reported_while_the_person_signs_in(client: &Client) {
    let machine = Machine::new(&[]).await;
    let report = client.play(&machine, "progress", Browser::Present).await;
    assert_profiles(&report, 1);
    let visits = machine.leave().await;
    assert_signed_in(&visits, Opener::Server);
    let progress = report.list("progress");
    assert!(!progress.is_empty());
    for one in progress {
        assert_eq!(one["total"].as_f64(), Some(300.0));
        assert!(one["message"].as_str().unwrap().contains(&visits[0].url), "{one}");
    }
    let amounts: Vec<_> = progress.iter().map(|one| one["progress"].as_f64().unwrap()).collect();
    assert!(amounts.is_sorted_by(|a, b| a < b), "{amounts:?}");
}

/// What clients give their servers by default on Linux: no `BROWSER`, and no `DISPLAY` either.
pub(crate) async fn without_a_browser_the_person_enters_a_code(client: &Client) {
    let machine = Machine::new(&[]).await;
    machine.poll_every_second();
    let report = client.play(&machine, "code", Browser::Absent).await;
    assert_profiles(&report, 1);
    let Requests { authorize, device_code, .. } = machine.requests();
    assert_eq!((authorize, device_code), (0, 1));
    let visits = machine.leave().await;
    let [Visit { opener: Opener::Client, landing: Some(landing), .. }] = visits.as_slice() else {
        panic!("one code, not {visits:?}")
    };
    assert_eq!(landing.status, Some(200));
}

pub(crate) async fn the_client_opens_the_page_if_it_can(client: &Client) {
    let machine = Machine::new(&[]).await;
    let report = client.play(&machine, "accept", Browser::Present).await;
    assert_profiles(&report, 1);
    assert_eq!(machine.requests(), ONE_SIGN_IN);

    let [elicitation] = report.list("elicitations") else { panic!("one elicitation, not {report:?}") };
    assert_eq!(elicitation["mode"], "url");
    assert!(elicitation["message"].as_str().unwrap().starts_with("Sign in"), "{elicitation}");
    let url = elicitation["url"].as_str().unwrap();
    assert!(url.starts_with(machine.authority()), "{url}");
    if client.is_modern() {
        assert_input_required(&report, "accept");
    } else {
        let completed = report.sent("server", "notifications/elicitation/complete");
        let [completed] = completed.as_slice() else { panic!("one completion, not {completed:?}") };
        assert_eq!(completed["params"], json!({ "elicitationId": elicitation["elicitationId"] }));
        assert_asked(&report, "accept");
    }
    let visits = machine.leave().await;
    assert_signed_in(&visits, Opener::Client);
    assert_eq!(visits[0].url, url);
}

pub(crate) async fn a_person_who_declines_is_an_error_result(client: &Client) {
    let machine = Machine::new(&[]).await;
    let report = client.play(&machine, "decline", Browser::Present).await;
    assert_tools(report.get("tools"));
    let [result] = report.list("results") else { panic!("one result, not {report:?}") };
    assert!(assert_error(result).contains("declined"), "{result}");
    assert_eq!(report.list("elicitations").len(), 1);
    if client.is_modern() {
        assert_input_required(&report, "decline");
    } else {
        assert_asked(&report, "decline");
    }
    assert_eq!(machine.requests(), Requests { authorize: 0, token: 0, device_code: 0, profile: 0 });
    assert_eq!(machine.leave().await.len(), 0, "a page was opened though the person had declined");
}

/// The server asked the client with a request, and the client answered.
fn assert_asked(report: &Report, action: &str) {
    let requests = report.server_requests();
    let [request] = requests.as_slice() else { panic!("one request, not {requests:?}") };
    assert_eq!(request["method"], "elicitation/create");
    let answers = report.answers("client", &request["id"]);
    let [answer] = answers.as_slice() else { panic!("one answer, not {answers:?}") };
    assert_eq!(answer["result"]["action"], action);
}

/// The server's first answer asked for input; the client made the call again, with the input and the server's state.
fn assert_input_required(report: &Report, action: &str) {
    assert_eq!(report.server_requests(), Vec::<&Value>::new());
    let calls = report.sent("client", "tools/call");
    let [first, second] = calls.as_slice() else { panic!("two calls, not {calls:?}") };
    assert_ne!(first["id"], second["id"]);
    let answers = report.answers("server", &first["id"]);
    let [answer] = answers.as_slice() else { panic!("one answer, not {answers:?}") };
    let result = &answer["result"];
    assert_eq!(result["resultType"], "input_required");
    let requests = result["inputRequests"].as_object().unwrap();
    assert_eq!(requests.len(), 1);
    let (key, request) = requests.iter().next().unwrap();
    assert_eq!(request["method"], "elicitation/create");
    assert!(result["requestState"].is_string());
    assert_eq!(second["params"]["requestState"], result["requestState"]);
    assert_eq!(second["params"]["inputResponses"][key]["action"], action);
}

pub(crate) async fn a_cancelled_call_is_not_answered_and_the_next_one_works(client: &Client) {
    let machine = Machine::new(&[Habit::LooksAway]).await;
    let report = client.play(&machine, "cancel", Browser::Present).await;
    let schema = assert_tools(report.get("tools"));
    let [given_up, result] = report.list("results") else { panic!("two results, not {report:?}") };
    assert!(given_up.get("rejected").is_some(), "{given_up}");
    assert_profile(result, schema);

    let calls = report.sent("client", "tools/call");
    let [first, second] = calls.as_slice() else { panic!("two calls, not {calls:?}") };
    let cancelled = report.sent("client", "notifications/cancelled");
    let [cancelled] = cancelled.as_slice() else { panic!("one cancellation, not {cancelled:?}") };
    assert_eq!(cancelled["params"]["requestId"], first["id"]);
    assert_eq!(report.answers("server", &first["id"]), Vec::<&Value>::new());
    assert_eq!(report.answers("server", &second["id"]).len(), 1);

    assert_eq!(machine.requests(), ONE_SIGN_IN);
    let visits = machine.leave().await;
    assert!(visits[0].landing.is_none());
    assert_signed_in(&visits[1..], Opener::Server);
}

pub(crate) async fn a_call_that_is_cancelled_while_it_asks_holds_up_no_other(client: &Client) {
    let machine = Machine::new(&[]).await;
    let report = client.play(&machine, "abandon", Browser::Present).await;
    let schema = assert_tools(report.get("tools"));
    let [given_up, result] = report.list("results") else { panic!("two results, not {report:?}") };
    assert!(given_up.get("rejected").is_some(), "{given_up}");
    assert_profile(result, schema);
    assert_eq!(report.list("elicitations").len(), 2);
    assert_eq!(machine.requests(), ONE_SIGN_IN);
    assert_signed_in(&machine.leave().await, Opener::Client);
}

pub(crate) async fn two_calls_at_once_need_one_sign_in(client: &Client) {
    let machine = Machine::new(&[]).await;
    let report = client.play(&machine, "together", Browser::Present).await;
    assert_profiles(&report, 2);
    assert_eq!(machine.requests(), Requests { profile: 2, ..ONE_SIGN_IN });
    assert_signed_in(&machine.leave().await, Opener::Server);
}

pub(crate) async fn two_processes_at_once_need_one_sign_in(client: &Client) {
    let machine = Machine::new(&[]).await;
    let play = || client.play(&machine, "call", Browser::Present);
    let (one, other) = tokio::join!(play(), play());
    assert_profiles(&one, 1);
    assert_profiles(&other, 1);
    assert_eq!(machine.requests(), Requests { profile: 2, ..ONE_SIGN_IN });
    assert_signed_in(&machine.leave().await, Opener::Server);
}
