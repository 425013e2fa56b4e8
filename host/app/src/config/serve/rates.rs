//! How often clients may use the OAuth endpoints, and come with bad tokens.

use std::collections::HashMap;
use std::time::Duration;

use entra_mcp_plugin::rate_limiter::Rate;

use super::invalid;
use crate::config::ConfigError;

/// Operations whose number per client address is bounded, with their default: the figures of the TypeScript SDK's
/// sample. `callback`, which it leaves open, is bounded as `authorize` is.
const RATES: [(&str, u32, u64); 5] = [
    ("authorize", 100, 15 * 60),
    ("token", 50, 15 * 60),
    ("register", 20, 60 * 60),
    ("callback", 100, 15 * 60),
    ("revoke", 50, 15 * 60),
];

/// How many bad access tokens of one address, or genuine ones of one caller that are refused, are answered and recorded
/// one by one. A person's client comes with one when a session or a token has ended, so there may be some hundred people
/// behind the address; and a stranger needs a month to fill the files that are kept by default (704 MiB).
const REFUSED_TOKENS: (&str, u32, u64) = ("refused-token", 60, 60);

/// How many times the bound of one address a client id has: one id, such as a metadata document's, stands for the same
/// program on many machines.
const CLIENT_FACTOR: u32 = 100;

/// How often documents of one host on the Internet are fetched: strangers choose the addresses, and the host has not
/// asked for it. More than all that one address may cause, so that nobody alone can keep others from their client.
const CLIENT_METADATA_RATE: Rate = Rate { count: 1_000, per: Duration::from_secs(15 * 60) };

/// The bounds by operation: by address, and by client id.
pub(super) fn rates(given: &[String]) -> Result<HashMap<String, Rate>, ConfigError> {
    let mut by_operation: HashMap<&str, Option<Rate>> = HashMap::new();
    for (operation, count, seconds) in RATES.into_iter().chain([REFUSED_TOKENS]) {
        by_operation.insert(operation, Some(Rate { count, per: Duration::from_secs(seconds) }));
    }
    for text in given {
        if text == "off" {
            by_operation.values_mut().for_each(|rate| *rate = None);
            continue;
        }
        let expected = "OPERATION=COUNT/TIME is expected, such as token=50/15m or token=off, or `off`";
        let parsed = text.split_once('=').and_then(|(operation, rate)| Some((operation, rate_of(rate)?)));
        let (operation, rate) = parsed.ok_or_else(|| invalid("rate-limit", text, expected))?;
        match by_operation.get_mut(operation) {
            Some(slot) => *slot = rate,
            None => {
                let operations = RATES.map(|(name, ..)| name).join(", ");
                let expected = format!("one of {operations}, {} is expected before the =", REFUSED_TOKENS.0);
                return Err(invalid("rate-limit", text, expected));
            }
        }
    }
    // It protects others, so no setting lifts it.
    let mut all = HashMap::from([("client-metadata".to_owned(), CLIENT_METADATA_RATE)]);
    for (operation, rate) in by_operation {
        let Some(rate) = rate else { continue };
        // The component counts it, and it has no client id.
        if operation == REFUSED_TOKENS.0 {
            all.insert(operation.to_owned(), rate);
            continue;
        }
        all.insert(format!("address:{operation}"), rate);
        all.insert(operation.to_owned(), Rate { count: rate.count.saturating_mul(CLIENT_FACTOR), per: rate.per });
    }
    Ok(all)
}

/// `50/15m`, `50/900`, or `off`; `None` if it is none of these.
fn rate_of(text: &str) -> Option<Option<Rate>> {
    if text == "off" {
        return Some(None);
    }
    let (count, time) = text.split_once('/')?;
    let digits = time.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match time.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    let seconds = digits.parse::<u32>().ok()?;
    let rate = Rate { count: count.parse().ok()?, per: Duration::from_secs(u64::from(seconds).checked_mul(unit)?) };
    (rate.count > 0 && seconds > 0).then_some(Some(rate))
}
