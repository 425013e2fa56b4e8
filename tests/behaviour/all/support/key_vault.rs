//! A stand-in for Azure Key Vault: certificates whose keys stay in it, and keys that sign, wrap and unwrap. As strict as the
//! service about versions of its API, tokens, roles, content types and values.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entra_mcp_emulator::{Config, Control};
use rcgen::{CertificateParams, KeyPair};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::{CryptoRng, Error as RandomError, RngCore};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Oaep, Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::fixture;
use super::lab::{CONTOSO, LEGACY, app};

/// What its tokens are for.
const AUDIENCE: &str = "https://vault.azure.net";
/// The application of the service, in every tenant.
const SERVICE: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";
/// The versions of the API that it knows.
const API_VERSIONS: [&str; 3] = ["7.3", "7.4", "7.5"];
/// Longest request that it reads, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// One version of a certificate or a key.
struct Version {
    name: &'static str,
    version: String,
    certificate: Option<Vec<u8>>,
    key: RsaPrivateKey,
    created: u64,
    /// Unix time in seconds, as the vault lists it.
    expires: Option<u64>,
}

/// How it does its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Works,
    /// It refuses whatever it is asked.
    Refuses,
    /// It takes requests to sign, and does not answer until it is told to.
    HoldsSignatures,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// Versions of a certificate in one page of a list; all of them, if it is none.
    page: Option<usize>,
    /// What the lists name as their next page, in place of the true one.
    next_page: Option<String>,
    versions: Vec<Version>,
    /// Object ids of identities that have a role.
    allowed: HashSet<String>,
    /// Method and path of each request that had a good token.
    seen: Vec<String>,
}

/// The vault.
#[derive(Clone)]
pub(crate) struct Vault {
    pub(crate) url: String,
    authority: String,
    state: Arc<Mutex<State>>,
    /// A request to sign is held.
    held: Arc<Notify>,
    /// Lets one of them go on.
    go_on: Arc<Semaphore>,
}

/// Random bytes of the system.
struct Randomness;

impl CryptoRng for Randomness {}

impl RngCore for Randomness {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes).unwrap();
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// `x5t#S256`.
fn named(certificate: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, certificate))
}

type Answer = (u16, Value);

fn refused(status: u16, code: &str, message: &str) -> Answer {
    (status, json!({ "error": { "code": code, "message": message } }))
}

impl Vault {
    /// A vault of the emulator's tenant.
    pub(crate) async fn start(authority: &str, control: &Control) -> Self {
        let mut service = Config::default().applications.into_iter().find(|known| known.id == app(LEGACY)).unwrap();
        service.id = SERVICE.to_owned();
        service.identifier_uris = vec![AUDIENCE.to_owned()];
        control.put_application(service).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (held, go_on) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let vault = Self { url, authority: authority.to_owned(), state: Arc::default(), held, go_on };
        let serving = vault.clone();
        let answer = move |request: Request| {
            let vault = serving.clone();
            async move { vault.answer(request).await }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        vault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives an identity the roles that it takes.
    pub(crate) fn allow(&self, object: &str) {
        self.state().allowed.insert(object.to_owned());
    }

    /// Takes them away.
    pub(crate) fn forbid(&self, object: &str) {
        self.state().allowed.remove(object);
    }

    /// How it does its work from now on.
    pub(crate) fn behave(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Returns when a request to sign is held.
    pub(crate) async fn holds_one(&self) {
        self.held.notified().await;
    }

    /// Answers one request that is held.
    pub(crate) fn let_one_go(&self) {
        self.go_on.add_permits(1);
    }

    /// Lists so many versions in a page.
    pub(crate) fn list_in_pages_of(&self, versions: usize) {
        self.state().page = Some(versions);
    }

    /// Names this as the next page of every list.
    pub(crate) fn name_as_next_page(&self, url: &str) {
        self.state().next_page = Some(url.to_owned());
    }

    /// Adds a version with the key and the certificate of a fixture; its address.
    pub(crate) fn add(&self, name: &'static str, from: &str) -> String {
        let certificate = CertificateDer::from_pem_slice(&fixture(&format!("{from}.cert.pem"))).unwrap();
        let key = String::from_utf8(fixture(&format!("{from}.key.pem"))).unwrap();
        self.put(name, &key, &certificate, None)
    }

    /// Adds a version with the key of a fixture and a certificate of its own, which ends at this time (Unix time in seconds).
    /// `listed`: the list of versions says so.
    pub(crate) fn add_until(&self, name: &'static str, from: &str, expires: u64, listed: bool) -> String {
        let key = String::from_utf8(fixture(&format!("{from}.key.pem"))).unwrap();
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        params.not_after = (std::time::UNIX_EPOCH + std::time::Duration::from_secs(expires)).into();
        // Otherwise two versions that end at the same time are one certificate.
        params.serial_number = Some(rcgen::SerialNumber::from(self.state().versions.len() as u64));
        let certificate = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap();
        self.put(name, &key, certificate.der(), listed.then_some(expires))
    }

    /// Adds a version with this key (PEM) and certificate (DER); its address.
    pub(crate) fn add_version(&self, name: &'static str, key: &str, certificate: &[u8]) -> String {
        self.put(name, key, certificate, None)
    }

    fn put(&self, name: &'static str, key: &str, certificate: &[u8], expires: Option<u64>) -> String {
        let mut state = self.state();
        let created = state.versions.len() as u64;
        state.versions.push(Version {
            name,
            version: format!("{created:032x}"),
            certificate: Some(certificate.to_vec()),
            key: RsaPrivateKey::from_pkcs8_pem(key).unwrap(),
            created,
            expires,
        });
        format!("{}/certificates/{name}", self.url)
    }

    /// What assertions call the versions of a certificate, the oldest first.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let state = self.state();
        let of = |version: &Version| {
            version.certificate.as_ref().filter(|_| version.name == name).map(|certificate| named(certificate))
        };
        state.versions.iter().filter_map(of).collect()
    }

    /// Method and path of each request that had a good token.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state().seen.clone()
    }

    async fn answer(&self, request: Request) -> Response {
        let (status, body) = self.judged(request).await;
        let answer = Response::builder().status(status).header("content-type", "application/json; charset=utf-8");
        let challenge = format!("Bearer authorization=\"{}/{CONTOSO}\", resource=\"{AUDIENCE}\"", self.authority);
        let answer = if status == 401 { answer.header("www-authenticate", challenge) } else { answer };
        answer.body(body.to_string().into()).unwrap()
    }

    async fn judged(&self, request: Request) -> Answer {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let version = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "api-version");
        if !version.is_some_and(|(_, version)| API_VERSIONS.contains(&&*version)) {
            return refused(400, "BadParameter", "api-version must be specified");
        }
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(token) = header("authorization").strip_prefix("Bearer ") else {
            return refused(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.");
        };
        let object = match self.caller(token).await {
            Ok(object) => object,
            Err(message) => return refused(401, "Unauthorized", &message),
        };
        self.state().seen.push(format!("{} {}", head.method, head.uri.path()));
        if !self.state().allowed.contains(&object) {
            let message = "Caller is not authorized to perform action on resource.";
            let mut answer = refused(403, "Forbidden", message);
            answer.1["error"]["innererror"] = json!({ "code": "ForbiddenByRbac" });
            return answer;
        }
        let mood = self.state().mood;
        if mood == Mood::Refuses {
            return refused(400, "BadParameter", "the vault is out of order");
        }
        if mood == Mood::HoldsSignatures && head.uri.path().ends_with("/sign") {
            self.held.notify_one();
            self.go_on.acquire().await.unwrap().forget();
        }
        let segments: Vec<_> = head.uri.path().trim_start_matches('/').split('/').collect();
        match (head.method.as_str(), segments.as_slice()) {
            ("GET", ["certificates", name, "versions"]) => self.versions(name, query),
            ("GET", ["certificates", name]) => self.certificate(name, None),
            ("GET", ["certificates", name, version]) => self.certificate(name, Some(version)),
            ("GET", ["keys", name]) => self.key(name),
            // An operation is one of a version.
            ("POST", ["keys", name, version, operation]) => {
                if !header("content-type").starts_with("application/json") {
                    return refused(415, "UnsupportedMediaType", "the content type has to be application/json");
                }
                let body = to_bytes(body, MAX_BODY).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                self.operate(name, Some(version), operation, &body)
            }
            _ => refused(404, "NotFound", "there is nothing"),
        }
    }

    /// The object id of the caller, if the token is one for vaults.
    async fn caller(&self, token: &str) -> Result<String, String> {
        let parts: Vec<_> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err("AKV10000: the token is malformed".to_owned());
        };
        let json = |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let (header, claims) = json(header).zip(json(claims)).ok_or("AKV10000: the token is malformed")?;
        let keys = reqwest::get(format!("{}/{CONTOSO}/discovery/v2.0/keys", self.authority)).await.unwrap();
        let keys: Value = serde_json::from_slice(&keys.bytes().await.unwrap()).unwrap();
        let known = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]);
        let number = |key: &Value, name: &str| {
            BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default()).unwrap())
        };
        let is_genuine = known.is_some_and(|key| {
            let public = RsaPublicKey::new(number(key, "n"), number(key, "e")).unwrap();
            let signed = format!("{}.{}", parts[0], parts[1]);
            let digest = ring::digest::digest(&ring::digest::SHA256, signed.as_bytes());
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
            public.verify(Pkcs1v15Sign::new::<Sha256>(), digest.as_ref(), &signature).is_ok()
        });
        if !is_genuine {
            return Err("AKV10046: Unable to resolve the key used for signature validation.".to_owned());
        }
        if claims["aud"] != AUDIENCE {
            return Err(format!("AKV10022: Invalid audience. Expected {AUDIENCE}, found: {}.", claims["aud"]));
        }
        if claims["tid"] != CONTOSO {
            return Err("AKV10032: Invalid issuer.".to_owned());
        }
        Ok(claims["oid"].as_str().unwrap_or_default().to_owned())
    }

    fn versions(&self, name: &str, query: &str) -> Answer {
        let state = self.state();
        let of = |version: &Version| {
            let der = version.certificate.clone()?;
            let print = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
            Some(json!({
                "id": format!("{}/certificates/{name}/{}", self.url, version.version),
                "x5t": URL_SAFE_NO_PAD.encode(print),
                "attributes": { "enabled": true, "created": version.created, "exp": version.expires },
            }))
        };
        let found: Vec<_> = state.versions.iter().filter(|version| version.name == name).filter_map(of).collect();
        let skipped = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "$skiptoken");
        let skipped = skipped.map_or(0, |(_, token)| token.parse::<usize>().unwrap());
        let page = state.page.unwrap_or(usize::MAX);
        let listed: Vec<_> = found.iter().skip(skipped).take(page).collect();
        let next = skipped + listed.len();
        let next = (next < found.len())
            .then(|| format!("{}/certificates/{name}/versions?api-version=7.4&$skiptoken={next}", self.url));
        (200, json!({ "value": listed, "nextLink": state.next_page.clone().or(next) }))
    }

    fn certificate(&self, name: &str, wanted: Option<&str>) -> Answer {
        let state = self.state();
        let is_it = |version: &&Version| version.name == name && wanted.is_none_or(|wanted| version.version == wanted);
        let Some(found) = state.versions.iter().rev().find(is_it) else {
            let message = format!("A certificate with (name/id) {name} was not found in this key vault.");
            return refused(404, "CertificateNotFound", &message);
        };
        let (id, der) = (&found.version, found.certificate.clone().unwrap_or_default());
        let body = json!({
            "id": format!("{}/certificates/{name}/{id}", self.url),
            "kid": format!("{}/keys/{name}/{id}", self.url),
            "sid": format!("{}/secrets/{name}/{id}", self.url),
            "cer": STANDARD.encode(der),
            "attributes": { "enabled": true, "created": found.created },
        });
        (200, body)
    }

    fn key(&self, name: &str) -> Answer {
        let state = self.state();
        let Some(found) = state.versions.iter().rev().find(|version| version.name == name) else {
            let message = format!("A key with (name/id) {name} was not found in this key vault.");
            return refused(404, "KeyNotFound", &message);
        };
        let kid = format!("{}/keys/{name}/{}", self.url, found.version);
        (200, json!({ "key": { "kid": kid, "kty": "RSA", "key_ops": ["sign", "wrapKey", "unwrapKey"] } }))
    }

    fn operate(&self, name: &str, wanted: Option<&str>, operation: &str, body: &Value) -> Answer {
        let state = self.state();
        let is_it = |version: &&Version| version.name == name && wanted.is_none_or(|wanted| version.version == wanted);
        let Some(found) = state.versions.iter().rev().find(is_it) else {
            let message = format!("A key with (name/id) {name} was not found in this key vault.");
            return refused(404, "KeyNotFound", &message);
        };
        let value = body["value"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let Some(value) = value else { return refused(400, "BadParameter", "Property  has invalid value") };
        let algorithm = body["alg"].as_str().unwrap_or_default();
        let bad = |message: &str| refused(400, "BadParameter", message);
        let result = match (operation, algorithm) {
            ("sign", "PS256") if value.len() != 32 => return bad("Invalid length of 'value': 32 bytes are expected"),
            ("sign", "PS256") => found.key.sign_with_rng(&mut Randomness, Pss::new::<Sha256>(), &value),
            ("wrapkey", "RSA-OAEP-256") => {
                let most = found.key.size() - 2 * 32 - 2;
                if value.len() > most {
                    return bad("the value is too long for the key");
                }
                found.key.to_public_key().encrypt(&mut Randomness, Oaep::new::<Sha256>(), &value)
            }
            ("unwrapkey", "RSA-OAEP-256") => found.key.decrypt(Oaep::new::<Sha256>(), &value),
            _ => return bad("Key and signing algorithm are incompatible, or the algorithm is unknown"),
        };
        match result {
            Ok(result) => {
                let kid = format!("{}/keys/{name}/{}", self.url, found.version);
                (200, json!({ "kid": kid, "value": URL_SAFE_NO_PAD.encode(result) }))
            }
            Err(_) => bad("The parameter is incorrect."),
        }
    }
}
