//! What Entra ID publishes about itself: instance discovery, OpenID configuration, keys, error look-up, sign-out.
//!
//! Absent on purpose, as in Entra ID: RFC 8414 metadata, a registration endpoint, `code_challenge_methods_supported`.

use http::StatusCode;
use serde_json::{Value, json};

use super::answers::Ids;
use super::http::{Incoming, Reply};
use super::pages;
use super::tenants::Authority;
use super::world::World;

/// `/common/discovery/instance`: which hosts are one cloud.
///
/// Entra ID names its own hosts here and refuses an authority of another host; the emulator is a cloud of one host.
pub(crate) fn instance_discovery(world: &World, incoming: &Incoming) -> Reply {
    let host = world.host();
    if let Some(endpoint) = incoming.query.get("authorization_endpoint") {
        let asked = url::Url::parse(endpoint).ok();
        let authority = asked.as_ref().map(|url| url.authority().to_owned());
        if authority.as_deref() != Some(host) {
            return Reply::json(
                StatusCode::BAD_REQUEST,
                &json!({
                    "error": "invalid_instance",
                    "error_description": "AADSTS50049: Unknown or invalid instance.",
                    "error_codes": [50049],
                    "timestamp": Ids::new(world, incoming).timestamp,
                }),
            );
        }
    }
    Reply::ok(&json!({
        "tenant_discovery_endpoint": format!("{}/common/v2.0/.well-known/openid-configuration", world.base),
        "api-version": "1.1",
        "metadata": [{
            "preferred_network": host,
            "preferred_cache": host,
            "aliases": [host],
        }],
    }))
}

/// The OpenID configuration of an authority, in its v2 or v1 form.
pub(crate) fn openid_configuration(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    let config = world.config();
    let authority = match Authority::parse(&config, segment) {
        Ok(authority) => authority,
        Err(refusal) => return refusal.reply(world, incoming),
    };
    let base = &world.base;
    let path = authority.path_segment();
    let v2 = incoming.path.contains("/v2.0/");
    let version = if v2 { "/v2.0" } else { "" };
    let issuer = if v2 {
        format!("{base}/{}/v2.0", authority.issuer_segment())
    } else {
        config.policy.v1_issuer.replace("{tenantid}", authority.issuer_segment())
    };
    // A key document asked for on behalf of one application carries its custom signing keys, of which there are none.
    let application = incoming.query.get("appid").map(|id| format!("?appid={id}")).unwrap_or_default();
    let keys = if v2 {
        format!("{base}/{path}/discovery/v2.0/keys{application}")
    } else {
        format!("{base}/{path}/discovery/keys{application}")
    };
    let mut document = json!({
        "token_endpoint": format!("{base}/{path}/oauth2{version}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": keys,
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": format!("{}/oidc/userinfo", world.graph),
        "authorization_endpoint": format!("{base}/{path}/oauth2{version}/authorize"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{base}/{path}/oauth2{version}/logout"),
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud",
            "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email",
        ],
        "tenant_region_scope": authority.tenant(&config).map(|_| "NA"),
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": world.graph.split_once("://").map_or(world.graph.as_str(), |(_, host)| host),
        "rbac_url": "https://pas.windows.net",
    });
    if let Some(object) = document.as_object_mut()
        && v2
    {
        object.insert(
            "device_authorization_endpoint".to_owned(),
            Value::from(format!("{base}/{path}/oauth2/v2.0/devicecode")),
        );
    }
    Reply::ok(&document).with("cache-control", "max-age=86400, private").with("access-control-allow-origin", "*")
}

/// The signing keys.
pub(crate) fn keys(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    let config = world.config();
    match Authority::parse(&config, segment) {
        Ok(authority) => {
            let tenant = authority.tenant(&config).map(|tenant| tenant.id.as_str());
            Reply::ok(&world.keys.document(&world.base, tenant))
                .with("cache-control", "max-age=86400, private")
                .with("access-control-allow-origin", "*")
        }
        Err(refusal) => refusal.reply(world, incoming),
    }
}

/// `/error?code=`: where `error_uri` leads.
pub(crate) fn error_lookup(incoming: &Incoming) -> Reply {
    let code = incoming.query.get("code").and_then(|code| code.parse::<u32>().ok());
    Reply::html(StatusCode::OK, pages::error_lookup(code))
}

/// Signs every account out of the browser and returns to the application.
pub(crate) fn logout(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    let config = world.config();
    if let Err(refusal) = Authority::parse(&config, segment) {
        return refusal.reply(world, incoming);
    }
    if let Some(browser) = incoming.cookie(super::sign_in::BROWSER_COOKIE) {
        world.state().browsers.remove(browser);
    }
    let parameters = if incoming.method == http::Method::POST { incoming.form() } else { incoming.query.clone() };
    let forget = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", super::sign_in::BROWSER_COOKIE);
    match parameters.get("post_logout_redirect_uri") {
        // Entra ID returns only to a registered address; every other request ends on its own page.
        Some(uri) if config.applications.iter().any(|one| super::redirects::platform_of(one, uri).is_some()) => {
            let separator = if uri.contains('?') { '&' } else { '?' };
            let location = match parameters.get("state") {
                Some(state) => {
                    let state: String = url::form_urlencoded::byte_serialize(state.as_bytes()).collect();
                    format!("{uri}{separator}state={state}")
                }
                None => uri.to_owned(),
            };
            Reply::redirect(&location).and("set-cookie", &forget)
        }
        _ => Reply::html(StatusCode::OK, pages::signed_out()).and("set-cookie", &forget),
    }
}
