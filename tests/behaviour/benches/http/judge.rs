//! How a native server verifies an access token of Entra ID: jsonwebtoken on aws-lc, with every request.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::tokens::{Issuer, SCOPE};

pub(crate) struct Judge {
    key: DecodingKey,
    validation: Validation,
}

/// What a server needs to know of its caller.
#[derive(Clone, Deserialize)]
#[allow(dead_code, reason = "a server would look at all of them; what it costs is to read them")]
pub(crate) struct Claims {
    tid: String,
    pub(crate) oid: String,
    scp: String,
}

impl Judge {
    pub(crate) fn new(issuer: &Issuer) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&issuer.audience]);
        validation.set_issuer(&[&issuer.issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
        validation.validate_nbf = true;
        Self { key: DecodingKey::from_rsa_components(&issuer.n, &issuer.e).unwrap(), validation }
    }

    /// The claims of the caller, if its token is good.
    pub(crate) fn claims(&self, headers: &HeaderMap) -> Option<Claims> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?.claims;
        claims.scp.split(' ').any(|scope| scope == SCOPE).then_some(claims)
    }
}
