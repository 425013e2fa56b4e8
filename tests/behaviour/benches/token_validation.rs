//! What it costs to judge a token: in the component under wasmtime, and beside it natively with jsonwebtoken on
//! aws-lc, in the same run, so that the ratios mean something on any machine.
//!
//! `cold` tokens are new to the component, which has the keys; `cached` ones it has seen before. `portable` is the
//! component for any host, which is measured with `--features portable-component`, `bundled` the one with wide arithmetic.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark prints, and may stop at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "its tokens have to be valid now")]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion};
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::outbound_http::OutboundHttp;
use entra_mcp_plugin::token_validator::Requirements;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const AUTHORITY: &str = "https://login.microsoftonline.com";
const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const RSA_KEY: &[u8] = include_bytes!("../../emulator/src/keys/signing-1.pk8.der");

/// The two keys, and a counter that makes every token different.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    random: SystemRandom,
    issued: std::cell::Cell<u64>,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(RSA_KEY).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).unwrap(),
            random,
            issued: std::cell::Cell::new(0),
        }
    }

    /// A user's token with some groups: 1.4 KB, as Entra ID's often are.
    fn token(&self, algorithm: &str) -> String {
        let number = self.issued.replace(self.issued.get() + 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let groups: Vec<_> = (0..8).map(|group| format!("33334444-dddd-5555-eeee-{group:012x}")).collect();
        let claims = json!({
            "aud": CLIENT, "iss": format!("{AUTHORITY}/{TENANT}/v2.0"), "iat": now, "nbf": now, "exp": now + 3600,
            "azp": "22223333-cccc-4444-dddd-5555eeee6666", "azpacr": "1", "name": "Alice Anderson", "groups": groups,
            "oid": "11112222-bbbb-3333-cccc-4444dddd5555", "preferred_username": "alice@contoso.example",
            "scp": "Mcp.Access", "sub": "pairwise", "tid": TENANT, "uti": number.to_string(), "ver": "2.0",
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "typ": "JWT", "alg": algorithm, "kid": algorithm });
        let input = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match algorithm {
            "ES256" => self.p256.sign(&self.random, input.as_bytes()).unwrap().as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&signature::RSA_PKCS1_SHA256, &self.random, input.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn rsa_components(&self) -> (String, String) {
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e))
    }

    fn ec_components(&self) -> (String, String) {
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }

    fn documents(&self) -> HashMap<String, Vec<u8>> {
        let ((n, e), (x, y)) = (self.rsa_components(), self.ec_components());
        let issuer = format!("{AUTHORITY}/{TENANT}/v2.0");
        let keys_url = format!("{AUTHORITY}/{TENANT}/discovery/v2.0/keys");
        let keys = json!({ "keys": [
            { "kty": "RSA", "use": "sig", "kid": "RS256", "n": n, "e": e, "issuer": issuer },
            { "kty": "EC", "crv": "P-256", "use": "sig", "kid": "ES256", "x": x, "y": y, "issuer": issuer },
        ] });
        let metadata = json!({ "issuer": issuer, "jwks_uri": keys_url });
        let metadata_url = format!("{AUTHORITY}/{TENANT}/v2.0/.well-known/openid-configuration");
        HashMap::from([(metadata_url, metadata.to_string().into()), (keys_url, keys.to_string().into())])
    }
}

fn plugin(issuer: &Issuer, component: &'static [u8]) -> Plugin {
    let settings = Settings {
        client_type: ClientType::ConfidentialClient,
        tenant: TENANT.into(),
        client_id: CLIENT.into(),
        authority: AUTHORITY.into(),
        graph: "https://graph.microsoft.com".into(),
        graph_resource: "https://graph.microsoft.com".into(),
        sign_in: SignInSettings {
            method: SignInMethod::Automatic,
            timeout_seconds: 60,
            account: None,
            broker: BrokerUse::Off,
        },
        token: TokenSettings {
            audiences: vec![CLIENT.into()],
            allowed_tenants: Vec::new(),
            clock_tolerance_seconds: Some(60),
        },
        profile_cache_seconds: 0,
        audit_usernames: false,
        servers: Vec::new(),
        http: None,
    };
    Plugin::builder(settings)
        .component(component)
        .outbound_http(OutboundHttp::offline(issuer.documents()))
        .max_instances(1)
        .max_calls_per_instance(u32::MAX)
        .build()
        .unwrap()
}

fn measure_component(criterion: &mut Criterion, issuer: &Issuer, name: &str, component: &'static [u8]) {
    let runtime = Runtime::new().unwrap();
    let plugin = plugin(issuer, component);
    let needs = Requirements {
        all_scopes: vec!["Mcp.Access".into()],
        any_role: Vec::new(),
        any_group: Vec::new(),
        kind: None,
        any_client: Vec::new(),
    };
    let validate = |token: &str| {
        runtime.block_on(plugin.validate_token(token, &needs)).unwrap();
    };
    for algorithm in ["RS256", "ES256"] {
        validate(&issuer.token(algorithm));
        criterion.bench_function(&format!("{name}-cold-{algorithm}"), |bencher| {
            bencher.iter_batched_ref(
                || issuer.token(algorithm),
                |token| validate(black_box(token)),
                BatchSize::SmallInput,
            );
        });
    }
    let token = issuer.token("RS256");
    criterion.bench_function(&format!("{name}-cached"), |bencher| bencher.iter(|| validate(black_box(&token))));
}

fn measure_native(criterion: &mut Criterion, issuer: &Issuer) {
    let ((n, e), (x, y)) = (issuer.rsa_components(), issuer.ec_components());
    let keys = [
        ("RS256", Algorithm::RS256, DecodingKey::from_rsa_components(&n, &e).unwrap()),
        ("ES256", Algorithm::ES256, DecodingKey::from_ec_components(&x, &y).unwrap()),
    ];
    for (name, algorithm, key) in keys {
        let token = issuer.token(name);
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[CLIENT]);
        validation.set_issuer(&[format!("{AUTHORITY}/{TENANT}/v2.0")]);
        validation.validate_nbf = true;
        criterion.bench_function(&format!("native-{name}"), |bencher| {
            bencher.iter(|| jsonwebtoken::decode::<Value>(black_box(&token), &key, &validation).unwrap());
        });
    }
}

fn output() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion")
}

/// The mean that criterion wrote down, in nanoseconds; `None` if the benchmark was left out.
fn mean(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(output().join(name).join("new/estimates.json")).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["mean"]["point_estimate"].as_f64()
}

fn main() {
    let issuer = Issuer::new();
    let mut criterion = Criterion::default().output_directory(&output()).configure_from_args();
    measure_native(&mut criterion, &issuer);
    measure_component(&mut criterion, &issuer, "bundled", entra_mcp_plugin::BUNDLED_COMPONENT);
    #[cfg(feature = "portable-component")]
    measure_component(&mut criterion, &issuer, "portable", entra_mcp_plugin::PORTABLE_COMPONENT);
    criterion.final_summary();

    println!("\nTime as a multiple of native verification of the same algorithm (jsonwebtoken, aws-lc):");
    for (name, native, target) in [
        ("bundled-cached", "native-RS256", "at most 0.5"),
        ("bundled-cold-RS256", "native-RS256", "at most 12"),
        ("bundled-cold-ES256", "native-ES256", "at most 12"),
        ("portable-cached", "native-RS256", ""),
        ("portable-cold-RS256", "native-RS256", ""),
        ("portable-cold-ES256", "native-ES256", ""),
    ] {
        if let (Some(component), Some(native)) = (mean(name), mean(native)) {
            println!("{name:20} {:8.1} µs  {:6.2} ×  {target}", component / 1000.0, component / native);
        }
    }
}
