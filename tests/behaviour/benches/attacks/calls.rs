//! Attack 7: a single signed-in caller sends all the calls it can, which ask Graph, also the largest.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::Value;

use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{BOB, MODERN, Origin, Site, WITH_BATCHES, call, legacy_call};
use crate::tally::Tally;
use crate::{Crowd, again, until};

/// The attacker's tool, and what it asks Graph for. The good client asks for something else, so a slow answer is the
/// attacker's alone.
const TOOL: &str = "listMyGroups";
const ASKED: Endpoint = Endpoint::GraphMemberOf;

/// Requests to Graph that one caller may cause: 600 in a minute at once, and ten more in each second of an attack that is
/// over in twenty.
const GRAPH_REQUESTS: u64 = 600 + 20 * 10;

/// Before an attacker that was refused asks again: as many as there are would else use up the processors.
const PAUSE: Duration = Duration::from_secs(1);

/// One way to do it.
struct Flood {
    name: &'static str,
    /// Messages in each request. One is no batch.
    batch: usize,
    /// Requests at the same time.
    senders: usize,
    /// Bytes of a body at least: white space makes up for what the messages do not have.
    bytes: usize,
    /// What Graph does.
    graph: fn(Fault) -> Fault,
    /// Whether the server lets some of them through.
    is_admitted: bool,
    /// Requests to Graph without which the attack did not happen.
    at_least: u64,
}

const FLOODS: [Flood; 5] = [
    Flood {
        name: "8 batches of 100 calls at a time",
        batch: 100,
        senders: 8,
        bytes: 0,
        graph: |fault| fault,
        is_admitted: false,
        at_least: 0,
    },
    Flood {
        name: "8 batches of 20 calls at a time, Graph takes 0.1 s for each call",
        batch: 20,
        senders: 8,
        bytes: 0,
        graph: |fault| fault.delay_ms(100),
        is_admitted: true,
        at_least: 40,
    },
    // Longer than the good client is measured: what is admitted is at work all the time.
    Flood {
        name: "600 calls at a time, Graph takes 5 s for each",
        batch: 1,
        senders: 600,
        bytes: 0,
        graph: |fault| fault.delay_ms(5_000),
        is_admitted: true,
        at_least: 8,
    },
    // As many as there is memory for, of whole bodies whose requests are at work.
    Flood {
        name: "64 calls of 1 MiB at a time, Graph takes 5 s for each",
        batch: 1,
        senders: 64,
        bytes: 1024 * 1024,
        graph: |fault| fault.delay_ms(5_000),
        is_admitted: true,
        at_least: 16,
    },
    Flood {
        name: "16 calls at a time, of which Graph wants each again in 5 s",
        batch: 1,
        senders: 16,
        bytes: 0,
        graph: |fault| fault.status(429).header("retry-after", "5").delay_ms(200),
        is_admitted: true,
        at_least: 16,
    },
];

impl Flood {
    /// The version of MCP, and the message.
    fn message(&self) -> (&'static str, Value) {
        match self.batch {
            1 => (MODERN, call(TOOL)),
            many => (WITH_BATCHES, (0..many).map(|id| legacy_call(id, TOOL)).collect()),
        }
    }

    async fn play(&self, report: &mut Report, origin: Origin) {
        let tally = Arc::<Tally>::default();
        // Each call of the good client asks Graph.
        let site = Site::with(origin, |_| vec!["--profile-cache-seconds".to_owned(), "0".to_owned()]).await;
        let good = Good::calling(&site, origin).await;
        let token = site.sign_in("/mcp", BOB).await.access_token;
        let control = site.emulator.control();
        control.inject((self.graph)(Fault::on(ASKED).always()));
        let asked = || control.request_count(ASKED);
        let (attackers, (version, message)) = (origin.attackers(), self.message());
        let message = Arc::new(message);
        let begin = async |crowd: &mut Crowd| {
            for sender in 0..self.senders {
                let (door, token, message) = (site.door(), token.clone(), Arc::clone(&message));
                let (from, tally) = (attackers[sender % attackers.len()], Arc::clone(&tally));
                let bytes = self.bytes;
                crowd.spawn(async move {
                    again(|| async {
                        tally.begin();
                        let held = tally.hold();
                        let status = door.post_padded(from, &token, version, &message, bytes).await;
                        drop(held);
                        tally.answer("requests", status);
                        if matches!(status, None | Some(429 | 503)) {
                            tokio::time::sleep(PAUSE).await;
                        }
                    })
                    .await;
                });
            }
            let is_under_way = || if self.is_admitted { asked() >= self.at_least } else { tally.answered() > 0 };
            until(|| tally.begun() >= self.senders && is_under_way()).await;
        };
        let found = async || {
            let admitted = tally.with("requests", 200);
            let left = format!("Graph had {} requests of the attacker; {} requests wait now", asked(), tally.held());
            let finding = Finding::new(left)
                .needs(tally.most_held() >= self.senders, "fewer requests were under way at a time")
                .promises(asked() <= GRAPH_REQUESTS, "one caller caused more requests to Graph than it may");
            match self.is_admitted {
                true => finding.needs(asked() >= self.at_least, "Graph was hardly asked"),
                false => finding
                    .needs(tally.with("requests", 400) > 0, "no batch was refused for its length")
                    .promises(asked() == 0 && admitted == 0, "a batch was taken that is too long"),
            }
        };
        let name = format!("7. {}, one person, {origin}", self.name);
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

pub(crate) async fn floods(report: &mut Report) {
    for flood in FLOODS {
        for origin in Origin::BOTH {
            flood.play(report, origin).await;
        }
    }
}
