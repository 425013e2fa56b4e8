//! Steps 5, 6 and 9: issuer, tenant, audience.

use serde_json::json;
use world::testing::{CLIENT, TENANT};

use super::*;
use crate::clouds::CONSUMER_TENANT;

const V1: &str = "https://sts.windows.net";

fn v2_issuer(tenant: &str) -> String {
    format!("{AUTHORITY}/{tenant}/v2.0")
}

fn issuer(expected: &str, actual: &str) -> TokenError {
    TokenError::IssuerMismatch { expected: expected.to_owned(), actual: actual.to_owned() }
}

fn tenant(tenant_id: &str) -> TokenError {
    TokenError::TenantNotAllowed { tenant_id: tenant_id.to_owned() }
}

fn of_tenant(tid: &str) -> String {
    rs256(&with(user_claims(), json!({ "tid": tid, "iss": v2_issuer(tid) })))
}

fn audience(version: u8, actual: &str) -> TokenError {
    let mut expected = vec![CLIENT.to_owned()];
    if version == 1 {
        expected.push(format!("api://{CLIENT}"));
    }
    TokenError::AudienceMismatch { expected, actual: actual.to_owned() }
}

/// The authority serves several tenants and accepts these.
fn multi_tenant(setting: &'static str, allowed: &'static [&'static str]) -> impl Fn(&mut FakeAuthority) {
    move |authority| {
        change(&mut authority.env, |settings| settings.tenant = setting.to_owned());
        change(&mut authority.env, |settings| {
            settings.token.allowed_tenants = allowed.iter().map(|tenant| (*tenant).to_owned()).collect()
        });
        authority.publish_metadata(setting, "{tenantid}");
    }
}

pub(super) fn cases() -> Vec<Case> {
    let (own, own_v1) = (v2_issuer(TENANT), format!("{V1}/{TENANT}/"));
    let mut cases = vec![
        Case::new("a token of another tenant", of_tenant(OTHER_TENANT), tenant(OTHER_TENANT)),
        Case::new("a token of a personal account", of_tenant(CONSUMER_TENANT), tenant(CONSUMER_TENANT)),
        Case::new(
            "a version 1 token of another tenant",
            rs256(&with(
                version_1_user_claims(),
                json!({ "tid": OTHER_TENANT, "iss": format!("{V1}/{OTHER_TENANT}/") }),
            )),
            tenant(OTHER_TENANT),
        ),
        Case::claims(
            "the configured tenant id under another tenant's issuer",
            json!({ "iss": v2_issuer(OTHER_TENANT) }),
            issuer(&own, &v2_issuer(OTHER_TENANT)),
        ),
        Case::claims(
            "another tenant id under the configured tenant's issuer",
            json!({ "tid": OTHER_TENANT }),
            issuer(&v2_issuer(OTHER_TENANT), &own),
        ),
        Case::new("the configured tenant, but an allow-list without it", of_tenant(TENANT), tenant(TENANT)).setup(
            |authority| {
                change(&mut authority.env, |settings| {
                    settings.token.allowed_tenants = vec![OTHER_TENANT.to_owned()];
                });
            },
        ),
        Case::new("several tenants and no allow-list: common", of_tenant(TENANT), tenant(TENANT))
            .setup(multi_tenant("common", &[])),
        Case::new("several tenants and no allow-list: organizations", of_tenant(TENANT), tenant(TENANT))
            .setup(multi_tenant("organizations", &[])),
        Case::new("several tenants and a list without this one", of_tenant(OTHER_TENANT), tenant(OTHER_TENANT))
            .setup(multi_tenant("organizations", &[TENANT])),
        Case::new(
            "a personal account at organizations, though it is listed",
            of_tenant(CONSUMER_TENANT),
            tenant(CONSUMER_TENANT),
        )
        .setup(multi_tenant("organizations", &[CONSUMER_TENANT])),
        Case::new("an allow-list in upper case", of_tenant(TENANT), tenant(TENANT)).setup(|authority| {
            change(&mut authority.env, |settings| settings.token.allowed_tenants = vec![TENANT.to_uppercase()]);
        }),
        Case::new("an organisation at consumers", of_tenant(TENANT), tenant(TENANT)).setup(|authority| {
            change(&mut authority.env, |settings| settings.tenant = "consumers".to_owned());
            authority.publish_metadata("consumers", CONSUMER_TENANT);
        }),
        Case::new("another tenant than that of the configured domain", of_tenant(TENANT), tenant(TENANT)).setup(
            |authority| {
                change(&mut authority.env, |settings| settings.tenant = "fabrikam.example".to_owned());
                authority.publish_metadata("fabrikam.example", OTHER_TENANT);
            },
        ),
        Case::claims("a version 1 issuer in a version 2 token", json!({ "iss": own_v1 }), issuer(&own, &own_v1)),
        Case::new(
            "a version 2 issuer in a version 1 token",
            rs256(&with(version_1_user_claims(), json!({ "iss": own }))),
            issuer(&own_v1, &own),
        ),
        Case::new(
            "a version 1 issuer of another cloud",
            rs256(&with(version_1_user_claims(), json!({ "iss": format!("https://sts.chinacloudapi.cn/{TENANT}/") }))),
            issuer(&own_v1, &format!("https://sts.chinacloudapi.cn/{TENANT}/")),
        ),
        Case::new(
            "a version 1 issuer without its slash",
            rs256(&with(version_1_user_claims(), json!({ "iss": format!("{V1}/{TENANT}") }))),
            issuer(&own_v1, &format!("{V1}/{TENANT}")),
        ),
        Case::new(
            "the App ID URI in a version 2 token",
            rs256(&with(user_claims(), json!({ "aud": format!("api://{CLIENT}") }))),
            audience(2, &format!("api://{CLIENT}")),
        ),
        Case::new(
            "another App ID URI in a version 1 token",
            rs256(&with(version_1_user_claims(), json!({ "aud": "api://other" }))),
            audience(1, "api://other"),
        ),
        Case::new(
            "a token for Graph in version 1",
            rs256(&with(version_1_user_claims(), json!({ "aud": "https://graph.microsoft.com" }))),
            audience(1, "https://graph.microsoft.com"),
        ),
        Case::claims(
            "no audience is configured",
            json!({}),
            TokenError::AudienceMismatch { expected: Vec::new(), actual: CLIENT.to_owned() },
        )
        .setup(|authority| change(&mut authority.env, |settings| settings.token.audiences.clear())),
    ];
    for (name, actual) in [
        ("issuer with a trailing slash", format!("{own}/")),
        ("issuer with a trailing space", format!("{own} ")),
        ("issuer without its version", format!("{AUTHORITY}/{TENANT}")),
        ("issuer in upper case", own.to_uppercase()),
        ("issuer of the tenant in upper case", v2_issuer(&TENANT.to_uppercase())),
        ("issuer over http", own.replacen("https", "http", 1)),
        ("issuer with the default port", own.replacen(".com/", ".com:443/", 1)),
        ("issuer of another cloud", own.replacen(".com/", ".us/", 1)),
        ("issuer on a host that ends alike", own.replacen("login.", "evil-login.", 1)),
        ("issuer on a host that begins alike", own.replacen(".com/", ".com.evil.example/", 1)),
        ("issuer with a user name", own.replacen("https://", "https://login.microsoftonline.com@evil.example/", 1)),
        ("issuer is the template", v2_issuer("{tenantid}")),
        ("issuer is common", v2_issuer("common")),
        ("issuer of another company", "https://accounts.google.com".to_owned()),
        ("issuer with a path", format!("{own}/../evil")),
        ("issuer with a query", format!("{own}?x=1")),
        ("issuer with a NUL", format!("{own}\0")),
    ] {
        cases.push(Case::claims(name, json!({ "iss": actual }), issuer(&own, &actual)));
    }
    for (name, actual) in [
        ("audience of another application", AZP.to_owned()),
        ("audience in upper case", CLIENT.to_uppercase()),
        ("audience with a trailing space", format!("{CLIENT} ")),
        ("audience is a prefix", CLIENT[..35].to_owned()),
        ("audience is longer", format!("{CLIENT}0")),
        ("audience is a scope", format!("api://{CLIENT}/User.Read")),
        ("audience is Graph's id", "00000003-0000-0000-c000-000000000000".to_owned()),
        ("audience is several, separated by spaces", format!("{CLIENT} {AZP}")),
    ] {
        // The App ID URI is accepted in version 1 only, and never a part of an audience.
        cases.push(Case::claims(name, json!({ "aud": actual }), audience(2, &actual)));
    }
    cases
}
