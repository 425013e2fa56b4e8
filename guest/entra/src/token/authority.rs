//! What the configured authority says about itself: its tenant, its issuers, its keys.
//!
//! Metadata and keys come from the configured authority and from nowhere else: the URL of the metadata is made
//! of settings only, and the key set it points to has to be on the same origin.

use std::rc::Rc;

use base::settings::Settings;
use base::strict_json;
use serde_json::{Map, Value};
use url::Url;

use super::deadline::Deadline;
use super::documents::{AuthorityFault, Demand, DocumentKind, DocumentName, DocumentSlot, Fetched, Unavailable};
use super::error::TokenError;
use super::jwks::KeySet;
use crate::clock_offset;
use crate::entra_world::EntraWorld;
use crate::issuers::{self, TokenVersion};
use crate::tenants::Tenant;

/// Bytes of a metadata document. Entra ID's have 2 KiB.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Seconds for which the difference of the clocks is believed where a token has expired: most do so by themselves.
const CLOCK_SECONDS_FOR_EXPIRED: u64 = 5 * 60;

/// The same where a token is not valid yet. Entra ID issues none ahead of time, so one of the clocks is wrong.
const CLOCK_SECONDS_FOR_EARLY: u64 = 30;

/// Seconds after which a client may try again while the keys are unavailable.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The metadata that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuthorityMetadata {
    /// The tenant of the authority; `None` if it serves several.
    pub(super) tenant_id: Option<String>,
    jwks_uri: String,
    /// What clients need of it; `None` if it does not say that, which is nothing to the validation of tokens.
    pub(super) endpoints: Option<AuthorityEndpoints>,
}

/// Where clients obtain tokens from the authority, and how, as its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityEndpoints {
    /// RFC 6749 section 3.1; on the origin of the authority, like all of them.
    pub authorization: String,
    /// RFC 6749 section 3.2.
    pub token: String,
    /// RFC 8628.
    pub device_authorization: Option<String>,
    /// Its signing keys.
    pub jwks_uri: String,
    /// How clients authenticate themselves at the token endpoint.
    pub auth_methods: Vec<String>,
    /// How an answer comes back from the authorization endpoint.
    pub response_modes: Vec<String>,
    /// OpenID Connect: whether `sub` is the same for all clients.
    pub subject_types: Vec<String>,
    /// OpenID Connect: what ID tokens are signed with.
    pub signing_algorithms: Vec<String>,
}

/// What an instance knows of its authority.
#[derive(Debug, Default)]
pub(super) struct Authority {
    metadata: DocumentSlot<AuthorityMetadata>,
    version_1_issuer: DocumentSlot<String>,
    keys: DocumentSlot<KeySet>,
}

impl Authority {
    /// Metadata and keys. The usual case, in which the instance has both, costs next to nothing.
    pub(super) async fn current(
        &self,
        env: &EntraWorld<'_>,
        now: u64,
    ) -> Result<(Rc<Fetched<AuthorityMetadata>>, Rc<Fetched<KeySet>>), TokenError> {
        if let (Some(metadata), Some(keys)) = (self.metadata.fresh(now), self.keys.fresh(now)) {
            return Ok((metadata, keys));
        }
        // One patience for both.
        let deadline = Deadline::begin(env);
        check_configuration(env.settings)?;
        let metadata = self.look_up_metadata(env, deadline).await.map_err(unavailable)?;
        let keys = self.look_up_keys(env, &metadata.value, Demand::Current, deadline).await.map_err(unavailable)?;
        Ok((metadata, keys))
    }

    pub(super) async fn metadata(&self, env: &EntraWorld<'_>) -> Result<Rc<Fetched<AuthorityMetadata>>, TokenError> {
        check_configuration(env.settings)?;
        self.look_up_metadata(env, Deadline::begin(env)).await.map_err(unavailable)
    }

    /// Whether the metadata of the tenant can be read.
    pub(super) async fn check(&self, env: &EntraWorld<'_>) -> Result<Rc<Fetched<AuthorityMetadata>>, AuthorityFault> {
        self.check_until(env, Deadline::begin(env)).await
    }

    async fn check_until(
        &self,
        env: &EntraWorld<'_>,
        deadline: Deadline,
    ) -> Result<Rc<Fetched<AuthorityMetadata>>, AuthorityFault> {
        if let Err(TokenError::ConfigurationInvalid { setting }) = check_configuration(env.settings) {
            return Err(AuthorityFault::Misconfigured(setting));
        }
        self.look_up_metadata(env, deadline).await.map_err(|unavailable| unavailable.fault)
    }

    /// Whether the metadata is at hand.
    pub(super) async fn is_known(&self, env: &EntraWorld<'_>) -> bool {
        let settings = env.settings;
        let (url, authority) = (issuers::metadata_url(&settings.authority, &settings.tenant), authority_id(settings));
        let name = DocumentName { kind: DocumentKind::Metadata, authority: &authority, url: &url };
        self.metadata.is_known(env, name, &|body| AuthorityMetadata::parse(settings, body)).await
    }

    /// Whether there are keys.
    pub(super) async fn check_keys(&self, env: &EntraWorld<'_>) -> Result<(), AuthorityFault> {
        let deadline = Deadline::begin(env);
        let metadata = self.check_until(env, deadline).await?;
        let keys = self.look_up_keys(env, &metadata.value, Demand::Current, deadline).await;
        keys.map(drop).map_err(|unavailable| unavailable.fault)
    }

    async fn look_up_metadata(
        &self,
        env: &EntraWorld<'_>,
        deadline: Deadline,
    ) -> Result<Rc<Fetched<AuthorityMetadata>>, Unavailable> {
        let settings = env.settings;
        let url = issuers::metadata_url(&settings.authority, &settings.tenant);
        let authority = authority_id(settings);
        let name = DocumentName { kind: DocumentKind::Metadata, authority: &authority, url: &url };
        let parse = |body: &[u8]| AuthorityMetadata::parse(settings, body);
        self.metadata.get(env, name, &parse, Demand::Current, deadline).await
    }

    /// Where clients obtain tokens.
    pub(super) async fn endpoints(&self, env: &EntraWorld<'_>) -> Result<AuthorityEndpoints, TokenError> {
        let endpoints = self.metadata(env).await?.value.endpoints.clone();
        endpoints.ok_or_else(|| unavailable(Unavailable::unusable("the metadata names no endpoints on the authority")))
    }

    pub(super) async fn keys(
        &self,
        env: &EntraWorld<'_>,
        metadata: &AuthorityMetadata,
        demand: Demand,
    ) -> Result<Rc<Fetched<KeySet>>, TokenError> {
        self.look_up_keys(env, metadata, demand, Deadline::begin(env)).await.map_err(unavailable)
    }

    /// Learns how wrong this machine's clock is, where a genuine token is out of date and what was seen of the clock does
    /// not say why: a clock can be set wrong, or stand still with its machine, long after the last answer of Entra ID. The
    /// answer that is asked for is the key set, whose limits hold.
    pub(super) async fn look_at_clock(&self, env: &EntraWorld<'_>, error: &TokenError) {
        let believed_seconds = match error {
            TokenError::Expired { .. } => CLOCK_SECONDS_FOR_EXPIRED,
            TokenError::NotYetValid { .. } | TokenError::IssuedInFuture { .. } => CLOCK_SECONDS_FOR_EARLY,
            _ => return,
        };
        if error.clock_offset(env).is_some() || clock_offset::is_known_for(env, believed_seconds) {
            return;
        }
        if let Ok(metadata) = self.metadata(env).await {
            // The token is judged already. What matters of the answer is its date.
            let _ = self.look_up_keys(env, &metadata.value, Demand::Anew, Deadline::begin(env)).await;
        }
    }

    async fn look_up_keys(
        &self,
        env: &EntraWorld<'_>,
        metadata: &AuthorityMetadata,
        demand: Demand,
        deadline: Deadline,
    ) -> Result<Rc<Fetched<KeySet>>, Unavailable> {
        let authority = authority_id(env.settings);
        let name = DocumentName { kind: DocumentKind::Jwks, authority: &authority, url: &metadata.jwks_uri };
        let parse = |body: &[u8]| KeySet::parse(body).map_err(|error| error.to_string());
        self.keys.get(env, name, &parse, demand, deadline).await
    }

    /// The issuer that tokens of this tenant and version have.
    pub(super) async fn issuer(
        &self,
        env: &EntraWorld<'_>,
        metadata: &AuthorityMetadata,
        version: TokenVersion,
        tenant_id: &str,
    ) -> Result<String, TokenError> {
        let settings = env.settings;
        if version == TokenVersion::V2 {
            return Ok(issuers::version_2(&settings.authority, tenant_id));
        }
        if let Some(issuer) = issuers::version_1(&settings.authority, tenant_id) {
            return Ok(issuer);
        }
        let authority_tenant = metadata.tenant_id.as_deref();
        let url = issuers::version_1_metadata_url(&settings.authority, &settings.tenant);
        let authority = authority_id(settings);
        let name = DocumentName { kind: DocumentKind::Version1Metadata, authority: &authority, url: &url };
        let parse = |body: &[u8]| {
            let issuer = text(&object(body)?, "issuer")?;
            // Whether it can be used is decided now, so that a useless one does not replace a good one.
            issuers::version_1_from_metadata(&issuer, authority_tenant, "")
                .map(|_| issuer.clone())
                .ok_or(format!("the issuer {issuer:?} names no tenant"))
        };
        let deadline = Deadline::begin(env);
        let issuer =
            self.version_1_issuer.get(env, name, &parse, Demand::Current, deadline).await.map_err(unavailable)?;
        issuers::version_1_from_metadata(&issuer.value, authority_tenant, tenant_id)
            .ok_or_else(|| unavailable(Unavailable::unusable("the version 1 issuer names no tenant")))
    }
}

impl AuthorityMetadata {
    fn parse(settings: &Settings, body: &[u8]) -> Result<Self, String> {
        let metadata = object(body)?;
        let issuer = text(&metadata, "issuer")?;
        let tenant_id = issuers::tenant_of_metadata(&settings.authority, &Tenant::of(&settings.tenant), &issuer)
            .map_err(|expected| format!("the metadata names the issuer {issuer:?}, expected is {expected:?}"))?;
        let jwks_uri = text(&metadata, "jwks_uri")?;
        if !is_on_origin(&jwks_uri, &settings.authority) {
            return Err(format!("jwks_uri {jwks_uri:?} is not on the authority {:?}", settings.authority));
        }
        let endpoints = AuthorityEndpoints::read(settings, &metadata, &jwks_uri);
        Ok(Self { tenant_id, jwks_uri, endpoints })
    }
}

impl AuthorityEndpoints {
    /// `None` if there is none that can be passed on: people type passwords at these addresses.
    fn read(settings: &Settings, metadata: &Map<String, Value>, jwks_uri: &str) -> Option<Self> {
        let endpoint = |name| text(metadata, name).ok().filter(|url| is_on_origin(url, &settings.authority));
        let list = |name| {
            let values = metadata.get(name).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Some(Self {
            authorization: endpoint("authorization_endpoint")?,
            token: endpoint("token_endpoint")?,
            device_authorization: endpoint("device_authorization_endpoint"),
            jwks_uri: jwks_uri.to_owned(),
            auth_methods: list("token_endpoint_auth_methods_supported"),
            response_modes: list("response_modes_supported"),
            subject_types: list("subject_types_supported"),
            signing_algorithms: list("id_token_signing_alg_values_supported"),
        })
    }
}

fn is_on_origin(url: &str, authority: &str) -> bool {
    match (Url::parse(url), Url::parse(authority)) {
        (Ok(url), Ok(authority)) => {
            url.origin() == authority.origin()
                && url.origin().is_tuple()
                && url.username().is_empty()
                && url.password().is_none()
        }
        _ => false,
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.len() > MAX_METADATA_BYTES {
        return Err(format!("the metadata has {} bytes", body.len()));
    }
    strict_json::parse_object(body).map_err(|_| "the metadata is not a JSON object".to_owned())
}

fn text(metadata: &Map<String, Value>, name: &str) -> Result<String, String> {
    metadata.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(format!("the metadata has no {name}"))
}

/// The authority as configured: the issuer by which records are told apart.
fn authority_id(settings: &Settings) -> String {
    format!("{}/{}", settings.authority, settings.tenant)
}

/// The tenant becomes a path segment of the authority's URLs, so it must be one.
fn check_configuration(settings: &Settings) -> Result<(), TokenError> {
    let wrong = |setting: &str| Err(TokenError::ConfigurationInvalid { setting: setting.to_owned() });
    let is_segment = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    if !is_segment(&settings.tenant) || settings.tenant.starts_with('.') {
        return wrong("tenant");
    }
    if Url::parse(&settings.authority).is_err() || settings.authority.ends_with('/') {
        return wrong("authority");
    }
    Ok(())
}

fn unavailable(Unavailable { reason, .. }: Unavailable) -> TokenError {
    TokenError::KeysUnavailable { reason, retry_after: RETRY_AFTER_SECONDS }
}
