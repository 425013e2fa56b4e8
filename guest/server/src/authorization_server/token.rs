//! `/token` (RFC 6749 section 3.2): a code or a refresh token becomes tokens of a session.

use std::time::Duration;

use base::Secret;
use base::audit::{AuditEvent, Outcome};
use caller::session::IssuedTokens;
use caller::session::Owner;
use caller::session::lifecycle::{self, Beginning};
use caller::session::refresh::{self, RefreshError};
use caller::{Remedy, RetryPause};
use entra::AcquireError;
use http::Response;
use serde_json::json;
use world::{StoreError, Unrecorded, limits};

use super::answers::{self, OAuthRefusal};
use super::client::{self, Client, ClientError};
use super::code::{self, CodeGrant, GoodCode, PresentedCode, PresentedWith};
use super::parameters::Parameters;
use super::{authorize, clients};
use crate::message::{Request, json as json_answer};
use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// The operation of the rate limiter.
const TOKEN: &str = "token";
/// Seconds after which a request that failed for want of the store or of Entra ID may be repeated.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Answers a request to `/token`.
pub(super) async fn handle(env: &ServerWorld<'_>, request: &Request) -> Response<Vec<u8>> {
    let parameters = match Parameters::of_form(request) {
        Ok(parameters) => parameters,
        Err(error) => return answers::refusal(env, 400, &error.into()),
    };
    let client = match client(env, TOKEN, &parameters, request).await {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    let answered = match parameters.get("grant_type") {
        Some("authorization_code") => exchange(env, &client, &parameters).await,
        Some("refresh_token") => refresh(env, &client, &parameters).await,
        Some(_) => Err(refused("unsupported_grant_type", "grant_type is authorization_code or refresh_token.")),
        None => Err(refused("invalid_request", "grant_type is missing.")),
    };
    match answered {
        Ok(tokens) => {
            // A registration that cannot be touched lives as long as it would have.
            let _ = clients::touch(env, &client).await;
            granted(&tokens)
        }
        Err(TokenRequestError::Refused(refusal)) => not_genuine(env, TOKEN, answers::refusal(env, 400, &refusal)).await,
        Err(TokenRequestError::TooMany(after)) => too_many(env, after),
        Err(TokenRequestError::Unavailable(description, retry_after)) => {
            answers::unavailable(env, &description, retry_after)
        }
    }
}

/// The client that sends the request, authenticated; or the answer that refuses it.
///
/// A confidential client is counted by its id. A public one has proved nothing yet: when it presents something that is
/// good, the person whose it is is counted under that client ([`count_public`]), and what is refused counts for the address
/// ([`not_genuine`]). Otherwise a stranger, or one of its users, could use up the bound of a client that many people share.
pub(super) async fn client(
    env: &ServerWorld<'_>,
    operation: &str,
    parameters: &Parameters,
    request: &Request,
) -> Result<Client, Response<Vec<u8>>> {
    let basic = client::uses_basic(request);
    let refuse = |error: &ClientError| match error {
        ClientError::Store(_) => answers::unavailable(env, &error.to_string(), RETRY_AFTER_SECONDS),
        ClientError::Unavailable | ClientError::Private => answers::unavailable(env, &error.to_string(), 10),
        ClientError::TooManyRequests(after) => too_many(env, *after),
        ClientError::Unnamed => answers::refusal(env, 400, &OAuthRefusal::new("invalid_request", error.to_string())),
        _ => answers::invalid_client(env, &error.to_string(), basic),
    };
    let found = async {
        let client_id = client::named(request, parameters.pairs())?;
        let client = clients::recognize(env, &client_id).await?;
        if let Err(error) = client.authenticate(request, parameters.pairs()) {
            let event = AuditEvent {
                client_id: Some(client.client_id.clone()),
                ..env.entra.trail.event("client.refused", Outcome::Failure)
            };
            // It is refused whether or not that can be recorded.
            let _ = env.entra.trail.record(event.because("unauthenticated".to_owned())).await;
            return Err(error);
        }
        Ok(client)
    };
    let client = match found.await {
        Ok(client) => client,
        Err(error) => return Err(not_genuine(env, operation, refuse(&error)).await),
    };
    if !client.is_public() {
        count(env, operation, &client).await.map_err(|after| too_many(env, after))?;
    }
    Ok(client)
}

/// Counts a request of a client, which has proved that it is the client's.
async fn count(env: &ServerWorld<'_>, operation: &str, client: &Client) -> Result<(), Duration> {
    let client_id = client.client_id.as_str();
    limits::admit(env.limiter, env.entra.trail, operation, client_id, Some(client_id)).await
}

/// The same for a public client, which proves it by what it presents: by the person whose it is, since many people share
/// the client, and one of them must not use up what the others need. A confidential client is counted already.
async fn count_public(env: &ServerWorld<'_>, client: &Client, owner: &Owner) -> Result<(), TokenRequestError> {
    if !client.is_public() {
        return Ok(());
    }
    // A subject has at most 2048 bytes, so the beginning of the client id has to do.
    let client_id = limits::shown_client_id(&client.client_id);
    let subject = format!("{client_id}\n{}/{}", owner.tenant_id, owner.object_id);
    let admitted = limits::admit(env.limiter, env.entra.trail, TOKEN, &subject, Some(&client.client_id));
    admitted.await.map_err(TokenRequestError::TooMany)
}

/// Counts a request that was refused for its address. `answer` is what it gets, unless there were too many.
pub(super) async fn not_genuine(
    env: &ServerWorld<'_>,
    operation: &str,
    answer: Response<Vec<u8>>,
) -> Response<Vec<u8>> {
    // What is out of reach says nothing about the client, and what is over a bound was counted by it.
    if answer.status().is_server_error() || answer.status().as_u16() == 429 {
        return answer;
    }
    match limits::admit_address(env.limiter, env.entra.trail, operation).await {
        Ok(()) => answer,
        Err(after) => too_many(env, after),
    }
}

fn too_many(env: &ServerWorld<'_>, after: Duration) -> Response<Vec<u8>> {
    let refusal = OAuthRefusal::new("too_many_requests", "Too many requests: try again later.");
    answers::with_retry_after(answers::refusal(env, 429, &refusal), after.as_secs())
}

enum TokenRequestError {
    Refused(OAuthRefusal),
    /// Too many requests of the client. Time after which to try again.
    TooMany(Duration),
    /// What is out of reach, and seconds after which to try again.
    Unavailable(String, u64),
}

fn refused(error: &'static str, description: &str) -> TokenRequestError {
    TokenRequestError::Refused(OAuthRefusal::new(error, description))
}

impl From<StoreError> for TokenRequestError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string(), RETRY_AFTER_SECONDS)
    }
}

impl From<Unrecorded> for TokenRequestError {
    fn from(_: Unrecorded) -> Self {
        Self::Unavailable(Unrecorded::PUBLIC.to_owned(), RETRY_AFTER_SECONDS)
    }
}

impl From<AcquireError> for TokenRequestError {
    fn from(error: AcquireError) -> Self {
        let public = error.public();
        match Remedy::from(&error) {
            Remedy::SignIn { .. } => refused("invalid_grant", &public),
            Remedy::Later(Some(RetryPause::For(wait))) => Self::Unavailable(public, wait.as_secs()),
            // The grant is not the reason, so the client keeps it. A pause that another call was given is not passed on.
            Remedy::StepUp { .. } | Remedy::Refused | Remedy::TooMany(_) | Remedy::Later(_) => {
                Self::Unavailable(public, RETRY_AFTER_SECONDS)
            }
        }
    }
}

/// `grant_type=authorization_code` (RFC 6749 section 4.1.3).
async fn exchange(
    env: &ServerWorld<'_>,
    client: &Client,
    parameters: &Parameters,
) -> Result<IssuedTokens, TokenRequestError> {
    let missing = |name: &str| refused("invalid_request", &format!("{name} is missing."));
    let code = parameters.get("code").ok_or_else(|| missing("code"))?;
    let verifier = parameters.get("code_verifier").ok_or_else(|| missing("code_verifier"))?;
    let presented =
        PresentedWith { code, client_id: &client.client_id, redirect_uri: parameters.get("redirect_uri"), verifier };
    // Checked before the code is claimed: an attacker who has stolen a code can neither use it nor use it up. The life
    // of a code and the rate limit bound the attempts that fail.
    let mut code = look(env, presented).await?;
    let resource = resource(env, parameters, &code.grant.resource)?;
    count_public(env, client, &code.grant.owner).await?;
    if !code.claim(env).await? {
        // Another request uses it at this moment, or just has: this is the second use.
        look(env, presented).await?;
        return Err(invalid());
    }
    begin(env, &code, resource).await
}

fn invalid() -> TokenRequestError {
    refused("invalid_grant", "The code is unknown, used or expired, or is not for this request.")
}

/// Looks at a presented code. If it was used before, what it gave is taken back.
async fn look(env: &ServerWorld<'_>, presented: PresentedWith<'_>) -> Result<Box<GoodCode>, TokenRequestError> {
    match code::present(env, presented).await? {
        PresentedCode::Good(code) => Ok(code),
        PresentedCode::Refused { owner, reason } => {
            let event = owner.event("code.refused", Outcome::Failure);
            // It is refused whether or not that can be recorded.
            let _ = env.entra.trail.record(event.because(reason.to_owned())).await;
            Err(invalid())
        }
        PresentedCode::Replayed { session, owner } => {
            lifecycle::end(&env.entra, &session, &owner, "code-replayed").await?;
            Err(invalid())
        }
        PresentedCode::Unknown => Err(invalid()),
    }
}

/// Makes a session of a claimed code.
async fn begin(env: &ServerWorld<'_>, code: &GoodCode, resource: String) -> Result<IssuedTokens, TokenRequestError> {
    let grant = code.grant.clone();
    let owner = grant.owner.clone();
    let event = |outcome| owner.event("session.created", outcome);
    let end = async |session: &str, reason| lifecycle::end(&env.entra, session, &owner, reason).await;
    let CodeGrant { owner: of, scopes, tokens, username, .. } = grant;
    let beginning = Beginning { owner: of, resource, scopes, tokens, username };
    let (session, tokens) = match lifecycle::begin(&env.entra, beginning).await {
        Ok(begun) => begun,
        Err(error) => {
            let recorded = env.entra.trail.record(event(Outcome::Failure).because(error.reason())).await;
            if !matches!(Remedy::from(&error), Remedy::SignIn { .. }) {
                code.restore(env).await;
            }
            recorded?;
            return Err(error.into());
        }
    };
    if let Err(error) = env.entra.trail.record(event(Outcome::Success)).await {
        undo(env, code, end(&session, "audit").await).await;
        return Err(error.into());
    }
    match code.became(env, &session).await {
        Ok(true) => Ok(tokens),
        Ok(false) => {
            // Presented again at the same time: no caller may have the session.
            end(&session, "code-replayed").await?;
            Err(invalid())
        }
        Err(error) => {
            undo(env, code, end(&session, "store").await).await;
            Err(error.into())
        }
    }
}

/// Lets the client try again, once the session that it will never hear of is known to be gone.
async fn undo(env: &ServerWorld<'_>, code: &GoodCode, ended: Result<(), AcquireError>) {
    // More than the remedy counts: it is to try again later both where the session is gone and its end is not recorded,
    // and where the store could not remove the session.
    if !matches!(ended, Err(AcquireError::Store(_))) {
        code.restore(env).await;
    }
}

/// The resource of the session: that of the authorization, which a request without one may narrow down (RFC 8707
/// section 2.2).
fn resource(env: &ServerWorld<'_>, parameters: &Parameters, granted: &str) -> Result<String, TokenRequestError> {
    let target = |description: &str| Err(refused("invalid_target", description));
    let mut requested = parameters.all("resource");
    let (first, more) = (requested.next(), requested.next());
    let (Some(requested), None) = (first, more) else {
        return if more.is_some() { target("Name one resource.") } else { Ok(granted.to_owned()) };
    };
    let requested = authorize::named(&env.site, requested);
    let narrows = granted == env.site.settings.public_url && authorize::is_ours(&env.site, requested);
    if requested == granted || narrows {
        return Ok(requested.to_owned());
    }
    target("resource is not the one of the authorization.")
}

/// `grant_type=refresh_token` (RFC 6749 section 6).
async fn refresh(
    env: &ServerWorld<'_>,
    client: &Client,
    parameters: &Parameters,
) -> Result<IssuedTokens, TokenRequestError> {
    let Some(token) = parameters.get("refresh_token") else {
        return Err(refused("invalid_request", "refresh_token is missing."));
    };
    let scopes = match parameters.get("scope") {
        None => None,
        Some(scope) => match authorize::scopes(&env.site, Some(scope)) {
            Some(scopes) => Some(scopes),
            None => return Err(refused("invalid_scope", "A scope is wider than what was granted.")),
        },
    };
    let mut resources = parameters.all("resource");
    let resource = resources.next().map(|resource| authorize::named(&env.site, resource));
    if resources.next().is_some() {
        return Err(refused("invalid_target", "Name one resource."));
    }
    let token = Secret::from(token);
    if let Some(owner) = lifecycle::given_to(&env.entra.records, &token, &client.client_id).await? {
        count_public(env, client, &owner).await?;
    }
    let refreshed = refresh::refresh(&env.entra, &token, &client.client_id, scopes.as_deref(), resource).await;
    refreshed.map_err(|error| match error {
        RefreshError::Unknown | RefreshError::Reused => {
            refused("invalid_grant", "The session has ended, or the refresh token is not its last one: sign in again.")
        }
        RefreshError::WiderScope => refused("invalid_scope", "A scope is wider than what was granted."),
        RefreshError::WrongResource => refused("invalid_target", "resource is not the one of the session."),
        RefreshError::Acquire(error) => error.into(),
    })
}

fn granted(tokens: &IssuedTokens) -> Response<Vec<u8>> {
    let body = json!({
        "access_token": tokens.access_token.reveal(),
        "token_type": "Bearer",
        "expires_in": tokens.expires_in,
        "refresh_token": tokens.refresh_token.reveal(),
        "scope": tokens.scopes.join(" "),
    });
    let mut response = json_answer(200, &body);
    response.headers_mut().insert(http::header::PRAGMA, http::HeaderValue::from_static("no-cache"));
    response
}
