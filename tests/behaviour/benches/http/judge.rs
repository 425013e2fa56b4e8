//! How a native server verifies an access token of Entra ID: jsonwebtoken on aws-lc, with keys and rules that are made once.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde::Deserialize;

use crate::tokens::{Issuer, SCOPE};

/// Tokens that a server remembers: as many as an instance of `entra-mcp serve`.
const MAX_REMEMBERED: usize = 10_000;

pub(crate) struct Judge {
    key: DecodingKey,
    validation: Validation,
    /// Those that were accepted, until they expire.
    accepted: Option<Cache<String, Claims>>,
}

/// What a server needs to know of its caller.
#[derive(Clone, Deserialize)]
#[allow(dead_code, reason = "a server would look at all of them; what it costs is to read them")]
pub(crate) struct Claims {
    tid: String,
    pub(crate) oid: String,
    scp: String,
    exp: u64,
}

impl Judge {
    /// Verifies with every request, unless it remembers what it has accepted.
    pub(crate) fn new(issuer: &Issuer, remembers: bool) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&issuer.audience]);
        validation.set_issuer(&[&issuer.issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
        validation.validate_nbf = true;
        Self {
            key: DecodingKey::from_rsa_components(&issuer.n, &issuer.e).unwrap(),
            validation,
            accepted: remembers.then(|| Cache::new(MAX_REMEMBERED)),
        }
    }

    /// The claims of the caller, if its token is good.
    pub(crate) fn claims(&self, headers: &HeaderMap) -> Option<Claims> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        if let Some(known) = self.accepted.as_ref().and_then(|accepted| accepted.get(token)) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            return (now < known.exp).then_some(known);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?.claims;
        let claims = claims.scp.split(' ').any(|scope| scope == SCOPE).then_some(claims)?;
        if let Some(accepted) = &self.accepted {
            accepted.insert(token.to_owned(), claims.clone());
        }
        Some(claims)
    }
}
