//! `/oauth2/v2.0/token`: finds the client and its credential, then serves the grant.

use http::StatusCode;
use serde_json::{Value, json};

use super::answers::{Ids, only_post};
use super::client_authentication::{self, basic_credentials};
use super::errors::{self, Refusal};
use super::http::{Incoming, Reply};
use super::parameters::{missing, read_claims};
use super::state::{Challenge, Contexts, Platform, RefreshToken};
use super::tenants::{self, Authority, service_principal};
use super::token_request::{TokenRequest, cannot_sign, respond};
use super::tokens::{self, ClientProof, Form, Holder};
use super::world::World;
use super::{agent_grants, device_code, on_behalf_of};

pub(crate) const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub(crate) const ON_BEHALF_OF_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Serves the endpoint.
pub(crate) fn token(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    if incoming.method == http::Method::OPTIONS {
        return preflight(incoming);
    }
    if incoming.method != http::Method::POST {
        return only_post(world, incoming);
    }
    let ids = Ids::new(world, incoming);
    let reply = match answer(world, segment, incoming) {
        Ok(body) => ids.label(Reply::ok(&body)).with("cache-control", "no-store, no-cache").with("pragma", "no-cache"),
        Err(refusal) => refusal.reply(world, incoming),
    };
    match incoming.header("origin") {
        Some(_) => reply.with("access-control-allow-origin", "*"),
        None => reply,
    }
}

/// Browsers ask before they post from another origin.
fn preflight(incoming: &Incoming) -> Reply {
    Reply::empty(StatusCode::OK)
        .with("access-control-allow-origin", "*")
        .with("access-control-allow-methods", "POST, OPTIONS")
        .with(
            "access-control-allow-headers",
            incoming.header("access-control-request-headers").unwrap_or("content-type"),
        )
        .with("access-control-max-age", "86400")
}

fn answer(world: &World, segment: &str, incoming: &Incoming) -> Result<Value, Refusal> {
    let config = world.config();
    let form = incoming.form();
    if let Some(name) = form.repeated() {
        return Err(errors::REPEATED_PARAMETER
            .because(format!("The request is not properly formatted. The parameter '{name}' is duplicated.")));
    }
    let authority = Authority::parse(&config, segment)?;
    let grant_type = form.get("grant_type").ok_or_else(|| missing("grant_type"))?;
    let basic = basic_credentials(incoming);
    let id = form
        .get("client_id")
        .map(str::to_owned)
        .or_else(|| basic.map(|(id, _)| id))
        .ok_or_else(|| missing("client_id"))?;
    let tenant = authority.tenant(&config).map_or(segment, |tenant| tenant.name.as_str());
    let client = config.application(&id).ok_or_else(|| tenants::application_not_found(&id, tenant))?;
    authority.admits_application(&config, client)?;
    if client.disabled {
        return Err(
            errors::APPLICATION_DISABLED.because(format!("Application '{}'({}) is disabled.", client.id, client.name))
        );
    }
    let proof = client_authentication::authenticate(world, &config, incoming, &form, client, segment)?;
    let request = TokenRequest {
        world,
        config: &config,
        form: &form,
        authority: &authority,
        client,
        proof,
        origin: incoming.header("origin"),
        v1: !incoming.path.contains("/v2.0/"),
    };
    match grant_type {
        "authorization_code" => authorization_code(&request),
        "refresh_token" => refresh_token(&request),
        "client_credentials" => client_credentials(&request),
        DEVICE_CODE_GRANT | "device_code" => device_code::redeem(&request),
        ON_BEHALF_OF_GRANT => on_behalf_of::exchange(&request),
        agent_grants::USER_FIC_GRANT => agent_grants::user_fic(&request),
        other => Err(errors::UNKNOWN_GRANT.because(format!("The app requested an unsupported grant type '{other}'."))),
    }
}

fn authorization_code(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    let world = request.world;
    let presented = request.form.get("code").ok_or_else(|| missing("code"))?;
    let redirect_uri = request.form.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    let code = world
        .state()
        .codes
        .get(presented)
        .cloned()
        .ok_or_else(|| errors::CODE_MALFORMED.because("Invalid request. Request is malformed or invalid."))?;
    if code.grant.client != request.client.id {
        return Err(errors::CODE_OF_OTHER_CLIENT
            .because("The provided value for the 'code' parameter is not valid: it was issued to another client."));
    }
    if code.redeemed {
        return Err(errors::CODE_REDEEMED.because(
            "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
        ));
    }
    if world.clock.now() >= code.expires {
        return Err(errors::CODE_EXPIRED.because(
            "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive \
             authorization request for this user and resource.",
        ));
    }
    if matches!(request.authority, Authority::Tenant(id) if *id != code.grant.tenant) {
        return Err(errors::CODE_OF_OTHER_TENANT
            .because("Provided Authorization Code is intended to use against other tenant, thus rejected."));
    }
    if code.redirect_uri != redirect_uri {
        return Err(errors::CODE_REDIRECT_MISMATCH.because(format!(
            "The reply address '{redirect_uri}' does not match the reply address '{}' provided when requesting Authorization code.",
            code.redirect_uri
        )));
    }
    if code.platform == Platform::SinglePage && code.challenge.is_none() {
        return Err(errors::PKCE_REQUIRED_CROSS_ORIGIN
            .because("Proof Key for Code Exchange is required for cross-origin authorization code redemption."));
    }
    request.check_platform(code.platform)?;
    check_verifier(code.challenge.as_ref(), request.form.get("code_verifier"))?;
    // Marked under one lock with the check, so that of two racing redemptions one fails.
    if let Some(stored) = world.state().codes.get_mut(presented)
        && std::mem::replace(&mut stored.redeemed, true)
    {
        return Err(errors::CODE_REDEEMED.because("OAuth2 Authorization code was already redeemed."));
    }
    let scope = match request.scope() {
        Some(scope) if !scope.is_empty() => scope,
        absent => {
            let authorized = request.parse(&code.scope)?;
            if absent.is_some() || authorized.targets.len() > 1 {
                return Err(errors::EMPTY_SCOPE.because(
                    "Provided value for the input parameter scope cannot be empty when requesting an access token using the \
                     provided authorization code. Please specify a valid scope.",
                ));
            }
            code.scope.clone()
        }
    };
    let asked = request.parse(&scope)?;
    let wants_refresh = asked.has("offline_access").then_some(code.platform);
    respond(
        request,
        &code.grant,
        &asked,
        code.nonce.as_deref(),
        wants_refresh.map(|platform| (platform, world.clock.now())),
    )
}

fn check_verifier(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), Refusal> {
    use base64::Engine as _;
    let (Some(challenge), verifier) = (challenge, verifier) else {
        return Ok(());
    };
    let Some(verifier) = verifier else {
        return Err(errors::VERIFIER_MISSING.because(
            "The code_verifier does not match the code_challenge supplied in the authorization request for PKCE.",
        ));
    };
    let matches = match challenge {
        Challenge::Plain(challenge) => challenge == verifier,
        Challenge::S256(challenge) => {
            let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
            *challenge == base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
        }
    };
    if matches {
        return Ok(());
    }
    Err(errors::VERIFIER_MISMATCH
        .because("The Code_Verifier does not match the code_challenge supplied in the authorization request."))
}

fn refresh_token(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    let world = request.world;
    let policy = &request.config.policy;
    let presented = request.form.get("refresh_token").ok_or_else(|| missing("refresh_token"))?;
    let found = world.state().refresh_tokens.get(presented).cloned();
    let mut token =
        found.ok_or_else(|| errors::REFRESH_MALFORMED.because("Invalid request. Request is malformed or invalid."))?;
    if token.grant.client != request.client.id {
        return Err(errors::REFRESH_OF_OTHER_CLIENT
            .because(format!("The refresh token was not issued to the application '{}'.", request.client.id)));
    }
    request.check_platform(token.platform)?;
    let user = request.user(&token.grant)?;
    let now = world.clock.now();
    if token.grant.epoch < world.state().epoch(&user.id) {
        return Err(errors::SESSION_REVOKED.because(
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed \
             or reset their password.",
        ));
    }
    if token.redeemed && !policy.refresh_token_reuse {
        return Err(errors::REFRESH_REDEEMED
            .because("Provided grant is invalid or malformed: the refresh token was already used."));
    }
    if token.platform == Platform::SinglePage && now - token.chain_started >= policy.refresh_token_spa {
        return Err(errors::REFRESH_SPA_EXPIRED.because(format!(
            "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of {}, which \
             cannot be extended. It is now expired and a new sign in request must be sent by the SPA to the sign in page.",
            days(policy.refresh_token_spa)
        )));
    }
    if now - token.issued >= policy.refresh_token_idle {
        return Err(errors::REFRESH_INACTIVE.because(format!(
            "The refresh token has expired due to inactivity. The token was issued on {} and was inactive for {}.",
            super::clock::entra_timestamp(token.issued),
            days(policy.refresh_token_idle)
        )));
    }
    if user.session_lifetime.is_some_and(|lifetime| now - token.grant.signed_in_at >= lifetime) {
        return Err(errors::SESSION_TOO_OLD.because(
            "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.",
        ));
    }
    // A refresh token is good for every tenant its user is in.
    if let Authority::Tenant(id) = request.authority {
        let tenant = request
            .authority
            .issuing_tenant(request.config, user, request.client)
            .map_err(|refusal| Refusal { code: &errors::WORK_ACCOUNTS_ONLY, ..refusal })?;
        token.grant.tenant.clone_from(&tenant.id);
        let _ = id;
    }
    let scope = match request.scope() {
        Some(scope) if !scope.is_empty() => scope,
        _ if request.v1 => token.scope.clone(),
        _ => return Err(refresh_without_scope(request, &token)),
    };
    let asked = request.parse(&scope)?;
    // A client that relies on a context asks for it again: that a refresh names it nevertheless is documented nowhere.
    token.grant.contexts = Contexts::default();
    let reply = respond(request, &token.grant, &asked, None, Some((token.platform, token.chain_started)))?;
    if let Some(stored) = world.state().refresh_tokens.get_mut(presented) {
        stored.redeemed = true;
    }
    Ok(reply)
}

/// Without a scope, Entra ID assumes the client itself as the resource where that was the last one, and refuses that.
fn refresh_without_scope(request: &TokenRequest<'_>, token: &RefreshToken) -> Refusal {
    let for_itself = request
        .parse(&token.scope)
        .is_ok_and(|asked| asked.targets.first().is_some_and(|target| target.resource.id() == request.client.id));
    if for_itself {
        return errors::TOKEN_FOR_ITSELF.because(format!(
            "Application '{}'({}) is requesting a token for itself. This scenario is supported only if resource is specified \
             using the GUID based App Identifier.",
            request.client.id, request.client.name
        ));
    }
    errors::INVALID_SCOPE.because(
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not \
         valid. The scope  is not valid.",
    )
}

fn days(seconds: i64) -> String {
    format!("{}.{:02}:{:02}:{:02}", seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

fn client_credentials(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    if request.proof == ClientProof::None {
        return Err(client_authentication::required());
    }
    let tenant = request.authority.tenant(request.config).ok_or_else(|| {
        errors::NO_TENANT.because(
            "No tenant-identifying information found in either the request or implied by any provided credentials.",
        )
    })?;
    let is_provisioned = match request.client.tenant == tenant.id {
        true => !request.client.without_service_principal,
        false => request.client.provisioned_in.contains(&tenant.id),
    };
    if !is_provisioned {
        return Err(errors::NOT_PROVISIONED.because(format!(
            "The client application {} is missing service principal in the tenant {}. See instructions here: \
             https://go.microsoft.com/fwlink/?linkid=2225119",
            request.client.id, tenant.id
        )));
    }
    let scope = request.scope().unwrap_or_default();
    if agent_grants::is_exchange(&scope) {
        return agent_grants::exchange_token(request, &tenant.id);
    }
    let asked = request.parse(&scope)?;
    let [target] = asked.targets.as_slice() else {
        return Err(only_default(&scope));
    };
    if !target.default {
        return Err(only_default(&scope));
    }
    let roles = request.client.granted_roles.get(target.resource.id()).cloned().unwrap_or_default();
    let object = service_principal(&request.client.id, &tenant.id);
    let holder = Holder::Application { tenant: &tenant.id, client: &request.client.id, object: &object, roles: &roles };
    let continuous = read_claims(request.form)?.continuous;
    let form = Form { proof: request.proof, continuous, stepped_up: false };
    let token = tokens::access_token(request.world, request.config, holder, target, form).ok_or_else(cannot_sign)?;
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": token.expires_in,
        "ext_expires_in": token.expires_in,
        "access_token": token.value,
    }))
}

fn only_default(scope: &str) -> Refusal {
    errors::DEFAULT_SCOPE_ONLY.because(format!(
        "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default \
         suffixed to the resource identifier (application ID URI)."
    ))
}
