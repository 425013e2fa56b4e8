//! Whether a call becomes slower when the store of its server has many sessions in it.

use std::sync::Arc;
use std::time::Instant;

use crate::load;
use crate::report::Report;
use crate::servers::{Contender, Running, Server, World};
use crate::sessions::Sessions;
use crate::{CONNECTIONS, duration, micros, rounds};

/// The bounds of the store, as far as they can be raised.
const MORE: [&str; 4] = ["--store-max-records", "100000000", "--store-max-mib", "1048576"];
/// Sessions that call by turns: far more than an instance remembers.
const CALLING: usize = 10_000;
/// The aim.
const AIM: f64 = 1.2;

pub(crate) async fn measure(world: &World, report: &mut Report, count: usize) {
    let (small, large) = (start(world).await, start(world).await);
    let Server::Ours(ours, session) = &large.server else { panic!("another server was started") };
    let sessions = Sessions::beside(ours, world.emulator.endpoints(), session).await;
    let filling = Instant::now();
    sessions.write(0..count).await;
    println!("{count} sessions were written in {:.0?}", filling.elapsed());

    let stride = count.div_ceil(CALLING);
    let tokens: Vec<_> = (0..count).step_by(stride).map(|number| sessions.token(number)).collect();
    let (one, same, many) = (small.own_target().await, large.own_target().await, large.target(&tokens).await);
    let targets = [one, same, many].map(Arc::new);
    // What was filled is settled, and all of them have been called once.
    targets[2].introduce(CONNECTIONS[1]).await;
    let runs = load::in_turn(&targets.each_ref(), CONNECTIONS[0], rounds(), duration()).await;
    let [one, same, many] = load::medians(&runs, &|run| micros(run.p50));

    let ours = Contender::Ours;
    let ratio = format!("growth: the same with {count} sessions, ratio");
    let by_turns = format!("growth: the same, and {} of them by turns, ratio", tokens.len());
    report.put("growth: p50 of a call with one session in the store, µs", ours, one);
    report.put(&ratio, ours, same / one);
    report.put(&by_turns, ours, many / one);
    report.aim(&ratio, AIM);
    report.aim(&by_turns, AIM);
}

async fn start(world: &World) -> Running {
    world.start_with(Contender::Ours, &MORE, None).await.unwrap()
}
