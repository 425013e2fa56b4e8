//! Tokens from the identity broker of the machine. It keeps the refresh tokens itself.
//!
//! What a broker answers comes over a bus on which any program of the same user may speak in its name. So nothing of an answer
//! is used before its ID token is validated for this application and tenant, and is of the account that was asked for.
//! The access token is refused if it says itself that it is for another client, account or resource.

use base::Secret;
use base::settings::{BrokerUse, Settings};
use entra::EntraWorld;
use entra::graph::profile::is_of_graph;
use entra::oauth::{TokenSet, requested_claims};
use entra::tenants::is_guid;
use entra::token::stated::{self, Contradiction, Expected};
use entra::token::{IdTokenExpectations, ValidatedIdToken, validate_id_token};
use world::random::random_uuid;
use world::{BrokerAccount, BrokerError, BrokerRequest, BrokerTokens};

use super::accounts::Account;
use super::attempt::untrusted;
use super::{PersonWorld, SignInError, Untrusted};

#[cfg(test)]
mod tests;

/// Longest life of an access token, in seconds: the 28 hours of continuous access evaluation.
const MAX_LIFETIME_SECONDS: u64 = 28 * 3_600;

/// Tokens that have passed every check, with the account that they are for.
pub(super) struct Judged {
    pub(super) account: Account,
    pub(super) id_token: ValidatedIdToken,
    pub(super) tokens: TokenSet,
}

/// What the broker is asked for. `account` is a home account id.
pub(super) fn request(
    env: &EntraWorld<'_>,
    scopes: &[String],
    account: Option<&str>,
    login_hint: Option<&str>,
    claims: Option<&str>,
) -> BrokerRequest {
    BrokerRequest {
        client_id: env.settings.client_id.clone(),
        authority: format!("{}/{}", env.settings.authority, env.settings.tenant),
        scopes: scopes.to_vec(),
        account: account.map(str::to_owned),
        login_hint: login_hint.map(str::to_owned),
        claims: Some(requested_claims(claims)),
        correlation_id: random_uuid(env.random),
    }
}

/// Whether the tokens of an account may come from the broker.
pub(super) fn is_used(person: &PersonWorld<'_>) -> bool {
    person.settings.broker != BrokerUse::Off
}

/// The account of the broker that a sign-in is for, if that is clear without asking the person: the wanted one, else the only
/// one.
pub(super) fn wanted<'a>(known: &'a [BrokerAccount], wanted: Option<&str>) -> Option<&'a BrokerAccount> {
    let Some(wanted) = wanted else {
        let [only] = known else { return None };
        return Some(only);
    };
    // A user name does not identify a person: a person's work account and personal account may have the same one.
    let mut named = known.iter().filter(|account| account.home_account_id == wanted || account.username == wanted);
    named.next().filter(|_| named.next().is_none())
}

/// Accepts what the broker has given, or says why not. `asked` is the home account id that it was asked for; `None` if the
/// person has chosen.
pub(super) async fn judge(
    env: &EntraWorld<'_>,
    answer: BrokerTokens,
    asked: Option<&str>,
    scopes: &[String],
) -> Result<Judged, SignInError> {
    let BrokerTokens { access_token, expires_at, id_token } = answer;
    let id_token = validate_id_token(env, id_token.reveal(), &IdTokenExpectations { nonce: None })
        .await
        .map_err(|error| SignInError::Untrusted(untrusted(env, error)))?;
    let account = Account::from(&id_token);
    if asked.is_some_and(|asked| asked != account.home_account_id) {
        return Err(SignInError::Untrusted(Untrusted::AnotherAccount));
    }
    if let Some(contradiction) = contradiction(env.settings, &access_token, &account, scopes) {
        return Err(SignInError::Untrusted(Untrusted::AccessToken(contradiction)));
    }
    let latest = env.clock.now().saturating_add(MAX_LIFETIME_SECONDS);
    let end = stated::end(access_token.reveal()).unwrap_or(latest);
    let tokens =
        TokenSet { access_token, expires_at: expires_at.min(end).min(latest), refresh_token: None, id_token: None };
    Ok(Judged { account, id_token, tokens })
}

fn contradiction(
    settings: &Settings,
    token: &Secret<String>,
    account: &Account,
    scopes: &[String],
) -> Option<Contradiction> {
    let scope = scopes.first()?;
    let resource = scope.rsplit_once('/').map_or(scope.as_str(), |(resource, _)| resource);
    let expected = Expected {
        client_id: &settings.client_id,
        tenant_id: &account.tenant_id,
        object_id: &account.object_id,
        resource,
        is_graph: is_of_graph(settings, scope),
    };
    stated::contradiction(token.reveal(), &expected)
}

/// Whether an account of the broker has the same object id in the configured tenant. With a domain it is taken to be so.
pub(super) fn is_of_tenant(tenant: &str, home_account_id: &str) -> bool {
    !is_guid(tenant) || home_account_id.rsplit_once('.').is_some_and(|(_, home)| home == tenant)
}

/// Whether the broker said that only the person can help.
pub(super) fn needs_person(error: &BrokerError) -> bool {
    matches!(error, BrokerError::InteractionRequired | BrokerError::Declined)
}
