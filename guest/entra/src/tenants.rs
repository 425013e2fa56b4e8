//! Which directory an authority stands for, and which tenants' tokens are accepted.

use base::settings::Settings;

use super::clouds::CONSUMER_TENANT;

/// What the `tenant` setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// One tenant, by its id.
    Id(String),
    /// One tenant, by a verified domain; its id is in the metadata of the authority.
    Domain(String),
    /// Personal accounts: the one tenant [`CONSUMER_TENANT`].
    Consumers,
    /// Any organisation, no personal accounts.
    Organizations,
    /// Any organisation and personal accounts.
    Common,
}

impl Tenant {
    /// Reads the setting. The names of the multi-tenant authorities are compared exactly, like every identifier.
    pub fn of(setting: &str) -> Self {
        match setting {
            "common" => Self::Common,
            "organizations" => Self::Organizations,
            "consumers" => Self::Consumers,
            id if is_guid(id) => Self::Id(id.to_owned()),
            domain => Self::Domain(domain.to_owned()),
        }
    }

    /// Whether the authority serves several tenants, so that its issuer is a template.
    pub fn is_multi_tenant(&self) -> bool {
        matches!(self, Self::Organizations | Self::Common)
    }
}

/// Which token a tenant rule is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// A token that a client presents.
    Access,
    /// A token that Entra ID hands out at the end of a sign-in.
    Id,
}

/// Whether tokens of `tenant_id` are accepted. `authority_tenant` is the id behind the `tenant` setting, if the
/// authority is one tenant's.
///
/// An allow-list is complete: with one, nothing else counts. Without one the configured tenant is accepted, and a
/// multi-tenant authority accepts no tenant. One exception: a public client signs in the person at this machine, so the
/// ID token of any tenant that the authority serves may come back.
pub fn accepts(settings: &Settings, authority_tenant: Option<&str>, tenant_id: &str, token_use: TokenUse) -> bool {
    let tenant = Tenant::of(&settings.tenant);
    if tenant == Tenant::Organizations && tenant_id == CONSUMER_TENANT {
        return false;
    }
    let allowed = &settings.token.allowed_tenants;
    if !allowed.is_empty() {
        return allowed.iter().any(|allowed| allowed == tenant_id);
    }
    match authority_tenant {
        Some(authority_tenant) => authority_tenant == tenant_id,
        None => tenant.is_multi_tenant() && token_use == TokenUse::Id && settings.is_public_client(),
    }
}

/// Whether this is a GUID in the one form that Entra ID writes: lower case, with hyphens, without braces.
pub fn is_guid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use world::testing::{TENANT, settings};

    use super::*;

    const OTHER: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";

    #[test]
    fn the_setting_names_one_tenant_or_several() {
        assert_eq!(Tenant::of(TENANT), Tenant::Id(TENANT.to_owned()));
        assert_eq!(Tenant::of("contoso.com"), Tenant::Domain("contoso.com".to_owned()));
        assert_eq!(Tenant::of("common"), Tenant::Common);
        assert_eq!(Tenant::of("organizations"), Tenant::Organizations);
        assert_eq!(Tenant::of("consumers"), Tenant::Consumers);
        assert_eq!(Tenant::of("Common"), Tenant::Domain("Common".to_owned()));
    }

    #[test]
    fn a_guid_has_one_form() {
        assert!(is_guid(TENANT));
        for value in [
            "",
            "aaaabbbb0000cccc1111dddd2222eeee",
            "{aaaabbbb-0000-cccc-1111-dddd2222eeee}",
            "AAAABBBB-0000-CCCC-1111-DDDD2222EEEE",
            "aaaabbbb-0000-cccc-1111-dddd2222eeeg",
            "aaaabbbb-0000-cccc-1111-dddd2222eeee ",
            "aaaabbbb-0000-cccc-1111_dddd2222eeee",
        ] {
            assert!(!is_guid(value), "{value}");
        }
    }

    #[test]
    fn a_single_tenant_accepts_itself_only() {
        let settings = settings();
        assert!(accepts(&settings, Some(TENANT), TENANT, TokenUse::Access));
        assert!(!accepts(&settings, Some(TENANT), OTHER, TokenUse::Access));
        assert!(!accepts(&settings, Some(TENANT), OTHER, TokenUse::Id));
    }

    #[test]
    fn an_allow_list_is_complete() {
        let mut settings = settings();
        settings.token.allowed_tenants = vec![OTHER.to_owned()];
        assert!(accepts(&settings, Some(TENANT), OTHER, TokenUse::Access));
        assert!(!accepts(&settings, Some(TENANT), TENANT, TokenUse::Access));
        assert!(!accepts(&settings, Some(TENANT), TENANT, TokenUse::Id));
    }

    #[test]
    fn several_tenants_without_an_allow_list_accept_no_access_token() {
        for tenant in ["common", "organizations"] {
            let mut settings = settings();
            settings.tenant = tenant.to_owned();
            assert!(!accepts(&settings, None, TENANT, TokenUse::Access));
            assert!(accepts(&settings, None, TENANT, TokenUse::Id), "the person at this machine may sign in");
            settings.mode = base::settings::Mode::Validator;
            assert!(!accepts(&settings, None, TENANT, TokenUse::Id), "a server admits no tenant by default");
        }
    }

    #[test]
    fn organizations_never_accepts_personal_accounts() {
        let mut settings = settings();
        settings.tenant = "organizations".to_owned();
        settings.token.allowed_tenants = vec![CONSUMER_TENANT.to_owned()];
        assert!(!accepts(&settings, None, CONSUMER_TENANT, TokenUse::Access));
        settings.tenant = "common".to_owned();
        assert!(accepts(&settings, None, CONSUMER_TENANT, TokenUse::Access));
    }
}
