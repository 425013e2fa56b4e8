//! Three servers on one store behind nginx, as `docs/src/how-to/run-several-replicas.md` sets them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use entra_mcp_emulator::{Control, Endpoint};
use futures_util::future::join_all;
use http::Request;
use url::Url;

use crate::host::replicas::{Replicas, exchange, refresh_request, sign_in};
use crate::support::nginx;
use crate::support::pages::{self, replaced};
use crate::support::patience::{eventually, until};
use crate::support::proxy::Place;
use crate::support::redis::Redis;
use crate::support::remote::{ALICE, Answer, BOB, Tokens, call_request};
use crate::support::tools;

const AN_HOUR: i64 = 3_600;

/// Clients that call and refresh all the time, each in a session of its own.
const CLIENTS: usize = 6;

/// How long tokens of Entra ID live. They are renewed 300 to 330 s before their end, at random, so that a part of the calls
/// renews them from the start.
const RENEWED_NOW_AND_THEN: i64 = 328;

/// What nginx notes of a request: to which servers it was sent, what they answered, and what the client was answered.
const LOG_FORMAT: &str = "'$upstream_addr|$upstream_status|$status'";

/// A request in the log of nginx.
#[derive(Debug)]
struct Passed {
    /// The server that was asked last: nginx goes on to another one when it gets no connection.
    server: String,
    /// What it answered, if it did.
    answered: String,
    status: u16,
}

/// nginx in front of the servers, with the configuration of the page.
struct Balancer {
    place: Place,
    generation: u32,
}

impl Balancer {
    async fn start(servers: &[String]) -> Self {
        let mut place = Place::prepare();
        let configuration = Self::configuration(&place, servers, 0);
        nginx::run_with_workers(&tools::nginx(), &mut place, &configuration).await;
        Self { place, generation: 0 }
    }

    fn configuration(place: &Place, servers: &[String], generation: u32) -> String {
        let page = pages::Page::read("how-to/run-several-replicas.md").block("nginx");
        let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
        let listed = servers.iter().map(|server| format!("server {server} max_fails=0;")).collect::<String>();
        let mut text = page;
        let log = "access_log /var/log/nginx/access.log";
        for (in_the_page, here) in [
            (&format!("{log};")[..], format!("log_format servers {LOG_FORMAT}; {log} servers;")),
            ("/run/nginx.pid", path("nginx.pid")),
            ("/var/log/nginx/", path("")),
            ("http {", format!("http {{{}", nginx::temporary_folders(place))),
            // A connection without a request would keep a worker for a minute.
            ("events {", "worker_shutdown_timeout 3s;\nevents {".to_owned()),
            ("server 10.0.0.11:3001 max_fails=0;", listed),
            ("server 10.0.0.12:3001 max_fails=0;", String::new()),
            ("server 10.0.0.13:3001 max_fails=0;", String::new()),
            ("listen 443 ssl;", format!("listen {}; add_header x-generation {generation} always;", place.address())),
            ("ssl_certificate /etc/ssl/mcp.example.com.pem;", String::new()),
            ("ssl_certificate_key /etc/ssl/private/mcp.example.com.key;", String::new()),
        ] {
            text = replaced(&text, in_the_page, &here);
        }
        text
    }

    /// The requests until now, in the order in which they ended.
    fn passed(&self) -> Vec<Passed> {
        let log = std::fs::read_to_string(self.place.path("access.log")).unwrap();
        // Of the last line, nginx may have written a part.
        let log = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
        let last = |list: &str| list.rsplit(", ").next().unwrap_or_default().to_owned();
        let read = |line: &str| {
            let [server, answered, status]: [&str; 3] = line.split('|').collect::<Vec<_>>().try_into().ok()?;
            Some(Passed { server: last(server), answered: last(answered), status: status.parse().ok()? })
        };
        log.lines().map(|line| read(line).unwrap_or_else(|| panic!("nginx has noted {line:?}"))).collect()
    }

    /// To which servers the requests went after the first `skipped`, once nginx has noted `count` more.
    async fn servers(&self, skipped: usize, count: usize) -> Vec<String> {
        until(|| self.passed().len() >= skipped + count).await.expect("nginx notes every request");
        self.passed().split_off(skipped).into_iter().map(|passed| passed.server).collect()
    }

    /// Sends requests to these servers from now on.
    async fn use_servers(&mut self, servers: &[String], clients: &Clients) {
        self.generation += 1;
        self.place.write("nginx.conf", &Self::configuration(&self.place, servers, self.generation));
        self.place.signal("HUP");
        let current = self.generation.to_string();
        let reloaded = || async {
            let answer = clients.send(Request::get("/healthz").body(Vec::new()).unwrap()).await;
            // A worker of the configuration before still sends its last requests to the servers of then.
            (answer.header("x-generation") == current && self.place.workers() == 1).then_some(())
        };
        eventually(reloaded)
            .await
            .unwrap_or_else(|error| panic!("nginx does not reload: {error}\n{}", self.place.log()));
    }
}

/// What all clients have in common.
struct Clients {
    http: reqwest::Client,
    balancer: String,
    done: AtomicBool,
    progress: AtomicU32,
    /// Answers of 5xx.
    failures: AtomicU32,
    /// The process that is killed has ended: no connection waits for it any more.
    is_gone: AtomicBool,
}

impl Clients {
    async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        exchange(&self.http, &self.balancer, request).await
    }

    /// Sends a request, and again as long as it may have been on its way to the process that is killed: a refresh token has the
    /// same answer again.
    async fn insist(&self, request: impl Fn() -> Request<Vec<u8>>) -> Answer {
        loop {
            let was_gone = self.is_gone.load(Ordering::SeqCst);
            let answer = self.send(request()).await;
            if answer.status < 500 || was_gone {
                return answer;
            }
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Calls and refreshes in one session until the end.
    async fn work(&self, mut tokens: Tokens) {
        let mut last = false;
        while !last {
            last = self.done.load(Ordering::SeqCst);
            for _ in 0..4 {
                let answer = self.insist(|| call_request(&tokens.access)).await;
                assert_eq!(answer.status, 200, "a session is lost: {}", answer.html());
            }
            let answer = self.insist(|| refresh_request(&tokens)).await;
            assert_eq!(answer.status, 200, "a refresh token is lost: {}", answer.html());
            tokens = Tokens::of(&tokens.client_id, &answer);
            self.progress.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until so many rounds more are done.
    async fn rounds(&self, count: u32) {
        let until = self.progress.load(Ordering::SeqCst) + count;
        let seen = eventually(|| async { (self.progress.load(Ordering::SeqCst) >= until).then_some(()) });
        seen.await.expect("the clients go on");
    }
}

/// Sign-ins that have begun: one waits for its person to come back from Entra ID, one for its client.
struct Begun {
    client_id: String,
    cookies: String,
    callback: Url,
    code: String,
}

impl Begun {
    async fn by(fleet: &Replicas) -> Self {
        let client_id = fleet.register().await;
        let (cookies, entra) = fleet.consent(&client_id).await;
        let code = fleet.call_back(&cookies, &sign_in(&entra, ALICE).await).await;
        let (cookies, entra) = fleet.consent(&client_id).await;
        let callback = sign_in(&entra, BOB).await;
        Self { client_id, cookies, callback, code }
    }

    /// Both go on with the servers that are there now.
    async fn end(self, fleet: &Replicas) {
        let other = fleet.call_back(&self.cookies, &self.callback).await;
        for code in [self.code, other] {
            let answer = fleet.redeem(&self.client_id, &code).await;
            assert_eq!(answer.status, 200, "a sign-in is lost: {}", answer.html());
            let tokens = Tokens::of(&self.client_id, &answer);
            assert_eq!(fleet.send(call_request(&tokens.access)).await.status, 200);
        }
    }
}

/// How often the emulator was sent each value of this parameter, if more than once.
fn sent_again(control: &Control, name: &str) -> BTreeMap<String, u32> {
    let (count, requests) = (control.request_count(Endpoint::Token), control.requests(Endpoint::Token));
    assert!(requests.len() as u64 >= count, "the emulator has kept {} of {count} requests", requests.len());
    let mut sent = BTreeMap::new();
    for value in requests.iter().filter_map(|request| request.form(name)) {
        *sent.entry(value.to_owned()).or_insert(0) += 1;
    }
    assert!(!sent.is_empty(), "no {name} was sent");
    sent.retain(|_, times| *times > 1);
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(all(tool = "redis-server", tool = "nginx")), ignore = "needs redis-server and nginx: use tests/run")]
async fn a_rolling_restart_and_a_kill_cost_no_session() {
    let redis = Redis::start("redis-server").await;
    let arguments = ["--rate-limit", "off"];
    let mut fleet = Replicas::start_on(Some(&redis.url()), 3, RENEWED_NOW_AND_THEN, "warn", &arguments).await;
    let control = fleet.emulator.control();
    let mut balancer = Balancer::start(&fleet.addresses()).await;
    fleet.through(Some(balancer.place.address()));
    let clients = Arc::new(Clients {
        // A connection for each request: nginx closes those that wait when it reloads, and a request may be on its way then.
        http: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
        balancer: balancer.place.address().to_string(),
        done: AtomicBool::new(false),
        progress: AtomicU32::new(0),
        failures: AtomicU32::new(0),
        is_gone: AtomicBool::new(false),
    });
    // One after the other, requests go round.
    for _ in 0..9 {
        assert_eq!(clients.send(Request::get("/healthz").body(Vec::new()).unwrap()).await.status, 200);
    }
    let round = balancer.servers(0, 9).await;
    let mut servers = fleet.addresses();
    servers.sort();
    for three in round.windows(3) {
        let mut three = three.to_vec();
        three.sort();
        assert_eq!(three, servers, "each of three requests goes to another server: {round:?}");
    }
    let mut workers = Vec::new();
    for number in 0..CLIENTS {
        let tokens = fleet.session(if number % 2 == 0 { ALICE } else { BOB }).await;
        let clients = Arc::clone(&clients);
        workers.push(tokio::spawn(async move { clients.work(tokens).await }));
    }
    clients.rounds(2 * CLIENTS as u32).await;
    // Under load they go round too. Those that are under way are not noted yet.
    let passed = balancer.servers(9, 1).await;
    let counts: Vec<_> = servers.iter().map(|server| passed.iter().filter(|used| *used == server).count()).collect();
    assert_eq!(counts.iter().sum::<usize>(), passed.len(), "{counts:?}");
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= CLIENTS + 1, "{counts:?}");

    // A rolling restart: a new server, then one of the old ones goes, when nginx does not use it any more. Sign-ins that have
    // begun with the servers of before end with those of after.
    for _ in 0..3 {
        let begun = Begun::by(&fleet).await;
        fleet.add().await;
        balancer.use_servers(&fleet.addresses()[1..], &clients).await;
        assert_eq!(fleet.retire(0).await, Some(0));
        begun.end(&fleet).await;
        clients.rounds(CLIENTS as u32).await;
    }
    assert_eq!(clients.failures.load(Ordering::SeqCst), 0, "a rolling restart costs no request: {}", fleet.log());
    assert_eq!(sent_again(&control, "refresh_token"), BTreeMap::new(), "until here nothing has failed");

    // It is killed in the middle of load. Once it has ended, no request fails any more: `work` looks at every answer.
    let begun = Begun::by(&fleet).await;
    let killed = fleet.address(0).to_string();
    fleet.kill(0).await;
    clients.is_gone.store(true, Ordering::SeqCst);
    begun.end(&fleet).await;
    clients.rounds(2 * CLIENTS as u32).await;
    clients.done.store(true, Ordering::SeqCst);
    for worker in join_all(workers).await {
        worker.unwrap();
    }

    // Each client has one request at a time, so each has at most one on its way to the process that is killed.
    let failures = clients.failures.load(Ordering::SeqCst);
    assert!(failures <= CLIENTS as u32, "{failures}");
    let failed = || balancer.passed().into_iter().filter(|passed| passed.status >= 500).collect::<Vec<_>>();
    until(|| failed().len() >= failures as usize).await.expect("nginx notes every request");
    let failed = failed();
    assert_eq!(failed.len(), failures as usize, "{failed:?}");
    for passed in failed {
        assert_eq!((&passed.server, passed.answered.as_str()), (&killed, "502"), "{passed:?}");
    }
    assert_eq!(sent_again(&control, "code"), BTreeMap::new());
    // A process that is killed takes the answer of Entra ID with it. The request that failed is sent again, and the refresh
    // token with it; no other one is.
    let again = sent_again(&control, "refresh_token");
    assert!(again.len() <= failures as usize && again.values().all(|times| *times == 2), "{failures}: {again:?}");
}

#[tokio::test]
#[cfg_attr(not(all(tool = "redis-server", tool = "nginx")), ignore = "needs redis-server and nginx: use tests/run")]
async fn a_code_and_a_refresh_token_are_used_once_whichever_server_is_asked() {
    let redis = Redis::start("redis-server").await;
    let arguments = ["--rate-limit", "off", "--refresh-grace-seconds", "0"];
    let mut fleet = Replicas::start_on(Some(&redis.url()), 3, AN_HOUR, "warn", &arguments).await;
    let balancer = Balancer::start(&fleet.addresses()).await;
    fleet.through(Some(balancer.place.address()));
    let client_id = fleet.register().await;
    let (cookies, entra) = fleet.consent(&client_id).await;
    let callback = sign_in(&entra, ALICE).await;
    let code = fleet.call_back(&cookies, &callback).await;
    let successes = |answers: &[Answer]| answers.iter().filter(|answer| answer.status == 200).count();
    // A use that is repeated ends the session (RFC 9700 section 4.14.2), also while the first one is under way: then none
    // succeeds.
    let answers = join_all((0..9).map(|_| fleet.redeem(&client_id, &code))).await;
    assert!(successes(&answers) <= 1, "{}", successes(&answers));
    // One after the other, the first is the one.
    let (cookies, entra) = fleet.consent(&client_id).await;
    let code = fleet.call_back(&cookies, &sign_in(&entra, ALICE).await).await;
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(fleet.redeem(&client_id, &code).await.status);
    }
    assert_eq!(told, [200, 400, 400, 400, 400, 400]);
    // A refresh token is only known to be repeated when its first use is done, so that one succeeds.
    let tokens = fleet.session(BOB).await;
    let answers = join_all((0..9).map(|_| fleet.refresh(&tokens))).await;
    assert_eq!(successes(&answers), 1);
    // One after the other, the first is the one.
    let tokens = fleet.session(BOB).await;
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(fleet.refresh(&tokens).await.status);
    }
    assert_eq!(told, [200, 400, 400, 400, 400, 400]);
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn the_limits_of_three_servers_are_those_of_one() {
    let redis = Redis::start("redis-server").await;
    let arguments = ["--rate-limit", "register=6/1h"];
    let fleet = Replicas::start_on(Some(&redis.url()), 3, AN_HOUR, "warn", &arguments).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let request = Request::post("/register").header("content-type", "application/json");
        let body = br#"{"redirect_uris":["http://127.0.0.1/callback"],"token_endpoint_auth_method":"none"}"#;
        statuses.push(fleet.send(request.body(body.to_vec()).unwrap()).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 6, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 6, "{statuses:?}");
}
