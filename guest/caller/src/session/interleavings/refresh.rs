//! Calls that present refresh tokens of one session, in every order that they could have: the client's own, twice at once,
//! and those of a thief.

use super::*;
use crate::session::IssuedTokens;
use crate::session::refresh::{RefreshError, refresh};

/// What a client sees of an answer: its tokens.
type Answer = (String, String);

fn seen(tokens: IssuedTokens) -> Answer {
    (tokens.access_token.reveal().clone(), tokens.refresh_token.reveal().clone())
}

/// What the calls were told, by the token that they had presented.
#[derive(Default)]
struct Told(RefCell<Vec<(&'static str, Result<Answer, RefreshError>)>>);

impl Told {
    fn to(&self, token: &str) -> Vec<Result<Answer, RefreshError>> {
        self.0.borrow().iter().filter(|(presented, _)| *presented == token).map(|(_, told)| told.clone()).collect()
    }
}

/// A session after its end or in the middle of its life, as a call on another instance finds it.
struct After<'a> {
    env: &'a EntraWorld<'static>,
    told: &'a Told,
    /// The tokens that calls have presented.
    presented: &'a [(&'static str, Secret<String>)],
}

impl After<'_> {
    fn present(&self, token: &Secret<String>) -> Result<Answer, RefreshError> {
        run(refresh(self.env, token, "client", None, None)).expect("no call waits").map(seen)
    }

    fn token(&self, name: &str) -> &Secret<String> {
        &self.presented.iter().find(|(known, _)| *known == name).expect("the token was presented").1
    }
}

/// A session with the refresh tokens `r0` and, if `renewed`, `r1`; calls that present those that are named.
fn scenario(
    instance: Instance,
    world: &Simulation,
    renewed: bool,
    calls: &[(&'static str, &'static str)],
    check: fn(&After<'_>) -> Result<(), String>,
) -> Scenario {
    let seen_by_entra = Rc::<Seen>::default();
    let env = instance.call(world, &seen_by_entra);
    let (_, tokens) = run(lifecycle::begin(env, beginning(env))).unwrap().unwrap();
    let mut presented = vec![("r0", tokens.refresh_token)];
    if renewed {
        let renewed = run(refresh(env, &presented[0].1, "client", None, None)).unwrap().unwrap();
        presented.push(("r1", renewed.refresh_token));
    }
    let told = Rc::<Told>::default();
    let scenario = calls.iter().copied().fold(Scenario::new(), |scenario, (name, token)| {
        let (env, told) = (instance.call(world, &seen_by_entra), Rc::clone(&told));
        let presented = presented.iter().find(|(known, _)| *known == token).unwrap().1.clone();
        scenario.call(name, async move {
            let answer = refresh(env, &presented, "client", None, None).await.map(seen);
            told.0.borrow_mut().push((token, answer));
        })
    });
    scenario.check(move || check(&After { env, told: &told, presented: &presented }))
}

fn explore(
    scheduler: Scheduler,
    renewed: bool,
    calls: &[(&'static str, &'static str)],
    check: fn(&After<'_>) -> Result<(), String>,
) -> SearchReport {
    let instance = Instance::new();
    let explored = scheduler.explore(|world| scenario(instance, world, renewed, calls, check));
    explored.unwrap_or_else(|found| panic!("{found}"))
}

fn require(holds: bool, what: &str, told: &Told) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{what}: {:?}", told.0.borrow())) }
}

/// All calls that have an answer have the same one, which a client that asks once more gets as well. The session goes on
/// with it, and with no other; afterwards, the old token is one that was used before.
fn one_successor(after: &After<'_>) -> Result<(), String> {
    let told = after.told.to("r0");
    let answers: Vec<&Answer> = told.iter().flatten().collect();
    let failed = |error: &RefreshError| matches!(error, RefreshError::Acquire(AcquireError::Store(_)));
    require(told.iter().all(|told| told.as_ref().err().is_none_or(failed)), "a client was refused", after.told)?;
    let again = after.present(after.token("r0"));
    let Ok(again) = again else { return Err(format!("then {again:?}")) };
    require(answers.iter().all(|answer| **answer == again), "the answers differ", after.told)?;
    let next = after.present(&Secret::from(again.1.as_str()));
    require(next.as_ref().is_ok_and(|next| *next != again), "the successor does not work", after.told)?;
    let reused = after.present(after.token("r0"));
    require(reused == Err(RefreshError::Reused), "the grace outlives the successor", after.told)?;
    let ended = next.map(|next| after.present(&Secret::from(next.1.as_str())));
    require(ended == Ok(Err(RefreshError::Unknown)), "the session outlives the reuse", after.told)
}

const TWICE: [(&str, &str); 2] = [("one", "r0"), ("two", "r0")];

#[test]
fn two_refreshes_at_once_have_one_successor_in_every_order() {
    let report = explore(Scheduler::default(), false, &TWICE, |after| {
        require(after.told.to("r0").iter().all(Result::is_ok), "a client was refused", after.told)?;
        one_successor(after)
    });
    assert!(report.exhaustive && report.schedules > 1, "{report:?}");
}

#[test]
fn a_refresh_that_vanishes_anywhere_leaves_one_successor() {
    let report = explore(Scheduler::default().crashes(2), false, &TWICE, one_successor);
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn a_refresh_whose_store_fails_anywhere_leaves_one_successor() {
    let report = explore(Scheduler::default().faults(1), false, &TWICE, one_successor);
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn three_refreshes_at_once_have_one_successor() {
    let calls = [("one", "r0"), ("two", "r0"), ("three", "r0")];
    let report = explore(Scheduler::default().schedules(1_000, 1_000).crashes(1), false, &calls, one_successor);
    assert!(report.schedules > 1_000, "{report:?}");
}

/// The client uses the new token, while another call comes with the old one: a late repetition, or a thief.
fn successor_and_predecessor(after: &After<'_>) -> Result<(), String> {
    let (old, new) = (after.told.to("r0"), after.told.to("r1"));
    let r1 = after.token("r1").reveal();
    for told in &old {
        let fits = match told {
            Ok((_, refresh_token)) => refresh_token == r1,
            Err(error) => *error == RefreshError::Reused,
        };
        require(fits, "the old token brought something new", after.told)?;
    }
    let ended = old.contains(&Err(RefreshError::Reused));
    let fits = |told: &Result<Answer, RefreshError>| match told {
        Ok(_) => true,
        Err(error) => ended && *error == RefreshError::Unknown,
    };
    require(new.iter().all(fits), "the new token was refused", after.told)?;
    // The newest token works exactly if the session has not ended.
    let newest = new.iter().flatten().next().map_or(r1.as_str(), |(_, refresh_token)| refresh_token);
    let works = after.present(&Secret::from(newest)).is_ok();
    require(works != ended, "the session and what the calls were told differ", after.told)?;
    let old = after.present(after.token("r0")).err();
    let expected = if ended { RefreshError::Unknown } else { RefreshError::Reused };
    require(old == Some(expected), "the grace outlives the successor", after.told)
}

#[test]
fn the_old_token_brings_what_the_new_one_was_or_ends_the_session_in_every_order() {
    let calls = [("late", "r0"), ("client", "r1")];
    let report = explore(Scheduler::default(), true, &calls, successor_and_predecessor);
    assert!(report.exhaustive && report.schedules > 1, "{report:?}");
}

/// Whatever time passes: no two answers differ, and no two refresh tokens work.
#[test]
fn in_no_time_has_a_session_two_refresh_tokens() {
    let report = explore(Scheduler::default().delays(1), false, &TWICE, |after| {
        let told = after.told.to("r0");
        let answers: Vec<&Answer> = told.iter().flatten().collect();
        require(answers.windows(2).all(|two| two[0] == two[1]), "the answers differ", after.told)?;
        let reused = told.contains(&Err(RefreshError::Reused));
        // The delay was that until the session is over, or that until the grace is.
        let over = after.env.clock.monotonic() >= Duration::from_secs(30 * 24 * 3600);
        require(over || !answers.is_empty(), "no call got anything", after.told)?;
        let works = answers.first().is_some_and(|answer| after.present(&Secret::from(answer.1.as_str())).is_ok());
        require(works != (reused || over), "the session and what the calls were told differ", after.told)
    });
    assert!(report.exhaustive, "{report:?}");
}
