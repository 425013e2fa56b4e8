//! Attack 5: client ids whose documents never come.

use std::sync::Arc;
use std::time::Duration;

use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{Origin, Site};
use crate::tally::Tally;
use crate::web_site::{self, REDIRECT, WebSites};
use crate::{Crowd, again, until};

/// Attackers: as many as there are fetches at the same time.
const ATTACKERS: usize = 16;
/// What the server lets of them hang: two documents of each of four addresses, eight of a /56.
const HANGING: usize = 8;
/// Sites of the attackers: four documents of one site are fetched at the same time.
const SITES: usize = 4;
/// Before an attacker whose document was not fetched asks again. Each address causes twenty fetches in a minute, and those
/// that are refused for want of a place count: with a shorter pause, less would hang.
const PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn hanging(report: &mut Report) {
    for origin in Origin::BOTH {
        let tally = Arc::<Tally>::default();
        let sites = WebSites::start(SITES + 1, &tally).await;
        let site = Site::with(origin, |folder| sites.arguments(folder)).await;
        let (honest, evil) = sites.hosts.split_first().unwrap();
        let good = Good::consenting(honest.clone(), origin);
        let attackers = origin.attackers();
        let begin = async |crowd: &mut Crowd| {
            for number in 0..ATTACKERS {
                let (door, from) = (site.door(), attackers[number % attackers.len()]);
                let (tally, host) = (Arc::clone(&tally), evil[number % evil.len()].clone());
                let target = web_site::authorization(&host, &web_site::hanging(number), REDIRECT, "s");
                crowd.spawn(async move {
                    again(|| async {
                        tally.begin();
                        let asked = tokio::time::Instant::now();
                        let answer = door.ask(from, &format!("GET {target}"), "", "").await;
                        tally.answer("documents", answer.map(|(status, _)| status));
                        if asked.elapsed() < PAUSE {
                            tokio::time::sleep(PAUSE).await;
                        }
                    })
                    .await;
                });
            }
            until(|| tally.begun() >= ATTACKERS && tally.held() >= HANGING).await;
        };
        let found = async || {
            let left = format!("{} documents hang now, {} at a time at most", tally.held(), tally.most_held());
            Finding::new(left)
                .needs(tally.most_held() >= HANGING, "fewer documents hung than an address or a /56 may have")
                .promises(tally.most_held() < ATTACKERS, "the attackers had all places")
        };
        let name = format!("5. {ATTACKERS} documents that never come, of {SITES} sites, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}
