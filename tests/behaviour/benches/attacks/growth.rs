//! Attack 4: strangers fill the store with registrations, with sign-ins that no person finishes, and with documents.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{Door, From, Origin, Site};
use crate::tally::Tally;
use crate::web_site::{self, WebSites};
use crate::{Crowd, until};

/// Bytes of a redirect URI, of which a registration may have 32: as much as is admitted.
const URI_BYTES: usize = 900;
const URIS: usize = 32;
/// Bytes of the longest `state`, which waits with its sign-in.
const STATE_BYTES: usize = 2_048;

/// Requests of each kind to begin with: more than the addresses may send. Those for documents come first, because they
/// are sign-ins as well.
const DOCUMENTS: usize = 120;
const REGISTRATIONS: usize = 160;
const SIGN_INS: usize = 600;
/// Of these, what the server lets through: hardly fewer than four addresses, or a /56, may ask for (80, 80, and 400
/// sign-ins with those for documents).
const STORED: [usize; 3] = [70, 70, 250];

/// Sites with documents: the server fetches four of one site at the same time.
const SITES: usize = 4;
/// Requests at the same time; of documents, as many as an address, or a /56, has places for.
const SENDERS: usize = 16;
const FETCHES: usize = 4;
/// Before each further request, for as long as the good client is measured.
const PAUSE: Duration = Duration::from_millis(50);

/// What the records of strangers may take in the store, and what a database needs besides.
const MOST_BYTES: u64 = (64 + 16) * 1024 * 1024;

/// What a stranger leaves in the store.
#[derive(Clone, Copy)]
enum Waste {
    /// A sign-in that waits, and with it the document of its client: almost 16 KiB.
    Document,
    /// A registration that is never used.
    Registration,
    /// A sign-in that waits.
    SignIn,
}

impl Waste {
    fn name(self) -> &'static str {
        match self {
            Self::Document => "documents",
            Self::Registration => "registrations",
            Self::SignIn => "sign-ins",
        }
    }

    /// The status of what was stored.
    fn stored(self) -> u16 {
        match self {
            Self::Registration => 201,
            Self::Document | Self::SignIn => 200,
        }
    }
}

/// What the attackers know.
#[derive(Clone)]
struct Attacker {
    door: Door,
    addresses: Vec<From>,
    hosts: Vec<String>,
    registration: String,
    /// A client that one of them has registered.
    client_id: String,
    tally: Arc<Tally>,
}

impl Attacker {
    /// Sends the `number`th request of a kind.
    async fn send(&self, waste: Waste, number: usize) {
        self.tally.begin();
        let from = self.addresses[number % self.addresses.len()];
        let state = "s".repeat(STATE_BYTES);
        let answer = match waste {
            Waste::Registration => register(&self.door, from, &self.registration).await,
            Waste::Document => {
                let (host, path) = (&self.hosts[number % self.hosts.len()], web_site::large(number));
                let target = web_site::authorization(host, &path, &web_site::large_uri(), &state);
                self.door.ask(from, &format!("GET {target}"), "", "").await
            }
            Waste::SignIn => {
                let target = web_site::authorization_of(&self.client_id, &redirect_uri(0), &state);
                self.door.ask(from, &format!("GET {target}"), "", "").await
            }
        };
        self.tally.answer(waste.name(), answer.map(|(status, _)| status));
    }

    /// Sends so many requests of a kind as fast as possible.
    async fn flood(&self, waste: Waste, most: usize) {
        let at_a_time = if matches!(waste, Waste::Document) { FETCHES } else { SENDERS };
        let sending = futures_util::stream::iter((0..most).map(|number| self.send(waste, number)));
        sending.buffer_unordered(at_a_time).collect::<()>().await;
    }
}

fn redirect_uri(number: usize) -> String {
    format!("https://evil.example/{number}/{}", "x".repeat(URI_BYTES))
}

async fn register(door: &Door, from: From, registration: &str) -> Option<(u16, String)> {
    door.ask(from, "POST /register", "content-type: application/json\r\n", registration).await
}

pub(crate) async fn store(report: &mut Report) {
    for origin in Origin::BOTH {
        let tally = Arc::<Tally>::default();
        let sites = WebSites::start(SITES, &tally).await;
        let site = Site::with(origin, |folder| sites.arguments(folder)).await;
        let good = Good::calling(&site, origin).await;
        let uris: Vec<_> = (0..URIS).map(redirect_uri).collect();
        let registration = json!({ "redirect_uris": uris, "token_endpoint_auth_method": "none" }).to_string();
        let (door, addresses) = (site.door(), origin.attackers());
        let (_, registered) = register(&door, addresses[0], &registration).await.unwrap();
        let registered: Value = serde_json::from_str(registered.split_once("\r\n\r\n").unwrap().1).unwrap();
        let client_id = registered["client_id"].as_str().unwrap().to_owned();
        let hosts = sites.hosts.clone();
        let attacker = Attacker { door, addresses, hosts, registration, client_id, tally: Arc::clone(&tally) };

        let wastes = [(Waste::Document, DOCUMENTS), (Waste::Registration, REGISTRATIONS), (Waste::SignIn, SIGN_INS)];
        let bytes = std::cell::RefCell::new(vec![site.stored()]);
        let begin = async |crowd: &mut Crowd| {
            for (waste, most) in wastes {
                attacker.flood(waste, most).await;
                bytes.borrow_mut().push(site.stored());
            }
            for (waste, most) in wastes {
                let attacker = attacker.clone();
                crowd.spawn(async move {
                    for number in most.. {
                        attacker.send(waste, number).await;
                        tokio::time::sleep(PAUSE).await;
                    }
                });
            }
            let begun = tally.begun();
            until(|| tally.begun() > begun).await;
        };
        let found = async || {
            let kib = |bytes: u64| bytes / 1024;
            let bytes = bytes.borrow();
            let (before, now) = (bytes[0], site.stored());
            let steps = wastes.iter().zip(bytes.windows(2)).map(|((waste, _), bytes)| {
                let stored = tally.with(waste.name(), waste.stored());
                format!("{stored} {} {} KiB", waste.name(), kib(bytes[1].saturating_sub(bytes[0])))
            });
            let steps = steps.collect::<Vec<_>>().join(", ");
            let left = format!("the store grew from {} to {} KiB: by {steps}", kib(before), kib(now));
            let stored = |place: usize| tally.with(wastes[place].0.name(), wastes[place].0.stored()) >= STORED[place];
            Finding::new(left)
                .needs(stored(0), "fewer sign-ins with documents were stored than the addresses may begin")
                .needs(stored(1), "fewer registrations were stored than the addresses may send")
                .needs(stored(2), "fewer sign-ins were stored than the addresses may begin")
                .promises(now.saturating_sub(before) <= MOST_BYTES, "the store grew beyond the cap")
        };
        let name = format!("4. the largest documents, registrations and waiting sign-ins, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}
