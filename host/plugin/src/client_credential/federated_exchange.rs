//! Tokens for a vault in exchange for one of another issuer, such as Kubernetes (workload identity): client credentials with
//! a federated assertion, at the token endpoint of Entra ID.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{ClientCredential, Credential};
use crate::clock::Clock;
use crate::key_vault::{MAX_ANSWER_BYTES, TOTAL_TIMEOUT, VaultFault, VaultTokens, https_client, said};
use crate::outbound_http::{ErrorChain, TimedConnector, read_certificates};

/// A token is asked for anew when it has less than this left, in seconds.
const RENEW_BEFORE_SECONDS: u64 = 5 * 60;

/// The token of another issuer, and what it is exchanged at.
pub struct FederatedExchange {
    client: Client<TimedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    assertion: Arc<dyn ClientCredential>,
    endpoint: String,
    client_id: String,
    scope: String,
    clock: Arc<dyn Clock>,
    kept: Mutex<Option<(Zeroizing<String>, u64)>>,
}

impl FederatedExchange {
    /// Exchanges `assertion` at `endpoint` for tokens of the application `client_id` for `resource`. `ca_file` (PEM) adds roots
    /// of trust to the system's.
    pub fn new(
        assertion: Arc<dyn ClientCredential>,
        (endpoint, client_id): (&str, &str),
        resource: &str,
        ca_file: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, VaultFault> {
        let roots = ca_file.map(read_certificates).transpose().map_err(|error| VaultFault::Tls(error.to_string()))?;
        Ok(Self {
            client: https_client(&roots.unwrap_or_default()).map_err(VaultFault::Tls)?,
            assertion,
            endpoint: endpoint.to_owned(),
            client_id: client_id.to_owned(),
            scope: format!("{resource}/.default"),
            clock,
            kept: Mutex::default(),
        })
    }

    async fn ask(&self) -> Result<(Zeroizing<String>, u64), String> {
        let assertion = self.assertion.obtain(&self.endpoint).await.map_err(|error| error.to_string())?;
        let Credential::Assertion(assertion) = assertion else { return Err("there is no assertion".to_owned()) };
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope)
            .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .append_pair("client_assertion", &assertion)
            .finish();
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.parse().map_err(|_| "the token endpoint is no URL".to_owned())?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| ErrorChain(&error).to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| "the answer broke off, or is too long".to_owned())?;
            Ok::<_, String>((status, Zeroizing::new(body.to_bytes().to_vec())))
        };
        let answer = tokio::time::timeout(TOTAL_TIMEOUT, exchange).await;
        let (status, body): (StatusCode, Zeroizing<Vec<u8>>) =
            answer.map_err(|_| format!("Entra ID has not answered within {} seconds", TOTAL_TIMEOUT.as_secs()))??;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = body.get("access_token").and_then(Value::as_str).filter(|_| status == StatusCode::OK);
        let Some(token) = token else {
            return Err(format!(
                "Entra ID refuses the federated token for the vault (it says: {}): add a federated credential for it to the \
                 application {}",
                said(&body),
                self.client_id
            ));
        };
        let lifetime = body.get("expires_in").and_then(Value::as_u64).unwrap_or_default();
        Ok((Zeroizing::new(token.to_owned()), self.clock.now_seconds().saturating_add(lifetime)))
    }
}

#[async_trait]
impl VaultTokens for FederatedExchange {
    async fn token(&self) -> Result<Zeroizing<String>, String> {
        let now = self.clock.now_seconds();
        let mut kept = self.kept.lock().await;
        if let Some((token, expires)) = &*kept
            && *expires > now.saturating_add(RENEW_BEFORE_SECONDS)
        {
            return Ok(token.clone());
        }
        let new = self.ask().await?;
        Ok(kept.insert(new).0.clone())
    }
}
