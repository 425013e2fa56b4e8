//! For unit tests: keys, tokens signed with them, and an authority that publishes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use base::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::DecodePrivateKey as _;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::Sha256;
use world::HttpError;
use world::testing::{self, CLIENT, START, TENANT, World, forever, json as response};

use crate::clock_offset;
use crate::entra_world::EntraWorld;
use crate::token::instance::InstanceCaches;

/// The authority of the fake settings.
pub const AUTHORITY: &str = "https://login.microsoftonline.com";
/// A user.
pub const OBJECT: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
/// The application that obtained the token.
pub const AZP: &str = "22223333-cccc-4444-dddd-5555eeee6666";
/// A tenant that is not the configured one.
pub const OTHER_TENANT: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
/// A group.
pub const GROUP: &str = "33334444-dddd-5555-eeee-6666ffff7777";

/// Worlds on fakes, which are never freed.
pub trait EntraWorlds {
    /// For a public client of one tenant.
    fn entra(&self) -> EntraWorld<'static>;
    /// For a remote server of the same tenant, with a client secret.
    fn entra_remote(&self) -> EntraWorld<'static>;
    /// Answers every request that no `once` answers with the metadata of the tenant.
    fn publishes_metadata(&self);
}

impl EntraWorlds for World {
    fn entra(&self) -> EntraWorld<'static> {
        let (world, settings) = (forever(self.clone()), forever(testing::settings()));
        EntraWorld {
            settings,
            http: world,
            records: self.records(settings),
            clock: world,
            random: world,
            signatures: None,
            credential: world,
            trail: self.trail(settings),
        }
    }

    fn entra_remote(&self) -> EntraWorld<'static> {
        self.has_client_secret();
        let mut env = self.entra();
        change(&mut env, |settings| *settings = testing::remote_settings());
        env
    }

    fn publishes_metadata(&self) {
        let metadata = json!({
            "issuer": format!("{AUTHORITY}/{TENANT}/v2.0"),
            "jwks_uri": format!("{AUTHORITY}/{TENANT}/discovery/v2.0/keys"),
        });
        self.always(move |_| Ok(response(200, &metadata)));
    }
}

/// Forgets what the running instance has kept of the authority, as a new instance would.
pub fn forget_instance() {
    InstanceCaches::restart();
    clock_offset::forget();
}

/// Changes the settings, as another configuration of the component does.
pub fn change(env: &mut EntraWorld<'static>, change: impl FnOnce(&mut Settings)) {
    let mut settings = env.settings.clone();
    change(&mut settings);
    env.settings = forever(settings);
    env.records = env.records.under(env.settings);
    env.trail = forever(env.trail.under(env.settings));
}

/// A key of `token/tests/keys`.
#[derive(Clone)]
pub enum TestKey {
    /// For RS256 and PS256.
    Rsa(Box<rsa::RsaPrivateKey>),
    /// For ES256.
    P256(p256::ecdsa::SigningKey),
}

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("token/tests/keys/", $name, ".pem"))
    };
}

impl TestKey {
    fn rsa(pem: &str) -> Self {
        Self::Rsa(Box::new(rsa::pkcs8::DecodePrivateKey::from_pkcs8_pem(pem).unwrap()))
    }

    fn p256(pem: &str) -> Self {
        Self::P256(p256::ecdsa::SigningKey::from_pkcs8_pem(pem).unwrap())
    }

    /// Reading a private key takes as long as using it, so that is done once.
    pub fn named(name: &'static str) -> Self {
        thread_local! {
            static KEYS: RefCell<HashMap<&'static str, TestKey>> = RefCell::default();
        }
        KEYS.with_borrow_mut(|keys| keys.entry(name).or_insert_with(|| Self::read(name)).clone())
    }

    fn read(name: &str) -> Self {
        match name {
            "rsa" => Self::rsa(pem!("rsa-2048")),
            "rsa-other" => Self::rsa(pem!("rsa-2048-other")),
            "rsa-1024" => Self::rsa(pem!("rsa-1024")),
            "rsa-2040" => Self::rsa(pem!("rsa-2040")),
            "rsa-2050" => Self::rsa(pem!("rsa-2050")),
            "rsa-2056" => Self::rsa(pem!("rsa-2056")),
            "rsa-3072" => Self::rsa(pem!("rsa-3072")),
            "rsa-4096" => Self::rsa(pem!("rsa-4096")),
            "rsa-8192" => Self::rsa(pem!("rsa-8192")),
            "rsa-8200" => Self::rsa(pem!("rsa-8200")),
            "rsa-e3" => Self::rsa(pem!("rsa-2048-e3")),
            "rsa-e65539" => Self::rsa(pem!("rsa-2048-e65539")),
            "rsa-e-max" => Self::rsa(pem!("rsa-2048-e-max")),
            "p256" => Self::p256(pem!("p256")),
            "p256-other" => Self::p256(pem!("p256-other")),
            _ => panic!("no test key is called {name}"),
        }
    }

    /// The public key as Entra ID would publish it, without `alg` for RSA.
    pub fn jwk(&self, key_id: &str) -> Value {
        let issuer = format!("{AUTHORITY}/{{tenantid}}/v2.0");
        match self {
            Self::Rsa(key) => json!({
                "kty": "RSA", "use": "sig", "kid": key_id, "x5t": key_id, "issuer": issuer,
                "n": URL_SAFE_NO_PAD.encode(key.n().to_bytes_be()),
                "e": URL_SAFE_NO_PAD.encode(key.e().to_bytes_be()),
            }),
            Self::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "kid": key_id, "issuer": issuer, "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(&point.as_bytes()[1..33]),
                    "y": URL_SAFE_NO_PAD.encode(&point.as_bytes()[33..]),
                })
            }
        }
    }

    /// Signs with the algorithm named, whether it suits the key's intended use or not.
    pub fn sign(&self, algorithm: &str, input: &[u8]) -> Vec<u8> {
        match (self, algorithm) {
            (Self::Rsa(key), "PS256") => rsa::pss::SigningKey::<Sha256>::new((**key).clone())
                .sign_with_rng(&mut rsa::rand_core::OsRng, input)
                .to_vec(),
            (Self::Rsa(key), _) => rsa::pkcs1v15::SigningKey::<Sha256>::new((**key).clone()).sign(input).to_vec(),
            (Self::P256(key), _) => {
                let signature: p256::ecdsa::Signature = key.sign(input);
                signature.to_bytes().to_vec()
            }
        }
    }
}

/// base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The inverse.
pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A signed token of these very texts, so that it can be malformed in any way.
pub fn sign_text(header: &str, claims: &str, algorithm: &str, key: &TestKey) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = key.sign(algorithm, input.as_bytes());
    format!("{input}.{}", encode(signature))
}

/// A signed token; `alg` of the header decides the algorithm.
pub fn sign(header: &Value, claims: &Value, key: &TestKey) -> String {
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or("RS256");
    sign_text(&header.to_string(), &claims.to_string(), algorithm, key)
}

/// The header that Entra ID writes.
pub fn header(algorithm: &str, key_id: &str) -> Value {
    json!({"typ": "JWT", "alg": algorithm, "kid": key_id})
}

/// A user's delegated version 2 access token, valid for an hour from [`START`].
pub fn user_claims() -> Value {
    json!({
        "aud": CLIENT,
        "iss": format!("{AUTHORITY}/{TENANT}/v2.0"),
        "iat": START, "nbf": START, "exp": START + 3600,
        "aio": "opaque", "azp": AZP, "azpacr": "1",
        "name": "Test User", "oid": OBJECT, "preferred_username": "user@contoso.example",
        "rh": "opaque", "scp": "User.Read Mail.Read", "sub": "pairwise-subject", "tid": TENANT,
        "uti": "opaque", "ver": "2.0",
    })
}

/// The same as a version 1 token, whose audience is the App ID URI.
pub fn version_1_user_claims() -> Value {
    with(
        user_claims(),
        json!({
            "aud": format!("api://{CLIENT}"), "iss": format!("https://sts.windows.net/{TENANT}/"),
            "azp": null, "azpacr": null, "appid": AZP, "appidacr": "1", "ver": "1.0",
        }),
    )
}

/// An app-only version 2 access token.
pub fn app_claims() -> Value {
    with(
        user_claims(),
        json!({"scp": null, "name": null, "preferred_username": null, "roles": ["Files.Read.All"],
               "idtyp": "app", "sub": OBJECT}),
    )
}

/// An ID token for the configured client.
pub fn id_claims(nonce: &str) -> Value {
    with(user_claims(), json!({"azp": null, "azpacr": null, "scp": null, "nonce": nonce}))
}

/// `claims` with some replaced; null removes one.
pub fn with(mut claims: Value, changes: Value) -> Value {
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// Responses by the end of the URL they are for.
type Documents = Rc<RefCell<Vec<(String, http::Response<Vec<u8>>)>>>;

/// An Entra ID that publishes metadata and keys, and an environment that is configured for it.
pub struct FakeAuthority {
    /// The fakes.
    pub world: World,
    /// On these fakes.
    pub env: EntraWorld<'static>,
    /// Answered for URLs by their end; the first match counts.
    pub documents: Documents,
    /// While set, every request fails like this.
    pub outage: Rc<RefCell<Option<HttpError>>>,
}

impl Default for FakeAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeAuthority {
    /// Publishes the RSA key `rsa`, `rsa-ps` for PS256, and the EC key `p256`.
    pub fn new() -> Self {
        let rsa = TestKey::named("rsa");
        let keys = json!([
            rsa.jwk("rsa"),
            with(rsa.jwk("rsa-ps"), json!({"alg": "PS256"})),
            TestKey::named("p256").jwk("p256")
        ]);
        Self::with_keys(keys)
    }

    /// Publishes these keys.
    pub fn with_keys(keys: Value) -> Self {
        forget_instance();
        let world = World::default();
        let mut env = world.entra();
        change(&mut env, |settings| settings.token.audiences = vec![CLIENT.to_owned(), format!("api://{CLIENT}")]);
        let authority = Self { world: world.clone(), env, documents: Rc::default(), outage: Rc::default() };
        let (documents, outage) = (Rc::clone(&authority.documents), Rc::clone(&authority.outage));
        world.always(move |request| {
            if let Some(error) = outage.borrow().as_ref() {
                return Err(*error);
            }
            let url = request.uri().to_string();
            let documents = documents.borrow();
            let found = documents.iter().find(|(end, _)| url.ends_with(end)).map(|(_, response)| response.clone());
            Ok(found.unwrap_or_else(|| response(404, &json!({}))))
        });
        authority.publish_metadata(TENANT, TENANT);
        authority.publish_keys(keys);
        authority
    }

    /// Answers requests for URLs that end in `end` with a document.
    pub fn publish(&self, end: &str, document: http::Response<Vec<u8>>) {
        let mut documents = self.documents.borrow_mut();
        documents.retain(|(known, _)| known != end);
        documents.push((end.to_owned(), document));
    }

    /// Publishes the metadata of the tenant setting `tenant` with the issuer of `issuer_tenant`.
    pub fn publish_metadata(&self, tenant: &str, issuer_tenant: &str) {
        let metadata = json!({
            "issuer": format!("{AUTHORITY}/{issuer_tenant}/v2.0"),
            "jwks_uri": format!("{AUTHORITY}/{tenant}/discovery/v2.0/keys"),
        });
        self.publish("/v2.0/.well-known/openid-configuration", response(200, &metadata));
    }

    /// Publishes these keys.
    pub fn publish_keys(&self, keys: Value) {
        self.publish("/discovery/v2.0/keys", response(200, &json!({ "keys": keys })));
    }

    /// How many requests went to URLs that end in `end`.
    pub fn requests(&self, end: &str) -> usize {
        self.world.sent().iter().filter(|sent| sent.ends_with(end)).count()
    }

    /// How many requests were for the keys.
    pub fn key_requests(&self) -> usize {
        self.requests("/discovery/v2.0/keys")
    }
}
