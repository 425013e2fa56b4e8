//! Plays attacks, prints what came of them, and remembers what went wrong.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::Crowd;
use crate::good::{Good, Phase};
use crate::site::Site;
use crate::tally::Tally;

/// How long an attack may take to be under way, and the server to recover before it is measured again.
const RAMP: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(1);

/// The aim: during an attack, the p99 is below so many times that of an idle server.
const AIM: f64 = 5.0;

/// An attack that is about to be played.
pub(crate) struct Attack<'a> {
    pub(crate) name: String,
    pub(crate) site: &'a Site,
    pub(crate) good: &'a Good,
    pub(crate) tally: &'a Arc<Tally>,
}

/// What an attack has left behind.
pub(crate) struct Finding {
    left: String,
    missing: Vec<&'static str>,
    broken: Vec<&'static str>,
}

impl Finding {
    pub(crate) fn new(left: String) -> Self {
        Self { left, missing: Vec::new(), broken: Vec::new() }
    }

    /// Unless this is so, the attack did not happen.
    pub(crate) fn needs(mut self, is_so: bool, what: &'static str) -> Self {
        self.missing.extend((!is_so).then_some(what));
        self
    }

    /// Unless this is so, the server did not keep a bound.
    pub(crate) fn promises(mut self, is_so: bool, what: &'static str) -> Self {
        self.broken.extend((!is_so).then_some(what));
        self
    }
}

/// All attacks so far.
pub(crate) struct Report {
    phase: Duration,
    played: usize,
    /// Attacks that did not happen, and what the server should not have done.
    faults: Vec<String>,
    /// Attacks during which the good client was served too slowly.
    slow: Vec<String>,
}

impl Report {
    pub(crate) fn new(phase: Duration) -> Self {
        println!("the good client in phases of {phase:?}: success rate, p99, requests, other answers");
        Self { phase, played: 0, faults: Vec::new(), slow: Vec::new() }
    }

    /// Plays one attack. `begin` completes when it is under way; `found` says what has come of it.
    pub(crate) async fn play(
        &mut self,
        attack: Attack<'_>,
        begin: impl AsyncFnOnce(&mut Crowd),
        found: impl AsyncFnOnce() -> Finding,
    ) {
        let Attack { name, site, good, tally } = attack;
        let mut crowd = Crowd::new();
        let before = good.measure(site, self.phase);
        let under_way = tokio::time::timeout(RAMP, begin(&mut crowd)).await.is_ok();
        let begun = tally.begun();
        let during = good.measure(site, self.phase);
        let went_on = tally.begun() > begun || tally.held() > 0;
        let answers = tally.to_string();
        let finding = found()
            .await
            .needs(under_way, "it was not under way in time")
            .needs(went_on, "it had ended before the good client was measured");
        crowd.shutdown().await;
        tokio::time::sleep(REST).await;
        let after = good.measure(site, self.phase);

        println!("\n{name}");
        let idle = |phase: &Phase| format!("  ({:.1} × idle)", phase.ratio(&before));
        println!("  before  {before}");
        println!("  during  {during}{}", idle(&during));
        println!("  after   {after}{}", idle(&after));
        println!("  attackers got  {answers}");
        if !finding.left.is_empty() {
            println!("  {}", finding.left);
        }
        self.judge(&name, [&before, &during, &after], &finding);
    }

    /// `phases` are before, during and after.
    fn judge(&mut self, name: &str, phases: [&Phase; 3], finding: &Finding) {
        self.played += 1;
        let [before, during, _] = phases;
        let not_played = finding.missing.iter().map(|what| format!("NOT REALLY PLAYED: {what}"));
        let broken = finding.broken.iter().map(|what| format!("BOUND NOT KEPT: {what}"));
        let refused = phases.iter().any(|phase| !phase.is_all_served());
        let refused = refused.then(|| "AIM MISSED: the good client was not served each time".to_owned());
        for fault in not_played.chain(broken).chain(refused) {
            println!("  {fault}");
            self.faults.push(format!("{name}: {fault}"));
        }
        if during.ratio(before) >= AIM {
            println!("  AIM MISSED: the p99 is {AIM} times that of an idle server, or more");
            self.slow.push(format!("{name}: {:.1} × idle", during.ratio(before)));
        }
    }

    /// Prints what went wrong.
    pub(crate) fn end(self, in_time: bool) -> ExitCode {
        println!("\n{} attacks were played{}", self.played, if in_time { "" } else { ": the time for all was over" });
        for (title, lines) in [("p99 over the aim", &self.slow), ("faults", &self.faults)] {
            println!("{title}: {}", if lines.is_empty() { "none" } else { "" });
            for line in lines {
                println!("  {line}");
            }
        }
        if in_time && self.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
