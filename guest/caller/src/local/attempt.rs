//! One sign-in of one person, as a record in the secret store.
//!
//! A sign-in outlives the call that began it: the person may be slower than the client is patient, and then the
//! next call goes on with the same page or code instead of opening another one. It is also shared: of several
//! calls that need a sign-in at once, one leads and the others wait for it, across processes.

use std::fmt;
use std::time::Duration;

use base::audit::Outcome;
use entra::oauth::TokenSet;
use entra::oauth::authorization_code::AuthorizationRequest;
use entra::oauth::device_code::DeviceCode;
use entra::token::{IdTokenExpectations, TokenError};
use entra::{EntraWorld, clock_offset, token};
use serde::{Deserialize, Serialize};
use world::random::random_token;
use world::records::{Namespace, Next, Partition, Records, Stored, Ttl};
use world::{Clock, Random, StoreError};

use super::accounts::{self, Account};
use super::{SignInError, Untrusted};

/// How long an authorization request may be answered. The pages of Entra ID give up after about as long.
pub const BROWSER_LIFETIME: Duration = Duration::from_secs(600);
/// How long the outcome of a sign-in is kept for calls that wait for it.
const OUTCOME_LIFETIME: Duration = Duration::from_secs(30);
/// A leader that has not shown a sign of life for this long is gone (its call was cancelled, its process ended).
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// How long a leader may be busy with the endpoints of Entra ID before others take it for gone.
pub const BUSY: Duration = Duration::from_secs(90);

/// What a person has to do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The page to open; empty if the identity broker shows a window of its own.
    pub url: String,
    /// The code to enter there; a browser sign-in has none.
    pub user_code: Option<String>,
}

/// The URL holds `state` and `nonce`. An attacker cannot use them without the verifier, but they do not belong in a
/// log.
impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instruction")
    }
}

impl Instruction {
    /// One sentence for the person.
    pub fn sentence(&self) -> String {
        match &self.user_code {
            Some(code) => format!("To sign in, open {} and enter the code {code}.", self.url),
            None if self.url.is_empty() => "To sign in, go to the window of the identity broker.".to_owned(),
            None => format!("To sign in, open this page in a browser on this machine: {}", self.url),
        }
    }
}

/// How the person's answer comes back.
#[derive(Serialize, Deserialize)]
pub enum SignInGrant {
    /// Through the browser to a redirect URI.
    AuthorizationCode {
        /// The request, with its secrets.
        request: AuthorizationRequest,
        /// A listener that was left running, if the host's user agent listens.
        listener: Option<String>,
    },
    /// By polling.
    DeviceCode(DeviceCode),
}

/// A sign-in that waits for a person.
#[derive(Serialize, Deserialize)]
pub struct SignInAttempt {
    /// Unguessable.
    pub id: String,
    /// What the person has to do.
    pub instruction: Instruction,
    /// How the answer comes back.
    pub grant: SignInGrant,
    /// Scopes that were asked for.
    pub scopes: Vec<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
}

impl SignInAttempt {
    /// Stores the attempt, so that another call can go on with it.
    pub async fn save(&self, records: &Records<'_>) -> Result<(), StoreError> {
        records.put(&ATTEMPTS, &self.id, self).await
    }

    /// Reads an attempt without ending it.
    pub async fn load(records: &Records<'_>, id: &str) -> Result<Option<Self>, StoreError> {
        records.get(&ATTEMPTS, id).await
    }

    /// Ends an attempt: of any number of callers, one gets it.
    pub async fn take(records: &Records<'_>, id: &str) -> Result<Option<Self>, StoreError> {
        records.take(&ATTEMPTS, id).await
    }

    /// How long the attempt is kept.
    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now).max(1))
    }
}

/// Sign-ins that wait for a person, by id.
const ATTEMPTS: Namespace<SignInAttempt> =
    Namespace::json(Partition::Application, "attempt", Ttl::Computed(SignInAttempt::ttl));
/// Which sign-in is going on.
const CURRENT: Namespace<Current> = Namespace::json(Partition::Application, "sign-in", Ttl::Computed(Current::ttl));

/// Validates the ID token, and only then stores account and tokens.
pub async fn admit(
    env: &EntraWorld<'_>,
    tokens: TokenSet,
    scopes: &[String],
    nonce: Option<&str>,
) -> Result<Account, SignInError> {
    let id_token = tokens.id_token.as_ref().ok_or(SignInError::Untrusted(Untrusted::NoIdToken))?;
    let validated = token::validate_id_token(env, id_token.reveal(), &IdTokenExpectations { nonce })
        .await
        .map_err(|error| SignInError::Untrusted(untrusted(env, error)))?;
    let account = Account::from(&validated);
    env.trail.record(account.event("sign-in.completed", Outcome::Success)).await?;
    let from = accounts::SignInSource { by_broker: false, login_hint: validated.login_hint() };
    accounts::save_from(env, &account, scopes, tokens, from).await?;
    Ok(account)
}

/// An ID token is out of date only by the clock of one side, because it was issued a moment ago.
pub(super) fn untrusted(env: &EntraWorld<'_>, error: TokenError) -> Untrusted {
    use TokenError::{Expired, IssuedInFuture, NotYetValid};
    match (clock_offset::current(env), error) {
        (Some(offset), error @ (Expired { .. } | NotYetValid { .. } | IssuedInFuture { .. })) => {
            Untrusted::Clock { error, offset }
        }
        (_, error) => Untrusted::IdToken(error),
    }
}

/// The sign-in that is going on, and the call that leads it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The attempt. Empty until the leader has prepared it.
    pub attempt: String,
    /// The call that leads; `None` when the attempt waits for a call to go on with it.
    pub leader: Option<String>,
    /// Until when the leader is taken to be alive. Unix time in seconds.
    pub alive_until: u64,
    /// Until when the attempt can be answered. Unix time in seconds.
    pub expires_at: u64,
    /// How it ended.
    pub outcome: Option<Ended>,
}

impl Current {
    /// How long the record is kept.
    fn ttl(&self, _: u64) -> Duration {
        if self.outcome.is_some() { OUTCOME_LIFETIME } else { BROWSER_LIFETIME * 2 }
    }

    /// Whether a call leads and is alive. No leader promises more than [`BUSY`]: a later time was written before
    /// the clock was set back.
    pub fn is_led(&self, now: u64) -> bool {
        let alive = now..=now.saturating_add(BUSY.as_secs());
        self.outcome.is_none() && self.leader.is_some() && alive.contains(&self.alive_until)
    }
}

/// How a sign-in ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With this account (its home account id).
    SignedIn(String),
    /// With this message.
    Failed(String),
}

/// What a call that needs a sign-in finds.
pub enum SignInTurn {
    /// Nothing usable: this call leads a new sign-in.
    Lead,
    /// An attempt that waits for a call to go on with it: this call leads it from now on.
    Resume(Box<SignInAttempt>),
    /// Another call leads.
    Join,
}

/// Decides, in one atomic step, which part a call plays. `me` is unguessable and fresh.
pub async fn take_turn(env: &EntraWorld<'_>, me: &str) -> Result<SignInTurn, StoreError> {
    let tolerant = CURRENT.replaced_if_unreadable();
    let turn = env.records.update_with(&tolerant, (), async |current: Option<Current>| {
        let now = env.clock.now();
        let pending = current.filter(|current| current.outcome.is_none() && current.expires_at > now);
        let resumed = match &pending {
            Some(current) if current.is_led(now) => return Next::Leave(Ok(SignInTurn::Join)),
            Some(current) if !current.attempt.is_empty() => {
                match SignInAttempt::load(&env.records, &current.attempt).await {
                    Ok(attempt) => attempt,
                    Err(error) => return Next::Leave(Err(error)),
                }
            }
            _ => None,
        };
        let mut next = pending.filter(|_| resumed.is_some()).unwrap_or_else(|| fresh(env.clock, me));
        next.leader = Some(me.to_owned());
        next.alive_until = now + SIGN_OF_LIFE.as_secs();
        Next::Write(next, Ok(resumed.map_or(SignInTurn::Lead, |attempt| SignInTurn::Resume(Box::new(attempt)))))
    });
    turn.await?
}

fn fresh(clock: &dyn Clock, me: &str) -> Current {
    let now = clock.now();
    Current {
        attempt: String::new(),
        leader: Some(me.to_owned()),
        alive_until: now + SIGN_OF_LIFE.as_secs(),
        expires_at: now + BROWSER_LIFETIME.as_secs(),
        outcome: None,
    }
}

/// Reads which sign-in is going on.
pub async fn current(records: &Records<'_>) -> Result<Option<Current>, StoreError> {
    records.get(&CURRENT, ()).await
}

/// Ends the sign-in that `me` leads, so that the next call begins anew.
pub async fn abandon(records: &Records<'_>, me: &str) -> Result<(), StoreError> {
    as_leader(records, me, |current| (current.leader, current.expires_at) = (None, 0)).await.map(drop)
}

/// Ends what the calls of this process lead: the process is about to end, so the next call of another one begins anew.
/// `is_ours` says whether an attempt waits for an answer that only this process can receive.
pub async fn give_up(records: &Records<'_>, is_ours: impl FnOnce(&SignInAttempt) -> bool) -> Result<(), StoreError> {
    let tolerant = CURRENT.replaced_if_unreadable();
    let Some(current) = records.get(&tolerant, ()).await? else { return Ok(()) };
    if current.outcome.is_some() {
        return Ok(());
    }
    let Some(attempt) = SignInAttempt::load(records, &current.attempt).await? else { return Ok(()) };
    if !is_ours(&attempt) {
        return Ok(());
    }
    SignInAttempt::take(records, &attempt.id).await?;
    // Another process may have begun in the meantime: its record stays.
    records
        .update(&tolerant, (), |now: Option<Current>| match now {
            Some(now) if now.attempt == attempt.id => Next::Write(Current { leader: None, expires_at: 0, ..now }, ()),
            _ => Next::Leave(()),
        })
        .await
}

/// Changes the record if `me` still leads; whether it did.
pub async fn as_leader(records: &Records<'_>, me: &str, change: impl FnOnce(&mut Current)) -> Result<bool, StoreError> {
    let tolerant = CURRENT.replaced_if_unreadable();
    let Some(Stored { value: mut current, version }) = records.read(&tolerant, ()).await? else {
        return Ok(false);
    };
    if current.leader.as_deref() != Some(me) {
        return Ok(false);
    }
    change(&mut current);
    Ok(records.replace(&tolerant, (), &version, &current).await?.is_some())
}

/// A fresh id for an attempt or a leader.
pub fn fresh_id(random: &dyn Random) -> String {
    random_token(random)
}
