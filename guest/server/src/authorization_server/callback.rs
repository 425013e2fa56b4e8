//! `/auth/callback`: where Entra ID sends the person back to.
//!
//! The answer is taken from the browser that asked, once, within ten minutes. Whatever Entra ID says then reaches the
//! client: an authorization code of this server, or an OAuth error in this server's words. The words of Entra ID stay
//! in its pages.
//!
//! A person of whom claims are wanted (a challenge has ended their last session, or Entra ID says so now) goes to Entra
//! ID once more, with the claims. Once only: if that still does not suffice, the client gets an error.

use base::audit::Outcome;
use caller::session::entra_tokens::EntraTokens;
use caller::session::{Membership, Owner, claims};
use entra::clock_offset;
use entra::oauth::OAuthError;
use entra::oauth::authorization_code::RedeemError;
use entra::oauth::error::EntraRefusal;
use entra::token::{self, IdTokenExpectations, TokenError};
use http::Response;
use world::StoreError;

use super::answers::{self, OAuthRefusal};
use super::authorize::{self, AgainAtEntra, Leg, Trip, page};
use super::browser::{Browser, RememberedUser};
use super::client::{Client, ClientError};
use super::code::{self, CodeGrant};
use super::parameters::Parameters;
use super::{client_metadata_document, clients, consent};
use crate::message::Request;
use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// Nothing is used up yet when this is said.
const RELOAD: &str = "Wait a little, then reload this page.";
/// Seconds after which that may help.
const RETRY_AFTER_SECONDS: u64 = 5;
/// The longest `state` that can come from this server, in characters.
const MAX_STATE: usize = 64;

/// Answers a request to `/auth/callback`.
pub(super) async fn handle(env: &ServerWorld<'_>, request: &Request) -> Response<Vec<u8>> {
    match come_back(env, request).await {
        Ok(response) => response,
        Err(error) => {
            let response = page::error(env, 503, &format!("{} {RELOAD}", page::sentence(&error)));
            answers::with_retry_after(response, RETRY_AFTER_SECONDS)
        }
    }
}

async fn come_back(env: &ServerWorld<'_>, request: &Request) -> Result<Response<Vec<u8>>, StoreError> {
    let parameters = match Parameters::of_query(request) {
        Ok(parameters) => parameters,
        Err(error) => return Ok(page::error(env, 400, &page::sentence(&error))),
    };
    let Some(state) = parameters.get("state").filter(|state| state.len() <= MAX_STATE) else {
        return Ok(page::gone(env));
    };
    // Looked at before it is taken: another browser that learned the state must not end the sign-in.
    let browser = Browser::of(env, request).await?;
    let leg = env.entra.records.get(&authorize::LEGS, state).await?;
    let Some(leg) = leg.filter(|leg| browser.is(&leg.pending.browser)) else { return Ok(page::gone(env)) };
    let client = match clients::known(env, &leg.pending.client_id, leg.pending.document.as_ref()).await {
        Err(ClientError::Store(error)) => return Err(error),
        Err(error) if error.is_passing() => {
            let response = page::error(env, 503, &format!("{} {RELOAD}", page::sentence(&error)));
            return Ok(answers::with_retry_after(response, RETRY_AFTER_SECONDS));
        }
        found => found,
    };
    // Of any number of concurrent requests one gets it.
    let Some(leg) = env.entra.records.take(&authorize::LEGS, state).await? else { return Ok(page::gone(env)) };
    match client {
        Ok(client) => Ok(finish(env, &leg, &client, browser, request).await),
        // The client was there ten minutes ago; without it no party can get a code.
        Err(error) => {
            let event = authorize::event(&leg.pending, "authorization.completed", Outcome::Failure);
            // It is refused whether or not that can be recorded.
            let _ = env.entra.trail.record(event.because("client-unknown".to_owned())).await;
            Ok(page::error(env, 400, &page::sentence(&error)))
        }
    }
}

/// What goes wrong once the client is known.
struct FailedSignIn {
    refusal: OAuthRefusal,
    /// For the audit record.
    reason: String,
}

impl FailedSignIn {
    fn new(error: &'static str, description: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { refusal: OAuthRefusal::new(error, description), reason: reason.into() }
    }
}

/// Whatever happens from here on, the client hears of it.
async fn finish(
    env: &ServerWorld<'_>,
    leg: &Leg,
    client: &Client,
    browser: Browser<'_>,
    request: &Request,
) -> Response<Vec<u8>> {
    let answered = match admit(env, leg, request).await {
        Ok(admitted) => give(env, leg, client, browser, admitted).await,
        Err(NotSignedIn::Claims(claims)) => {
            let again = AgainAtEntra { claims, user: None, login_hint: None };
            step_up(env, leg, &browser, again).await
        }
        Err(NotSignedIn::Failed(FailedSignIn { refusal, reason })) => {
            let response = authorize::failed(env, &leg.pending, &refusal, reason).await;
            Ok(authorize::with_cookie_if_possible(response, &browser).await)
        }
    };
    match answered {
        Ok(response) => response,
        Err(error) => authorize::store_failed(env, &leg.pending, &error).await,
    }
}

/// Gives the client a code for what Entra ID has given, or asks the person first.
async fn give(
    env: &ServerWorld<'_>,
    leg: &Leg,
    client: &Client,
    mut browser: Browser<'_>,
    admitted: SignedIn,
) -> Result<Response<Vec<u8>>, StoreError> {
    let SignedIn { owner, tokens, username } = admitted;
    env.entra.trail.set_user(username.as_deref());
    let user = RememberedUser { tenant_id: owner.tenant_id.clone(), object_id: owner.object_id.clone() };
    browser.remember_user(user.clone());
    let pending = &leg.pending;
    if leg.consented {
        consent::remember(env, &pending.consent(client, &user)).await?;
    } else if !consent::is_remembered(env, &pending.consent(client, &user)).await? {
        // The page was skipped for the person that signed in here last, and another person has signed in.
        return authorize::show(env, pending.clone(), client, &browser).await;
    }
    if leg.step_up.is_none()
        && let Some(claims) = claims::wanted(&env.entra.records, &owner).await?
    {
        let again = AgainAtEntra { claims, user: Some(user), login_hint: username.as_deref() };
        return step_up(env, leg, &browser, again).await;
    }
    let signed_in = owner.clone();
    let event = owner.event("authorization.completed", Outcome::Success);
    let code = code::give(
        env,
        CodeGrant {
            owner,
            redirect_uri: pending.redirect_uri_sent.then(|| pending.redirect_uri.clone()),
            code_challenge: pending.code_challenge.clone(),
            resource: pending.resource.clone(),
            scopes: pending.scopes.clone(),
            tokens,
            username: username.filter(|_| env.entra.settings.audit_usernames),
            expires_at: 0,
        },
    )
    .await?;
    let response = authorize::with_cookie(pending.back().with(env, &[("code", code.reveal())]), &browser).await?;
    if let Some(document) = &pending.document {
        // What cannot be stored is read again.
        let _ = client_metadata_document::keep(env, document).await;
    }
    // Now, and not with the code: what strangers register meanwhile must not take its place. If it fails, the exchange of
    // the code does it.
    let _ = clients::touch(env, client).await;
    // A code that no client receives ends by itself.
    if env.entra.trail.record(event).await.is_err() {
        return Ok(authorize::unrecorded(env, pending));
    }
    if let Some(carried) = leg.request.claims() {
        claims::satisfied(&env.entra.records, &signed_in, carried).await;
    }
    Ok(response)
}

async fn step_up(
    env: &ServerWorld<'_>,
    leg: &Leg,
    browser: &Browser<'_>,
    again: AgainAtEntra<'_>,
) -> Result<Response<Vec<u8>>, StoreError> {
    let trip = Trip { consented: leg.consented, again: Some(again) };
    authorize::forward(env, leg.pending.clone(), browser, trip).await
}

/// The person that has signed in.
struct SignedIn {
    owner: Owner,
    tokens: EntraTokens,
    /// What they are called at Entra ID, to be sent back there and for nothing else.
    username: Option<String>,
}

/// Why the person is not signed in.
enum NotSignedIn {
    /// Entra ID wants these claims (JSON) first.
    Claims(String),
    Failed(FailedSignIn),
}

impl From<FailedSignIn> for NotSignedIn {
    fn from(failed: FailedSignIn) -> Self {
        Self::Failed(failed)
    }
}

/// Redeems the code of Entra ID, and validates the ID token that comes with the tokens.
async fn admit(env: &ServerWorld<'_>, leg: &Leg, request: &Request) -> Result<SignedIn, NotSignedIn> {
    let redeemed = leg.request.redeem(&env.entra, request.query.as_deref().unwrap_or_default()).await;
    let set = redeemed.map_err(|error| match error {
        RedeemError::Untrusted(_) => {
            let description = "Microsoft Entra ID answered with something unexpected.";
            FailedSignIn::new("server_error", description, "untrusted-response").into()
        }
        // Of the token endpoint: a browser that brings an error cannot bring claims.
        RedeemError::OAuth(OAuthError::Refused(EntraRefusal { claims: Some(claims), .. }))
            if leg.step_up.is_none() && caller::claims::are_usable(&claims) =>
        {
            NotSignedIn::Claims(claims)
        }
        RedeemError::OAuth(error) => FailedSignIn::new(error_of(&error), error.public(), error.reason()).into(),
    })?;
    let nonce = Some(leg.request.nonce.as_str());
    let Some(id_token) = set.id_token.as_ref() else {
        return Err(FailedSignIn::new("server_error", "Microsoft Entra ID gave no ID token.", "no-id-token").into());
    };
    let validated = token::validate_id_token(&env.entra, id_token.reveal(), &IdTokenExpectations { nonce }).await;
    let validated = validated.map_err(|error| {
        let reason = format!("id-token-{}", error.reason());
        if let Some(offset) = clock_offset::current(&env.entra) {
            env.log.note(&format!("a sign-in was not accepted ({reason}), and {offset}: correct the date and time"));
        }
        match error {
            TokenError::KeysUnavailable { .. } => FailedSignIn::new(
                "temporarily_unavailable",
                "Microsoft Entra ID's signing keys cannot be read now. Try again later.",
                reason,
            ),
            // Newer than the keys that Entra ID publishes, or than the server's copy, which is not read anew all the
            // time.
            TokenError::KeyUnknown { .. } => FailedSignIn::new(
                "temporarily_unavailable",
                "Microsoft Entra ID has signed with a key that it has not published yet. Try again in a minute.",
                reason,
            ),
            TokenError::TenantNotAllowed { .. } => {
                FailedSignIn::new("access_denied", "Accounts of this organisation are not admitted here.", reason)
            }
            TokenError::PrincipalKindMismatch { .. } => FailedSignIn::new(
                "access_denied",
                "An AI agent does not sign in here. It can bring an access token of Microsoft Entra ID.",
                reason,
            ),
            _ => FailedSignIn::new("server_error", "The answer of Microsoft Entra ID could not be verified.", reason),
        }
    })?;
    let owner = Owner {
        client_id: leg.pending.client_id.clone(),
        tenant_id: validated.tenant_id().to_owned(),
        object_id: validated.object_id().to_owned(),
    };
    // What is wanted of one person, another one cannot bring.
    let expected = leg.step_up.as_ref().and_then(|step_up| step_up.user.as_ref());
    if expected.is_some_and(|user| user.tenant_id != owner.tenant_id || user.object_id != owner.object_id) {
        let description = "You signed in with another account than the one that has to sign in again. Start again.";
        return Err(FailedSignIn::new("access_denied", description, "other-account").into());
    }
    let tokens = EntraTokens { membership: Membership::of(env.entra.clock, &validated), ..set.into() };
    Ok(SignedIn { owner, tokens, username: validated.preferred_username().map(str::to_owned) })
}

/// What an OAuth client is told of a failed exchange with Entra ID (RFC 6749 section 4.1.2.1, OpenID Connect Core
/// section 3.1.2.6).
fn error_of(error: &OAuthError) -> &'static str {
    match error {
        OAuthError::Refused(refusal) => match refusal.error.as_str() {
            "access_denied" | "authorization_declined" => "access_denied",
            "consent_required" => "consent_required",
            "interaction_required" => "interaction_required",
            "login_required" => "login_required",
            "temporarily_unavailable" => "temporarily_unavailable",
            _ => "server_error",
        },
        OAuthError::Throttled(_)
        | OAuthError::ServerError(_)
        | OAuthError::Unreachable(_)
        | OAuthError::NotAsked(_)
        | OAuthError::Store(_) => "temporarily_unavailable",
        _ => "server_error",
    }
}
