//! The control side: what a test does to the emulator, as Rust methods and as an HTTP API on its own port.
//!
//! The port is plain HTTP on loopback and has no authentication: any program that reaches it may do anything to an
//! emulator that protects nothing. Web pages may not: what they have a browser send is refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::ORIGIN;
use http::uri::Authority;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{Application, Policy, Requirement, User};
use super::endpoint::Endpoint;
use super::faults::{Fault, RedirectFault, TokenFault};
use super::http::{Incoming, Reply};
use super::keys::{KeyError, Rotation};
use super::requests::{RecordedRequest, Sighting};
use super::state::device_code::DeviceScript;
use super::tokens;
use super::world::World;

/// A handle on a running emulator; clones control the same one.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) world: Arc<World>,
}

/// What a control request refers to does not exist.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// No such user name.
    #[error("the emulator has no user named {0}")]
    UnknownUser(String),
    /// No such application.
    #[error("the emulator has no application with the id {0}")]
    UnknownApplication(String),
    /// No such tenant.
    #[error("the emulator has no tenant {0}")]
    UnknownTenant(String),
    /// A key could not be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A token that some other issuer would have minted, to present as a client assertion.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedToken {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `aud`
    #[serde(default = "exchange")]
    pub audience: String,
    /// Seconds until it expires; negative makes an expired one.
    #[serde(default = "ten_minutes")]
    pub expires_in: i64,
    /// Signed by an untrusted key.
    #[serde(default)]
    pub forged: bool,
}

fn exchange() -> String {
    "api://AzureADTokenExchange".to_owned()
}

fn ten_minutes() -> i64 {
    600
}

impl Control {
    /// The emulator's time in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.world.clock.now()
    }

    /// Moves the emulator's clock forward.
    pub fn advance_clock(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Moves the emulator's clock by a signed number of seconds.
    pub fn advance_clock_seconds(&self, by: i64) {
        self.world.clock.advance_seconds(by);
    }

    /// Rotates the signing keys; returns the published key ids, of which the last is the newest.
    pub fn rotate_keys(&self, rotation: Rotation) -> Result<Vec<String>, ControlError> {
        Ok(self.world.keys.rotate(rotation)?)
    }

    /// The id of the key that signs now.
    pub fn signing_key_id(&self) -> String {
        self.world.keys.current().id.clone()
    }

    /// Publishes all keys with this tenant's issuer only, or (with `None`) as usual.
    pub fn restrict_keys_to_tenant(&self, tenant: Option<&str>) {
        self.world.keys.restrict_to_tenant(tenant);
    }

    /// Revokes a user's sessions: browser sessions and refresh tokens die, and access tokens of clients that handle
    /// claims challenges are challenged.
    pub fn revoke_sessions(&self, username: &str) -> Result<(), ControlError> {
        let id = self.user_id(username)?;
        self.world.state().revoke(&id);
        Ok(())
    }

    /// Sets what stands between a user and a token from now on.
    pub fn set_requirement(&self, username: &str, must: Requirement) -> Result<(), ControlError> {
        self.change_user(username, |user| user.must = must)
    }

    /// Makes a user be asked for consent, or not.
    pub fn set_asks_consent(&self, username: &str, asks: bool) -> Result<(), ControlError> {
        self.change_user(username, |user| user.asks_consent = asks)
    }

    /// Changes anything about a user.
    pub fn change_user(&self, username: &str, change: impl FnOnce(&mut User)) -> Result<(), ControlError> {
        self.world.change_config(|config| {
            let user = config.users.iter_mut().find(|user| user.username.eq_ignore_ascii_case(username));
            user.map(change).ok_or_else(|| ControlError::UnknownUser(username.to_owned()))
        })
    }

    /// Changes anything about an application, such as its redirect URIs or App ID URIs.
    pub fn change_application(&self, id: &str, change: impl FnOnce(&mut Application)) -> Result<(), ControlError> {
        self.world.change_config(|config| {
            let application = config.applications.iter_mut().find(|application| application.id == id);
            application.map(change).ok_or_else(|| ControlError::UnknownApplication(id.to_owned()))
        })
    }

    /// Starts the agent of Azure Arc, which writes its files into this folder.
    pub fn start_arc_agent(&self, folder: &Path) {
        self.world.change_config(|config| config.arc_folder = Some(folder.to_owned()));
    }

    /// All registrations, as they are now.
    pub fn applications(&self) -> Vec<Application> {
        self.world.config().applications.clone()
    }

    /// Changes lifetimes and other rules.
    pub fn change_policy(&self, change: impl FnOnce(&mut Policy)) {
        self.world.change_config(|config| change(&mut config.policy));
    }

    /// Adds a user, or replaces the one with the same user name.
    pub fn put_user(&self, user: User) -> Result<(), ControlError> {
        self.world.change_config(|config| {
            config.tenant(&user.tenant).ok_or_else(|| ControlError::UnknownTenant(user.tenant.clone()))?;
            config.users.retain(|one| !one.username.eq_ignore_ascii_case(&user.username));
            config.users.push(user);
            Ok(())
        })
    }

    /// Adds an application, or replaces the one with the same id.
    pub fn put_application(&self, application: Application) -> Result<(), ControlError> {
        self.world.change_config(|config| {
            config
                .tenant(&application.tenant)
                .ok_or_else(|| ControlError::UnknownTenant(application.tenant.clone()))?;
            config.applications.retain(|one| one.id != application.id);
            config.applications.push(application);
            Ok(())
        })
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.world.faults().inject(fault);
    }

    /// Spoils the next ID tokens.
    pub fn spoil_id_tokens(&self, fault: TokenFault, times: usize) {
        self.world.faults().spoil_id_tokens(fault, times);
    }

    /// Spoils the next redirects to applications.
    pub fn spoil_redirects(&self, fault: RedirectFault, times: usize) {
        self.world.faults().spoil_redirects(fault, times);
    }

    /// Ends all faults of every kind.
    pub fn clear_faults(&self) {
        self.world.faults().clear();
        self.world.set_challenges(0);
    }

    /// Answers the next Graph requests that carry a valid token with a claims challenge.
    pub fn challenge_graph(&self, times: u32) {
        self.world.set_challenges(times);
    }

    /// Decides what happens to device codes issued from now on.
    pub fn script_device_codes(&self, script: DeviceScript) {
        self.world.set_device_script(script);
    }

    /// How many requests an endpoint had.
    pub fn request_count(&self, endpoint: Endpoint) -> u64 {
        self.world.log().count(endpoint)
    }

    /// How many requests every endpoint had.
    pub fn request_counts(&self) -> BTreeMap<Endpoint, u64> {
        self.world.log().counts()
    }

    /// The latest requests of an endpoint, oldest first.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        self.world.log().recent(endpoint)
    }

    /// Forgets all requests.
    pub fn clear_requests(&self) {
        self.world.log().clear();
    }

    /// From now on, looks for these texts in every request, such as tokens that must not arrive.
    pub fn watch(&self, texts: impl IntoIterator<Item = String>) {
        self.world.log().watch(texts.into_iter().collect());
    }

    /// Where watched texts were, and in how many requests.
    pub fn sightings(&self) -> BTreeMap<Sighting, u64> {
        self.world.log().sightings()
    }

    /// From now on, remembers every token and code that is issued.
    pub fn keep_issued(&self) {
        self.world.log().keep_issued();
    }

    /// What was issued since [`Control::keep_issued`]: access, refresh and ID tokens, authorization codes, device codes.
    pub fn issued(&self) -> Vec<String> {
        self.world.log().issued()
    }

    /// Mints a token of an external issuer.
    pub fn federated_token(&self, token: &FederatedToken) -> Result<String, ControlError> {
        let now = self.world.clock.now();
        let claims = json!({
            "iss": token.issuer,
            "sub": token.subject,
            "aud": [token.audience],
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(token.expires_in),
            "jti": self.world.random.guid(),
        });
        let keys = &self.world.keys;
        let key = if token.forged { &keys.unknown } else { &keys.federated };
        tokens::sign(key, &claims).ok_or(ControlError::Key(KeyError))
    }

    /// Signs any claims with the current signing key, or with an unpublished one: for tests of validators.
    pub fn sign(&self, claims: &Value, forged: bool) -> Result<String, ControlError> {
        let keys = &self.world.keys;
        let key = if forged { keys.unknown.clone() } else { keys.current() };
        tokens::sign(&key, claims).ok_or(ControlError::Key(KeyError))
    }

    fn user_id(&self, username: &str) -> Result<String, ControlError> {
        let config = self.world.config();
        config
            .user_named(username)
            .map(|user| user.id.clone())
            .ok_or_else(|| ControlError::UnknownUser(username.to_owned()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    rotation: Rotation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restrict {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeUser {
    must: Option<Requirement>,
    asks_consent: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoil<F> {
    fault: F,
    #[serde(default = "once")]
    times: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Challenges {
    #[serde(default = "once")]
    times: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    claims: Value,
    #[serde(default)]
    forged: bool,
}

fn once() -> usize {
    1
}

/// Why a control request failed.
enum Failure {
    /// A web page sent it, or may have.
    Stranger(&'static str),
    NotFound,
    Unreadable(serde_json::Error),
    Control(ControlError),
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// Serves the control API.
pub(crate) fn serve(world: &Arc<World>, incoming: &Incoming) -> Reply {
    match from_here(incoming).and_then(|()| route(&Control { world: world.clone() }, incoming)) {
        Ok(body) => Reply::ok(&body),
        Err(Failure::Stranger(why)) => Reply::json(StatusCode::FORBIDDEN, &json!({ "error": why })),
        Err(Failure::NotFound) => Reply::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "no such control; GET / lists them", "controls": CONTROLS }),
        ),
        Err(Failure::Unreadable(error)) => Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
        Err(Failure::Control(error)) => Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
    }
}

/// Whether a program on this machine sent the request. A web page can send some requests to any address that its visitor
/// reaches, but not without `Origin`, not with a media type that needs a preflight request, and, where its own name
/// leads here (DNS rebinding), not under an address.
fn from_here(incoming: &Incoming) -> Result<(), Failure> {
    let host = incoming.header("host").and_then(|host| host.parse::<Authority>().ok());
    if !host.is_some_and(|host| is_local(host.host())) {
        return Err(Failure::Stranger("the control API is asked under 127.0.0.1, [::1] or localhost"));
    }
    // `none`: the person has typed the address.
    let by_a_page = incoming.headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    if incoming.headers.contains_key(ORIGIN) || by_a_page {
        return Err(Failure::Stranger("the control API is not for web pages"));
    }
    let said = incoming.header("content-type").map(|value| value.split(';').next().unwrap_or_default().trim());
    let changes = matches!(incoming.method, Method::POST | Method::PUT);
    match said {
        Some(media) if media.eq_ignore_ascii_case("application/json") => Ok(()),
        None if incoming.body.is_empty() && !incoming.headers.contains_key("content-type") => Ok(()),
        _ if changes => Err(Failure::Stranger("the control API takes application/json")),
        _ => Ok(()),
    }
}

fn is_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// The whole API; `GET /` answers with it.
const CONTROLS: [&str; 19] = [
    "GET /clock",
    "POST /clock {\"advance_seconds\": 3600}",
    "POST /keys {\"rotation\": \"add\" | \"switch\" | \"retire\" | \"replace\"}",
    "POST /keys/tenant {\"tenant\": \"<id>\" | null}",
    "POST /users/{username}/revoke",
    "POST /users/{username} {\"must\": \"use-mfa\", \"asks_consent\": true}",
    "PUT /users <a user, as in the configuration>",
    "PUT /applications <an application, as in the configuration>",
    "POST /faults {\"endpoint\": \"token\", \"status\": 503, \"headers\": {\"retry-after\": \"1\"}, \"times\": 1}",
    "POST /faults/id-tokens {\"fault\": \"wrong-nonce\", \"times\": 1}",
    "POST /faults/redirects {\"fault\": \"wrong-state\", \"times\": 1}",
    "DELETE /faults",
    "POST /graph/challenges {\"times\": 1}",
    "POST /device-codes {\"interval\": 0, \"slow_down\": 1, \"outcome\": \"declined\" | \"expired\" | {\"approved-by\": \"<username>\"}}",
    "GET /requests",
    "GET /requests/{endpoint}",
    "DELETE /requests",
    "POST /federated-token {\"issuer\": \"…\", \"subject\": \"…\"}",
    "POST /sign {\"claims\": {…}, \"forged\": false}",
];

fn route(control: &Control, incoming: &Incoming) -> Result<Value, Failure> {
    let segments: Vec<&str> = incoming.path.trim_matches('/').split('/').collect();
    let body = incoming.body.as_ref();
    let done = || Ok(json!({}));
    match (&incoming.method, segments.as_slice()) {
        (&Method::GET, [""]) => Ok(json!({ "controls": CONTROLS })),
        (&Method::GET, ["clock"]) => Ok(json!({ "now": control.now() })),
        (&Method::POST, ["clock"]) => {
            let advance: Advance = serde_json::from_slice(body)?;
            control.advance_clock_seconds(advance.advance_seconds);
            Ok(json!({ "now": control.now() }))
        }
        (&Method::POST, ["keys"]) => {
            let rotate: Rotate = serde_json::from_slice(body)?;
            Ok(json!({ "published": control.rotate_keys(rotate.rotation)?, "signing": control.signing_key_id() }))
        }
        (&Method::POST, ["keys", "tenant"]) => {
            let restrict: Restrict = serde_json::from_slice(body)?;
            control.restrict_keys_to_tenant(restrict.tenant.as_deref());
            done()
        }
        (&Method::POST, ["users", username, "revoke"]) => {
            control.revoke_sessions(&decoded(username))?;
            done()
        }
        (&Method::POST, ["users", username]) => {
            let change: ChangeUser = serde_json::from_slice(body)?;
            control.change_user(&decoded(username), |user| {
                user.must = change.must.unwrap_or(user.must);
                user.asks_consent = change.asks_consent.unwrap_or(user.asks_consent);
            })?;
            done()
        }
        (&Method::PUT, ["users"]) => {
            control.put_user(serde_json::from_slice(body)?)?;
            done()
        }
        (&Method::PUT, ["applications"]) => {
            control.put_application(serde_json::from_slice(body)?)?;
            done()
        }
        (&Method::POST, ["faults"]) => {
            control.inject(fault(body)?);
            done()
        }
        (&Method::POST, ["faults", "id-tokens"]) => {
            let spoil: Spoil<TokenFault> = serde_json::from_slice(body)?;
            control.spoil_id_tokens(spoil.fault, spoil.times);
            done()
        }
        (&Method::POST, ["faults", "redirects"]) => {
            let spoil: Spoil<RedirectFault> = serde_json::from_slice(body)?;
            control.spoil_redirects(spoil.fault, spoil.times);
            done()
        }
        (&Method::DELETE, ["faults"]) => {
            control.clear_faults();
            done()
        }
        (&Method::POST, ["graph", "challenges"]) => {
            let challenges: Challenges = serde_json::from_slice(body)?;
            control.challenge_graph(u32::try_from(challenges.times).unwrap_or(u32::MAX));
            done()
        }
        (&Method::POST, ["device-codes"]) => {
            control.script_device_codes(serde_json::from_slice(body)?);
            done()
        }
        (&Method::GET, ["requests"]) => Ok(json!(control.request_counts())),
        (&Method::GET, ["requests", endpoint]) => {
            let endpoint: Endpoint = serde_json::from_value(Value::from(*endpoint))?;
            Ok(json!({ "count": control.request_count(endpoint), "recent": control.requests(endpoint) }))
        }
        (&Method::DELETE, ["requests"]) => {
            control.clear_requests();
            done()
        }
        (&Method::POST, ["federated-token"]) => {
            Ok(json!({ "token": control.federated_token(&serde_json::from_slice(body)?)? }))
        }
        (&Method::POST, ["sign"]) => {
            let sign: Sign = serde_json::from_slice(body)?;
            Ok(json!({ "token": control.sign(&sign.claims, sign.forged)? }))
        }
        _ => Err(Failure::NotFound),
    }
}

/// A fault that says nothing about how often strikes once, as the method does.
fn fault(body: &[u8]) -> Result<Fault, serde_json::Error> {
    let value: Value = serde_json::from_slice(body)?;
    let unsaid = value.get("times").is_none();
    let mut fault: Fault = serde_json::from_value(value)?;
    if unsaid {
        fault.times = Some(1);
    }
    Ok(fault)
}

fn decoded(segment: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", segment.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(|| segment.to_owned(), |(_, value)| value.into_owned())
}
