//! How a confidential client proves its identity: secret, certificate assertion, federated assertion.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::agents;
use super::config::{Application, Config, FederatedCredential};
use super::errors::{self, Refusal};
use super::http::{Incoming, Params};
use super::jwt::{self, Unverified};
use super::tokens::ClientProof;
use super::world::World;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Checks the credential of a token request, if it has one. Whether it needs one is the grant's business.
pub(crate) fn authenticate(
    world: &World,
    config: &Config,
    incoming: &Incoming,
    form: &Params,
    client: &Application,
    segment: &str,
) -> Result<ClientProof, Refusal> {
    let basic = basic_credentials(incoming);
    let secret = form.get("client_secret").map(str::to_owned).or_else(|| basic.map(|(_, secret)| secret));
    let assertion = form.get("client_assertion");
    if secret.is_none() && assertion.is_none() {
        return Ok(ClientProof::None);
    }
    if !client.is_confidential() {
        return Err(errors::PUBLIC_CLIENT_WITH_CREDENTIAL
            .because("Client is public so neither 'client_assertion' nor 'client_secret' should be presented."));
    }
    match (secret, assertion) {
        (_, Some(assertion)) => {
            if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
                return Err(errors::MISSING_PARAMETER
                    .because("The request body must contain the following parameter: 'client_assertion_type'."));
            }
            check_assertion(world, config, client, assertion, segment)?;
            Ok(ClientProof::Assertion)
        }
        (Some(secret), None) => {
            check_secret(client, &secret)?;
            Ok(ClientProof::Secret)
        }
        (None, None) => Ok(ClientProof::None),
    }
}

/// Client id and secret of an `Authorization: Basic` header, form-decoded as RFC 6749 says.
pub(crate) fn basic_credentials(incoming: &Incoming) -> Option<(String, String)> {
    let encoded = incoming.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| {
        url::form_urlencoded::parse(format!("v={part}").as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

/// The refusal of a request that needs a credential and has none.
pub(crate) fn required() -> Refusal {
    errors::CREDENTIAL_MISSING
        .because("The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
}

fn check_secret(client: &Application, secret: &str) -> Result<(), Refusal> {
    match client.secrets.iter().find(|known| known.value == secret) {
        Some(known) if known.expired => Err(errors::SECRET_EXPIRED.because(format!(
            "The provided client secret keys for app '{}' are expired. Visit the Azure portal to create new keys for your \
             app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security.",
            client.id
        ))),
        Some(_) => Ok(()),
        None => Err(errors::WRONG_SECRET.because(format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the \
             client secret ID, for a secret added to app '{}'.",
            client.id
        ))),
    }
}

fn check_assertion(
    world: &World,
    config: &Config,
    client: &Application,
    assertion: &str,
    segment: &str,
) -> Result<(), Refusal> {
    let assertion =
        jwt::parse(assertion).map_err(|_| errors::ASSERTION_MALFORMED.because("JWT token is invalid or malformed."))?;
    if let Some(blueprint) = &client.blueprint {
        return agents::check_assertion(world, client, blueprint, &assertion);
    }
    match assertion.text("iss") {
        Some(issuer) if issuer == client.id => check_certificate(world, config, client, &assertion, segment),
        Some(issuer) => check_federated(world, client, &assertion, issuer),
        None => Err(errors::ASSERTION_MALFORMED.because("JWT token is invalid or malformed.")),
    }
}

fn check_certificate(
    world: &World,
    config: &Config,
    client: &Application,
    assertion: &Unverified,
    segment: &str,
) -> Result<(), Refusal> {
    if assertion.text("sub") != Some(client.id.as_str()) {
        return Err(errors::ASSERTION_ISSUER.because(format!(
            "Client assertion application identifier doesn't match 'client_id' parameter. Expected: '{}'.",
            client.id
        )));
    }
    let certificates = client.certificates.iter().filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
    let certificate = certificates.into_iter().find(|certificate| {
        let by_sha256 =
            assertion.header_text("x5t#S256").map(|name| unpadded(name) == thumbprint(&digest::SHA256, certificate));
        let by_sha1 = assertion
            .header_text("x5t")
            .map(|name| unpadded(name) == thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate));
        // Both may be present; then both have to fit.
        matches!((by_sha256, by_sha1), (Some(true), None | Some(true)) | (None, Some(true)))
    });
    let Some(certificate) = certificate else {
        return Err(errors::ASSERTION_SIGNATURE.because(format!(
            "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The \
             key was not found., Thumbprint of key used by client: '{}']",
            assertion.header_text("x5t#S256").or_else(|| assertion.header_text("x5t")).unwrap_or_default()
        )));
    };
    if !assertion.is_signed_by_certificate(&certificate) {
        return Err(errors::ASSERTION_SIGNATURE
            .because("Client assertion failed signature validation. [Reason - The signature is invalid.]"));
    }
    // The token endpoint is what the documentation says; the issuer of the authority is accepted as well.
    let accepted = [segment, client.tenant.as_str(), "common", "organizations"]
        .iter()
        .flat_map(|tenant| {
            ["oauth2/v2.0/token", "oauth2/token", "v2.0"].map(|path| format!("{}/{tenant}/{path}", world.base))
        })
        .any(|audience| assertion.has_audience(&audience));
    if !accepted {
        return Err(errors::ASSERTION_AUDIENCE.because(
            "Client assertion audience claim does not match Realm issuer. Review the documentation at \
             https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials .",
        ));
    }
    check_lifetime(world, config, assertion)?;
    if config.policy.refuse_replayed_assertions {
        let id = assertion.text("jti").unwrap_or_default().to_owned();
        let key = format!("{}|{id}", client.id);
        let mut state = world.state();
        if id.is_empty() || state.used_assertions.get(&key).is_some() {
            return Err(errors::ASSERTION_REPLAYED.because("Client assertion was already used, or has no 'jti'."));
        }
        state.used_assertions.insert(key, ());
    }
    Ok(())
}

fn check_lifetime(world: &World, config: &Config, assertion: &Unverified) -> Result<(), Refusal> {
    let now = world.clock.now();
    let skew = config.policy.clock_skew;
    let expires = assertion.seconds("exp").unwrap_or(0);
    let starts = assertion.seconds("nbf").or_else(|| assertion.seconds("iat")).unwrap_or(0);
    let within = starts <= now.saturating_add(skew) && expires > now.saturating_sub(skew);
    if within && expires.saturating_sub(starts) <= config.policy.client_assertion_longest {
        return Ok(());
    }
    Err(errors::ASSERTION_LIFETIME.because(format!(
        "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {starts}, expiry time \
         of assertion {expires}."
    )))
}

fn check_federated(world: &World, client: &Application, assertion: &Unverified, issuer: &str) -> Result<(), Refusal> {
    let issuer_of = |credential: &FederatedCredential| credential.issuer.replace("{base}", &world.base);
    let of_issuer: Vec<&FederatedCredential> =
        client.federated_credentials.iter().filter(|credential| issuer_of(credential) == issuer).collect();
    if of_issuer.is_empty() {
        return Err(errors::FEDERATION_ISSUER.because(format!(
            "No matching federated identity record found for presented assertion issuer '{issuer}'. Check your federated \
             identity credential Subject, Audience and Issuer against the presented assertion."
        )));
    }
    let subject = assertion.text("sub").unwrap_or_default();
    let Some(credential) = of_issuer.into_iter().find(|credential| credential.subject == subject) else {
        return Err(errors::FEDERATION_SUBJECT.because(format!(
            "No matching federated identity record found for presented assertion subject '{subject}'. Check your federated \
             identity credential Subject, Audience and Issuer against the presented assertion."
        )));
    };
    if !assertion.has_audience(&credential.audience) {
        return Err(errors::FEDERATION_AUDIENCE.because(format!(
            "No matching federated identity record found for presented assertion audience '{}'. Check your federated identity \
             credential Subject, Audience and Issuer against the presented assertion.",
            assertion.text("aud").unwrap_or_default()
        )));
    }
    // Entra ID fetches an issuer's keys from its metadata. Here the emulator's own issuers have its keys, and all
    // others one key, with which the control API mints their tokens.
    let key = if issuer.starts_with(&world.base) {
        assertion.header_text("kid").and_then(|id| world.keys.find(id))
    } else {
        Some(world.keys.federated.clone())
    };
    if !key.is_some_and(|key| assertion.is_signed_rs256(key.modulus(), key.exponent())) {
        return Err(errors::ASSERTION_SIGNATURE
            .because("Client assertion failed signature validation. [Reason - The signature is invalid.]"));
    }
    let now = world.clock.now();
    let expires = assertion.seconds("exp").unwrap_or(0);
    let starts = assertion.seconds("nbf").unwrap_or(0);
    if expires <= now || starts > now.saturating_add(300) {
        return Err(errors::ASSERTION_LIFETIME.because(format!(
            "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {starts}, expiry \
             time of assertion {expires}."
        )));
    }
    Ok(())
}

fn thumbprint(algorithm: &'static digest::Algorithm, certificate: &CertificateDer<'_>) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(algorithm, certificate))
}

/// MSAL for Python writes thumbprints with padding, against RFC 7515, and Entra ID accepts them.
fn unpadded(thumbprint: &str) -> &str {
    thumbprint.trim_end_matches('=')
}
