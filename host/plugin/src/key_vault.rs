//! Azure Key Vault, as far as this program uses it: to read certificates, and to sign, wrap and unwrap with keys that never
//! leave the vault.
//!
//! The address of the vault is configuration, so its addresses may be private (private endpoints); the component never
//! learns of it, and its requests do not go this way. The token goes to the configured vault alone: the host refuses an
//! answer that names another one, and follows no redirects. It erases data keys and tokens from memory after their use,
//! except in the buffers of the HTTP and TLS libraries.
//!
//! Why not the crates `azure_security_keyvault_*`: `docs/src/explanation/credentials.md`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use url::{Host, Url};
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock::{self, Clock};
use crate::outbound_http::{ErrorChain, TimedConnector, read_certificates, tls_config};

#[cfg(any(feature = "redis", feature = "sqlite"))]
mod data_key;

#[cfg(any(feature = "redis", feature = "sqlite"))]
pub use data_key::VaultKeyFile;

/// The version of the REST API.
const API_VERSION: &str = "7.4";
const API_VERSION_PARAMETER: &str = "api-version";

/// Time to resolve, connect and finish the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole exchange. An operation with a key in a managed HSM takes less than a second.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the one retry of a vault that is busy or has failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Longest answer in bytes: a page of versions has some 10 KiB.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Most pages of a list that are read: 200 versions, as the vault puts 25 into a page. Certificates are renewed every few
/// months.
const MAX_PAGES: usize = 8;

/// What a request for an operation has besides its value, in bytes.
const OPERATION_FRAME_BYTES: usize = 128;

/// Most characters of what the vault says that are shown.
const MAX_SAID: usize = 200;

/// The domains of vaults and managed HSMs, in all clouds. What is before them is the name of the vault; a token is for the
/// domain.
const DOMAINS: [&str; 6] = [
    "vault.azure.net",
    "vault.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.azure.net",
    "managedhsm.azure.cn",
    "managedhsm.usgovcloudapi.net",
];

/// Why the vault does not do what it is asked. Each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultFault {
    /// The address is none of a certificate or a key.
    #[error(
        "{0} is no address in a key vault: copy the identifier from the portal, such as \
         https://contoso.vault.azure.net/certificates/mcp or https://contoso.vault.azure.net/keys/store"
    )]
    Address(String),
    /// There is no token for the vault.
    #[error("there is no token for the key vault ({0})")]
    NoToken(String),
    /// No answer.
    #[error(
        "the key vault {vault} does not answer ({reason}): correct its address, or let the network of this machine reach it; a \
         private endpoint needs its name to resolve here"
    )]
    Unreachable {
        /// Its host.
        vault: String,
        /// Why.
        reason: String,
    },
    /// The token is not accepted.
    #[error(
        "the key vault {vault} refuses the token (it says: {said}; its tenant is at {authority}): use an identity of that tenant \
         with --vault-identity"
    )]
    Unauthorised {
        /// Its host.
        vault: String,
        /// What it says.
        said: String,
        /// The authority of the tokens that it accepts.
        authority: String,
    },
    /// The identity may not do this.
    #[error(
        "the key vault {vault} does not let this identity {operation} (it says: {said}): under Access control (IAM) of \
         the vault, assign it the role Key Vault Crypto User, and for a certificate Key Vault Reader as well; or admit the \
         network of this machine under Networking"
    )]
    Forbidden {
        /// Its host.
        vault: String,
        /// What was asked for.
        operation: &'static str,
        /// What it says.
        said: String,
    },
    /// There is no such certificate or key.
    #[error("the key vault has no {0}: correct the address, or make it under Objects in the portal")]
    NotFound(String),
    /// It refuses for another reason.
    #[error("the key vault {vault} does not {operation} (HTTP status {status}, it says: {said})")]
    Refused {
        /// Its host.
        vault: String,
        /// What was asked for.
        operation: &'static str,
        /// Its answer.
        status: u16,
        /// What it says.
        said: String,
    },
    /// The answer was not what is documented.
    #[error("the key vault answered with something unexpected: {0}")]
    Malformed(&'static str),
    /// TLS cannot be set up.
    #[error("TLS for the key vault cannot be set up: {0}")]
    Tls(String),
}

/// Tokens for a vault.
#[async_trait]
pub trait VaultTokens: Send + Sync + 'static {
    /// One that is good for some more minutes. The error says what to change.
    async fn token(&self) -> Result<Zeroizing<String>, String>;
}

/// The kind of thing that an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultCollection {
    /// `certificates`.
    Certificates,
    /// `keys`.
    Keys,
}

impl VaultCollection {
    fn name(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Keys => "keys",
        }
    }
}

/// A certificate or a key in a vault, of one version or the newest.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultObject {
    /// Without a path.
    vault: Url,
    collection: VaultCollection,
    name: String,
    version: Option<String>,
}

impl fmt::Debug for VaultObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VaultObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url(None).as_str())
    }
}

impl VaultObject {
    /// Reads an identifier as the portal shows it. Plain http is for a stand-in on loopback alone.
    pub fn parse(text: &str, collection: VaultCollection) -> Result<Self, VaultFault> {
        let wrong = || VaultFault::Address(text.to_owned());
        let url = Url::parse(text).map_err(|_| wrong())?;
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !is_secure || !is_plain || url.password().is_some() || domain(&url).is_none() {
            return Err(wrong());
        }
        let mut segments = url.path_segments().ok_or_else(wrong)?.filter(|segment| !segment.is_empty());
        let (kind, name, version) = (segments.next(), segments.next(), segments.next());
        let is_name =
            |text: &str| text.len() <= 127 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = name.filter(|name| is_name(name)).ok_or_else(wrong)?.to_owned();
        let version = version.map(str::to_owned);
        if kind != Some(collection.name()) || segments.next().is_some() || !version.as_deref().is_none_or(is_name) {
            return Err(wrong());
        }
        let mut vault = url.clone();
        vault.set_path("");
        Ok(Self { vault, collection, name, version })
    }

    /// The resource of a token for the vault.
    pub fn resource(&self) -> String {
        format!("https://{}", domain(&self.vault).unwrap_or_default())
    }

    /// The name of the vault for operators.
    pub fn host(&self) -> &str {
        self.vault.host_str().unwrap_or_default()
    }

    /// What is asked for `action` of it.
    fn url(&self, action: Option<&str>) -> Url {
        let mut url = self.vault.clone();
        let path = [Some(self.collection.name()), Some(&self.name), self.version.as_deref(), action];
        url.set_path(&path.into_iter().flatten().collect::<Vec<_>>().join("/"));
        url
    }

    /// An object that an answer of this vault names; none of another vault.
    pub fn sibling(&self, text: &str, collection: VaultCollection) -> Option<Self> {
        Self::parse(text, collection).ok().filter(|other| other.vault == self.vault)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The domain that a vault is in. A stand-in on loopback takes the place of one in the public cloud.
fn domain(vault: &Url) -> Option<&'static str> {
    let host = vault.host_str()?;
    let is_in = |domain: &&&str| host.strip_suffix(**domain).is_some_and(|name| name.len() > 1 && name.ends_with('.'));
    match DOMAINS.iter().find(is_in) {
        Some(domain) => Some(*domain),
        None if is_loopback(vault) => DOMAINS.first().copied(),
        None => None,
    }
}

/// Asks vaults.
pub struct KeyVault {
    client: Client<TimedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    tokens: Arc<dyn VaultTokens>,
    clock: Arc<dyn Clock>,
}

/// A certificate as the vault describes it.
pub struct CertificateInVault {
    /// X.509, DER.
    pub der: Vec<u8>,
    /// Its private key, in the same vault.
    pub key: VaultObject,
}

/// A version of a certificate, as the vault lists it.
pub(crate) struct ListedVersion {
    pub(crate) object: VaultObject,
    /// SHA-1, as base64url.
    pub(crate) thumbprint: String,
    /// Unix time in seconds.
    pub(crate) expires: Option<u64>,
}

impl KeyVault {
    /// A client with these tokens. `ca_file` (PEM) adds roots of trust to the system's.
    pub fn new(
        tokens: Arc<dyn VaultTokens>,
        ca_file: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, VaultFault> {
        let tls = |error: &dyn fmt::Display| VaultFault::Tls(error.to_string());
        let roots = ca_file.map(read_certificates).transpose().map_err(|error| tls(&error))?;
        let client = https_client(&roots.unwrap_or_default()).map_err(VaultFault::Tls)?;
        Ok(Self { client, tokens, clock })
    }

    /// Reads a certificate: the newest version, unless the object names one.
    pub async fn certificate(&self, object: &VaultObject) -> Result<CertificateInVault, VaultFault> {
        let answer: Value = self.ask(object, Method::GET, object.url(None), None, "read the certificate").await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let der = text("cer").and_then(|cer| base64::engine::general_purpose::STANDARD.decode(cer).ok());
        let der = der.ok_or(VaultFault::Malformed("there is no certificate in the answer"))?;
        let key = text("kid").and_then(|kid| object.sibling(kid, VaultCollection::Keys));
        let key = key.ok_or(VaultFault::Malformed("the answer names no key of the same vault"))?;
        Ok(CertificateInVault { der, key })
    }

    /// The enabled versions of a certificate, the newest first.
    pub(crate) async fn versions(&self, object: &VaultObject) -> Result<Vec<ListedVersion>, VaultFault> {
        let newest = VaultObject { version: None, ..object.clone() };
        let first = newest.url(Some("versions"));
        let (mut listed, mut page) = (Vec::new(), Some(first.clone()));
        for _ in 0..MAX_PAGES {
            let Some(url) = page else { break };
            let answer: Value =
                self.ask(object, Method::GET, url, None, "list the versions of the certificate").await?;
            listed.extend(answer.get("value").and_then(Value::as_array).into_iter().flatten().cloned());
            let next = answer.get("nextLink").and_then(Value::as_str).filter(|next| !next.is_empty());
            page = next.map(|next| next_page(&first, next)).transpose()?;
        }
        let attribute = |version: &Value, name: &str| version.pointer(&format!("/attributes/{name}")).cloned();
        let time = |version: &Value, name: &str| attribute(version, name).and_then(|at| at.as_u64());
        listed.retain(|version| attribute(version, "enabled") != Some(Value::Bool(false)));
        listed.sort_by_key(|version| std::cmp::Reverse(time(version, "created")));
        let text = |version: &Value, name: &str| version.get(name).and_then(Value::as_str).map(str::to_owned);
        let of = |version: &Value| {
            let named = object.sibling(&text(version, "id")?, VaultCollection::Certificates)?;
            Some(ListedVersion { object: named, thumbprint: text(version, "x5t")?, expires: time(version, "exp") })
        };
        Ok(listed.iter().filter_map(of).collect())
    }

    /// Signs a SHA-256 digest (PS256).
    pub async fn sign(&self, key: &VaultObject, digest: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let (value, _) = self.operate(key, ("sign", "PS256"), digest, "sign with the key").await?;
        Ok(value.to_vec())
    }

    /// The newest version of a key, unless the object names one.
    async fn newest(&self, key: &VaultObject) -> Result<VaultObject, VaultFault> {
        if key.version.is_some() {
            return Ok(key.clone());
        }
        let answer: Value = self.ask(key, Method::GET, key.url(None), None, "read the key").await?;
        let id = answer.pointer("/key/kid").and_then(Value::as_str);
        let newest = id.and_then(|id| key.sibling(id, VaultCollection::Keys));
        let newest = newest.filter(|newest| newest.version.is_some() && newest.name == key.name);
        newest.ok_or(VaultFault::Malformed("the answer names no version of the key"))
    }

    /// Encrypts a short secret for the newest version of the key (RSA-OAEP-256), and returns it with that version.
    pub async fn wrap(&self, key: &VaultObject, secret: &[u8]) -> Result<(Vec<u8>, VaultObject), VaultFault> {
        let key = self.newest(key).await?;
        let (value, by) = self.operate(&key, ("wrapkey", "RSA-OAEP-256"), secret, "wrap with the key").await?;
        Ok((value.to_vec(), by))
    }

    /// Decrypts what [`wrap`](Self::wrap) has made.
    pub async fn unwrap(&self, key: &VaultObject, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultFault> {
        Ok(self.operate(key, ("unwrapkey", "RSA-OAEP-256"), wrapped, "unwrap with the key").await?.0)
    }

    async fn operate(
        &self,
        key: &VaultObject,
        (operation, algorithm): (&str, &str),
        value: &[u8],
        told: &'static str,
    ) -> Result<(Zeroizing<Vec<u8>>, VaultObject), VaultFault> {
        let unreadable = || VaultFault::Malformed("there is no value in the answer");
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        let mut body = Zeroizing::new(Vec::with_capacity(encoded.len().saturating_add(OPERATION_FRAME_BYTES)));
        let request = Operation { alg: algorithm, value: &encoded };
        serde_json::to_writer(&mut *body, &request)
            .map_err(|_| VaultFault::Malformed("the request cannot be written"))?;
        let body = Bytes::from_owner(body);
        let answer: Operated = self.ask(key, Method::POST, key.url(Some(operation)), Some(body), told).await?;
        let result = Zeroizing::new(URL_SAFE_NO_PAD.decode(answer.value.as_bytes()).map_err(|_| unreadable())?);
        let by = key.sibling(&answer.kid, VaultCollection::Keys).filter(|by| by.name == key.name);
        Ok((result, by.ok_or(VaultFault::Malformed("the answer is of another key"))?))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        object: &VaultObject,
        method: Method,
        mut url: Url,
        body: Option<Bytes>,
        told: &'static str,
    ) -> Result<T, VaultFault> {
        url.query_pairs_mut().append_pair(API_VERSION_PARAMETER, API_VERSION);
        let mut retried = false;
        let (status, headers, body) = loop {
            let token = self.tokens.token().await.map_err(VaultFault::NoToken)?;
            let answer = self.send(object, method.clone(), &url, body.clone(), &token).await?;
            let passing = answer.0 == StatusCode::TOO_MANY_REQUESTS || answer.0.is_server_error();
            if !passing || retried {
                break answer;
            }
            retried = true;
            clock::sleep(&*self.clock, RETRY_PAUSE).await;
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map_err(|_| VaultFault::Malformed("it is not the JSON that is documented"));
        }
        let (vault, said) = (object.host().to_owned(), said(&serde_json::from_slice(&body).unwrap_or_default()));
        Err(match status.as_u16() {
            401 => VaultFault::Unauthorised { vault, said, authority: authority(&headers) },
            403 => VaultFault::Forbidden { vault, operation: told, said },
            404 => VaultFault::NotFound(object.to_string()),
            status => VaultFault::Refused { vault, operation: told, status, said },
        })
    }

    async fn send(
        &self,
        object: &VaultObject,
        method: Method,
        url: &Url,
        body: Option<Bytes>,
        token: &str,
    ) -> Result<(StatusCode, HeaderMap, Zeroizing<Vec<u8>>), VaultFault> {
        let unreachable = |reason: String| VaultFault::Unreachable { vault: object.host().to_owned(), reason };
        let has_body = body.is_some();
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| VaultFault::Address(url.to_string()))?;
        let bearer = Bytes::from_owner(Zeroizing::new(format!("Bearer {token}")));
        let mut bearer = HeaderValue::from_maybe_shared(bearer)
            .map_err(|_| VaultFault::NoToken("it cannot be sent as a header".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        if has_body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unreachable(ErrorChain(&error).to_string()))?;
            let (head, body) = response.into_parts();
            let body = secret_body(body, MAX_ANSWER_BYTES).await;
            let body = body.ok_or(VaultFault::Malformed("the answer broke off, or is too long"))?;
            Ok((head.status, head.headers, body))
        };
        match tokio::time::timeout(TOTAL_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no answer within {} seconds", TOTAL_TIMEOUT.as_secs()))),
        }
    }
}

/// What an operation with a key is asked for.
#[derive(Serialize)]
struct Operation<'a> {
    alg: &'a str,
    value: &'a str,
}

/// What came of it.
#[derive(Deserialize)]
struct Operated {
    kid: String,
    /// As base64url.
    #[serde(deserialize_with = "zeroizing")]
    value: Zeroizing<String>,
}

/// Reads a text that is erased when it was used.
pub(crate) fn zeroizing<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// Reads a body that may have a secret in it. The frames in which it comes are erased as well, where nothing else holds them.
/// `None`: it broke off, or is longer than `most`.
pub(crate) async fn secret_body<B: Body<Data = Bytes> + Unpin>(mut body: B, most: usize) -> Option<Zeroizing<Vec<u8>>> {
    // It does not grow, which would leave copies behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(most));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > most {
            return None;
        }
        whole.extend_from_slice(&data);
        if let Ok(mut data) = data.try_into_mut() {
            data.as_mut().zeroize();
        }
    }
    Some(whole)
}

/// The next page of a list that begins at `first`. The token for the vault goes along, so it is a part of the same list.
fn next_page(first: &Url, next: &str) -> Result<Url, VaultFault> {
    let next = Url::parse(next).ok().filter(|next| next.origin() == first.origin() && next.path() == first.path());
    let next = next.ok_or(VaultFault::Malformed("the next page of a list is elsewhere"))?;
    let mut url = first.clone();
    url.query_pairs_mut().extend_pairs(next.query_pairs().filter(|(name, _)| name != API_VERSION_PARAMETER));
    Ok(url)
}

/// A client for https, and for plain http, which addresses have on loopback alone.
pub(crate) fn https_client(
    roots: &[rustls::pki_types::CertificateDer<'static>],
) -> Result<Client<TimedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(roots)?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(TimedConnector::new(https, CONNECT_TIMEOUT)))
}

/// What a service says, short and plain: it comes from outside of this program.
pub(crate) fn said(body: &Value) -> String {
    let of = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let code = of("/error/innererror/code").or_else(|| of("/error/code")).unwrap_or_default();
    let message = of("/error/message").or_else(|| of("/error_description")).unwrap_or("nothing");
    let text = format!("{code} {message}");
    text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_SAID).collect()
}

/// Where a vault wants tokens from, as its challenge says.
fn authority(headers: &HeaderMap) -> String {
    let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let found = ["authorization=\"", "authorization_uri=\""].iter().find_map(|name| challenge.split_once(name));
    let named = found.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("an unknown place");
    named.chars().filter(|letter| !letter.is_control()).take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests;
