//! How often something may be done, counted in this instance.
//!
//! A host that starts a fresh instance for each request forgets all counts with it, and several instances count each for
//! itself: nothing that has to hold relies on them. They slow a guesser down in hosts that reuse instances. To count in the
//! folder would cost a write for each request of a stranger, which is what a bound is to prevent. A limit that holds is for
//! the proxy in front.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// The prefix of an operation that is the record of another operation's refusal.
const RECORD_OF: &str = "record:";
/// How many times the bound of one address a client id has, as in the program: one id may stand for the same program on many
/// machines.
const CLIENT_FACTOR: u32 = 100;
/// Operations that count by client id, if the subject is no address.
const OF_CLIENTS: [&str; 2] = ["token", "revoke"];
/// Most pairs of operation and subject that are remembered: some 300 KiB. Without room, everything is forgotten.
const MAX_SUBJECTS: usize = 4_096;

/// A number of operations within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Operations at once. Above zero.
    pub count: u32,
    /// The time in which that many become free again.
    pub per: Duration,
}

/// Bounds as the setting `rate-limit` has them: defaults, which name all operations, and changes; none if a text is none.
pub(crate) fn rates(defaults: &str, changes: &[String]) -> Option<HashMap<String, Rate>> {
    let operations: Vec<_> =
        defaults.split(',').filter_map(|text| text.split_once('=')).map(|(name, _)| name).collect();
    let mut rates = HashMap::new();
    for text in defaults.split(',').chain(changes.iter().map(String::as_str)) {
        if text == "off" {
            rates.clear();
            continue;
        }
        let (operation, rate) = text.split_once('=').filter(|(operation, _)| operations.contains(operation))?;
        match rate_of(rate)? {
            Some(rate) => rates.insert(operation.to_owned(), rate),
            None => rates.remove(operation),
        };
    }
    Some(rates)
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

/// The counts of an instance: when each is back at zero, by the monotonic clock.
#[derive(Debug, Default)]
pub struct Counts(HashMap<(String, String), Duration>);

impl Counts {
    /// Counts an operation; an error says after which time to try again (the generic cell rate algorithm, as in the
    /// program).
    pub fn admit(
        &mut self,
        rates: &HashMap<String, Rate>,
        now: Duration,
        operation: &str,
        subject: &str,
    ) -> Result<(), Duration> {
        let recorded = operation.strip_prefix(RECORD_OF).and_then(|of| rates.get(of));
        let recorded = recorded.map(|rate| Rate { count: 1, ..*rate });
        let Some(rate) = rates.get(operation).copied().or(recorded) else { return Ok(()) };
        let address = subject.parse::<IpAddr>().ok();
        let factor = if address.is_none() && OF_CLIENTS.contains(&operation) { CLIENT_FACTOR } else { 1 };
        let count = rate.count.saturating_mul(factor).max(1);
        if self.0.len() >= MAX_SUBJECTS {
            self.0.retain(|_, back_at| *back_at > now);
        }
        if self.0.len() >= MAX_SUBJECTS {
            self.0.clear();
        }
        let subject = address.map_or_else(|| subject.to_owned(), network);
        let back_at = self.0.entry((operation.to_owned(), subject)).or_default();
        let next = (*back_at).max(now).saturating_add(rate.per / count);
        let limit = now.saturating_add(rate.per);
        if next > limit {
            return Err(next.saturating_sub(limit));
        }
        *back_at = next;
        Ok(())
    }
}

/// An address of IPv6 counts as its /64: a client has more addresses than there are bounds.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(counts: &mut Counts, seconds: u64, operation: &str, subject: &str) -> Result<(), Duration> {
        let rates = rates("token=3/30s,call=2/1m", &[]).unwrap();
        counts.admit(&rates, Duration::from_secs(seconds), operation, subject)
    }

    #[test]
    fn a_bound_is_reached_and_comes_back_one_by_one() {
        let mut counts = Counts::default();
        for _ in 0..3 {
            admit(&mut counts, 0, "token", "192.0.2.1").unwrap();
        }
        assert_eq!(admit(&mut counts, 0, "token", "192.0.2.1"), Err(Duration::from_secs(10)));
        admit(&mut counts, 0, "token", "192.0.2.2").unwrap();
        admit(&mut counts, 10, "token", "192.0.2.1").unwrap();
        assert!(admit(&mut counts, 10, "token", "192.0.2.1").is_err());
    }

    #[test]
    fn a_client_id_has_more_than_an_address_and_networks_count_as_one() {
        let mut counts = Counts::default();
        for _ in 0..300 {
            admit(&mut counts, 0, "token", "client").unwrap();
        }
        assert!(admit(&mut counts, 0, "token", "client").is_err());
        for host in 1..4 {
            admit(&mut counts, 0, "token", &format!("2001:db8::{host}")).unwrap();
        }
        assert!(admit(&mut counts, 0, "token", "2001:db8::4").is_err());
    }

    #[test]
    fn the_record_of_a_refusal_is_admitted_once_and_what_has_no_bound_always() {
        let mut counts = Counts::default();
        admit(&mut counts, 0, "record:call", "x").unwrap();
        assert!(admit(&mut counts, 0, "record:call", "x").is_err());
        admit(&mut counts, 0, "unknown", "x").unwrap();
    }

    #[test]
    fn bounds_can_be_changed_and_turned_off() {
        let changed = |changes: &[&str]| {
            let changes: Vec<_> = changes.iter().map(|text| (*text).to_owned()).collect();
            rates("token=50/15m,call=600/1m", &changes)
        };
        let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
        assert_eq!(changed(&["token=7/2h"]).unwrap()["token"], rate(7, 7_200));
        assert!(!changed(&["token=off"]).unwrap().contains_key("token"));
        assert_eq!(changed(&["off", "call=1/5"]).unwrap(), HashMap::from([("call".to_owned(), rate(1, 5))]));
        for wrong in ["token", "token=1", "token=0/1m", "token=1/0", "token=1/1d", "token=x/1m", "x=1/1m"] {
            assert_eq!(changed(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn the_memory_of_an_instance_is_bounded() {
        let mut counts = Counts::default();
        for number in 0..10_000 {
            let _ = admit(&mut counts, 0, "token", &number.to_string());
        }
        assert!(counts.0.len() <= MAX_SUBJECTS);
    }
}
