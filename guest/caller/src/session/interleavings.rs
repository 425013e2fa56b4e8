//! Two calls that find the Entra ID token of one session about to expire, in every order that they could have.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::principal::Groups;
use base::settings::Settings;
use entra::{AcquireError, EntraWorld};
use serde_json::json;
use world::records::{Partitions, Records};
use world::testing::scheduler::{Scenario, Scheduler, SearchReport};
use world::testing::simulation::{Simulation, run};
use world::testing::{World, forever, json as response, remote_settings};
use world::trail::Recorder;
use world::{Http, HttpError, SessionNames, Trail};

use super::entra_tokens::{self, EntraTokens, Wanted};
use super::lifecycle::{self, Beginning};
use super::{Membership, Owner};

mod refresh;

const NAMES: [&str; 2] = ["one", "two"];
/// Life of the tokens of Entra ID, in seconds.
const LIFETIME: u64 = 4000;

/// An Entra ID that gives `entra-1`, `entra-2` … and takes every refresh token that it has ever given, as Entra ID does.
struct Entra {
    world: Simulation,
    seen: Rc<Seen>,
}

/// What Entra ID was presented, and the callers were told.
#[derive(Default)]
struct Seen {
    presented: RefCell<Vec<String>>,
    told: RefCell<Vec<Result<String, AcquireError>>>,
}

#[async_trait(?Send)]
impl Http for Entra {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        self.world.service("entra").await;
        let mut form = url::form_urlencoded::parse(request.body());
        let (_, presented) = form.find(|(name, _)| name == "refresh_token").unwrap();
        self.seen.presented.borrow_mut().push(presented.into_owned());
        let number = self.seen.presented.borrow().len();
        let answer = json!({
            "token_type": "Bearer", "access_token": format!("entra-{number}"), "expires_in": LIFETIME,
            "refresh_token": format!("refresh-{number}"),
        });
        Ok(response(200, &answer))
    }
}

/// What all schedules share.
#[derive(Clone, Copy)]
struct Instance {
    settings: &'static Settings,
    partitions: &'static Partitions,
    /// Audit and credential: no other call can notice them.
    fakes: &'static World,
}

impl Instance {
    fn new() -> Self {
        let settings = forever(remote_settings());
        let fakes = forever(World::default());
        fakes.has_client_secret();
        Self { settings, partitions: forever(Partitions::of(settings)), fakes }
    }

    /// A call of its own.
    fn call(self, world: &Simulation, seen: &Rc<Seen>) -> &'static EntraWorld<'static> {
        let Self { settings, partitions, fakes } = self;
        let world: &'static Simulation = forever(world.clone());
        let records = Records::new(world, world, world, partitions);
        let names = forever(SessionNames::default());
        let recorder = Recorder { audit: fakes, records, random: world, settings, names };
        forever(EntraWorld {
            settings,
            http: forever(Entra { world: world.clone(), seen: Rc::clone(seen) }),
            records,
            clock: world,
            random: world,
            signatures: None,
            credential: fakes,
            trail: forever(Trail::new(recorder, "c-1".to_owned())),
        })
    }

    /// A session whose token is about to expire, and the calls that want it.
    fn scenario(self, world: &Simulation, check: fn(&Seen) -> bool) -> Scenario {
        let seen = Rc::<Seen>::default();
        let env = self.call(world, &seen);
        let id = run(lifecycle::begin(env, beginning(env))).unwrap().unwrap().0;
        world.advance(Duration::from_secs(LIFETIME - 100));
        let scenario = NAMES.iter().fold(Scenario::new(), |scenario, name| {
            let (env, id, seen) = (self.call(world, &seen), id.clone(), Rc::clone(&seen));
            scenario.call(name, async move {
                let live = entra_tokens::live(env, &id, &owner(), Wanted::Live).await;
                seen.told.borrow_mut().push(live.map(|live| live.access_token.reveal().clone()));
            })
        });
        let kept = world.clone();
        scenario.check(move || {
            // The token that was given last is not lost, so the session can be refreshed again.
            let afterwards = run(entra_tokens::live(env, &id, &owner(), Wanted::Live)).map(|live| live.is_ok());
            let lease = kept.names().into_iter().find(|name| name.contains("session-refreshing"));
            if check(&seen) && afterwards == Some(true) && (lease.is_none() || seen.told.borrow().len() < NAMES.len()) {
                return Ok(());
            }
            let Seen { presented, told } = &*seen;
            Err(format!("presented {presented:?}, told {told:?}, then {afterwards:?}, kept {lease:?}"))
        })
    }

    fn explore(self, scheduler: Scheduler, check: fn(&Seen) -> bool) -> Result<SearchReport, String> {
        scheduler.explore(|world| self.scenario(world, check)).map_err(|found| found.to_string())
    }
}

fn owner() -> Owner {
    Owner { client_id: "client".to_owned(), tenant_id: "tenant".to_owned(), object_id: "object".to_owned() }
}

fn beginning(env: &EntraWorld<'_>) -> Beginning {
    Beginning {
        username: None,
        owner: owner(),
        resource: "https://mcp.example.com/mcp".to_owned(),
        scopes: vec!["User.Read".to_owned()],
        tokens: EntraTokens {
            access_token: Secret::from("entra-0"),
            expires_at: env.clock.now() + LIFETIME,
            refresh_token: Some(Secret::from("refresh-0")),
            membership: Membership::at(env.clock.now(), &[], Groups::Absent),
        },
    }
}

/// Entra ID is asked once, and both calls have its answer.
fn is_asked_once(seen: &Seen) -> bool {
    *seen.presented.borrow() == ["refresh-0"] && *seen.told.borrow() == vec![Ok("entra-1".to_owned()); 2]
}

/// Calls that have not vanished have a token that Entra ID has given, and Entra ID is asked once more at most.
fn survives_a_crash(seen: &Seen) -> bool {
    seen.presented.borrow().len() <= 2 && seen.told.borrow().iter().all(Result::is_ok)
}

#[test]
fn two_calls_refresh_one_session_once_in_every_order() {
    let report = Instance::new().explore(Scheduler::default(), is_asked_once).unwrap();
    assert!(report.exhaustive && report.schedules > 1, "{report:?}");
}

/// Between the answer of Entra ID and its record as well.
#[test]
fn a_call_that_vanishes_anywhere_costs_one_more_refresh_at_most() {
    let report = Instance::new().explore(Scheduler::default().crashes(1), survives_a_crash).unwrap();
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn the_scheduler_finds_the_second_refresh_after_a_crash() {
    let found = Instance::new()
        .explore(Scheduler::default().crashes(1), |seen| seen.presented.borrow().len() <= 1)
        .unwrap_err();
    assert!(found.contains("refresh-0"), "{found}");
}
