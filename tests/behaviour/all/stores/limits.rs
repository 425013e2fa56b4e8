//! Rate limits that several processes share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::rate_limiter::{Rate, RateLimiter};

use super::for_each_server;
use crate::support::redis::Redis;

const COUNT: u32 = 6;

for_each_server! {
    three_processes_admit_as_much_as_one;
    a_network_of_ipv6_has_a_multiple_over_all_processes;
    a_rate_of_more_than_one_in_a_microsecond_is_counted_without_an_error;
    each_process_counts_for_itself_while_the_store_is_away;
}

/// Limiters of several processes on one server, with a bound on `token` that no test waits for.
async fn limiters(redis: &Redis, count: usize) -> Vec<Box<dyn RateLimiter>> {
    let rate = Rate { count: COUNT, per: Duration::from_secs(3_600) };
    let rates = HashMap::from([("token".to_owned(), rate)]);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let mut limiters: Vec<Box<dyn RateLimiter>> = Vec::new();
    for _ in 0..count {
        limiters.push(Box::new(redis.open(Arc::clone(&clock)).await.rate_limiter(rates.clone())));
    }
    limiters
}

/// How many of so many requests of a subject are admitted, each by the next process.
async fn admitted(limiters: &[Box<dyn RateLimiter>], subjects: impl Iterator<Item = String>) -> u32 {
    let mut admitted = 0;
    for (limiter, subject) in limiters.iter().cycle().zip(subjects) {
        admitted += u32::from(limiter.admit("token", &subject).await.is_ok());
    }
    admitted
}

async fn three_processes_admit_as_much_as_one(program: &'static str) {
    let redis = Redis::start(program).await;
    let limiters = limiters(&redis, 3).await;
    let one = |subject: &'static str| std::iter::repeat_n(subject.to_owned(), 30);
    assert_eq!(admitted(&limiters, one("client")).await, COUNT);
    let after = limiters[0].admit("token", "client").await.unwrap_err();
    assert!(after > Duration::from_secs(500) && after <= Duration::from_secs(600), "{after:?}");
    assert_eq!(admitted(&limiters, one("203.0.113.1")).await, COUNT);
    assert_eq!(admitted(&limiters, one("203.0.113.2")).await, COUNT, "another address has its own");
    for limiter in &limiters {
        limiter.admit("unknown", "client").await.unwrap();
    }
    // A record of a refusal is written once, by whichever process.
    let mut records = 0;
    for limiter in &limiters {
        records += u32::from(limiter.admit("record:token", "client").await.is_ok());
    }
    assert_eq!(records, 1);
    let disk = String::from_utf8_lossy(&redis.disk()).into_owned();
    assert!(!disk.contains("203.0.113"), "no address is in the store");
}

async fn a_network_of_ipv6_has_a_multiple_over_all_processes(program: &'static str) {
    let redis = Redis::start(program).await;
    let limiters = limiters(&redis, 3).await;
    let hosts = (0..60).map(|host| format!("2001:db8:1:2::{host:x}"));
    assert_eq!(admitted(&limiters, hosts).await, COUNT, "a /64 is one client");
    let networks = (0..120).map(|part| format!("2001:db8:2:1{:02x}::1", part % 64));
    assert_eq!(admitted(&limiters, networks).await, 4 * COUNT, "a /56");
}

/// A million in a second are 1 µs apart, and Redis counts no finer.
async fn a_rate_of_more_than_one_in_a_microsecond_is_counted_without_an_error(program: &'static str) {
    let redis = Redis::start(program).await;
    let rate = Rate { count: 2_000_000, per: Duration::from_secs(1) };
    let store = redis.open(Arc::new(ManualClock::new(0))).await;
    let limiter = store.rate_limiter(HashMap::from([("token".to_owned(), rate)]));
    // That the server did not have the script is no such error.
    let errors = async || {
        let told = redis.say("INFO errorstats").await;
        told.lines().find(|line| line.starts_with("errorstat_ERR:")).map(str::to_owned)
    };
    let before = errors().await;
    for _ in 0..3 {
        limiter.admit("token", "client").await.unwrap();
    }
    assert_eq!(errors().await, before);
}

async fn each_process_counts_for_itself_while_the_store_is_away(program: &'static str) {
    let mut redis = Redis::start(program).await;
    let limiters = limiters(&redis, 2).await;
    redis.kill();
    let one = |count| std::iter::repeat_n("client".to_owned(), count);
    assert_eq!(admitted(&limiters, one(30)).await, 2 * COUNT);
}
