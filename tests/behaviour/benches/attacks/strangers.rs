//! Attacks 3, 6, 9 and 10: strangers lock users out of a client, take the places of event streams, hide where they are, and keep
//! the door to servers behind busy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::behind::Behind;
use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{Door, From, MODERN, Origin, Site, call};
use crate::tally::Tally;
use crate::{Crowd, again, until};

/// Requests after which the attackers slow down: more than were enough to use up what a client id had, 5,000 in a quarter
/// of an hour.
const REFRESHES: usize = 6_400;
/// Of these, requests that come as far as the client id: hardly fewer than fifty of each of four addresses, or two hundred
/// of a /56, which is what they may send in a quarter of an hour.
const LOOKED_AT: usize = 180;
/// Attackers, and the pause between two requests of each once there were enough: it leaves a bound used up.
const SENDERS: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);

/// Sends requests from all addresses in turn: at first as fast as possible, then so that the attack goes on. `send` counts
/// its answer.
fn spawn_senders<F, Sent>(crowd: &mut Crowd, tally: &Arc<Tally>, attackers: &[From], most: usize, send: F)
where
    F: Fn(From) -> Sent + Clone + Send + 'static,
    Sent: Future<Output = ()> + Send,
{
    for sender in 0..SENDERS {
        let (tally, attackers, send) = (Arc::clone(tally), attackers.to_vec(), send.clone());
        crowd.spawn(async move {
            for number in (sender..).step_by(SENDERS) {
                tally.begin();
                send(attackers[number % attackers.len()]).await;
                if tally.begun() >= most {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
}

pub(crate) async fn client_lock_out(report: &mut Report) {
    for origin in Origin::BOTH {
        let (site, tally) = (Site::start(origin).await, Arc::<Tally>::default());
        let session = site.sign_in("/mcp", "alice@contoso.example").await;
        let client_id = session.client_id.clone();
        let good = Good::refreshing(session, origin);
        let begin = async |crowd: &mut Crowd| {
            let (door, client_id, counted) = (site.door(), client_id.clone(), Arc::clone(&tally));
            spawn_senders(crowd, &tally, &origin.attackers(), REFRESHES, move |from| {
                made_up_refresh(door.clone(), from, client_id.clone(), Arc::clone(&counted))
            });
            until(|| tally.answered() >= REFRESHES).await;
        };
        let found = async || {
            // They are as many as the addresses have: the rest is refused before the client id is looked at.
            let looked_at = tally.with("refreshes", 400);
            Finding::new(format!("{looked_at} requests came as far as the client id"))
                .needs(looked_at >= LOOKED_AT, "fewer requests named the client id than the addresses may send")
                .promises(tally.with("refreshes", 200) == 0, "a made-up token was taken")
        };
        let name = format!("3. {REFRESHES} made-up refresh tokens, and more, for a client id of others, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

async fn made_up_refresh(door: Door, from: From, client_id: String, tally: Arc<Tally>) {
    let form = [("grant_type", "refresh_token"), ("client_id", client_id.as_str()), ("refresh_token", "made-up")];
    let answer = door.post_form(from, "/token", &form).await;
    tally.answer("refreshes", answer.map(|(status, _)| status));
}

/// Made-up tokens after which the attackers slow down. Of these, those that are looked at: hardly fewer than sixty of each
/// of four addresses, or 240 of a /56, which is what they may send in a minute.
const TOKENS: usize = 400;
const ANSWERED: usize = 220;

/// Clients whose address a proxy appends to `X-Forwarded-For`, and that send a `Forwarded` of their own.
pub(crate) async fn hidden_address(report: &mut Report) {
    for origin in [Origin::FourIpv4Forwarded, Origin::One56] {
        let tally = Arc::<Tally>::default();
        let site = Site::with(origin, |folder| {
            vec!["--audit-file".to_owned(), folder.join("audit.jsonl").display().to_string()]
        })
        .await;
        let good = Good::calling(&site, origin).await;
        let attackers = origin.attackers();
        let begin = async |crowd: &mut Crowd| {
            let (door, counted) = (site.door(), Arc::clone(&tally));
            spawn_senders(crowd, &tally, &attackers, TOKENS, move |from| {
                made_up_token(door.clone(), from, Arc::clone(&counted))
            });
            until(|| tally.answered() >= TOKENS).await;
        };
        let found = async || {
            let named = addresses(&std::fs::read_to_string(site.path("audit.jsonl")).unwrap());
            let is_real = |address: &String| attackers.iter().any(|from| from.address().to_string() == *address);
            let (real, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|(address, _)| is_real(address));
            let records: usize = real.iter().map(|(_, records)| records).sum();
            let left = format!("{records} records name {} addresses of the attackers, others {others:?}", real.len());
            Finding::new(left)
                .needs(tally.with("tokens", 401) >= ANSWERED, "fewer tokens were looked at than the bound lets through")
                .promises(tally.with("tokens", 429) > 0, "`Forwarded` evaded the bound of an address")
                .promises(others.is_empty() && records > 0, "a record does not name the attacker")
        };
        let name =
            format!("9. made-up tokens of clients that add `Forwarded` to a proxy's `X-Forwarded-For`, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

async fn made_up_token(door: Door, from: From, tally: Arc<Tally>) {
    let lines = format!(
        "forwarded: for=x\r\ncontent-type: application/json\r\naccept: application/json, \
         text/event-stream\r\nauthorization: Bearer made-up\r\nmcp-protocol-version: {MODERN}\r\n"
    );
    let answer = door.ask(from, "POST /mcp", &lines, &call("getUserDetails").to_string()).await;
    tally.answer("tokens", answer.map(|(status, _)| status));
}

/// How many records about refused tokens name which address.
fn addresses(audit: &str) -> BTreeMap<String, usize> {
    let mut named = BTreeMap::<String, usize>::new();
    for record in audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if record["event"] == "token.refused" || record["event"] == "request.throttled" {
            let address = record["address"].as_str().unwrap_or("no address");
            *named.entry(address.to_owned()).or_default() += 1;
        }
    }
    named
}

/// A request that strangers send again and again without a token, and how many of them do so at the same time.
struct Tokenless {
    senders: usize,
    request: &'static str,
    lines: &'static str,
    body: &'static str,
}

/// Before a stranger that was refused for want of a place asks again: as many as there are would else use up the processors.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Tokenless {
    /// Completes when there were as many answers as there are strangers.
    async fn begin(&self, crowd: &mut Crowd, site: &Site, attackers: &[From], tally: &Arc<Tally>) {
        for sender in 0..self.senders {
            let Self { request, lines, body, .. } = *self;
            let (door, from, tally) = (site.door(), attackers[sender % attackers.len()], Arc::clone(tally));
            crowd.spawn(async move {
                again(|| async {
                    tally.begin();
                    let held = tally.hold();
                    let status = door.ask(from, request, lines, body).await.map(|(status, _)| status);
                    drop(held);
                    tally.answer("requests", status);
                    if status != Some(401) {
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                })
                .await;
            });
        }
        until(|| tally.answered() >= self.senders).await;
    }

    fn found(&self, tally: &Tally) -> Finding {
        Finding::new(format!("{} requests are under way now", tally.held()))
            .needs(tally.most_held() >= self.senders / 2, "fewer than half of the strangers asked at a time")
            .needs(tally.with("requests", 401) > 0, "no request came as far as the question for a token")
            .promises(tally.with("requests", 200) == 0, "a request without a token was served")
    }
}

/// More than the places for event streams, and fewer than the connections that an address has.
const STREAMS: Tokenless =
    Tokenless { senders: 256, request: "GET /sse", lines: "accept: text/event-stream\r\n", body: "" };

/// Strangers that take the places of event streams without a token.
pub(crate) async fn event_streams(report: &mut Report) {
    for origin in Origin::BOTH {
        let (site, tally) = (Site::start(origin).await, Arc::<Tally>::default());
        let good = Good::streaming(&site, origin).await;
        let attackers = origin.attackers();
        let begin = async |crowd: &mut Crowd| STREAMS.begin(crowd, &site, &attackers, &tally).await;
        let found = async || STREAMS.found(&tally);
        let name = format!("6. {} strangers open event streams without a token, {origin}", STREAMS.senders);
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

/// More than the instances that the server has, and the places of those that wait for one.
const CALLS: Tokenless = Tokenless {
    senders: 800,
    request: "POST /mcp",
    lines: "content-type: application/json\r\naccept: application/json, text/event-stream\r\n",
    body: r#"{"jsonrpc":"2.0","id":"stranger","method":"tools/list","params":{}}"#,
};

/// Strangers that ask a server behind the gate without a token, while a person calls a tool of it.
pub(crate) async fn gate(report: &mut Report) {
    for origin in Origin::BOTH {
        let (behind, tally) = (crate::world().spawn(Behind::start()).await.unwrap(), Arc::<Tally>::default());
        let site = Site::with(origin, |_| vec!["--upstream".to_owned(), behind.url()]).await;
        let good = Good::calling(&site, origin).await;
        let attackers = origin.attackers();
        let begin = async |crowd: &mut Crowd| CALLS.begin(crowd, &site, &attackers, &tally).await;
        let found = async || {
            let is_of_stranger = behind.arrived().iter().any(|request| request.body.contains("stranger"));
            CALLS.found(&tally).promises(!is_of_stranger, "a request without a token went on")
        };
        let name = format!("10. {} strangers ask a server behind without a token, {origin}", CALLS.senders);
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}
