//! The accounts and their tokens in the secret store.
//!
//! One record lists the accounts of the application; one record per account holds its tokens, so that a refresh
//! replaces everything in one step. Several processes share the store, so every change is a compare-and-swap.

use std::collections::BTreeMap;
use std::fmt;

use base::Secret;
use base::audit::{AuditEvent, Outcome};
use base::secret::{reveal, reveal_optional};
use entra::EntraWorld;
use entra::oauth::{TokenSet, sign_out};
use entra::token::ValidatedIdToken;
use serde::{Deserialize, Serialize};
use world::records::{Namespace, Next, Partition, Records, Ttl};
use world::{BodyOnce, StoreError};

use super::{PersonWorld, SignInError};

/// Access tokens kept per account. Each is for one set of scopes, and there are few of those.
const MAX_ACCESS_TOKENS: usize = 16;
/// Accounts that an error lists. The command `accounts` lists all.
const MAX_LISTED: usize = 10;

/// A signed-in account. Identified by `home_account_id`; user name and name are for display only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `{object id}.{tenant id}`.
    pub home_account_id: String,
    /// For display.
    pub username: String,
    /// For display.
    pub name: String,
    /// Tenant id.
    pub tenant_id: String,
    /// Object id.
    pub object_id: String,
}

impl Account {
    /// A security event about the account.
    pub fn event(&self, name: &'static str, outcome: Outcome) -> AuditEvent {
        AuditEvent {
            tenant_id: Some(self.tenant_id.clone()),
            object_id: Some(self.object_id.clone()),
            username: Some(self.username.clone()),
            ..AuditEvent::new(name, outcome)
        }
    }
}

/// Names and addresses of people do not belong into logs.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("home_account_id", &self.home_account_id).finish_non_exhaustive()
    }
}

impl From<&ValidatedIdToken> for Account {
    fn from(token: &ValidatedIdToken) -> Self {
        Self {
            home_account_id: format!("{}.{}", token.object_id(), token.tenant_id()),
            username: token.preferred_username().unwrap_or_default().to_owned(),
            name: token.name().unwrap_or_default().to_owned(),
            tenant_id: token.tenant_id().to_owned(),
            object_id: token.object_id().to_owned(),
        }
    }
}

impl Account {
    /// What its id says of an account: all that is known of it if the list is damaged.
    fn of_id(home_account_id: &str) -> Option<Self> {
        let (object_id, tenant_id) = home_account_id.split_once('.')?;
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_id(object_id) && is_id(tenant_id)).then(|| Self {
            home_account_id: home_account_id.to_owned(),
            username: String::new(),
            name: String::new(),
            tenant_id: tenant_id.to_owned(),
            object_id: object_id.to_owned(),
        })
    }
}

/// The tokens of one account.
#[derive(Default, Serialize, Deserialize)]
pub struct AccountTokens {
    /// Absent once Entra ID has refused it.
    #[serde(serialize_with = "reveal_optional")]
    pub refresh_token: Option<Secret<String>>,
    /// By scopes, sorted and joined with a space.
    pub access: BTreeMap<String, CachedAccessToken>,
    /// Whether the identity broker of the machine gave them, and gives others.
    #[serde(default)]
    pub by_broker: bool,
    /// Names the person's session to Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_hint: Option<String>,
}

/// Where the tokens of a sign-in come from, and what its ID token says besides the account.
#[derive(Clone, Copy, Default)]
pub struct SignInSource<'a> {
    /// From the identity broker of the machine, which keeps the refresh token.
    pub by_broker: bool,
    /// Names the person's session to Entra ID.
    pub login_hint: Option<&'a str>,
}

/// An access token in the store.
#[derive(Serialize, Deserialize)]
pub struct CachedAccessToken {
    /// Opaque.
    #[serde(serialize_with = "reveal")]
    pub token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Whether a call has asked for it since it was obtained. Otherwise it is not renewed in the background.
    #[serde(default = "yes")]
    pub(super) asked_for: bool,
}

/// Of a token of an earlier version it is not known.
fn yes() -> bool {
    true
}

/// A profile that was read from Graph.
#[derive(Serialize, Deserialize)]
pub(super) struct CachedProfile {
    /// Unix time in seconds.
    pub(super) read_at: u64,
    pub(super) profile: serde_json::Value,
}

/// The accounts of the application.
const ACCOUNTS: Namespace<Vec<Account>> = Namespace::json(Partition::Application, "list", Ttl::Kept);
/// Their tokens, by home account id.
const TOKENS: Namespace<AccountTokens> = Namespace::json(Partition::Application, "tokens", Ttl::Kept);
/// The same for a sign-in and a sign-out, which replace what is damaged: else it would lock the accounts out.
const REPLACED_ACCOUNTS: Namespace<Vec<Account>> = ACCOUNTS.replaced_if_unreadable();
const REPLACED_TOKENS: Namespace<AccountTokens> = TOKENS.replaced_if_unreadable();
/// Their profiles, by home account id.
pub(super) const PROFILES: Namespace<CachedProfile> =
    Namespace::json(Partition::Application, "profile", Ttl::Kept).absent_if_malformed();

/// The name under which the token for a set of scopes is kept: the order of scopes has no meaning.
pub fn scope_key(scopes: &[String]) -> String {
    let mut scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes.join(" ")
}

/// The signed-in accounts, in the order they signed in.
#[inline(never)]
pub fn list<'f>(records: &'f Records<'_>) -> BodyOnce<'f, Result<Vec<Account>, StoreError>> {
    Box::pin(async move { Ok(records.get(&ACCOUNTS, ()).await?.unwrap_or_default()) })
}

/// User names, with ids where two accounts have the same one.
pub(crate) fn listed(accounts: &[Account]) -> String {
    let is_unique = |name: &str| accounts.iter().filter(|other| other.username == name).count() == 1;
    let shown = accounts.iter().take(MAX_LISTED).map(|account| match account.username.as_str() {
        name if !name.is_empty() && is_unique(name) => name.to_owned(),
        name => format!("{name} ({})", account.home_account_id).trim_start().to_owned(),
    });
    let more = accounts.len().saturating_sub(MAX_LISTED);
    let shown: Vec<String> = shown.chain((more > 0).then(|| format!("and {more} more"))).collect();
    // A terminal may show it.
    shown.join(", ").replace(char::is_control, " ")
}

/// Which account the person means is open: several are signed in, none is configured, and none was chosen that is still
/// among them. Returns those; else none.
#[inline(never)]
pub fn to_choose_from<'f>(person: &'f PersonWorld<'_>) -> BodyOnce<'f, Result<Vec<Account>, StoreError>> {
    Box::pin(async move {
        if person.settings.account.is_some() {
            return Ok(Vec::new());
        }
        let accounts = list(&person.entra.records).await?;
        let is_open = accounts.len() > 1 && chosen(person, &accounts).is_none();
        Ok(if is_open { accounts } else { Vec::new() })
    })
}

/// The account that was chosen on this connection, as long as it is signed in.
fn chosen<'a>(person: &PersonWorld<'_>, accounts: &'a [Account]) -> Option<&'a Account> {
    let chosen = person.chosen?;
    accounts.iter().find(|account| account.home_account_id == chosen)
}

/// Chooses the account to use: the wanted one, else the configured one, else the one that was chosen on this connection, else
/// the only one.
#[inline(never)]
pub fn choose<'f>(person: &'f PersonWorld<'_>, wanted: Option<&'f str>) -> BodyOnce<'f, Result<Account, SignInError>> {
    Box::pin(async move {
        let accounts = list(&person.entra.records).await?;
        let wanted = wanted.or(person.settings.account.as_deref());
        if let Some(wanted) = wanted {
            if let Some(account) = accounts.iter().find(|account| account.home_account_id == wanted) {
                return Ok(account.clone());
            }
            // A user name does not identify a person: a person's work account and personal account may have the same one.
            let mut named = accounts.iter().filter(|account| account.username == wanted);
            return match (named.next(), named.next()) {
                (Some(account), None) => Ok(account.clone()),
                (Some(_), Some(_)) => Err(SignInError::AccountSelection(
                    "Several accounts have this user name: choose one by its id, as in the list of accounts."
                        .to_owned(),
                )),
                (None, _) => Err(SignInError::InteractionRequired {
                    reason: "The chosen account is not signed in: sign in with it.".to_owned(),
                    claims: None,
                }),
            };
        }
        if let Some(account) = chosen(person, &accounts) {
            return Ok(account.clone());
        }
        match accounts.as_slice() {
            [] => Err(SignInError::InteractionRequired {
                reason: "No account is signed in: sign in first.".to_owned(),
                claims: None,
            }),
            [account] => Ok(account.clone()),
            several => Err(SignInError::AccountSelection(format!(
                "{} accounts are signed in: {}. Choose one with the setting `account`, or sign out of the others.",
                several.len(),
                listed(several)
            ))),
        }
    })
}

/// Stores an account that has just signed in, with its tokens. Other accounts stay.
pub async fn save(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    tokens: TokenSet,
) -> Result<(), StoreError> {
    save_from(env, account, scopes, tokens, SignInSource::default()).await
}

/// The same for a sign-in of this origin.
pub async fn save_from(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    tokens: TokenSet,
    from: SignInSource<'_>,
) -> Result<(), StoreError> {
    let now = env.clock.now();
    let taken_in = env.records.update(&REPLACED_TOKENS, &account.home_account_id, |stored| {
        let mut stored = stored.unwrap_or_default();
        stored.by_broker = from.by_broker;
        if from.by_broker {
            stored.refresh_token = None;
        }
        if from.login_hint.is_some() {
            stored.login_hint = from.login_hint.map(str::to_owned);
        }
        stored.take_in(now, scopes, &tokens, true);
        Next::Write(stored, ())
    });
    taken_in.await?;
    let listed = env.records.update(&REPLACED_ACCOUNTS, (), |accounts| {
        let mut accounts = accounts.unwrap_or_default();
        match accounts.iter_mut().find(|known| known.home_account_id == account.home_account_id) {
            Some(known) => *known = account.clone(),
            None => accounts.push(account.clone()),
        }
        Next::Write(accounts, ())
    });
    listed.await
}

/// The tokens of an account.
pub async fn tokens(records: &Records<'_>, home_account_id: &str) -> Result<AccountTokens, StoreError> {
    Ok(records.get(&TOKENS, home_account_id).await?.unwrap_or_default())
}

impl AccountTokens {
    fn take_in(&mut self, now: u64, scopes: &[String], set: &TokenSet, asked_for: bool) {
        if let Some(refresh_token) = &set.refresh_token {
            self.refresh_token = Some(refresh_token.clone());
        }
        self.access.retain(|_, cached| cached.expires_at > now);
        while self.access.len() >= MAX_ACCESS_TOKENS {
            self.access.pop_first();
        }
        let token = CachedAccessToken { token: set.access_token.clone(), expires_at: set.expires_at, asked_for };
        self.access.insert(scope_key(scopes), token);
    }

    /// Whether this is the refresh token of the account: not after a sign-in, another refresh, or a sign-out.
    pub fn has(&self, refresh_token: &Secret<String>) -> bool {
        self.refresh_token.as_ref().is_some_and(|token| token.reveal() == refresh_token.reveal())
    }
}

/// Stores what a refresh answered, unless `used`, the refresh token it was asked with, was replaced or forgotten
/// in the meantime: what is there now is newer, and an account that was signed out stays so. `asked_for`: a call has asked for
/// the token.
pub(super) async fn put_refreshed(
    env: &EntraWorld<'_>,
    home_account_id: &str,
    scopes: &[String],
    used: &Secret<String>,
    set: &TokenSet,
    asked_for: bool,
) -> Result<(), StoreError> {
    let now = env.clock.now();
    let put = env.records.update(&TOKENS, home_account_id, |tokens| match tokens {
        Some(mut tokens) if tokens.has(used) => {
            tokens.take_in(now, scopes, set, asked_for);
            Next::Write(tokens, ())
        }
        _ => Next::Leave(()),
    });
    put.await
}

/// Stores what the identity broker has given, unless the account was signed out or has signed in otherwise meanwhile.
/// `asked_for`: a call has asked for the token.
pub async fn put_from_broker(
    env: &EntraWorld<'_>,
    home_account_id: &str,
    scopes: &[String],
    set: &TokenSet,
    asked_for: bool,
) -> Result<(), StoreError> {
    let now = env.clock.now();
    let put = env.records.update(&TOKENS, home_account_id, |tokens| match tokens {
        Some(mut tokens) if tokens.by_broker => {
            tokens.take_in(now, scopes, set, asked_for);
            Next::Write(tokens, ())
        }
        _ => Next::Leave(()),
    });
    put.await
}

/// Forgets that the identity broker gives tokens of an account: only its person can help.
pub async fn forget_broker(records: &Records<'_>, home_account_id: &str) -> Result<(), StoreError> {
    let forgotten = records.update(&TOKENS, home_account_id, |tokens| match tokens {
        Some(tokens) if tokens.by_broker => Next::Write(AccountTokens { by_broker: false, ..tokens }, ()),
        _ => Next::Leave(()),
    });
    forgotten.await
}

/// Notes whether a call has asked for an access token since it was obtained, if that is not noted yet.
pub(super) async fn note_asked_for(
    records: &Records<'_>,
    home_account_id: &str,
    scopes: &[String],
    asked_for: bool,
) -> Result<(), StoreError> {
    let noted = records.update(&TOKENS, home_account_id, |tokens| {
        let mut tokens = tokens.unwrap_or_default();
        match tokens.access.get_mut(&scope_key(scopes)) {
            Some(cached) if cached.asked_for != asked_for => {
                cached.asked_for = asked_for;
                Next::Write(tokens, ())
            }
            _ => Next::Leave(()),
        }
    });
    noted.await
}

/// Forgets a refresh token that Entra ID has refused, unless it was replaced in the meantime.
pub async fn forget_refresh_token(
    records: &Records<'_>,
    home_account_id: &str,
    refused: &Secret<String>,
) -> Result<(), StoreError> {
    let forgotten = records.update(&TOKENS, home_account_id, |tokens| match tokens {
        Some(tokens) if tokens.has(refused) => Next::Write(AccountTokens { refresh_token: None, ..tokens }, ()),
        _ => Next::Leave(()),
    });
    forgotten.await
}

/// Forgets an account and its tokens, and a list that is damaged.
pub async fn remove(records: &Records<'_>, home_account_id: &str) -> Result<(), StoreError> {
    records.delete(&TOKENS, home_account_id).await?;
    records.delete(&PROFILES, home_account_id).await?;
    let listed = records.update(&REPLACED_ACCOUNTS, (), |accounts| {
        let mut accounts = accounts.unwrap_or_default();
        accounts.retain(|account| account.home_account_id != home_account_id);
        Next::Write(accounts, ())
    });
    listed.await
}

/// The page of Entra ID that ends the person's session in the browser, for a signed-in account, or for one that is named by
/// its id while the list is damaged.
pub async fn sign_out_url(
    env: &EntraWorld<'_>,
    home_account_id: &str,
    redirect_uri: Option<&str>,
) -> Result<String, SignInError> {
    let account = signed_in(&env.records, home_account_id).await?;
    // Without the hint, the page asks the person which account to sign out.
    let tokens = env.records.get(&TOKENS.absent_if_unreadable(), home_account_id).await?;
    let hint = tokens.and_then(|tokens| tokens.login_hint);
    Ok(sign_out::url(env.settings, &account.tenant_id, hint.as_deref(), redirect_uri)?)
}

/// A signed-in account. While the list is damaged, every account may be one.
async fn signed_in(records: &Records<'_>, home_account_id: &str) -> Result<Account, SignInError> {
    let accounts = match list(records).await {
        Err(StoreError::Unreadable) => {
            return Account::of_id(home_account_id).ok_or(SignInError::Store(StoreError::Unreadable));
        }
        accounts => accounts?,
    };
    let listed = accounts.into_iter().find(|account| account.home_account_id == home_account_id);
    if let Some(account) = listed {
        return Ok(account);
    }
    // A list that was damaged and has begun anew has left tokens.
    if let Some(account) = Account::of_id(home_account_id)
        && records.exists(&REPLACED_TOKENS, home_account_id).await?
    {
        return Ok(account);
    }
    Err(SignInError::AccountSelection("No such account is signed in: see the list of accounts.".to_owned()))
}

/// Signs an account out: forgets it, and says so in the audit record first.
#[inline(never)]
pub fn sign_out<'f>(env: &'f EntraWorld<'_>, home_account_id: &'f str) -> BodyOnce<'f, Result<(), SignInError>> {
    Box::pin(async move {
        let account = signed_in(&env.records, home_account_id).await?;
        env.trail.record(account.event("sign-out", Outcome::Success)).await?;
        Ok(remove(&env.records, home_account_id).await?)
    })
}
