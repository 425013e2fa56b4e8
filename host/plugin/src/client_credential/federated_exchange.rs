//! Tokens for a vault in exchange for one of another issuer, such as Kubernetes (workload identity): client credentials with
//! a federated assertion, at the token endpoint of Entra ID.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::kept_token::{KeptToken, Token};
use super::{ClientCredential, Credential};
use crate::clock::Clock;
use crate::key_vault::{
    MAX_ANSWER_BYTES, TOTAL_TIMEOUT, VaultFault, VaultTokens, https_client, said, secret_body, zeroizing,
};
use crate::outbound_http::{ErrorChain, TimedConnector, read_certificates};

/// What a form has besides the assertion, in bytes.
const FORM_FRAME_BYTES: usize = 1024;

/// The answer of the token endpoint.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(deserialize_with = "zeroizing")]
    access_token: Zeroizing<String>,
    /// In seconds.
    #[serde(default)]
    expires_in: Value,
}

/// The token of another issuer, and what it is exchanged at.
pub struct FederatedExchange {
    client: Client<TimedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    assertion: Arc<dyn ClientCredential>,
    endpoint: String,
    client_id: String,
    scope: String,
    clock: Arc<dyn Clock>,
    kept: KeptToken<String>,
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
            kept: KeptToken::new("Entra ID for the key vault", Arc::clone(&clock)),
            clock,
        })
    }

    async fn ask(&self) -> Result<Token, String> {
        let assertion = self.assertion.obtain(&self.endpoint).await.map_err(|error| error.to_string())?;
        let Credential::Assertion(assertion) = assertion else { return Err("there is no assertion".to_owned()) };
        // It does not grow, which would leave copies behind: the characters of an assertion stay as they are.
        let form = String::with_capacity(assertion.len().saturating_add(FORM_FRAME_BYTES));
        let form = url::form_urlencoded::Serializer::new(form)
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope)
            .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .append_pair("client_assertion", &assertion)
            .finish();
        let mut request = Request::new(Full::new(Bytes::from_owner(Zeroizing::new(form))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.parse().map_err(|_| "the token endpoint is no URL".to_owned())?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| ErrorChain(&error).to_string())?;
            let status = response.status();
            let body = secret_body(response.into_body(), MAX_ANSWER_BYTES).await;
            Ok::<_, String>((status, body.ok_or("the answer broke off, or is too long")?))
        };
        let answer = tokio::time::timeout(TOTAL_TIMEOUT, exchange).await;
        let (status, body): (StatusCode, Zeroizing<Vec<u8>>) =
            answer.map_err(|_| format!("Entra ID has not answered within {} seconds", TOTAL_TIMEOUT.as_secs()))??;
        let answer = serde_json::from_slice::<TokenAnswer>(&body).ok().filter(|_| status == StatusCode::OK);
        let Some(TokenAnswer { access_token, expires_in }) = answer else {
            return Err(format!(
                "Entra ID refuses the federated token for the vault (it says: {}): add a federated credential for it to the \
                 application {}",
                said(&serde_json::from_slice(&body).unwrap_or_default()),
                self.client_id
            ));
        };
        let expires = self.clock.now_seconds().saturating_add(expires_in.as_u64().unwrap_or_default());
        Ok(Token { text: access_token, expires })
    }
}

#[async_trait]
impl VaultTokens for FederatedExchange {
    async fn token(&self) -> Result<Zeroizing<String>, String> {
        self.kept.token(self.ask()).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client_credential::CredentialError;
    use crate::clock::ManualClock;

    /// The token of the other issuer.
    struct Assertion;

    #[async_trait]
    impl ClientCredential for Assertion {
        async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
            Ok(Credential::Assertion(Zeroizing::new("assertion".to_owned())))
        }
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_renewed_yet_is_used_until_it_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
        // It answers once, then it is out of order.
        tokio::spawn(async move {
            let body = r#"{"access_token":"one","expires_in":600}"#;
            for answer in [Some(body), None, None, None] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"client_assertion=assertion") {
                    seen.push(stream.read_u8().await.unwrap());
                }
                if let Some(body) = answer {
                    let head =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                }
            }
        });
        let clock = ManualClock::new(1_000);
        let of = (endpoint.as_str(), "client");
        let exchange =
            FederatedExchange::new(Arc::new(Assertion), of, "https://vault.azure.net", None, Arc::new(clock.clone()))
                .unwrap();
        assert_eq!(exchange.token().await.unwrap().as_str(), "one");
        clock.advance(std::time::Duration::from_secs(301));
        assert_eq!(exchange.token().await.unwrap().as_str(), "one", "it is good for five minutes");
        clock.advance(std::time::Duration::from_secs(298));
        assert_eq!(exchange.token().await.unwrap().as_str(), "one");
        clock.advance(std::time::Duration::from_secs(1));
        exchange.token().await.unwrap_err();
    }
}
