//! What a call costs that needs nothing but what the server remembers.

use std::sync::Arc;

use crate::load::{self, Figures};
use crate::report::Report;
use crate::servers::{Contender, World};
use crate::{CONNECTIONS, duration, micros, rounds};

const MICROS_OF_A_SECOND: f64 = 1e6;

pub(crate) async fn measure(world: &World, report: &mut Report) {
    let mut servers = Vec::new();
    for contender in Contender::ALL {
        if let Some(running) = world.start(contender).await {
            let target = Arc::new(running.own_target().await);
            servers.push((running, target, Vec::new()));
        }
    }
    // They take turns, so that what else the machine does is shared.
    for _ in 0..rounds() {
        for (_, target, runs) in &mut servers {
            runs.push(target.load(CONNECTIONS[1], duration()).await);
        }
    }
    for (running, _, runs) in servers {
        let runs = [runs];
        let median = |figure: &dyn Fn(&Figures) -> f64| load::medians(&runs, figure)[0];
        let (contender, processor) = (running.contender, median(&|run| micros(run.cpu())));
        report.put("calls: requests/s of one core", contender, MICROS_OF_A_SECOND / processor);
        report.put("calls: processor time of a call, µs", contender, processor);
        report.put("calls: of that, in the kernel, µs", contender, median(&|run| micros(run.system)));
        report.put("calls: requests/s", contender, median(&|run| run.requests_per_second));
        report.put("calls: p50, µs", contender, median(&|run| micros(run.p50)));
        report.put("calls: p99, µs", contender, median(&|run| micros(run.p99)));
    }
}
