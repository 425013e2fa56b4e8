//! The refresh of a local account: the answer is a part of a larger record, which a sign-in may replace at any time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Asked, Moment, NotAsked, Policy, Question, once_with};
use crate::capabilities::Clock as _;
use crate::records::{Holder, Namespace, Next, Partition, Records, Ttl};
use crate::store::StoreError;
use crate::testing::simulation::{START, Simulation, run};

pub(super) const TOKENS: Namespace<Tokens> = Namespace::json(Partition::Application, "tokens", Ttl::Kept);
const REFRESHING: Namespace<Holder> = Namespace::leases(Partition::Application, "refreshing");
/// The lease of the account `o.t`.
const LEASE: &str = "account/https://login.microsoftonline.com/tenant/client/refreshing/o.t";

/// As in the store: the access tokens by scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tokens {
    pub(super) refresh_token: Option<String>,
    pub(super) access: BTreeMap<String, (String, u64)>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoToken {
    SignIn,
    Unavailable,
    Store(StoreError),
}

impl From<StoreError> for NoToken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// An authority that rotates refresh tokens: each is good once.
#[derive(Default)]
pub(super) struct Authority {
    /// The one that is good now, by its number.
    current: u32,
    /// The ones that were presented.
    pub(super) presented: Vec<String>,
    pub(super) is_down: bool,
}

impl Authority {
    /// The refresh token that is good now.
    pub(super) fn refresh_token(&self) -> String {
        format!("refresh-{}", self.current)
    }

    fn refresh(&mut self, refresh_token: &str, now: u64) -> Result<(String, String, u64), NoToken> {
        if self.is_down {
            return Err(NoToken::Unavailable);
        }
        self.presented.push(refresh_token.to_owned());
        if refresh_token != self.refresh_token() {
            return Err(NoToken::SignIn);
        }
        self.current += 1;
        Ok((format!("access-{}", self.current), self.refresh_token(), now + 3600))
    }
}

/// A call that needs a token of the account `o.t`.
pub(super) struct Refresh<'r> {
    pub(super) world: &'r Simulation,
    pub(super) records: Records<'r>,
    pub(super) authority: Rc<RefCell<Authority>>,
    pub(super) scope: &'static str,
    policy: Policy,
    found: Option<Tokens>,
}

impl<'r> Refresh<'r> {
    pub(super) fn new(world: &'r Simulation, authority: &Rc<RefCell<Authority>>) -> Self {
        Self {
            world,
            records: world.records(),
            authority: Rc::clone(authority),
            scope: "User.Read",
            policy: Policy::REFRESH,
            found: None,
        }
    }

    pub(super) fn with(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    pub(super) async fn acquire(&mut self) -> Result<String, NoToken> {
        let records = self.records;
        once_with(&records, &REFRESHING, "o.t", self).await
    }

    fn cached(&self, margin: u64) -> Option<String> {
        let (token, expires_at) = self.found.as_ref()?.access.get(self.scope)?;
        (*expires_at > self.world.now() + margin).then(|| token.clone())
    }

    async fn current(&self) -> Result<Option<String>, StoreError> {
        Ok(self.records.get(&TOKENS, "o.t").await?.and_then(|tokens| tokens.refresh_token))
    }
}

impl Question for Refresh<'_> {
    type Answer = String;
    type Error = NoToken;

    fn policy(&self) -> Policy {
        self.policy
    }

    async fn look(&mut self, _: Moment) -> Result<Option<String>, NoToken> {
        self.found = self.records.get(&TOKENS, "o.t").await?;
        if let Some(token) = self.cached(300) {
            return Ok(Some(token));
        }
        let has_refresh_token = self.found.as_ref().is_some_and(|tokens| tokens.refresh_token.is_some());
        if has_refresh_token { Ok(None) } else { Err(NoToken::SignIn) }
    }

    async fn ask(&mut self) -> Result<Asked<String>, NoToken> {
        let used = self.found.as_ref().and_then(|tokens| tokens.refresh_token.clone()).unwrap_or_default();
        self.world.service("authority").await;
        let answer = self.authority.borrow_mut().refresh(&used, self.world.now());
        match answer {
            Ok((access, refresh, expires_at)) => {
                let scope = self.scope;
                let stored = self.records.update(&TOKENS, "o.t", |tokens| match tokens {
                    Some(mut tokens) if tokens.refresh_token.as_ref() == Some(&used) => {
                        tokens.refresh_token = Some(refresh.clone());
                        tokens.access.insert(scope.to_owned(), (access.clone(), expires_at));
                        Next::Write(tokens, ())
                    }
                    _ => Next::Leave(()),
                });
                stored.await?;
                Ok(Asked::Answer(access))
            }
            Err(NoToken::SignIn) => {
                if self.current().await?.is_some_and(|current| current != used) {
                    return Ok(Asked::Overtaken);
                }
                let forgotten = self.records.update(&TOKENS, "o.t", |tokens| match tokens {
                    Some(tokens) if tokens.refresh_token.as_ref() == Some(&used) => {
                        Next::Write(Tokens { refresh_token: None, ..tokens }, true)
                    }
                    _ => Next::Leave(false),
                });
                if forgotten.await? { Err(NoToken::SignIn) } else { Ok(Asked::Overtaken) }
            }
            Err(error) => self.cached(0).map(Asked::Answer).ok_or(error),
        }
    }

    async fn instead(&mut self, _: NotAsked) -> Result<String, NoToken> {
        Err(NoToken::Unavailable)
    }
}

/// An account whose access token lives for so many seconds more.
fn signed_in(seconds: u64) -> (Simulation, Rc<RefCell<Authority>>) {
    let world = Simulation::default();
    store(&world, "refresh-0", ("access-0", seconds));
    (world, Rc::default())
}

pub(super) fn store(world: &Simulation, refresh_token: &str, (token, seconds): (&str, u64)) {
    let access = BTreeMap::from([("User.Read".to_owned(), (token.to_owned(), world.now() + seconds))]);
    let tokens = Tokens { refresh_token: Some(refresh_token.to_owned()), access };
    run(world.records().put(&TOKENS, "o.t", &tokens)).unwrap().unwrap();
}

fn token(world: &Simulation, authority: &Rc<RefCell<Authority>>) -> Result<String, NoToken> {
    run(Refresh::new(world, authority).acquire()).unwrap()
}

#[test]
fn a_token_that_lives_is_found_and_one_that_does_not_is_refreshed() {
    let (world, authority) = signed_in(301);
    assert_eq!(token(&world, &authority), Ok("access-0".to_owned()));
    world.advance(Duration::from_secs(1));
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(authority.borrow().presented, ["refresh-0"]);
    assert_eq!(world.peek(LEASE).as_deref(), Some(&b"released"[..]));
}

#[test]
fn a_call_waits_for_the_refresh_of_another_one() {
    let (world, authority) = signed_in(0);
    world.plant(LEASE, b"another", Some(Duration::from_secs(3)));
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(world.elapsed(), Duration::from_secs(3), "the other one's lease ran out first");
}

#[test]
fn a_refresh_that_never_ends_is_not_waited_for_longer_than_ten_seconds() {
    let (world, authority) = signed_in(0);
    world.plant(LEASE, b"another", None);
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(world.elapsed(), Duration::from_secs(10));
    assert_eq!(world.peek(LEASE).as_deref(), Some(&b"released"[..]), "it was taken over");
}

#[test]
fn a_lease_that_was_taken_during_the_wait_is_taken_over_when_its_own_time_has_come() {
    let (world, authority) = signed_in(0);
    world.plant(LEASE, format!("another.{}", START + 5).as_bytes(), None);
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(world.elapsed(), Duration::from_secs(15));
    assert_eq!(world.peek(LEASE).as_deref(), Some(&b"released"[..]));
}

#[test]
fn a_call_that_has_waited_for_twenty_seconds_asks_whichever_call_holds_the_lease() {
    let (world, authority) = signed_in(0);
    let recent = format!("another.{}", START + 15);
    world.plant(LEASE, recent.as_bytes(), None);
    assert_eq!(token(&world, &authority), Ok("access-1".to_owned()));
    assert_eq!(world.elapsed(), Duration::from_secs(20));
    assert_eq!(world.peek(LEASE), Some(recent.into_bytes()), "it is that call's");
}

#[test]
fn a_call_that_was_overtaken_by_a_sign_in_goes_on_with_its_tokens() {
    let (world, authority) = signed_in(0);
    authority.borrow_mut().current = 7;
    let mut refresh = Refresh::new(&world, &authority);
    run(refresh.look(Moment::Begin)).unwrap().unwrap();
    store(&world, "refresh-7", ("access-7", 4000));
    assert!(matches!(run(refresh.ask()).unwrap(), Ok(Asked::Overtaken)));
    assert_eq!(token(&world, &authority), Ok("access-7".to_owned()));
}

#[test]
fn a_token_that_still_lives_is_used_while_the_authority_set_unavailable() {
    let (world, authority) = signed_in(100);
    authority.borrow_mut().is_down = true;
    assert_eq!(token(&world, &authority), Ok("access-0".to_owned()));
    world.advance(Duration::from_secs(100));
    assert_eq!(token(&world, &authority), Err(NoToken::Unavailable));
}

#[test]
fn a_refusal_ends_the_account_and_the_lease() {
    let (world, authority) = signed_in(0);
    authority.borrow_mut().current = 7;
    assert_eq!(token(&world, &authority), Err(NoToken::SignIn));
    assert_eq!(world.peek(LEASE).as_deref(), Some(&b"released"[..]));
    assert_eq!(run(world.records().get(&TOKENS, "o.t")).unwrap().unwrap().unwrap().refresh_token, None);
}
