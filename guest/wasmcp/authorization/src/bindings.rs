//! The exports.

use std::cell::OnceCell;
use std::io::Write as _;
use std::rc::Rc;

use base::Secret;
use base::bearer_settings::Configuration;
use entra::token::{self, Part, Requirements, TokenError};
use world::{Clock as _, NoCredential, NoStore};

use self::generated::exports::wasmcp::auth::helpers;
use self::generated::exports::wasmcp::mcp_v20251125::server_auth::{self, HttpContext};
use self::generated::wasmcp::auth::types::{Jwt, JwtClaims};
use self::generated::wasmcp::mcp_v20251125::mcp::{ClientMessage, Session};
use self::wasi::{Wasi, with_world};
use crate::claims::Claims;
use crate::{policy, settings};

#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;
#[path = "../../../validator/src/fetch.rs"]
mod fetch;
mod interfaces;
#[path = "../../shared/wasi.rs"]
mod wasi;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: "../wit",
        world: "entra-mcp:wasmcp/authorization",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
    });
}

thread_local! {
    // A component instance has one thread, so this is the instance's.
    static CONFIGURATION: OnceCell<Option<Rc<Configuration>>> = const { OnceCell::new() };
}

/// The settings. None: they are not valid, which was said.
fn configuration() -> Option<Rc<Configuration>> {
    CONFIGURATION.with(|known| {
        let read = || {
            #[allow(
                clippy::disallowed_methods,
                reason = "the settings of this artefact are variables, and are read here only"
            )]
            let variables: Vec<_> = std::env::vars().collect();
            match settings::read(&variables) {
                Ok(configuration) => Some(Rc::new(configuration)),
                Err(error) => {
                    note(&format!("cannot start: {error}"));
                    None
                }
            }
        };
        known.get_or_init(read).clone()
    })
}

/// Adds a line to the log of the host, which is all that is told of why: wasmcp's interfaces say yes or no.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "entra-mcp: {text}");
}

struct Authorization;

impl server_auth::Guest for Authorization {
    fn decode(jwt: Jwt) -> Result<JwtClaims, ()> {
        let configuration = configuration().ok_or(())?;
        let token = String::from_utf8(jwt).map(Secret::new);
        let token = token.map_err(|_| TokenError::EncodingInvalid { part: Part::Header });
        let judged = token.and_then(|token| judged(&configuration, token.reveal()));
        judged.map(JwtClaims::from).map_err(|error| {
            let verdict = if error.is_refusal() { "a token is refused" } else { "a token cannot be judged" };
            note(&format!("{verdict}: {}", error.reason()));
        })
    }

    fn authorize(_: ClientMessage, claims: JwtClaims, _: Option<Session>, _: Option<HttpContext>) -> bool {
        let Some(configuration) = configuration() else { return false };
        match policy::check(&configuration, &Claims::from(claims), Wasi.now()) {
            Ok(()) => true,
            Err(error) => {
                note(&format!("claims are refused: {}", error.reason()));
                false
            }
        }
    }
}

/// The claims of a token that is accepted.
fn judged(configuration: &Configuration, token: &str) -> Result<Claims, TokenError> {
    let needs = Requirements::default();
    let validated = with_world(&configuration.verdict, &NoStore, &NoCredential, async |env| {
        token::validate_access_token_with(env, token, &needs, None).await
    })?;
    let principal = validated.principal();
    policy::permits(configuration, principal.kind, &principal.scopes)?;
    Claims::of(principal, token).ok_or(TokenError::JsonInvalid { part: Part::Claims })
}

impl From<Claims> for JwtClaims {
    fn from(claims: Claims) -> Self {
        Self {
            subject: claims.subject,
            issuer: claims.issuer,
            audience: claims.audience,
            expiration: claims.expires_at,
            issued_at: claims.issued_at,
            not_before: claims.not_before,
            jwt_id: claims.token_id,
            scopes: claims.scopes,
            // Of an accepted token there is none.
            confirmation: None,
            custom_claims: claims.others,
        }
    }
}

impl From<JwtClaims> for Claims {
    fn from(claims: JwtClaims) -> Self {
        Self {
            subject: claims.subject,
            issuer: claims.issuer,
            audience: claims.audience,
            expires_at: claims.expiration,
            issued_at: claims.issued_at,
            not_before: claims.not_before,
            token_id: claims.jwt_id,
            scopes: claims.scopes,
            is_bound: claims.confirmation.is_some(),
            others: claims.custom_claims,
        }
    }
}

impl helpers::Guest for Authorization {
    fn has_scope(claims: JwtClaims, scope: String) -> bool {
        Claims::from(claims).has_scope(&scope)
    }

    fn has_any_scope(claims: JwtClaims, scopes: Vec<String>) -> bool {
        let claims = Claims::from(claims);
        scopes.iter().any(|scope| claims.has_scope(scope))
    }

    fn has_all_scopes(claims: JwtClaims, scopes: Vec<String>) -> bool {
        let claims = Claims::from(claims);
        scopes.iter().all(|scope| claims.has_scope(scope))
    }

    fn get_scopes(claims: JwtClaims) -> Vec<String> {
        claims.scopes
    }

    fn has_audience(claims: JwtClaims, audience: String) -> bool {
        claims.audience.contains(&audience)
    }

    fn get_audiences(claims: JwtClaims) -> Vec<String> {
        claims.audience
    }

    fn is_expired(claims: JwtClaims, clock_skew_seconds: Option<u64>) -> bool {
        Claims::from(claims).is_expired(Wasi.now(), clock_skew_seconds)
    }

    fn is_valid_time(claims: JwtClaims, clock_skew_seconds: Option<u64>) -> bool {
        Claims::from(claims).is_current(Wasi.now(), clock_skew_seconds)
    }

    fn get_subject(claims: JwtClaims) -> String {
        claims.subject
    }

    fn get_issuer(claims: JwtClaims) -> Option<String> {
        claims.issuer
    }

    fn get_claim(claims: JwtClaims, key: String) -> Option<String> {
        Claims::from(claims).get(&key)
    }

    fn flatten_claims(claims: JwtClaims) -> Vec<(String, String)> {
        Claims::from(claims).flatten()
    }
}
