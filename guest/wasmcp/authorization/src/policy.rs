//! What is required of a caller beyond a genuine token, and what can be judged of claims alone.
//!
//! Threat: claims come to `authorize` without a signature, from a component of the chain, and could be of anything: of a token
//! that was judged long ago, for another application, or of none. Whether a token was genuine can only `decode` say. So all
//! the rest is judged again, and what is not there counts against the claims.

use base::bearer_settings::Configuration;
use base::principal::PrincipalKind;
use entra::issuers::{self, TokenVersion};
use entra::tenants::{self, TokenUse, is_guid};
use entra::token::TokenError;

use crate::claims::Claims;

/// What `idtyp` is of an application that calls for itself.
const APP: &str = "app";

/// A person's token has to carry the required scope. An application has none, and what it may do follows from its roles: a
/// token without any was not accepted.
pub fn permits(configuration: &Configuration, kind: PrincipalKind, scopes: &[String]) -> Result<(), TokenError> {
    let required = &configuration.required_scope;
    if kind == PrincipalKind::User && !scopes.contains(required) {
        let required = vec![required.clone()];
        return Err(TokenError::ScopesMissing { missing: required.clone(), required });
    }
    Ok(())
}

/// Judges claims by themselves. They have to be such as [`Claims::of`] makes them.
pub fn check(configuration: &Configuration, claims: &Claims, now: u64) -> Result<(), TokenError> {
    if claims.subject.is_empty() {
        return Err(missing("sub"));
    }
    let tenant_id = guid(claims, "tid")?;
    guid(claims, "oid")?;
    let version = claims.other("ver").ok_or_else(|| missing("ver"))?;
    let version =
        TokenVersion::of(version).ok_or_else(|| TokenError::VersionNotSupported { actual: version.to_owned() })?;
    check_issuer(configuration, claims, version, tenant_id)?;
    // The setting is the id of a tenant, so the authority's tenant is that one.
    let settings = &configuration.verdict;
    if !tenants::accepts(settings, Some(&settings.tenant), tenant_id, TokenUse::Access) {
        return Err(TokenError::TenantNotAllowed { tenant_id: tenant_id.to_owned() });
    }
    check_audience(configuration, claims, version)?;
    check_dates(configuration, claims, now)?;
    if claims.is_bound {
        return Err(TokenError::KeyBound { methods: Vec::new() });
    }
    check_permissions(configuration, claims)
}

fn missing(name: &str) -> TokenError {
    TokenError::ClaimMissing { name: name.to_owned() }
}

fn malformed(name: &str) -> TokenError {
    TokenError::ClaimMalformed { name: name.to_owned() }
}

fn guid<'c>(claims: &'c Claims, name: &str) -> Result<&'c str, TokenError> {
    let id = claims.other(name).ok_or_else(|| missing(name))?;
    if is_guid(id) { Ok(id) } else { Err(malformed(name)) }
}

/// The issuer of version 1 is known of Microsoft's clouds; of any other authority only its metadata tells, which is not
/// fetched for claims.
fn check_issuer(
    configuration: &Configuration,
    claims: &Claims,
    version: TokenVersion,
    tenant_id: &str,
) -> Result<(), TokenError> {
    let authority = &configuration.verdict.authority;
    let expected = match version {
        TokenVersion::V1 => issuers::version_1(authority, tenant_id),
        TokenVersion::V2 => Some(issuers::version_2(authority, tenant_id)),
    };
    let actual = claims.issuer.as_ref().ok_or_else(|| missing("iss"))?;
    if expected.as_ref() == Some(actual) {
        return Ok(());
    }
    Err(TokenError::IssuerMismatch { expected: expected.unwrap_or_default(), actual: actual.clone() })
}

/// Version 2 names the application by its id and nothing else, version 1 also by its App ID URI.
fn check_audience(configuration: &Configuration, claims: &Claims, version: TokenVersion) -> Result<(), TokenError> {
    let [actual] = claims.audience.as_slice() else { return Err(malformed("aud")) };
    let expected = match version {
        TokenVersion::V1 => configuration.verdict.token.audiences.clone(),
        TokenVersion::V2 => vec![configuration.client_id.clone()],
    };
    if expected.contains(actual) {
        return Ok(());
    }
    Err(TokenError::AudienceMismatch { expected, actual: actual.clone() })
}

fn check_dates(configuration: &Configuration, claims: &Claims, now: u64) -> Result<(), TokenError> {
    let tolerance = configuration.verdict.token.clock_tolerance.unwrap_or_default().as_secs();
    let latest = now.saturating_add(tolerance);
    let expires_at = claims.expires_at.ok_or_else(|| missing("exp"))?;
    let not_before = claims.not_before.ok_or_else(|| missing("nbf"))?;
    let issued_at = claims.issued_at.ok_or_else(|| missing("iat"))?;
    if now >= expires_at.saturating_add(tolerance) {
        return Err(TokenError::Expired { seconds_ago: now.saturating_sub(expires_at) });
    }
    if not_before > latest {
        return Err(TokenError::NotYetValid { seconds_ahead: not_before.saturating_sub(now) });
    }
    if issued_at > latest {
        return Err(TokenError::IssuedInFuture { seconds_ahead: issued_at.saturating_sub(now) });
    }
    Ok(())
}

fn check_permissions(configuration: &Configuration, claims: &Claims) -> Result<(), TokenError> {
    if claims.other("idtyp") != Some(APP) {
        return permits(configuration, PrincipalKind::User, &claims.scopes);
    }
    if !claims.scopes.is_empty() {
        return Err(malformed("idtyp"));
    }
    let roles = claims.other("roles").and_then(|roles| serde_json::from_str::<Vec<String>>(roles).ok());
    if roles.is_none_or(|roles| roles.is_empty()) {
        return Err(TokenError::NoPermissions);
    }
    permits(configuration, PrincipalKind::App, &claims.scopes)
}

#[cfg(test)]
mod tests {
    use base::principal::Principal;

    use super::*;
    use crate::claims::tests::{CLIENT, NOW, TENANT, claims, principal};
    use crate::settings;

    fn configuration(more: &[(&str, &str)]) -> Configuration {
        let usual = [
            ("ENTRA_MCP_TENANT_ID", TENANT),
            ("ENTRA_MCP_CLIENT_ID", CLIENT),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
        ];
        let all: Vec<_> =
            usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings::read(&all).unwrap()
    }

    fn judged(claims: &Claims) -> Result<(), &'static str> {
        check(&configuration(&[]), claims, NOW).map_err(|error| error.reason())
    }

    /// `claims` with another claim replaced, or without it.
    fn other(claims: &Claims, name: &str, value: Option<&str>) -> Claims {
        let mut claims = claims.clone();
        claims.others.retain(|(known, _)| known != name);
        claims.others.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        claims
    }

    #[test]
    fn what_decode_says_of_an_accepted_token_is_authorized() {
        assert_eq!(judged(&claims(&principal())), Ok(()));
        let app = Principal { kind: PrincipalKind::App, scopes: Vec::new(), ..principal() };
        assert_eq!(judged(&claims(&app)), Ok(()));
    }

    #[test]
    fn a_token_of_version_1_is_for_the_app_id_uri_and_of_the_issuer_of_the_cloud() {
        let mut claims = claims(&Principal { token_version: 1, ..principal() });
        assert_eq!(judged(&claims), Err("issuer-mismatch"));
        claims.issuer = Some(format!("https://sts.windows.net/{TENANT}/"));
        claims.audience = vec!["https://mcp.example.com/mcp".to_owned()];
        assert_eq!(judged(&claims), Ok(()));
        // Only the metadata of another authority says what its issuer of version 1 is.
        let elsewhere = configuration(&[("ENTRA_MCP_AUTHORITY", "https://login.example.com")]);
        assert_eq!(check(&elsewhere, &claims, NOW).map_err(|error| error.reason()), Err("issuer-mismatch"));
    }

    #[test]
    fn claims_that_no_accepted_token_has_are_refused() {
        let good = claims(&principal());
        let app = claims(&Principal { kind: PrincipalKind::App, scopes: Vec::new(), ..principal() });
        let foreign = "99999999-2222-3333-4444-555555555555";
        let of = |issuer: &str| Some(format!("https://login.microsoftonline.com/{issuer}/v2.0"));
        for (refused, expected) in [
            (Claims::default(), "claim-missing"),
            (Claims { subject: String::new(), ..good.clone() }, "claim-missing"),
            (Claims { issuer: None, ..good.clone() }, "claim-missing"),
            (Claims { issuer: Some(format!("https://evil.example/{TENANT}/v2.0")), ..good.clone() }, "issuer-mismatch"),
            (Claims { issuer: of(foreign), ..good.clone() }, "issuer-mismatch"),
            (Claims { issuer: of(foreign), ..other(&good, "tid", Some(foreign)) }, "tenant-not-allowed"),
            (other(&good, "tid", None), "claim-missing"),
            (other(&good, "tid", Some("common")), "claim-malformed"),
            (other(&good, "oid", None), "claim-missing"),
            (other(&good, "oid", Some("alice@contoso.example")), "claim-malformed"),
            (other(&good, "ver", None), "claim-missing"),
            (other(&good, "ver", Some("3.0")), "version-not-supported"),
            (Claims { audience: Vec::new(), ..good.clone() }, "claim-malformed"),
            (Claims { audience: vec![CLIENT.to_owned(), foreign.to_owned()], ..good.clone() }, "claim-malformed"),
            (Claims { audience: vec![foreign.to_owned()], ..good.clone() }, "audience-mismatch"),
            (Claims { audience: vec!["https://mcp.example.com/mcp".to_owned()], ..good.clone() }, "audience-mismatch"),
            (Claims { expires_at: None, ..good.clone() }, "claim-missing"),
            (Claims { expires_at: Some(NOW - 60), ..good.clone() }, "expired"),
            (Claims { not_before: None, ..good.clone() }, "claim-missing"),
            (Claims { not_before: Some(NOW + 61), ..good.clone() }, "not-yet-valid"),
            (Claims { issued_at: None, ..good.clone() }, "claim-missing"),
            (Claims { issued_at: Some(NOW + 61), ..good.clone() }, "issued-in-future"),
            (Claims { is_bound: true, ..good.clone() }, "key-bound"),
            (Claims { scopes: Vec::new(), ..good.clone() }, "scopes-missing"),
            (Claims { scopes: vec!["Mail.Read".to_owned()], ..good.clone() }, "scopes-missing"),
            (other(&good, "idtyp", Some("app")), "claim-malformed"),
            (other(&app, "idtyp", None), "scopes-missing"),
            (other(&app, "roles", None), "no-permissions"),
            (other(&app, "roles", Some("[]")), "no-permissions"),
            (other(&app, "roles", Some("Reader")), "no-permissions"),
        ] {
            assert_eq!(judged(&refused), Err(expected), "{refused:?}");
        }
    }

    #[test]
    fn an_allowed_tenant_is_judged_by_its_own_issuer() {
        let foreign = "99999999-2222-3333-4444-555555555555";
        let mut claims = other(&claims(&principal()), "tid", Some(foreign));
        claims.issuer = Some(format!("https://login.microsoftonline.com/{foreign}/v2.0"));
        let allowed = configuration(&[("ENTRA_MCP_ALLOW_TENANT", foreign)]);
        assert_eq!(check(&allowed, &claims, NOW), Ok(()));
        assert_eq!(judged(&claims), Err("tenant-not-allowed"));
    }
}
