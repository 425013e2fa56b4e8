//! Keys that the caller hands in, in the place of the authority's.
//!
//! They take the way of all others: this is an [`Http`] that answers for the authority, with metadata made of the settings
//! and with the keys. So every rule of `authority`, `jwks` and `validation` holds, and no token is judged by a code of its
//! own.
//!
//! What it deliberately cannot answer: which tenant a domain belongs to, and which issuer an unknown cloud writes into tokens
//! of version 1. Only the authority says that.

use async_trait::async_trait;
use base::settings::Settings;
use serde_json::json;
use world::{Http, HttpError};

use super::error::TokenError;
use crate::clouds::CONSUMER_TENANT;
use crate::issuers::{self, TENANT_PLACEHOLDER};
use crate::tenants::Tenant;

/// Tells key sets apart.
pub(super) type KeysHash = [u8; 32];

/// A key set for the authority of the settings.
pub struct GivenKeys<'k> {
    metadata_url: String,
    metadata: String,
    jwks_uri: String,
    jwks: &'k str,
}

impl<'k> GivenKeys<'k> {
    /// Stands in for the authority of the settings. Whether `jwks` is a key set shows when a token needs it.
    pub fn new(settings: &Settings, jwks: &'k str) -> Result<Self, TokenError> {
        let Settings { authority, tenant, .. } = settings;
        let tenant_id = match Tenant::of(tenant) {
            Tenant::Id(id) => id,
            Tenant::Consumers => CONSUMER_TENANT.to_owned(),
            Tenant::Organizations | Tenant::Common => TENANT_PLACEHOLDER.to_owned(),
            Tenant::Domain(_) => return Err(TokenError::ConfigurationInvalid { setting: "tenant".to_owned() }),
        };
        let jwks_uri = format!("{authority}/{tenant}/discovery/v2.0/keys");
        let metadata = json!({ "issuer": issuers::version_2(authority, &tenant_id), "jwks_uri": jwks_uri });
        let metadata_url = issuers::metadata_url(authority, tenant);
        Ok(Self { metadata_url, metadata: metadata.to_string(), jwks_uri, jwks })
    }

    pub(super) fn hash(&self) -> KeysHash {
        blake3::hash(self.jwks.as_bytes()).into()
    }
}

#[async_trait(?Send)]
impl Http for GivenKeys<'_> {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        let url = request.uri().to_string();
        let mut response = http::Response::new(Vec::new());
        if url == self.metadata_url {
            *response.body_mut() = self.metadata.clone().into_bytes();
        } else if url == self.jwks_uri {
            *response.body_mut() = self.jwks.as_bytes().to_vec();
        } else {
            *response.status_mut() = http::StatusCode::NOT_FOUND;
        }
        Ok(response)
    }
}
