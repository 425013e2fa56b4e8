//! `/authorize` (RFC 6749 section 4.1.1): checks what a client asks for, asks the person, and sends them to Entra ID.
//!
//! Nothing is redirected before client and redirect URI are known to belong together: until then this server shows an
//! error as a page of its own. Entra ID is asked only after the person has agreed on the consent page (the confused
//! deputy problem of MCP's security best practices), with a `state`, `nonce` and PKCE verifier that this server makes.

use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use base::encoding::from_base64url;
use base::policy::Name;
use caller::session::entra_tokens;
use entra::oauth::authorization_code::{AuthorizationRequest, Prompt};
use http::header::SET_COOKIE;
use http::{Method, Response};
use serde::{Deserialize, Serialize};
use world::random::random_token;
use world::records::{Namespace, Partition, Ttl};
use world::{StoreError, Unrecorded, limits};

use super::answers::{self, Back, OAuthRefusal};
use super::browser::{Browser, RememberedUser};
use super::client::{Client, ClientError, ClientOrigin};
use super::consent::{self, Consent};
use super::parameters::Parameters;
use super::redirect_uri::is_loopback;
use super::unused::RING;
use super::{client_metadata_document, clients, offer, pages};
use crate::client_documents::KeptDocument;
use crate::message::Request;
use crate::server_world::ServerWorld;
use crate::site::{SCOPE, Site};
use crate::tools;

pub(super) mod page;
#[cfg(test)]
mod tests;

/// How long a person may take on the consent page, and then at Entra ID.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// The longest `state` of a client that is carried, in bytes. Some put a whole page into it.
const MAX_STATE: usize = 2048;
/// The longest `login_hint` in bytes: a mail address.
const MAX_LOGIN_HINT: usize = 320;
/// Bytes of a SHA-256, which is what a code challenge is (RFC 7636 section 4.2).
const CHALLENGE_BYTES: usize = 32;
/// Scopes that clients ask for out of habit. They change nothing: every session can be refreshed, and this server
/// issues no ID token.
const TOLERATED_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// An authorization request that was checked.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) client_id: String,
    /// Where the person is sent back to.
    pub(super) redirect_uri: String,
    /// Whether the client named it: then it has to name it again for the code.
    pub(super) redirect_uri_sent: bool,
    pub(super) state: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) resource: String,
    pub(super) code_challenge: String,
    login_hint: Option<String>,
    prompt: RequestedPrompt,
    /// The browser that asked ([`Browser::id`]).
    pub(super) browser: String,
    /// What the client has published, if that is how it came to be known: then it is not read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<KeptDocument>,
}

/// What the client wants the person to be asked (OpenID Connect Core section 3.1.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RequestedPrompt {
    /// Consent, even if it was given before.
    consent: bool,
    login: bool,
    select_account: bool,
}

/// A person who is at Entra ID.
#[derive(Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) pending: Pending,
    pub(super) request: AuthorizationRequest,
    /// Whether the person has agreed on the consent page, or only has before.
    pub(super) consented: bool,
    /// Whether this is the second way to Entra ID, and for which person.
    #[serde(default)]
    pub(super) step_up: Option<StepUp>,
}

/// What a person is sent to Entra ID for a second time for: the first sign-in lacked claims that are wanted of them.
#[derive(Serialize, Deserialize)]
pub(super) struct StepUp {
    /// The person that has to come back. `None` if Entra ID refused the first sign-in before it named the person.
    pub(super) user: Option<RememberedUser>,
}

impl Pending {
    pub(super) fn back(&self) -> Back<'_> {
        Back { redirect_uri: &self.redirect_uri, state: self.state.as_deref() }
    }

    pub(super) fn consent<'a>(&'a self, client: &'a Client, user: &'a RememberedUser) -> Consent<'a> {
        Consent { user, client, scopes: &self.scopes, redirect_uri: &self.redirect_uri, resource: &self.resource }
    }
}

/// Requests that wait for the person on the consent page, by request id. One that cannot be read is none.
const PENDING: Namespace<Pending> =
    Namespace::json(Partition::AuthorizationServer, "pending", Ttl::For(LIFETIME)).hashed().absent_if_unreadable();
/// Requests whose person is at Entra ID, by `state`. One that cannot be read is none.
pub(super) const LEGS: Namespace<Leg> =
    Namespace::json(Partition::AuthorizationServer, "leg", Ttl::For(LIFETIME)).hashed().absent_if_unreadable();

/// Answers a request to `/authorize`.
pub(super) async fn handle(env: &ServerWorld<'_>, request: &Request) -> Response<Vec<u8>> {
    let answered = if request.method == Method::POST { decide(env, request).await } else { ask(env, request).await };
    answered.unwrap_or_else(|error| page::store_failed(env, &error))
}

async fn ask(env: &ServerWorld<'_>, request: &Request) -> Result<Response<Vec<u8>>, StoreError> {
    let parameters = match Parameters::of_query(request) {
        Ok(parameters) => parameters,
        Err(error) => return Ok(page::error(env, 400, &page::sentence(&error))),
    };
    let client = match client(env, &parameters).await? {
        Ok(client) => client,
        Err(page) => return Ok(page),
    };
    let sent = parameters.get("redirect_uri");
    // An empty one is not one that was left out.
    let sent = if parameters.pairs().iter().any(|(name, _)| name == "redirect_uri") { sent.or(Some("")) } else { sent };
    let redirect_uri = match client.redirect_uri(sent) {
        Ok(redirect_uri) => redirect_uri,
        Err(error) => {
            client_refused(env, &client.client_id, &error).await;
            return Ok(page::error(env, 400, &page::sentence(&error)));
        }
    };
    // From here on the client can be told.
    let state = parameters.get("state").filter(|state| state.len() <= MAX_STATE && is_visible(state));
    let reply = Reply {
        client: &client,
        back: Back { redirect_uri: &redirect_uri, state },
        silent: parameters.get("prompt").unwrap_or_default().split(' ').any(|prompt| prompt == "none"),
    };
    let answered = go_on(env, request, &parameters, sent.is_some(), &reply).await;
    match answered {
        Err(error) if reply.is_trusted() => {
            let refusal = OAuthRefusal::new("temporarily_unavailable", page::sentence(&error));
            Ok(reply.back.refuse(env, &refusal))
        }
        answered => answered,
    }
}

/// Goes on with a request whose client and redirect URI belong together.
async fn go_on(
    env: &ServerWorld<'_>,
    request: &Request,
    parameters: &Parameters,
    redirect_uri_sent: bool,
    reply: &Reply<'_>,
) -> Result<Response<Vec<u8>>, StoreError> {
    let client = reply.client;
    let browser = Browser::of(env, request).await?;
    let pending = match check(&env.site, parameters, reply.back.redirect_uri, redirect_uri_sent) {
        Ok(pending) => Pending {
            client_id: client.client_id.clone(),
            browser: browser.id().to_owned(),
            document: client_metadata_document::of(env, client),
            ..pending
        },
        Err(refusal) => return tell(env, reply, &browser, &refusal).await,
    };
    let remembered = match browser.remembered_user() {
        Some(user) if !pending.prompt.consent => consent::is_remembered(env, &pending.consent(client, user)).await?,
        _ => false,
    };
    if reply.silent {
        // Only Entra ID knows, after a page of this server, whether the person could go on without being asked.
        let error = if remembered { "login_required" } else { "consent_required" };
        let refusal = OAuthRefusal::new(error, "The person has to be asked: repeat the request without prompt=none.");
        return tell(env, reply, &browser, &refusal).await;
    }
    if remembered {
        return forward(env, pending, &browser, Trip::first(false)).await;
    }
    show(env, pending, client, &browser).await
}

/// How a client is told of an error.
struct Reply<'a> {
    client: &'a Client,
    back: Back<'a>,
    /// The client wants no page to be shown (`prompt=none`).
    silent: bool,
}

impl Reply<'_> {
    /// Whether the person may be sent to the client without a look at what they have consented to: the operator has set the
    /// client up, it is a program on the person's own machine, or no person looks, as in a hidden frame. RFC 9700
    /// section 4.11.2 makes the same exception for silent requests.
    fn is_trusted(&self) -> bool {
        self.silent || self.client.origin == ClientOrigin::Settings || is_loopback(self.back.redirect_uri)
    }
}

/// Tells a client what was wrong with its request. A site that the operator has not set up and that this person never
/// consented to is not gone to without being asked: else a link to this server would be a link to any site
/// (RFC 9700 section 4.11.2).
async fn tell(
    env: &ServerWorld<'_>,
    reply: &Reply<'_>,
    browser: &Browser<'_>,
    refusal: &OAuthRefusal,
) -> Result<Response<Vec<u8>>, StoreError> {
    let Reply { client, back, .. } = reply;
    let trusted = reply.is_trusted()
        || match browser.remembered_user() {
            Some(user) => consent::is_redirect_known(env, user, client, back.redirect_uri).await?,
            None => false,
        };
    if trusted {
        return Ok(back.refuse(env, refusal));
    }
    let link = back.refusal_url(env, refusal);
    Ok(pages::refused(back.redirect_uri, &refusal.description, &link, env.correlation_id()))
}

/// The client of an authorization request, or the page that says why there is none.
async fn client(
    env: &ServerWorld<'_>,
    parameters: &Parameters,
) -> Result<Result<Client, Response<Vec<u8>>>, StoreError> {
    let Some(client_id) = parameters.get("client_id") else {
        return Ok(Err(page::error(env, 400, "The request does not name a client (client_id).")));
    };
    // By address: a client id is public, and until the person has signed in nothing says that it is the client that
    // asks.
    if let Err(retry_after) = limits::admit_address(env.limiter, env.entra.trail, "authorize").await {
        let response = page::error(env, 429, "Too many sign-ins were started. Wait a while, then try again.");
        return Ok(Err(answers::with_retry_after(response, retry_after.as_secs())));
    }
    let found = clients::find(env, client_id).await;
    if let Err(error) = &found {
        client_refused(env, client_id, error).await;
    }
    Ok(match found {
        Ok(client) => Ok(client),
        Err(ClientError::Store(error)) => return Err(error),
        Err(error @ (ClientError::Unavailable | ClientError::Private)) => {
            Err(answers::with_retry_after(page::error(env, 503, &page::sentence(&error)), 10))
        }
        Err(ClientError::TooManyRequests(after)) => Err(answers::with_retry_after(
            page::error(env, 429, &page::sentence(&ClientError::TooManyRequests(after))),
            after.as_secs(),
        )),
        Err(error) => Err(page::error(env, 400, &page::sentence(&error))),
    })
}

/// Records that a client is not served, which it is not whether or not that can be recorded.
async fn client_refused(env: &ServerWorld<'_>, client_id: &str, error: &ClientError) {
    let Some(reason) = error.reason() else { return };
    let client_id = Some(limits::shown_client_id(client_id).to_owned());
    let event = AuditEvent { client_id, ..AuditEvent::new("client.refused", Outcome::Failure) };
    let _ = env.entra.trail.record(event.because(reason.to_owned())).await;
}

/// Whether a `state` has only visible characters of ASCII and spaces (VSCHAR of RFC 6749).
fn is_visible(state: &str) -> bool {
    state.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Checks everything that the client is told about.
fn check(
    site: &Site<'_>,
    parameters: &Parameters,
    redirect_uri: &str,
    redirect_uri_sent: bool,
) -> Result<Pending, OAuthRefusal> {
    let refuse = |error, description: &str| Err(OAuthRefusal::new(error, description));
    if parameters.get("state").is_some_and(|state| state.len() > MAX_STATE) {
        return refuse("invalid_request", "state is longer than 2048 bytes.");
    }
    // RFC 6749 appendix A.5. In a record, a control character takes the room of six others.
    if parameters.get("state").is_some_and(|state| !is_visible(state)) {
        return refuse("invalid_request", "state has a character that is not a visible one of ASCII.");
    }
    if parameters.get("login_hint").is_some_and(|hint| hint.chars().any(char::is_control)) {
        return refuse("invalid_request", "login_hint has a control character.");
    }
    match parameters.get("response_type") {
        Some("code") => {}
        Some(_) => return refuse("unsupported_response_type", "The only response_type is code."),
        None => return refuse("invalid_request", "response_type is missing."),
    }
    if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
        return refuse("invalid_request", "The only response_mode is query.");
    }
    if parameters.get("request").is_some() {
        return refuse("request_not_supported", "Request objects are not supported.");
    }
    if parameters.get("request_uri").is_some() {
        return refuse("request_uri_not_supported", "Request objects are not supported.");
    }
    let Some(code_challenge) = parameters.get("code_challenge") else {
        return refuse("invalid_request", "code_challenge is missing: PKCE with S256 is required.");
    };
    if parameters.get("code_challenge_method") != Some("S256") {
        return refuse("invalid_request", "code_challenge_method has to be S256.");
    }
    if from_base64url(code_challenge).is_none_or(|bytes| bytes.len() != CHALLENGE_BYTES) {
        return refuse("invalid_request", "code_challenge is not a SHA-256 in base64url.");
    }
    let Some(scopes) = scopes(site, parameters.get("scope")) else {
        return refuse("invalid_scope", "A scope is not known here: see scopes_supported in the metadata.");
    };
    let mut resources = parameters.all("resource");
    let resource = match (resources.next(), resources.next()) {
        (None, _) => site.settings.public_url.clone(),
        (Some(resource), None) if is_ours(site, resource) => named(site, resource).to_owned(),
        _ => return refuse("invalid_target", "resource has to be one of this server's, as in its metadata."),
    };
    let login_hint = parameters.get("login_hint").filter(|hint| hint.len() <= MAX_LOGIN_HINT).map(str::to_owned);
    let prompts: Vec<&str> = parameters.get("prompt").map(|prompt| prompt.split(' ').collect()).unwrap_or_default();
    let known = ["none", "login", "consent", "select_account"];
    if prompts.iter().any(|prompt| !known.contains(prompt)) || (prompts.contains(&"none") && prompts.len() > 1) {
        return refuse("invalid_request", "prompt is not one of none, login, consent, select_account.");
    }
    let prompt = RequestedPrompt {
        consent: prompts.contains(&"consent"),
        login: prompts.contains(&"login"),
        select_account: prompts.contains(&"select_account"),
    };
    Ok(Pending {
        client_id: String::new(),
        redirect_uri: redirect_uri.to_owned(),
        redirect_uri_sent,
        state: parameters.get("state").map(str::to_owned),
        scopes,
        resource,
        code_challenge: code_challenge.to_owned(),
        login_hint,
        prompt,
        browser: String::new(),
        document: None,
    })
}

/// What a `scope` parameter comes down to; `None` if it names a scope that this server does not know. The scope that
/// the resource names for tokens of Entra ID stands for that of a session: a client need not know which issuer's tokens
/// it will get. A client that asks for the scopes that tools need gets them, in the short form.
pub(super) fn scopes(site: &Site<'_>, scope: Option<&str>) -> Option<Vec<String>> {
    let named: Vec<_> = site.application_paths().map(|path| site.requested_scope(path)).collect();
    let known = tools::scopes(site.settings);
    let in_clients_form = |asked: &str, known: &str| {
        let mut paths = site.application_paths();
        paths.any(|path| asked == site.clients_form(path, known))
    };
    let is = |asked: &str, known: &str| asked == known || in_clients_form(asked, known);
    let of_tools: Vec<&str> = scope
        .unwrap_or_default()
        .split(' ')
        .filter(|scope| {
            !scope.is_empty()
                && *scope != SCOPE
                && !named.iter().any(|named| named == scope)
                && !TOLERATED_SCOPES.contains(scope)
        })
        .collect();
    if of_tools.iter().any(|asked| !known.iter().any(|known| is(asked, known))) {
        return None;
    }
    let granted = known.into_iter().filter(|known| of_tools.iter().any(|asked| is(asked, known)));
    Some(std::iter::once(SCOPE.to_owned()).chain(granted.map(Name::into_owned)).collect())
}

/// A resource indicator (RFC 8707) as this server writes it: parsers of URLs put a slash behind an origin, and clients
/// send what those have made.
pub(super) fn named<'r>(site: &Site<'_>, resource: &'r str) -> &'r str {
    let origin = resource.strip_suffix('/').filter(|origin| site.prefix.is_empty() && *origin == site.origin);
    origin.unwrap_or(resource)
}

/// Whether a resource indicator names this server or one of its endpoints. Compared exactly, but for [`named`].
pub(super) fn is_ours(site: &Site<'_>, resource: &str) -> bool {
    let resource = named(site, resource);
    std::iter::once("").chain(site.resource_paths()).any(|path| site.resource(path) == resource)
}

/// Shows the consent page.
pub(super) async fn show(
    env: &ServerWorld<'_>,
    pending: Pending,
    client: &Client,
    browser: &Browser<'_>,
) -> Result<Response<Vec<u8>>, StoreError> {
    let request_id = random_token(env.entra.random);
    env.entra.records.put_in(&RING, 0, &PENDING, &request_id, &pending).await?;
    let csrf_token = browser.csrf(&request_id).await?;
    let tools = offer::of(env, &pending.resource).await;
    let page = pages::consent(&pages::ConsentPage {
        client,
        redirect_uri: &pending.redirect_uri,
        scopes: &pending.scopes,
        tools: &tools,
        account_hint: pending.login_hint.as_deref(),
        action: &env.site.url("/authorize"),
        request_id: &request_id,
        csrf_token: &csrf_token,
    });
    with_cookie(page, browser).await
}

/// The person has pressed a button of the consent page.
async fn decide(env: &ServerWorld<'_>, request: &Request) -> Result<Response<Vec<u8>>, StoreError> {
    let parameters = match Parameters::of_form(request) {
        Ok(parameters) => parameters,
        Err(error) => return Ok(page::error(env, 400, &page::sentence(&error))),
    };
    let (request_id, csrf_token) = (parameters.get("request_id"), parameters.get("csrf_token"));
    let (Some(request_id), Some(csrf_token)) = (request_id, csrf_token) else {
        return Ok(page::error(env, 400, "This is not the form of the consent page."));
    };
    let browser = Browser::of(env, request).await?;
    if !browser.check_csrf(request_id, csrf_token).await? {
        let text = "The form was not sent by the page that this server showed to this browser, or it is too old. Go \
                    back to your application and start again.";
        return Ok(page::error(env, 403, text));
    }
    let decision = parameters.get("decision");
    if !matches!(decision, Some("allow" | "deny")) {
        return Ok(page::error(env, 400, "The form does not say whether you allow it."));
    }
    // Of any number of concurrent submissions one gets it.
    let Some(pending) = env.entra.records.take(&PENDING, request_id).await? else { return Ok(page::gone(env)) };
    if !browser.is(&pending.browser) {
        return Ok(page::gone(env));
    }
    let allowed = decision == Some("allow");
    let (name, outcome) =
        if allowed { ("consent.given", Outcome::Success) } else { ("consent.denied", Outcome::Failure) };
    if env.entra.trail.record(event(&pending, name, outcome)).await.is_err() {
        return Ok(unrecorded(env, &pending));
    }
    if !allowed {
        let refusal = OAuthRefusal::new("access_denied", "The user did not allow it.");
        return Ok(with_cookie_if_possible(pending.back().refuse(env, &refusal), &browser).await);
    }
    forward(env, pending, &browser, Trip::first(true)).await
}

/// How a person goes to Entra ID.
pub(super) struct Trip<'a> {
    /// See [`Leg::consented`].
    pub(super) consented: bool,
    /// None the first time.
    pub(super) again: Option<AgainAtEntra<'a>>,
}

/// Why a person goes to Entra ID again.
pub(super) struct AgainAtEntra<'a> {
    /// What the sign-in has to bring: a JSON object.
    pub(super) claims: String,
    /// See [`StepUp::user`].
    pub(super) user: Option<RememberedUser>,
    /// What that person is called at Entra ID.
    pub(super) login_hint: Option<&'a str>,
}

impl Trip<'_> {
    fn first(consented: bool) -> Self {
        Self { consented, again: None }
    }
}

/// Sends the person to Entra ID, or back to the client that has to hear that this is not possible now.
pub(super) async fn forward(
    env: &ServerWorld<'_>,
    pending: Pending,
    browser: &Browser<'_>,
    trip: Trip<'_>,
) -> Result<Response<Vec<u8>>, StoreError> {
    let (claims, step_up, prompt) = match trip.again {
        // A person that has just chosen the account and signed in is not asked for that again.
        Some(AgainAtEntra { claims, user, login_hint }) => {
            (Some(claims), Some(StepUp { user }), Prompt { login_hint, ..Prompt::default() })
        }
        None => {
            let RequestedPrompt { select_account, login, .. } = pending.prompt;
            (None, None, Prompt { login_hint: pending.login_hint.as_deref(), select_account, login })
        }
    };
    let reason = step_up.as_ref().map(|_| "claims-challenge".to_owned());
    let entra = AuthorizationRequest::new(
        env.entra.random,
        env.site.url("/auth/callback"),
        entra_tokens::scopes(env.entra.settings),
        claims,
    );
    let url = match entra.url(&env.entra, prompt) {
        Ok(url) => url,
        Err(error) => {
            let refusal = OAuthRefusal::new("server_error", error.public());
            return Ok(failed(env, &pending, &refusal, error.reason()).await);
        }
    };
    let started = event(&pending, "authorization.started", Outcome::Started);
    if env.entra.trail.record(AuditEvent { reason, ..started }).await.is_err() {
        return Ok(unrecorded(env, &pending));
    }
    let leg = Leg { pending, request: entra, consented: trip.consented, step_up };
    let answered = match env.entra.records.put_in(&RING, 0, &LEGS, &leg.request.state, &leg).await {
        Ok(()) => with_cookie(answers::redirect(&url), browser).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(response) => Ok(response),
        Err(error) => Ok(store_failed(env, &leg.pending, &error).await),
    }
}

/// Ends an authorization: the client is told, and that is recorded.
pub(super) async fn failed(
    env: &ServerWorld<'_>,
    pending: &Pending,
    refusal: &OAuthRefusal,
    reason: String,
) -> Response<Vec<u8>> {
    let event = event(pending, "authorization.completed", Outcome::Failure);
    if env.entra.trail.record(event.because(reason)).await.is_err() {
        return unrecorded(env, pending);
    }
    pending.back().refuse(env, refusal)
}

/// The same for want of the store.
pub(super) async fn store_failed(env: &ServerWorld<'_>, pending: &Pending, error: &StoreError) -> Response<Vec<u8>> {
    let refusal = OAuthRefusal::new("temporarily_unavailable", page::sentence(error));
    failed(env, pending, &refusal, "store".to_owned()).await
}

/// A security event about an authorization.
pub(super) fn event(pending: &Pending, name: &'static str, outcome: Outcome) -> AuditEvent {
    AuditEvent { client_id: Some(pending.client_id.clone()), ..AuditEvent::new(name, outcome) }
}

/// What cannot be recorded is not done.
pub(super) fn unrecorded(env: &ServerWorld<'_>, pending: &Pending) -> Response<Vec<u8>> {
    pending.back().refuse(env, &OAuthRefusal::new("temporarily_unavailable", Unrecorded::PUBLIC))
}

pub(super) async fn with_cookie(
    mut response: Response<Vec<u8>>,
    browser: &Browser<'_>,
) -> Result<Response<Vec<u8>>, StoreError> {
    response.headers_mut().append(SET_COOKIE, browser.set_cookie_header().await?);
    Ok(response)
}

/// The same for an answer that has to be given in any case.
pub(super) async fn with_cookie_if_possible(
    mut response: Response<Vec<u8>>,
    browser: &Browser<'_>,
) -> Response<Vec<u8>> {
    if let Ok(cookie) = browser.set_cookie_header().await {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
