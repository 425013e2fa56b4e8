//! The managed identity of a machine in Azure, as a federated credential of the application: the machine's own token for
//! `api://AzureADTokenExchange` is the client assertion. There is no secret anywhere.
//!
//! Three services give out such tokens: App Service and Container Apps to each process, virtual machines to all
//! programs on them (IMDS), and the agent of Azure Arc to programs that may read one of its files. They are on this
//! machine or on the link, and speak plain HTTP. The host asks them without a proxy, and follows no redirects.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::kept_token::{KeptToken, Token};
use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::{self, Clock};
use crate::key_vault::{VaultTokens, secret_body};
use crate::secret_store::SecretBytes;

/// The service on virtual machines, unless set otherwise.
const IMDS: &str = "http://169.254.169.254";

/// Where the agent of Azure Arc writes the files that prove that a program may read them.
const ARC_FOLDER: &str =
    if cfg!(windows) { r"C:\ProgramData\AzureConnectedMachineAgent\Tokens" } else { "/var/opt/azcmagent/tokens" };

/// Longest such file in bytes, from Microsoft's description.
const MAX_ARC_KEY_BYTES: u64 = 4_096;

/// Time to connect. The services are on this machine or on the link; where there is none, this is how long it takes to
/// find that out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time after which a service that has never answered is asked whether it is there at all, from the beginning of the request.
const PATIENCE: Duration = Duration::from_millis(1_250);

/// Time for the answer to that. Any answer counts, also a refusal, and a service that is there refuses at once.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_250);

/// Time for a whole exchange. A service that is asked by many answers after some seconds.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the one retry of a service that is not ready.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Longest answer in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a managed identity gives no token. Each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// No service answers.
    #[error(
        "no managed identity service answers at {place} ({reason}): this is no machine of Azure with a managed identity. \
         Switch the identity on under Identity in the portal, or use another --credential"
    )]
    Absent {
        /// Its address.
        place: String,
        /// Why.
        reason: String,
    },
    /// The service knows no such identity.
    #[error(
        "the machine does not have this managed identity (the service says: {0}): assign it under Identity in the \
         portal, and set --managed-identity-id to its client id, or leave it out for the system-assigned one"
    )]
    NoIdentity(String),
    /// The service refuses this program.
    #[error(
        "the managed identity service refuses this program ({0}): start it as the platform says, with its variables"
    )]
    Refused(StatusCode),
    /// The service failed, after a retry.
    #[error("the managed identity service has failed (HTTP status {0}): try again later")]
    Failed(StatusCode),
    /// The answer was not what is documented.
    #[error("the managed identity service answered with something unexpected: {0}")]
    Malformed(&'static str),
    /// The file of Azure Arc cannot be read.
    #[error(
        "the file {path} of the Azure Arc agent cannot be read ({reason}): add the user of this program to the group \
         `himds` (on Windows: `Hybrid agent extension applications`)"
    )]
    ArcKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The answer names another file than those of the agent.
    #[error("the Azure Arc agent names {0}, which is not one of its files: IDENTITY_ENDPOINT is not the agent's")]
    ArcPath(PathBuf),
    /// The form of managed identity cannot be used.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Which service gives out tokens.
#[derive(Clone)]
pub enum IdentityService {
    /// App Service, Functions and Container Apps: `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`.
    AppService {
        /// Its URL.
        endpoint: Url,
        /// Proves that the platform has started the program.
        header: SecretBytes,
    },
    /// Azure Arc: `IDENTITY_ENDPOINT`, `IMDS_ENDPOINT`.
    Arc {
        /// Its URL.
        endpoint: Url,
        /// Where its files are.
        folder: PathBuf,
    },
    /// Virtual machines, scale sets and Kubernetes nodes.
    Imds {
        /// Its URL, without a path.
        authority: Url,
    },
}

impl IdentityService {
    /// The service that the variables of the process name; without any, that of virtual machines.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, IdentityFault> {
        let url = |text: String| {
            let url = Url::parse(&text).ok().filter(|url| url.scheme() == "http" && url.has_host());
            url.ok_or(IdentityFault::Unsupported("the address of the managed identity service is no http URL"))
        };
        if variable("IDENTITY_SERVER_THUMBPRINT").is_some() {
            return Err(IdentityFault::Unsupported(
                "managed identities of Service Fabric are not supported: use --credential certificate",
            ));
        }
        match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => {
                Ok(Self::AppService { endpoint: url(endpoint)?, header: SecretBytes::new(header.into_bytes()) })
            }
            (Some(endpoint), None) if variable("IMDS_ENDPOINT").is_some() => {
                Ok(Self::Arc { endpoint: url(endpoint)?, folder: ARC_FOLDER.into() })
            }
            (Some(_), None) => Err(IdentityFault::Unsupported(
                "IDENTITY_ENDPOINT is set without IDENTITY_HEADER (App Service) or IMDS_ENDPOINT (Azure Arc): let the \
                 platform set both, or neither",
            )),
            _ => {
                let authority = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| IMDS.to_owned());
                Ok(Self::Imds { authority: url(authority)? })
            }
        }
    }

    /// Whether the platform has said by variables that the service is there.
    pub fn is_announced(&self) -> bool {
        !matches!(self, Self::Imds { .. })
    }

    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AppService { .. } => "App Service",
            Self::Arc { .. } => "Azure Arc",
            Self::Imds { .. } => "virtual machine (IMDS)",
        }
    }

    /// The request for a token for `resource`. `identity` is the client id or the resource id of a user-assigned one.
    fn request(&self, resource: &str, identity: Option<&str>) -> Result<(Url, HeaderMap), IdentityFault> {
        let metadata = (HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        let (mut url, version, header) = match self {
            Self::AppService { endpoint, header } => {
                let mut value = HeaderValue::from_bytes(header.reveal())
                    .map_err(|_| IdentityFault::Unsupported("IDENTITY_HEADER cannot be sent as a header"))?;
                value.set_sensitive(true);
                (endpoint.clone(), "2019-08-01", (HeaderName::from_static("x-identity-header"), value))
            }
            Self::Arc { endpoint, .. } if identity.is_none() => (endpoint.clone(), "2020-06-01", metadata),
            Self::Arc { .. } => {
                return Err(IdentityFault::Unsupported(
                    "Azure Arc has system-assigned identities alone: leave out --managed-identity-id",
                ));
            }
            Self::Imds { authority } => {
                let mut url = authority.clone();
                url.set_path("/metadata/identity/oauth2/token");
                (url, "2018-02-01", metadata)
            }
        };
        let of_resource = if matches!(self, Self::Imds { .. }) { "msi_res_id" } else { "mi_res_id" };
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", resource);
        if let Some(identity) = identity {
            query.append_pair(if identity.starts_with('/') { of_resource } else { "client_id" }, identity);
        }
        drop(query);
        Ok((url, HeaderMap::from_iter([header])))
    }
}

/// The one field that counts, and when it ends; numbers are text in some services.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_on: Value,
}

/// Tokens of a managed identity.
pub struct ManagedIdentity {
    service: IdentityService,
    identity: Option<String>,
    /// `api://AzureADTokenExchange` or what it is called in another cloud, or a key vault.
    resource: String,
    clock: Arc<dyn Clock>,
    client: Client<HttpConnector, Empty<Bytes>>,
    /// The service has answered something: it is there.
    has_answered: AtomicBool,
    kept: KeptToken<IdentityFault>,
}

impl ManagedIdentity {
    /// Tokens for `resource` from this service. `identity` is the client id or the resource id of a user-assigned identity;
    /// without it, the token is one of the system-assigned identity.
    pub fn new(service: IdentityService, identity: Option<String>, resource: &str, clock: Arc<dyn Clock>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let has_answered = AtomicBool::default();
        let kept = KeptToken::new("the managed identity", Arc::clone(&clock));
        Self { service, identity, resource: resource.to_owned(), clock, client, has_answered, kept }
    }

    /// A token that is good for some more minutes; while the service gives none, for as long as the last one is good.
    pub async fn token(&self) -> Result<Zeroizing<String>, IdentityFault> {
        self.kept.token(self.ask()).await
    }

    async fn ask(&self) -> Result<Token, IdentityFault> {
        let (url, headers) = self.service.request(&self.resource, self.identity.as_deref())?;
        let mut retried = false;
        let (status, body) = loop {
            let (status, answered, body) = self.send(&url, headers.clone()).await?;
            if let (StatusCode::UNAUTHORIZED, IdentityService::Arc { folder, .. }) = (status, &self.service) {
                let proof = arc_proof(&answered, folder)?;
                let mut headers = headers.clone();
                headers.insert(AUTHORIZATION, proof);
                let (status, _, body) = self.send(&url, headers).await?;
                break (status, body);
            }
            // What Microsoft names as passing: the service is being updated, is busy, or has failed.
            let passing = matches!(status.as_u16(), 404 | 410 | 429) || status.is_server_error();
            if !passing || retried {
                break (status, body);
            }
            retried = true;
            clock::sleep(&*self.clock, RETRY_PAUSE).await;
        };
        match status.as_u16() {
            200 => self.read(&body),
            400 => Err(IdentityFault::NoIdentity(said(&body))),
            401 | 403 => Err(IdentityFault::Refused(status)),
            _ => Err(IdentityFault::Failed(status)),
        }
    }

    fn read(&self, body: &[u8]) -> Result<Token, IdentityFault> {
        let answer: TokenAnswer =
            serde_json::from_slice(body).map_err(|_| IdentityFault::Malformed("no token in the answer"))?;
        let text = Zeroizing::new(answer.access_token);
        if jwt::part(&text, 1).is_none() {
            return Err(IdentityFault::Malformed("the token is no JSON Web Token"));
        }
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let expires = jwt::expiry(&text).or_else(|| number(&answer.expires_on));
        Ok(Token { text, expires: expires.unwrap_or_default() })
    }

    async fn send(
        &self,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<(StatusCode, HeaderMap, Zeroizing<Vec<u8>>), IdentityFault> {
        let absent = |reason: String| {
            let place = url.origin().ascii_serialization();
            IdentityFault::Absent { place, reason }
        };
        let mut request = Request::get(url.as_str())
            .body(Empty::new())
            .map_err(|_| IdentityFault::Unsupported("the address of the managed identity service is no http URL"))?;
        request.headers_mut().extend(headers);
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| absent(crate::outbound_http::ErrorChain(&error).to_string()))?;
            self.has_answered.store(true, Ordering::Relaxed);
            let (head, body) = response.into_parts();
            let body = secret_body(body, MAX_ANSWER_BYTES).await;
            let body = body.ok_or(IdentityFault::Malformed("the answer broke off, or is too long"))?;
            Ok((head.status, head.headers, body))
        };
        let mut exchange = pin!(exchange);
        if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut exchange).await {
            return answer;
        }
        // Other programs than the service may listen at its address, or drop what they are sent.
        if !self.has_answered.load(Ordering::Relaxed) && !self.is_there(url).await {
            return Err(absent("it takes connections and does not answer".to_owned()));
        }
        match tokio::time::timeout(TOTAL_TIMEOUT.saturating_sub(PATIENCE), exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(absent(format!("no answer within {} seconds", TOTAL_TIMEOUT.as_secs()))),
        }
    }

    /// Whether the service answers a request that it has to refuse: one without the header that it wants.
    async fn is_there(&self, url: &Url) -> bool {
        let Ok(request) = Request::get(url.as_str()).body(Empty::new()) else { return false };
        let answered = tokio::time::timeout(PROBE_TIMEOUT, self.client.request(request)).await;
        let is_there = matches!(answered, Ok(Ok(_)));
        self.has_answered.fetch_or(is_there, Ordering::Relaxed);
        is_there
    }
}

#[async_trait]
impl ClientCredential for ManagedIdentity {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Assertion(self.token().await?))
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        self.kept.forget(refused);
        let now = self.obtain(audience).await?;
        Ok(if now == *refused { Credential::None } else { now })
    }
}

#[async_trait]
impl VaultTokens for ManagedIdentity {
    async fn token(&self) -> Result<Zeroizing<String>, String> {
        Self::token(self).await.map_err(|fault| fault.to_string())
    }
}

impl From<IdentityFault> for CredentialError {
    fn from(fault: IdentityFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

/// What the service says, short and plain: it comes from outside of this program.
fn said(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = ["error_description", "message", "error"].iter().find_map(|name| body.get(*name)?.as_str());
    text.unwrap_or("nothing").chars().filter(|character| !character.is_control()).take(200).collect()
}

/// The agent of Azure Arc names a file in its answer. A program that can read it may have a token.
fn arc_proof(headers: &HeaderMap, folder: &Path) -> Result<HeaderValue, IdentityFault> {
    let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let path = challenge.and_then(|challenge| challenge.split_once("realm=")).map(|(_, path)| path.trim_matches('"'));
    let path = PathBuf::from(path.ok_or(IdentityFault::Malformed("no challenge in the answer of Azure Arc"))?);
    // Otherwise a program that listens in the agent's place could have any file sent to it.
    if path.parent() != Some(folder) || path.extension().is_none_or(|extension| extension != "key") {
        return Err(IdentityFault::ArcPath(path));
    }
    let fault = |reason: String| IdentityFault::ArcKey { path: path.clone(), reason };
    let mut text = Zeroizing::new(String::new());
    let file = File::open(&path).map_err(|error| fault(error.to_string()))?;
    file.take(MAX_ARC_KEY_BYTES + 1).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    if text.len() as u64 > MAX_ARC_KEY_BYTES {
        return Err(fault("it is too long".to_owned()));
    }
    let proof = Zeroizing::new(format!("Basic {}", text.trim()));
    let mut value = HeaderValue::from_str(&proof).map_err(|_| fault("it cannot be sent as a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
