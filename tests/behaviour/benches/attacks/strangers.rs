//! Attacks 3, 4 and 9: strangers lock users out of a client, fill the store, and hide where they are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::good::Good;
use crate::site::{BEHIND_A_PROXY, Door, From, MODERN, Site, behind, call, good_elsewhere, in_one_56};
use crate::{Crowd, play, until};

/// /64s that attack, all in one /56.
const NETWORKS: u8 = 128;
/// Requests to `/token` that one address may send in a quarter of an hour.
const EACH: usize = 50;
/// Tasks that send them.
const SENDERS: u8 = 16;

/// Bytes of a redirect URI, of which a registration may have 32: as much as is admitted.
const URI_BYTES: usize = 900;
const URIS: usize = 32;
/// Registrations that one address may send in an hour.
const REGISTRATIONS: usize = 20;
const REGISTERING: u8 = 32;

pub(crate) async fn client_lock_out() {
    let site = Site::start(&BEHIND_A_PROXY).await;
    let session = site.sign_in("/mcp", "alice@contoso.example").await;
    let client_id = session.client_id.clone();
    let good = Good::refreshing(session, good_elsewhere());
    let sent = Arc::<AtomicUsize>::default();
    let begin = async |crowd: &mut Crowd| {
        for sender in 0..SENDERS {
            let (door, client_id, sent) = (site.door(), client_id.clone(), Arc::clone(&sent));
            crowd.spawn(async move {
                for _ in 0..EACH {
                    for network in (sender..NETWORKS).step_by(usize::from(SENDERS)) {
                        made_up_refresh(&door, in_one_56(network), &client_id).await;
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        until(|| sent.load(Ordering::Relaxed) >= usize::from(NETWORKS) * EACH).await;
    };
    let name = format!("3. made-up refresh tokens for the client of others, {NETWORKS} /64s of one /56");
    let left = async || format!("{} requests were sent for the client id", sent.load(Ordering::Relaxed));
    play(&name, &site, &good, begin, left).await;
}

async fn made_up_refresh(door: &Door, from: From, client_id: &str) {
    let form = [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", "made-up")];
    let _ = door.post_form(from, "/token", &form).await;
}

pub(crate) async fn store_growth() {
    let site = Site::start(&BEHIND_A_PROXY).await;
    let good = Good::calling(&site, good_elsewhere()).await;
    let uris: Vec<_> = (0..URIS).map(|n| format!("https://evil.example/{n}/{}", "x".repeat(URI_BYTES))).collect();
    let body = json!({ "redirect_uris": uris, "token_endpoint_auth_method": "none" }).to_string();
    let (before, registered, sent) = (site.stored(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let begin = async |crowd: &mut Crowd| {
        for network in 0..REGISTERING {
            let (door, body) = (site.door(), body.clone());
            let (registered, sent) = (Arc::clone(&registered), Arc::clone(&sent));
            crowd.spawn(async move {
                for _ in 0..REGISTRATIONS {
                    let lines = "content-type: application/json\r\n";
                    let answer = door.ask(in_one_56(network), "POST /register", lines, &body).await;
                    registered
                        .fetch_add(usize::from(answer.is_some_and(|(status, _)| status == 201)), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until(|| sent.load(Ordering::Relaxed) >= usize::from(REGISTERING) * REGISTRATIONS).await;
    };
    let left = async || {
        format!(
            "{} of {} registrations of {} bytes were stored; the store grew by {} KiB",
            registered.load(Ordering::Relaxed),
            sent.load(Ordering::Relaxed),
            body.len(),
            site.stored().saturating_sub(before) / 1024
        )
    };
    let name = format!("4. the largest registrations, {REGISTERING} /64s of one /56");
    play(&name, &site, &good, begin, left).await;
}

/// A client whose address a proxy appends to `X-Forwarded-For`, and that sends a `Forwarded` of its own.
pub(crate) async fn hidden_address() {
    const TOKENS: usize = 200;
    let attacker = Ipv4Addr::new(203, 0, 113, 66);
    let site = Site::with(|folder| {
        let file = folder.path().join("audit.jsonl").display().to_string();
        let more = ["--audit-file".to_owned(), file];
        BEHIND_A_PROXY.iter().map(|argument| (*argument).to_owned()).chain(more).collect()
    })
    .await;
    let good = Good::calling(&site, good_elsewhere()).await;
    let (sent, limited) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let begin = async |crowd: &mut Crowd| {
        let (door, sending, limiting) = (site.door(), Arc::clone(&sent), Arc::clone(&limited));
        crowd.spawn(async move {
            for _ in 0..TOKENS {
                let lines = format!(
                    "forwarded: for=x\r\ncontent-type: application/json\r\naccept: application/json, \
                     text/event-stream\r\nauthorization: Bearer made-up\r\nmcp-protocol-version: {MODERN}\r\n"
                );
                let message = call("getUserDetails").to_string();
                let answer = door.ask(behind(attacker.into()), "POST /mcp", &lines, &message).await;
                limiting.fetch_add(usize::from(answer.is_some_and(|(status, _)| status == 429)), Ordering::Relaxed);
                sending.fetch_add(1, Ordering::Relaxed);
            }
        });
        until(|| sent.load(Ordering::Relaxed) >= TOKENS).await;
    };
    let left = async || {
        let audit = std::fs::read_to_string(site.path("audit.jsonl")).unwrap();
        let mut named = BTreeMap::<String, usize>::new();
        for record in audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if record["event"] == "token.refused" || record["event"] == "request.throttled" {
                let address = record["address"].as_str().unwrap_or("no address");
                *named.entry(address.to_owned()).or_default() += 1;
            }
        }
        let limited = limited.load(Ordering::Relaxed);
        format!("{TOKENS} made-up tokens, {limited} of them over the limit; records name {named:?}; it is {attacker}")
    };
    let name = "9. made-up tokens of a client that adds `Forwarded` behind a proxy that writes `X-Forwarded-For`";
    play(name, &site, &good, begin, left).await;
}
