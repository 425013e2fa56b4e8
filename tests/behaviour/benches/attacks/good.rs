//! The good client: it asks for something it is entitled to, from elsewhere, again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use crate::session::Session;
use crate::site::{Door, From, MODERN, Site, call};

/// Between two requests: a client, not a load. In all phases of an attack together, it stays below its own 600 calls a
/// minute.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two event streams: one counts until the server notices that it has ended, and a caller has sixteen.
const STREAM_PAUSE: Duration = Duration::from_secs(1);
/// Between two refreshes: an address has fifty in a quarter of an hour.
const LONG_PAUSE: Duration = Duration::from_millis(300);
/// How long an event stream may take to begin.
const STREAM_TIME: Duration = Duration::from_secs(10);

pub(crate) struct Good {
    from: From,
    wants: Wants,
}

/// What it asks for.
enum Wants {
    /// To call a tool.
    Call(String),
    /// To refresh its tokens.
    Refresh(Box<Mutex<Session>>),
    /// To be asked by the consent page.
    Consent(String),
    /// To open an event stream.
    Stream(String),
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
    pub(crate) async fn calling(site: &Site, from: From) -> Self {
        let session = site.sign_in("/mcp", "alice@contoso.example").await;
        Self { from, wants: Wants::Call(session.access_token) }
    }

    pub(crate) fn refreshing(session: Session, from: From) -> Self {
        Self { from, wants: Wants::Refresh(Box::new(Mutex::new(session))) }
    }

    pub(crate) fn consenting(target: String, from: From) -> Self {
        Self { from, wants: Wants::Consent(target) }
    }

    pub(crate) fn streaming(session: &Session, from: From) -> Self {
        Self { from, wants: Wants::Stream(session.access_token.clone()) }
    }

    pub(crate) async fn measure(&self, site: &Site, duration: Duration) -> Phase {
        let (door, mut phase, end) = (site.door(), Phase::default(), Instant::now() + duration);
        while Instant::now() < end {
            let asked = Instant::now();
            let status = self.ask(&door).await.unwrap_or(0);
            phase.latencies.push(asked.elapsed());
            match status {
                200 => phase.succeeded += 1,
                other => *phase.others.entry(other).or_default() += 1,
            }
            tokio::time::sleep(match self.wants {
                Wants::Refresh(_) => LONG_PAUSE,
                Wants::Stream(_) => STREAM_PAUSE,
                Wants::Call(_) | Wants::Consent(_) => PAUSE,
            })
            .await;
        }
        phase.latencies.sort_unstable();
        phase
    }

    async fn ask(&self, door: &Door) -> Option<u16> {
        match &self.wants {
            Wants::Call(token) => door.post_message(self.from, token, MODERN, &call("getUserDetails")).await,
            Wants::Refresh(session) => refresh(door, self.from, &mut *session.lock().await).await,
            Wants::Consent(target) => {
                door.ask(self.from, &format!("GET {target}"), "", "").await.map(|(status, _)| status)
            }
            Wants::Stream(token) => tokio::time::timeout(STREAM_TIME, stream(door, self.from, token)).await.ok()?,
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
        let text = String::from_utf8_lossy(&answer);
        let status: Option<u16> = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        if length == 0 || status.is_some_and(|status| status != 200) || text.contains("sessionId=") {
            return status;
        }
    }
}

impl Phase {
    fn p99(&self) -> Duration {
        self.latencies.get(self.latencies.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }

    pub(crate) fn ratio(one: &Self, other: &Self) -> f64 {
        one.p99().as_secs_f64() / other.p99().as_secs_f64().max(f64::MIN_POSITIVE)
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
