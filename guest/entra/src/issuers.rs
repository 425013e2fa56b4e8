//! The issuers that Entra ID writes into tokens, metadata and signing keys.

use super::clouds::{self, CONSUMER_TENANT};
use super::tenants::{Tenant, is_guid};

/// What stands for the tenant id in the issuer of a multi-tenant authority.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// Version of the token format; it decides the form of `iss`, and which claim names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenVersion {
    /// `ver` = `1.0`.
    V1,
    /// `ver` = `2.0`.
    V2,
}

impl TokenVersion {
    /// Reads the `ver` claim.
    pub fn of(ver: &str) -> Option<Self> {
        match ver {
            "1.0" => Some(Self::V1),
            "2.0" => Some(Self::V2),
            _ => None,
        }
    }

    /// 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// The issuer of a tenant's version 2 tokens.
pub fn version_2(authority: &str, tenant_id: &str) -> String {
    format!("{authority}/{tenant_id}/v2.0")
}

/// Where the metadata of version 2 is.
pub fn metadata_url(authority: &str, tenant: &str) -> String {
    format!("{authority}/{tenant}/v2.0/.well-known/openid-configuration")
}

/// Where the metadata of version 1 is.
pub fn version_1_metadata_url(authority: &str, tenant: &str) -> String {
    format!("{authority}/{tenant}/.well-known/openid-configuration")
}

/// The tenant id in a metadata document's issuer: `Ok(None)` for the template of a multi-tenant authority, an
/// error with the expected issuer if this is not the issuer of the configured tenant.
pub fn tenant_of_metadata(authority: &str, tenant: &Tenant, issuer: &str) -> Result<Option<String>, String> {
    let expected = match tenant {
        Tenant::Id(id) => id.as_str(),
        Tenant::Consumers => CONSUMER_TENANT,
        Tenant::Organizations | Tenant::Common => TENANT_PLACEHOLDER,
        // A domain is an alias: which tenant it belongs to is what the metadata tells.
        Tenant::Domain(_) => {
            return tenant_between(issuer, &format!("{authority}/"), "/v2.0")
                .map(|id| Some(id.to_owned()))
                .ok_or_else(|| version_2(authority, "{tenant id}"));
        }
    };
    let expected_issuer = version_2(authority, expected);
    if issuer != expected_issuer {
        return Err(expected_issuer);
    }
    Ok((!tenant.is_multi_tenant()).then(|| expected.to_owned()))
}

fn tenant_between<'a>(issuer: &'a str, before: &str, after: &str) -> Option<&'a str> {
    issuer.strip_prefix(before)?.strip_suffix(after).filter(|id| is_guid(id))
}

/// The issuer of a tenant's version 1 tokens, from the issuer in the authority's version 1 metadata: either a
/// template, or the issuer of the authority's own tenant. `None` if it is neither.
pub fn version_1_from_metadata(
    metadata_issuer: &str,
    authority_tenant: Option<&str>,
    tenant_id: &str,
) -> Option<String> {
    let placeholder = authority_tenant.filter(|id| metadata_issuer.contains(id)).unwrap_or(TENANT_PLACEHOLDER);
    let (before, after) = metadata_issuer.split_once(placeholder)?;
    Some(format!("{before}{tenant_id}{after}"))
}

/// The issuer of a tenant's version 1 tokens, if the authority is a known cloud.
pub fn version_1(authority: &str, tenant_id: &str) -> Option<String> {
    clouds::version_1_issuer_base(authority).map(|base| format!("{base}{tenant_id}/"))
}

/// Whether a signing key whose `issuer` member is `key_issuer` may sign tokens of this tenant.
///
/// Keys name the version 2 issuer, or its template, also when they sign version 1 tokens; so the token's own
/// issuer and the version 2 issuer of its tenant are both right.
pub fn key_may_sign_for(key_issuer: &str, authority: &str, tenant_id: &str, token_issuer: &str) -> bool {
    let effective = key_issuer.replace(TENANT_PLACEHOLDER, tenant_id);
    effective == token_issuer || effective == version_2(authority, tenant_id)
}

/// Whether `idp` names another identity provider than the tenant that issued the token: the user is a guest.
pub fn is_foreign_identity_provider(idp: &str, authority: &str, tenant_id: &str, token_issuer: &str) -> bool {
    idp != token_issuer && idp != version_2(authority, tenant_id) && !clouds::is_version_1_issuer_of(idp, tenant_id)
}

#[cfg(test)]
mod tests {
    use world::testing::TENANT;

    use super::*;

    const AUTHORITY: &str = "https://login.microsoftonline.com";
    const OTHER: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";

    #[test]
    fn a_version_is_named_exactly() {
        assert_eq!(TokenVersion::of("1.0"), Some(TokenVersion::V1));
        assert_eq!(TokenVersion::of("2.0"), Some(TokenVersion::V2));
        for ver in ["", "1", "2", "3.0", "2.0 ", "v2.0"] {
            assert_eq!(TokenVersion::of(ver), None, "{ver}");
        }
    }

    #[test]
    fn metadata_must_name_the_configured_tenant() {
        let tenant = Tenant::of(TENANT);
        let own = version_2(AUTHORITY, TENANT);
        assert_eq!(tenant_of_metadata(AUTHORITY, &tenant, &own), Ok(Some(TENANT.to_owned())));
        assert_eq!(tenant_of_metadata(AUTHORITY, &tenant, &version_2(AUTHORITY, OTHER)), Err(own.clone()));
        assert_eq!(tenant_of_metadata(AUTHORITY, &tenant, &version_2("https://example.org", TENANT)), Err(own.clone()));
        assert_eq!(tenant_of_metadata(AUTHORITY, &tenant, &version_2(AUTHORITY, TENANT_PLACEHOLDER)), Err(own));
    }

    #[test]
    fn metadata_of_a_domain_tells_the_tenant() {
        let tenant = Tenant::of("contoso.com");
        assert_eq!(tenant_of_metadata(AUTHORITY, &tenant, &version_2(AUTHORITY, TENANT)), Ok(Some(TENANT.to_owned())));
        assert!(tenant_of_metadata(AUTHORITY, &tenant, &version_2(AUTHORITY, "contoso.com")).is_err());
        assert!(tenant_of_metadata(AUTHORITY, &tenant, &version_2(AUTHORITY, TENANT_PLACEHOLDER)).is_err());
    }

    #[test]
    fn metadata_of_several_tenants_is_a_template() {
        let template = version_2(AUTHORITY, TENANT_PLACEHOLDER);
        assert_eq!(tenant_of_metadata(AUTHORITY, &Tenant::Common, &template), Ok(None));
        assert_eq!(tenant_of_metadata(AUTHORITY, &Tenant::Organizations, &template), Ok(None));
        assert!(tenant_of_metadata(AUTHORITY, &Tenant::Consumers, &template).is_err());
        assert_eq!(
            tenant_of_metadata(AUTHORITY, &Tenant::Consumers, &version_2(AUTHORITY, CONSUMER_TENANT)),
            Ok(Some(CONSUMER_TENANT.to_owned()))
        );
    }

    #[test]
    fn a_version_1_issuer_comes_from_a_template_or_from_the_own_issuer() {
        let expected = Some(format!("https://sts.example/{OTHER}/"));
        assert_eq!(version_1_from_metadata("https://sts.example/{tenantid}/", None, OTHER), expected);
        let own = format!("https://sts.example/{TENANT}/");
        assert_eq!(version_1_from_metadata(&own, Some(TENANT), OTHER), expected);
        assert_eq!(version_1_from_metadata("https://sts.example/", Some(TENANT), OTHER), None);
    }

    #[test]
    fn a_key_signs_for_the_tenants_its_issuer_names() {
        let iss = version_2(AUTHORITY, TENANT);
        let v1 = version_1(AUTHORITY, TENANT).unwrap();
        for token_issuer in [&iss, &v1] {
            assert!(key_may_sign_for(&version_2(AUTHORITY, TENANT_PLACEHOLDER), AUTHORITY, TENANT, token_issuer));
            assert!(key_may_sign_for(&version_2(AUTHORITY, TENANT), AUTHORITY, TENANT, token_issuer));
            assert!(!key_may_sign_for(&version_2(AUTHORITY, OTHER), AUTHORITY, TENANT, token_issuer));
            assert!(!key_may_sign_for("", AUTHORITY, TENANT, token_issuer));
        }
    }

    #[test]
    fn a_guest_comes_from_another_identity_provider() {
        let iss = version_2(AUTHORITY, TENANT);
        let foreign = |idp: &str| is_foreign_identity_provider(idp, AUTHORITY, TENANT, &iss);
        assert!(!foreign(&iss));
        assert!(!foreign(&version_1(AUTHORITY, TENANT).unwrap()));
        assert!(foreign(&version_1(AUTHORITY, OTHER).unwrap()));
        assert!(foreign("live.com"));
    }
}
