//! The good client: it asks for something it is entitled to, from elsewhere, again and again.
//!
//! It has a thread of its own, so that its figures are those of the server and not of the attackers beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;
use tokio::sync::Mutex;

use crate::session::Session;
use crate::site::{Door, From, MODERN, Origin, Site, call, status_of};
use crate::web_site;

/// Between two requests: a client, not a load. In all phases of an attack together, it stays below its own 600 calls a
/// minute.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two event streams: one counts for its person until the server forgets it, which may be later than the last
/// phase. Each person has sixteen, and four of them take turns.
const STREAM_PAUSE: Duration = Duration::from_millis(250);
/// Between two documents: the server fetches 300 a minute, of good clients and attackers together.
const DOCUMENT_PAUSE: Duration = Duration::from_millis(100);
/// Good clients: people whose sign-in needs nothing but a password.
const STREAMING: [&str; 4] =
    ["alice@contoso.example", "olga@contoso.example", "sara@contoso.example", "admin@contoso.example"];
/// How long an event stream may take to begin.
const STREAM_TIME: Duration = Duration::from_secs(10);

pub(crate) struct Good {
    origin: Origin,
    wants: Wants,
    /// Requests so far.
    asked: AtomicUsize,
}

/// What it asks for.
enum Wants {
    /// To call a tool.
    Call(String),
    /// To refresh its tokens. Each time from another address: one has fifty requests in a quarter of an hour.
    Refresh(Box<Mutex<Session>>),
    /// To be asked by the consent page, each time for another client, by a person at another address: so each page costs
    /// a document that is fetched. The host of the documents.
    Consent(String),
    /// To open an event stream, each time with the next token.
    Stream(Vec<String>),
}

/// How it was served.
#[derive(Default)]
pub(crate) struct Phase {
    succeeded: usize,
    latencies: Vec<Duration>,
    /// Other statuses; 0 for no answer.
    others: BTreeMap<u16, usize>,
}

impl Good {
    pub(crate) async fn calling(site: &Site, origin: Origin) -> Self {
        let session = site.sign_in("/mcp", "alice@contoso.example").await;
        Self::new(origin, Wants::Call(session.access_token))
    }

    pub(crate) fn refreshing(session: Session, origin: Origin) -> Self {
        Self::new(origin, Wants::Refresh(Box::new(Mutex::new(session))))
    }

    pub(crate) fn consenting(host: String, origin: Origin) -> Self {
        Self::new(origin, Wants::Consent(host))
    }

    pub(crate) async fn streaming(site: &Site, origin: Origin) -> Self {
        let mut tokens = Vec::new();
        for username in STREAMING {
            tokens.push(site.sign_in("", username).await.access_token);
        }
        Self::new(origin, Wants::Stream(tokens))
    }

    fn new(origin: Origin, wants: Wants) -> Self {
        Self { origin, wants, asked: AtomicUsize::new(0) }
    }

    /// Blocks the thread: the attackers have others.
    pub(crate) fn measure(&self, site: &Site, duration: Duration) -> Phase {
        let door = site.door();
        std::thread::scope(|threads| {
            let measuring = threads.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.served(&door, duration))
            });
            measuring.join().unwrap()
        })
    }

    async fn served(&self, door: &Door, duration: Duration) -> Phase {
        let (mut phase, end) = (Phase::default(), Instant::now() + duration);
        while Instant::now() < end {
            let asked = Instant::now();
            let status = self.ask(door).await.unwrap_or(0);
            phase.latencies.push(asked.elapsed());
            match status {
                200 => phase.succeeded += 1,
                other => *phase.others.entry(other).or_default() += 1,
            }
            tokio::time::sleep(match self.wants {
                Wants::Consent(_) => DOCUMENT_PAUSE,
                Wants::Stream(_) => STREAM_PAUSE,
                Wants::Call(_) | Wants::Refresh(_) => PAUSE,
            })
            .await;
        }
        phase.latencies.sort_unstable();
        phase
    }

    async fn ask(&self, door: &Door) -> Option<u16> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let another = self.origin.elsewhere(number);
        match &self.wants {
            Wants::Call(token) => door.post_message(self.origin.good(), token, MODERN, &call("getUserDetails")).await,
            Wants::Refresh(session) => refresh(door, another, &mut *session.lock().await).await,
            Wants::Consent(host) => {
                let target = web_site::authorization(host, &web_site::small(number), web_site::REDIRECT, "s");
                door.ask(another, &format!("GET {target}"), "", "").await.map(|(status, _)| status)
            }
            Wants::Stream(tokens) => {
                let token = tokens.get(number % tokens.len())?;
                tokio::time::timeout(STREAM_TIME, stream(door, another, token)).await.ok()?
            }
        }
    }
}

async fn refresh(door: &Door, from: From, session: &mut Session) -> Option<u16> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", session.client_id.as_str()),
        ("refresh_token", session.refresh_token.as_str()),
    ];
    let (status, answer) = door.post_form(from, "/token", &form).await?;
    if status == 200 {
        let tokens: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        session.refresh_token = tokens["refresh_token"].as_str()?.to_owned();
    }
    Some(status)
}

/// Opens an event stream, and leaves when it has begun.
async fn stream(door: &Door, from: From, token: &str) -> Option<u16> {
    let mut connection = door.connect(from).await?;
    let lines = format!("accept: text/event-stream\r\nauthorization: Bearer {token}\r\n");
    connection.write_all(door.head(from, "GET /sse", &lines).as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = connection.read(&mut buffer).await.ok()?;
        answer.extend_from_slice(&buffer[..length]);
        let (text, status) = (String::from_utf8_lossy(&answer), status_of(&answer));
        if length == 0 || status.is_some_and(|status| status != 200) || text.contains("sessionId=") {
            return status;
        }
    }
}

impl Phase {
    /// By the nearest rank: of fewer than a hundred, the slowest.
    fn p99(&self) -> Duration {
        let rank = (self.latencies.len() * 99).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// How many times that of another phase the p99 is.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.p99().as_secs_f64() / other.p99().as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn is_all_served(&self) -> bool {
        self.succeeded > 0 && self.others.is_empty()
    }
}

impl fmt::Display for Phase {
    #[allow(clippy::cast_precision_loss, reason = "per cent, for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.latencies.len();
        let rate = 100.0 * self.succeeded as f64 / asked.max(1) as f64;
        write!(f, "{rate:5.1} %  p99 {:7.1} ms  {asked:4} requests", self.p99().as_secs_f64() * 1e3)?;
        for (status, count) in &self.others {
            match status {
                0 => write!(f, ", no answer × {count}")?,
                status => write!(f, ", {status} × {count}")?,
            }
        }
        Ok(())
    }
}
