//! The headers of Azure App Service ("Easy Auth"), in the form in which programs read them already.
//!
//! App Service renames some claims of a token and leaves the others as they are; so do the types below. What App Service
//! knows and the component does not (display name, mail, user name) is not there: a name never says who calls.

use base::principal::PrincipalKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use world::provided_tools::ToolCaller;

use super::IdentityError;

/// Base64 of [`EasyAuthPrincipal`] as JSON.
pub(super) const PRINCIPAL: HeaderName = HeaderName::from_static("x-ms-client-principal");
/// The object id.
pub(super) const ID: HeaderName = HeaderName::from_static("x-ms-client-principal-id");
/// For people. The object id, see above.
pub(super) const NAME: HeaderName = HeaderName::from_static("x-ms-client-principal-name");
/// Which identity provider it was.
pub(super) const PROVIDER: HeaderName = HeaderName::from_static("x-ms-client-principal-idp");

/// Microsoft Entra ID, as App Service calls it.
const AAD: &str = "aad";
const OBJECT: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
const TENANT: &str = "http://schemas.microsoft.com/identity/claims/tenantid";
const SCOPE: &str = "http://schemas.microsoft.com/identity/claims/scope";
const SUBJECT: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
/// What `name_typ` is of App Service. No claim has this type here.
const NAME_TYPE: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";
/// What `role_typ` is of App Service.
const ROLE_TYPE: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";

#[derive(Serialize)]
struct EasyAuthPrincipal<'a> {
    auth_typ: &'static str,
    claims: Vec<EasyAuthClaim<'a>>,
    name_typ: &'static str,
    role_typ: &'static str,
}

#[derive(Serialize)]
struct EasyAuthClaim<'a> {
    typ: &'static str,
    val: &'a str,
}

/// The headers.
pub(super) fn headers(caller: &ToolCaller) -> Result<HeaderMap, IdentityError> {
    let ToolCaller { tenant_id, object_id, client_id, kind, agent, scopes, roles, correlation_id: _ } = caller;
    let scopes = scopes.join(" ");
    let claim = |typ, val| EasyAuthClaim { typ, val };
    let mut claims = vec![
        claim("ver", "2.0"),
        claim("azp", client_id),
        claim(OBJECT, object_id),
        // `sub` differs from application to application, and a session has none.
        claim(SUBJECT, object_id),
        claim(TENANT, tenant_id),
    ];
    match kind {
        PrincipalKind::User => claims.push(claim(SCOPE, &scopes)),
        PrincipalKind::App => claims.push(claim("idtyp", "app")),
    }
    if *agent {
        claims.push(claim("agent", "true"));
    }
    // App Service leaves them under their own name, where programs look that go by `role_typ` find none.
    claims.extend(roles.iter().flat_map(|role| [claim("roles", role), claim(ROLE_TYPE, role)]));
    let principal = EasyAuthPrincipal { auth_typ: AAD, claims, name_typ: NAME_TYPE, role_typ: ROLE_TYPE };
    let json = serde_json::to_vec(&principal).map_err(|_| IdentityError::Unavailable { retry_after: None })?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| IdentityError::Unavailable { retry_after: None });
    Ok(HeaderMap::from_iter([
        (PRINCIPAL, value(&STANDARD.encode(&json))?),
        (ID, value(object_id)?),
        (NAME, value(object_id)?),
        (PROVIDER, HeaderValue::from_static(AAD)),
    ]))
}
