//! The sovereign clouds: which issuer a cloud writes into version 1 tokens.
//!
//! Version 2 issuers are on the authority itself. Version 1 issuers are on another host, which nothing in the
//! configuration names; for a known cloud it is in this table, for any other authority it comes from that
//! authority's version 1 metadata.

/// The personal accounts ("consumers") tenant, the same in every cloud that has one.
pub const CONSUMER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// A cloud with its own authority.
struct Cloud {
    /// Scheme and host of the authority.
    authority: &'static str,
    /// What precedes the tenant id in a version 1 issuer.
    version_1_issuer_base: &'static str,
}

const CLOUDS: [Cloud; 3] = [
    Cloud { authority: "https://login.microsoftonline.com", version_1_issuer_base: "https://sts.windows.net/" },
    // Azure Government shares the issuer of the public cloud.
    Cloud { authority: "https://login.microsoftonline.us", version_1_issuer_base: "https://sts.windows.net/" },
    Cloud {
        authority: "https://login.partner.microsoftonline.cn",
        version_1_issuer_base: "https://sts.chinacloudapi.cn/",
    },
];

/// What precedes the tenant id in version 1 issuers of this authority; `None` for an authority not in the table.
pub fn version_1_issuer_base(authority: &str) -> Option<&'static str> {
    CLOUDS.iter().find(|cloud| cloud.authority == authority).map(|cloud| cloud.version_1_issuer_base)
}

/// Whether `idp` names the tenant itself in the version 1 form of any known cloud.
pub fn is_version_1_issuer_of(idp: &str, tenant_id: &str) -> bool {
    CLOUDS.iter().any(|cloud| {
        idp.strip_prefix(cloud.version_1_issuer_base).and_then(|rest| rest.strip_suffix('/')) == Some(tenant_id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_authority_has_its_version_1_issuer() {
        assert_eq!(version_1_issuer_base("https://login.microsoftonline.com"), Some("https://sts.windows.net/"));
        assert_eq!(
            version_1_issuer_base("https://login.partner.microsoftonline.cn"),
            Some("https://sts.chinacloudapi.cn/")
        );
    }

    #[test]
    fn an_authority_is_compared_exactly() {
        for authority in [
            "https://login.microsoftonline.com/",
            "https://LOGIN.microsoftonline.com",
            "http://login.microsoftonline.com",
            "https://login.microsoftonline.com.example.org",
            "",
        ] {
            assert_eq!(version_1_issuer_base(authority), None, "{authority}");
        }
    }

    #[test]
    fn only_the_tenants_own_version_1_issuer_names_the_tenant() {
        assert!(is_version_1_issuer_of("https://sts.windows.net/t1/", "t1"));
        assert!(!is_version_1_issuer_of("https://sts.windows.net/t2/", "t1"));
        assert!(!is_version_1_issuer_of("https://sts.windows.net/t1", "t1"));
        assert!(!is_version_1_issuer_of("live.com", "t1"));
    }
}
