//! The steps that make a token usable, top to bottom.
//!
//! They follow RFC 7515 section 5.2 (signature), RFC 7519 section 7.2 (claims), RFC 8725 (what goes wrong
//! otherwise), OpenID Connect Core section 3.1.3.7 (ID tokens) and Entra ID's own rules. None is optional, and
//! there is no other way to get a [`ValidatedToken`] or a [`ValidatedIdToken`].
//!
//! The order is by cost and by trust: form, then what decides which keys count, then the signature; everything
//! that is said to a client with more detail than "not valid" comes after the signature.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use base::principal::{AgentRole, CallerKind, Groups, Principal, PrincipalKind};
use base::settings::Settings;
use world::BodyOnce;

use super::authority::AuthorityEndpoints;
use super::claims::{Claims, client_claim};
use super::compact;
use super::documents::{AuthorityFault, Demand};
use super::error::{KeyFault, TokenError};
use super::given_keys::GivenKeys;
use super::instance::InstanceCaches;
use super::jwks::{Fingerprint, JsonWebKey, KeySet};
use super::requirements::{GroupResolver, Requirements};
use super::validated::{self, TokenHash};
use crate::entra_world::EntraWorld;
use crate::issuers::{self, TokenVersion};
use crate::tenants::{self, TokenUse, is_guid};

pub(super) mod proof;

pub use proof::ValidatedToken;

/// The most that clocks may differ, whatever is configured: beyond it, expiry would lose its meaning.
const MAX_CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// The difference between clocks that an access token is accepted with, unless set otherwise. Servers have synchronised
/// clocks, and a larger one would keep expired tokens alive.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The same for an ID token, as in Microsoft's libraries: it comes from Entra ID over TLS at the moment it was issued, and
/// people's machines have clocks that are minutes off.
const ID_TOKEN_CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What an ID token has to match besides the settings. Its audience is the configured client id.
#[derive(Clone, Copy)]
pub struct IdTokenExpectations<'a> {
    /// The `nonce` of the authorization request; `None` for a grant without one (device code, refresh), whose
    /// tokens must then not carry any.
    pub nonce: Option<&'a str>,
}

/// Proof that an ID token passed every step. Made here and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct ValidatedIdToken {
    tenant_id: String,
    object_id: String,
    subject: String,
    issuer: String,
    expires_at: u64,
    preferred_username: Option<String>,
    name: Option<String>,
    guest: bool,
    roles: Vec<String>,
    groups: Groups,
    contexts: Option<Vec<String>>,
    login_hint: Option<String>,
}

/// Names and addresses of people do not belong into logs.
impl fmt::Debug for ValidatedIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatedIdToken")
            .field("tenant_id", &self.tenant_id)
            .field("object_id", &self.object_id)
            .field("issuer", &self.issuer)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl ValidatedIdToken {
    /// `tid`.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// `oid`.
    pub fn object_id(&self) -> &str {
        &self.object_id
    }

    /// `sub`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `exp`, Unix time in seconds.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// `acrs`: the authentication contexts that the sign-in has satisfied; `None` if the token does not say.
    pub fn contexts(&self) -> Option<&[String]> {
        self.contexts.as_deref()
    }

    /// `preferred_username`. For display only: it can change hands.
    pub fn preferred_username(&self) -> Option<&str> {
        self.preferred_username.as_deref()
    }

    /// `name`. For display only.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// `login_hint`, an optional claim: names the person's session to Entra ID.
    pub fn login_hint(&self) -> Option<&str> {
        self.login_hint.as_deref()
    }

    /// Whether the person's home is another identity provider (`idp`, `acct`).
    pub fn guest(&self) -> bool {
        self.guest
    }

    /// `roles`: those of the configured application.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// `groups`, or their overage.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }
}

/// Validates an access token that a client presents. Groups in overage cannot satisfy a requirement here.
pub async fn validate_access_token(
    env: &EntraWorld<'_>,
    token: &str,
    needs: &Requirements,
) -> Result<ValidatedToken, TokenError> {
    validate_access_token_with(env, token, needs, None).await.map(Rc::unwrap_or_clone)
}

/// Validates an access token that a client presents; `resolver` is asked for groups in overage when `needs`
/// names groups.
pub async fn validate_access_token_with(
    env: &EntraWorld<'_>,
    token: &str,
    needs: &Requirements,
    resolver: Option<&dyn GroupResolver>,
) -> Result<Rc<ValidatedToken>, TokenError> {
    let instance = InstanceCaches::current(env.settings);
    let validated = access_token(env, &instance, token).await;
    if let Err(error) = &validated {
        // Only a genuine token has got as far as the errors for which something is asked here.
        Box::pin(instance.authority.look_at_clock(env, error)).await;
    }
    let validated = validated?;
    // 13. What this call requires. Not remembered: the next call may require something else.
    needs.check(env, validated.principal(), resolver).await?;
    Ok(validated)
}

/// Validates an access token by keys that the caller hands in. Nothing is fetched, and what the store has of the authority
/// does not count; nor does the store, or another call, get these keys.
pub async fn validate_access_token_by_keys(
    env: &EntraWorld<'_>,
    token: &str,
    needs: &Requirements,
    keys: &GivenKeys<'_>,
) -> Result<Rc<ValidatedToken>, TokenError> {
    let instance = InstanceCaches::for_keys(env.settings, keys.hash());
    let env = EntraWorld { http: keys, records: env.records.without_store(), ..*env };
    let validated = access_token(&env, &instance, token).await?;
    needs.check(&env, validated.principal(), None).await?;
    Ok(validated)
}

/// Validates the ID token of a sign-in.
#[inline(never)]
pub fn validate_id_token<'f>(
    env: &'f EntraWorld<'_>,
    token: &'f str,
    expected: &'f IdTokenExpectations<'_>,
) -> BodyOnce<'f, Result<ValidatedIdToken, TokenError>> {
    Box::pin(async move {
        let settings = env.settings;
        if !is_guid(&settings.client_id) {
            return Err(TokenError::ConfigurationInvalid { setting: "client_id".to_owned() });
        }
        let instance = InstanceCaches::current(settings);
        let (claims, _) = genuine(env, &instance, token, &validated::hash(token), TokenUse::Id).await?;
        check_audience(&claims, std::slice::from_ref(&settings.client_id))?;
        check_times(env, TokenUse::Id, claims.not_before, claims.issued_at, claims.expires_at)?;
        // OpenID Connect Core section 3.1.3.7, steps 4 and 5: the authorized party, if named, is this client.
        if let Some(party) = claims.client_id.as_ref().filter(|party| **party != settings.client_id) {
            return Err(TokenError::ClientNotAllowed {
                expected: vec![settings.client_id.clone()],
                actual: party.clone(),
            });
        }
        // Step 11: the nonce ties the token to the request that this process made.
        if claims.nonce.as_deref() != expected.nonce {
            return Err(TokenError::NonceMismatch);
        }
        // People sign in. What an agent may do depends on rules that name agents, and a session does not know of them.
        if claims.agent.as_ref().is_some_and(|agent| agent.role != AgentRole::Unknown) {
            return Err(TokenError::PrincipalKindMismatch { required: CallerKind::User, actual: CallerKind::Agent });
        }
        let guest = is_guest(settings, &claims);
        let Claims {
            tenant_id,
            object_id,
            subject,
            issuer,
            expires_at,
            preferred_username,
            name,
            roles,
            groups,
            contexts,
            login_hint,
            ..
        } = claims;
        Ok(ValidatedIdToken {
            tenant_id,
            object_id,
            subject,
            issuer,
            expires_at,
            preferred_username,
            name,
            guest,
            roles,
            groups,
            contexts,
            login_hint,
        })
    })
}

/// Where clients of the configured authority obtain tokens.
pub async fn endpoints(env: &EntraWorld<'_>) -> Result<AuthorityEndpoints, TokenError> {
    InstanceCaches::current(env.settings).authority.endpoints(env).await
}

/// Whether the authority is one, and knows the tenant: its metadata can be read, now or within the last two days.
pub async fn check_authority(env: &EntraWorld<'_>) -> Result<(), AuthorityFault> {
    InstanceCaches::current(env.settings).authority.check(env).await.map(drop)
}

/// Whether the metadata of the authority was read within the last two days. Asks no service.
pub async fn knows_authority(env: &EntraWorld<'_>) -> bool {
    InstanceCaches::current(env.settings).authority.is_known(env).await
}

/// Whether the authority has usable signing keys.
pub async fn check_keys(env: &EntraWorld<'_>) -> Result<(), AuthorityFault> {
    InstanceCaches::current(env.settings).authority.check_keys(env).await
}

/// Forgets that this token was accepted: it is validated anew when it comes again. For sign-out and revocation.
pub fn forget(settings: &Settings, token: &str) {
    InstanceCaches::current(settings).validated.borrow_mut().remove(&validated::hash(token));
}

/// Forgets all accepted tokens of a principal. For a claims challenge: a downstream API has said that what Entra
/// ID knows about the principal has changed.
pub fn forget_principal(settings: &Settings, tenant_id: &str, object_id: &str) {
    InstanceCaches::current(settings).validated.borrow_mut().remove_principal(tenant_id, object_id);
}

/// The steps for an access token, or the memory of them.
async fn access_token(
    env: &EntraWorld<'_>,
    instance: &InstanceCaches,
    token: &str,
) -> Result<Rc<ValidatedToken>, TokenError> {
    // 0. A token that was accepted before is accepted again, as long as it is in date and its key in the set.
    compact::check_length(token)?;
    let hash = validated::hash(token);
    let now = env.clock.now();
    let remembered = instance.validated.borrow_mut().get(&hash, now);
    if let Some(remembered) = remembered {
        let (_, keys) = instance.authority.current(env, now).await?;
        if keys.value.contains(&remembered.key) {
            let Principal { issued_at, expires_at, .. } = remembered.principal;
            check_times(env, TokenUse::Access, remembered.not_before, issued_at, expires_at)?;
            return Ok(remembered);
        }
        instance.validated.borrow_mut().remove(&hash);
    }

    // 1. to 8.
    let (claims, key) = genuine(env, instance, token, &hash, TokenUse::Access).await?;

    // 9. The token is for this application (RFC 7519 section 4.1.3, RFC 8725 section 3.9). Version 2 names the application
    //    by its id and nothing else, version 1 also by its App ID URI.
    let accepted: Vec<String> = env
        .settings
        .token
        .audiences
        .iter()
        .filter(|audience| claims.version == TokenVersion::V1 || is_guid(audience))
        .cloned()
        .collect();
    check_audience(&claims, &accepted)?;

    // 10. The token is in date (RFC 7519 sections 4.1.4 to 4.1.6).
    check_times(env, TokenUse::Access, claims.not_before, claims.issued_at, claims.expires_at)?;

    // 11. It is a bearer token. One that is bound to a key (`cnf`) is nothing without a proof of possession, which
    //     this server asks no client for (RFC 7800 section 3).
    if let Some(methods) = claims.confirmation {
        return Err(TokenError::KeyBound { methods });
    }

    // 12. Its principal, and that it permits anything at all.
    let not_before = claims.not_before;
    let username = claims.preferred_username.clone().or_else(|| claims.upn.clone());
    let agent = claims.agent.clone();
    let principal = principal(env.settings, claims)?;

    let validated = ValidatedToken { principal, username, agent, not_before, key, first_seen: false };
    instance.validated.borrow_mut().insert(hash, Rc::new(validated.clone()));
    Ok(Rc::new(ValidatedToken { first_seen: true, ..validated }))
}

/// Steps 1 to 8: the token is what Entra ID signed for a tenant that counts. The claims, and the key.
#[inline(never)]
fn genuine<'f>(
    env: &'f EntraWorld<'_>,
    instance: &'f InstanceCaches,
    token: &'f str,
    hash: &'f TokenHash,
    token_use: TokenUse,
) -> BodyOnce<'f, Result<(Claims, Fingerprint), TokenError>> {
    Box::pin(async move {
        // 1. The form, and the header: allowed algorithm, no parameter that brings a key or has to be understood
        //    (RFC 7515 section 5.2 steps 1 to 5, RFC 8725 sections 2.4, 3.1, 3.10).
        let compact = compact::parse(token)?;

        // 2. The claims have their types (RFC 7519 section 7.2 steps 8 to 10).
        let claims = Claims::read(&compact.claims)?;

        // 3. An access token is not an ID token (RFC 8725 section 3.12): both are signed with the same keys, and an
        //    ID token's audience is a client id as well.
        check_use(&claims, token_use)?;

        // 4. The authority, by its own metadata.
        let now = env.clock.now();
        let (metadata, mut keys) = instance.authority.current(env, now).await?;

        // 5. The issuer is the one of the token's tenant, in the form of the token's version (RFC 8725 section 3.8).
        let expected = instance.authority.issuer(env, &metadata.value, claims.version, &claims.tenant_id).await?;
        if claims.issuer != expected {
            return Err(TokenError::IssuerMismatch { expected, actual: claims.issuer });
        }

        // 6. The tenant is accepted. A genuine token of a stranger's tenant is still a stranger's.
        let authority_tenant = metadata.value.tenant_id.as_deref();
        if !tenants::accepts(env.settings, authority_tenant, &claims.tenant_id, token_use) {
            return Err(TokenError::TenantNotAllowed { tenant_id: claims.tenant_id });
        }

        // 7. The key that the header names. A key id that is not in the set may be newer than the set.
        if keys.value.with_id(&compact.key_id).next().is_none() {
            let demand = match token_use {
                TokenUse::Access => Demand::NewerThan(keys.fetched_at),
                TokenUse::Id => Demand::NewerThanForAuthority(keys.fetched_at),
            };
            keys = instance.authority.keys(env, &metadata.value, demand).await?;
        }
        let key = select_key(env.settings, &keys.value, &compact.key_id, authority_tenant, &claims)?;
        let verifying = key
            .for_algorithm(compact.algorithm)
            .map_err(|fault| TokenError::KeyNotAllowed { key_id: compact.key_id.clone(), fault })?;

        // 8. The signature (RFC 7515 section 5.2 step 8).
        if instance.refused.borrow().contains(hash, &key.fingerprint, now) {
            return Err(TokenError::SignatureInvalid { key_id: compact.key_id });
        }
        if verifying.verify(token, env.signatures).is_err() {
            instance.refused.borrow_mut().insert(*hash, key.fingerprint, now);
            return Err(TokenError::SignatureInvalid { key_id: compact.key_id });
        }
        Ok((claims, key.fingerprint))
    })
}

/// Entra ID's ID tokens have no `scp`, its access tokens no `nonce` claim but always the client's id.
fn check_use(claims: &Claims, token_use: TokenUse) -> Result<(), TokenError> {
    let wrong = |expected: &str, claim: &str| {
        Err(TokenError::WrongTokenUse { expected: expected.to_owned(), claim: claim.to_owned() })
    };
    match token_use {
        TokenUse::Access if claims.nonce.is_some() => wrong("access token", "nonce"),
        TokenUse::Access if claims.client_id.is_none() => {
            Err(TokenError::ClaimMissing { name: client_claim(claims.version).to_owned() })
        }
        TokenUse::Id if claims.scopes.is_some() => wrong("ID token", "scp"),
        TokenUse::Id if claims.id_type.as_deref() == Some("app") => wrong("ID token", "idtyp"),
        // Sign-in uses the version 2 endpoints, whose ID tokens are of version 2.
        TokenUse::Id if claims.version != TokenVersion::V2 => {
            Err(TokenError::VersionNotSupported { actual: "1.0".to_owned() })
        }
        _ => Ok(()),
    }
}

/// The one key of this id that may sign for the token's tenant. Where the key set belongs to the token's own
/// tenant a key need not name its issuer; where several tenants share the set it must.
fn select_key<'a>(
    settings: &Settings,
    keys: &'a KeySet,
    key_id: &'a str,
    authority_tenant: Option<&str>,
    claims: &Claims,
) -> Result<&'a JsonWebKey, TokenError> {
    let not_allowed = |fault| TokenError::KeyNotAllowed { key_id: key_id.to_owned(), fault };
    let mut found = None;
    let mut fault = None;
    for key in keys.with_id(key_id) {
        let may_sign = match &key.issuer {
            Some(issuer) => issuers::key_may_sign_for(issuer, &settings.authority, &claims.tenant_id, &claims.issuer),
            None => authority_tenant == Some(claims.tenant_id.as_str()),
        };
        match (may_sign, found) {
            (false, _) => fault = Some(KeyFault::Issuer),
            (true, None) => found = Some(key),
            (true, Some(_)) => return Err(not_allowed(KeyFault::Ambiguous)),
        }
    }
    match (found, fault) {
        (Some(key), _) => Ok(key),
        (None, Some(fault)) => Err(not_allowed(fault)),
        (None, None) => Err(TokenError::KeyUnknown { key_id: key_id.to_owned() }),
    }
}

fn check_audience(claims: &Claims, accepted: &[String]) -> Result<(), TokenError> {
    if accepted.contains(&claims.audience) {
        return Ok(());
    }
    Err(TokenError::AudienceMismatch { expected: accepted.to_vec(), actual: claims.audience.clone() })
}

/// All dates are at most the year 9999, so none of these sums overflows.
fn check_times(
    env: &EntraWorld<'_>,
    token_use: TokenUse,
    not_before: u64,
    issued_at: u64,
    expires_at: u64,
) -> Result<(), TokenError> {
    let default_tolerance = match token_use {
        TokenUse::Access => CLOCK_TOLERANCE,
        TokenUse::Id => ID_TOKEN_CLOCK_TOLERANCE,
    };
    let now = env.clock.now();
    let tolerance = env.settings.token.clock_tolerance.unwrap_or(default_tolerance).min(MAX_CLOCK_TOLERANCE).as_secs();
    if now >= expires_at + tolerance {
        return Err(TokenError::Expired { seconds_ago: now - expires_at });
    }
    if not_before > now + tolerance {
        return Err(TokenError::NotYetValid { seconds_ahead: not_before - now });
    }
    if issued_at > now + tolerance {
        return Err(TokenError::IssuedInFuture { seconds_ahead: issued_at - now });
    }
    Ok(())
}

/// The tenant says so (`acct`: 1 is a guest, 0 a member, also one from another tenant); or, where it does not say, the
/// person's home is another identity provider (`idp`).
fn is_guest(settings: &Settings, claims: &Claims) -> bool {
    let is_foreign = |idp: &String| {
        issuers::is_foreign_identity_provider(idp, &settings.authority, &claims.tenant_id, &claims.issuer)
    };
    match claims.account_status {
        Some(0) => false,
        Some(1) => true,
        _ => claims.identity_provider.as_ref().is_some_and(is_foreign),
    }
}

/// Delegated tokens have scopes. App-only tokens have roles, and say so with `idtyp`, or, where that optional
/// claim is not configured, by being their own subject. A token with neither gives access to nothing.
fn principal(settings: &Settings, claims: Claims) -> Result<Principal, TokenError> {
    let malformed = |name: &str| TokenError::ClaimMalformed { name: name.to_owned() };
    let kind = match (&claims.scopes, claims.id_type.as_deref()) {
        (Some(_), None | Some("user")) => PrincipalKind::User,
        (None, Some("app")) if !claims.roles.is_empty() => PrincipalKind::App,
        (None, None) if !claims.roles.is_empty() && claims.subject == claims.object_id => PrincipalKind::App,
        (None, None | Some("app")) => return Err(TokenError::NoPermissions),
        // The two claims contradict each other, or `idtyp` has an undefined value.
        _ => return Err(malformed("idtyp")),
    };
    let guest = kind == PrincipalKind::User && is_guest(settings, &claims);
    Ok(Principal {
        tenant_id: claims.tenant_id,
        object_id: claims.object_id,
        subject: claims.subject,
        client_id: claims.client_id.unwrap_or_default(),
        kind,
        scopes: claims.scopes.unwrap_or_default(),
        roles: claims.roles,
        groups: claims.groups,
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        guest,
        agent: claims.agent.map(|agent| agent.role).filter(|role| *role != AgentRole::Unknown),
        contexts: claims.contexts.unwrap_or_default(),
        token_version: claims.version.number(),
        token_id: claims.token_id,
    })
}
