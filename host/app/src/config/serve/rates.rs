//! How often clients may use the OAuth endpoints and come with bad tokens, how much callers may ask for, and how many
//! records are written one by one.

use std::collections::HashMap;
use std::time::Duration;

use entra_mcp_plugin::audit::{CALLED_RECORDS, DENIED_RECORDS, REFRESH_RECORDS, STRANGER_RECORDS};
use entra_mcp_plugin::rate_limiter::Rate;

use crate::config::{ConfigError, invalid};

/// Operations that are rate-limited per client address, with their default bounds: the figures of the TypeScript SDK's
/// sample. The sample does not bound `callback`; here it has the bound of `authorize`.
///
/// For `refused-token`, the bound is how many refused access tokens are answered and recorded one by one: bad ones of
/// one address, or genuine ones of one caller. A person's client sends one when a session or a token has ended, so some
/// hundred people may share an address; and an attacker needs a month to fill the files that are kept by default
/// (704 MiB).
///
/// For `call` and `graph-request`, the bound is of one caller, whatever its client and its address: ten requests in each
/// second of a minute. No person with a model needs a tenth of it, and Microsoft Graph, which admits an application some
/// hundred requests in a second, is left for others.
///
/// For `client-metadata-by-address`, the bound is how many metadata documents are fetched because of one address: a person
/// needs one to sign in, and the 300 fetches in a minute that the host makes for all are left for others.
///
/// The bounds of records are about as generous: with its calls, and a line in each minute for each kind that is counted, a
/// caller needs two weeks to fill the files, and all strangers together need nine days. That is longer than
/// `--audit-keep-days`.
pub(super) const DEFAULT_RATES: &str = "authorize=100/15m,token=50/15m,register=20/1h,callback=100/15m,revoke=50/15m,\
    refused-token=60/1m,call=600/1m,graph-request=600/1m,client-metadata-by-address=20/1m,\
    called-records=600/15m,denied-records=60/15m,refresh-records=60/15m,\
    stranger-records=2000/15m";

/// Operations that are not counted by client id: those that the component counts alone, and those that bound records.
const NOT_OF_CLIENTS: [&str; 8] = [
    "refused-token",
    "call",
    "graph-request",
    "client-metadata-by-address",
    CALLED_RECORDS,
    DENIED_RECORDS,
    REFRESH_RECORDS,
    STRANGER_RECORDS,
];

/// How many times the bound of one address a client id has: one id, such as a metadata document's, stands for the same
/// program on many machines.
const CLIENT_FACTOR: u32 = 100;

/// How often documents of one host on the Internet are fetched: unknown clients choose the addresses, and the host has
/// not asked for the requests. More than a single client address may cause, so that no single address can keep others
/// from their client.
const CLIENT_METADATA_RATE: Rate = Rate { count: 1_000, per: Duration::from_secs(15 * 60) };

/// The bounds by operation: by address, by client id, and by caller.
pub(super) fn rates(given: &[String]) -> Result<HashMap<String, Rate>, ConfigError> {
    let mut by_operation: Vec<(&str, Option<Rate>)> = DEFAULT_RATES.split(',').map(bound).collect::<Result<_, _>>()?;
    for text in given {
        if text == "off" {
            by_operation.iter_mut().for_each(|(_, rate)| *rate = None);
            continue;
        }
        let (operation, rate) = bound(text)?;
        match by_operation.iter_mut().find(|(known, _)| *known == operation) {
            Some((_, slot)) => *slot = rate,
            None => {
                let operations: Vec<_> = by_operation.iter().map(|(known, _)| *known).collect();
                let expected = format!("one of {} is expected before the =", operations.join(", "));
                return Err(invalid("rate-limit", text, expected));
            }
        }
    }
    // It protects others, so no setting lifts it.
    let mut all = HashMap::from([("client-metadata".to_owned(), CLIENT_METADATA_RATE)]);
    for (operation, rate) in by_operation {
        let Some(rate) = rate else { continue };
        if NOT_OF_CLIENTS.contains(&operation) {
            all.insert(operation.to_owned(), rate);
            continue;
        }
        all.insert(format!("address:{operation}"), rate);
        all.insert(operation.to_owned(), Rate { count: rate.count.saturating_mul(CLIENT_FACTOR), per: rate.per });
    }
    Ok(all)
}

/// The bound of an operation, such as `token=50/15m`; none is `token=off`.
fn bound(text: &str) -> Result<(&str, Option<Rate>), ConfigError> {
    let expected = "OPERATION=COUNT/TIME is expected, such as token=50/15m or token=off, or `off`";
    let parsed = text.split_once('=').and_then(|(operation, rate)| Some((operation, rate_of(rate)?)));
    parsed.ok_or_else(|| invalid("rate-limit", text, expected))
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
