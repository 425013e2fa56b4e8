//! Whether memory grows while people sign in, call, refresh, and sign out, again and again: the slope of the resident
//! memory, with its standard error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;

use crate::load::message;
use crate::memory::Memory;
use crate::report::Report;
use crate::server::Server;
use crate::servers::{Contender, World};
use crate::session::{self, Session};
use crate::{PROTOCOL, TOOL, megabytes, processors};

const BETWEEN_LOOKS: Duration = Duration::from_secs(10);
/// People that are there at the same time, with as many clients.
const PEOPLE: [&str; 4] =
    ["alice@contoso.example", "mia@contoso.example", "sara@contoso.example", "admin@contoso.example"];
/// Calls before a session is refreshed, and calls after that.
const CALLS: usize = 10;
/// Of the clients. No server is there.
const REDIRECT: &str = "https://client.example/callback";
/// The part of the looks, one in so many, in which caches fill: it does not count.
const WARM_UP: usize = 4;

pub(crate) async fn measure(world: &World, report: &mut Report, time: Duration) {
    let folder = tempfile::tempdir().unwrap();
    // All of this load comes from one address.
    let start = || Server::start(world.emulator.endpoints(), folder.path(), &["--rate-limit", "off"]);
    let server = Arc::new(processors::of_servers(start));
    let (end, rounds) = (Instant::now() + time, Arc::new(AtomicU64::new(0)));
    let people: Vec<_> = PEOPLE
        .into_iter()
        .map(|username| tokio::spawn(come_and_go(Arc::clone(&server), username, end, Arc::clone(&rounds))))
        .collect();
    let control = world.emulator.control();
    let mut looks = tokio::time::interval(BETWEEN_LOOKS);
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while Instant::now() < end {
        looks.tick().await;
        let (minutes, resident) = (begun.elapsed().as_secs_f64() / 60.0, megabytes(Memory::of(server.pid()).resident));
        println!("{minutes:>6.2} min {resident:>8.1} MB");
        seen.push((minutes, resident));
        // The emulator notes each request.
        control.clear_requests();
    }
    for person in people {
        person.await.unwrap();
    }
    println!("{} sessions began and ended", rounds.load(Ordering::Relaxed));
    match slope(&seen[seen.len() / WARM_UP..]) {
        Some((slope, error)) => {
            println!("the slope is {slope:+.3} ± {error:.3} MB/min");
            report.put("soak: growth of the memory, MB/min", Contender::Ours, slope);
            report.put("soak: standard error of that, MB/min", Contender::Ours, error);
        }
        None => println!("there are too few looks for a slope"),
    }
    let seconds = time.as_secs();
    report.note(format!("The soak lasted {seconds} s. Its first quarter, in which caches fill, does not count."));
}

/// One person signs in, calls, refreshes, calls, and signs out, until the end.
async fn come_and_go(server: Arc<Server>, username: &'static str, end: Instant, rounds: Arc<AtomicU64>) {
    let (http, site) = (reqwest::Client::new(), server.public_url());
    let client_id = session::register(site, REDIRECT).await;
    while Instant::now() < end {
        let begun = session::sign_in_of(site, "/mcp", username, &client_id).await;
        calls(&http, &server, &begun.access_token).await;
        let refreshed = refresh(&http, &server, &begun).await;
        calls(&http, &server, &refreshed.access_token).await;
        let form = [("client_id", client_id.as_str()), ("token", &refreshed.refresh_token)];
        let revoked = http.post(server.at("/revoke")).form(&form).send().await.unwrap();
        assert_eq!(revoked.status(), StatusCode::OK);
        let status = call(&http, &server, &refreshed.access_token).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "a session that was revoked");
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

async fn calls(http: &reqwest::Client, server: &Server, token: &str) {
    for _ in 0..CALLS {
        assert_eq!(call(http, server, token).await, StatusCode::OK);
    }
}

async fn call(http: &reqwest::Client, server: &Server, token: &str) -> StatusCode {
    let request = http.post(server.at("/mcp")).bearer_auth(token).header("mcp-protocol-version", PROTOCOL);
    let request = request.header("accept", "application/json, text/event-stream").header("mcp-method", "tools/call");
    let answer = request.header("mcp-name", TOOL).json(&message(PROTOCOL)).send().await.unwrap();
    let status = answer.status();
    // The connection is kept when the body was read.
    answer.bytes().await.unwrap();
    status
}

async fn refresh(http: &reqwest::Client, server: &Server, session: &Session) -> Session {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", session.client_id.as_str()),
        ("refresh_token", &session.refresh_token),
    ];
    let answer = http.post(server.at("/token")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let tokens: Value = answer.json().await.unwrap();
    let of = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let (access_token, refresh_token) = (of("access_token"), of("refresh_token"));
    Session { access_token, refresh_token, client_id: session.client_id.clone() }
}

/// The slope of a line through points, by least squares, and its standard error. `None`: there are too few.
fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let freedom = count - 2.0;
    if freedom < 1.0 {
        return None;
    }
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|(x, _)| *x), mean(|(_, y)| *y));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let slope = common / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    Some((slope, (rest / freedom / spread).sqrt()))
}
