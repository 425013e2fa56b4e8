//! `/oauth2/v2.0/token`: finds the client and its credential, then serves the grant.

use http::StatusCode;
use serde_json::{Value, json};

use super::World;
use super::authorize::{self, missing};
use super::client_authentication::{self, basic_credentials};
use super::config::{Application, Config, User};
use super::errors::{self, Ids, Refusal};
use super::http::{Incoming, Params, Reply};
use super::policy;
use super::resources::{self, Asked, At, Resource, Target};
use super::state::{Challenge, Contexts, Grant, Platform, RefreshToken};
use super::tenants::{self, Authority};
use super::tokens::{self, ClientProof, Form, Holder, IdTokenRequest};
use super::{agents, device_code, metadata, on_behalf_of};

pub(crate) const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub(crate) const ON_BEHALF_OF_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A token request whose client is known and whose credential, if any, is right.
#[derive(Clone, Copy)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) world: &'a World,
    pub(crate) config: &'a Config,
    pub(crate) form: &'a Params,
    pub(crate) authority: &'a Authority,
    pub(crate) client: &'a Application,
    pub(crate) proof: ClientProof,
    /// The `Origin` of a browser application.
    pub(crate) origin: Option<&'a str>,
    /// The retired endpoint without `v2.0`, which has `resource` instead of scopes.
    pub(crate) v1: bool,
}

/// Serves the endpoint.
pub(crate) fn token(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    if incoming.method == http::Method::OPTIONS {
        return preflight(incoming);
    }
    if incoming.method != http::Method::POST {
        return metadata::only_post(world, incoming);
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
        agents::USER_FIC_GRANT => agents::user_fic(&request),
        other => Err(errors::UNKNOWN_GRANT.because(format!("The app requested an unsupported grant type '{other}'."))),
    }
}

impl TokenRequest<'_> {
    /// The `scope` parameter, or what the v1 endpoint has instead. `None` if absent, `Some("")` if empty.
    fn scope(&self) -> Option<String> {
        if self.v1 {
            return self.form.get("resource").map(|resource| format!("openid {resource}/.default"));
        }
        self.form.0.iter().find(|(name, _)| name == "scope").map(|(_, value)| value.trim().to_owned())
    }

    pub(crate) fn parse(&self, scope: &str) -> Result<Asked, Refusal> {
        let asked = resources::parse(self.world, self.config, self.client, scope, At::Token)?;
        if !self.v1 {
            authorize::check_resource(
                self.world,
                self.config,
                self.form,
                asked.targets.first().map(|target| &target.resource),
            )?;
        }
        Ok(asked)
    }

    pub(crate) fn user(&self, grant: &Grant) -> Result<&User, Refusal> {
        self.config.user(&grant.user).ok_or_else(|| tenants::no_such_user(&grant.user, &grant.tenant))
    }

    /// Checks that a credential is present where the platform wants one, and an origin where only browsers may redeem.
    fn check_platform(&self, platform: Platform) -> Result<(), Refusal> {
        match (platform, self.origin) {
            (Platform::SinglePage, None) => Err(errors::SPA_WITHOUT_ORIGIN.because(
                "Tokens issued for the 'Single-Page Application' client-type may only be redeemed via cross-origin requests.",
            )),
            (Platform::Public | Platform::Web, Some(origin)) => Err(errors::ORIGIN_WITHOUT_SPA.because(format!(
                "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type. Request \
                 origin: '{origin}'."
            ))),
            (Platform::Web, None) if self.proof == ClientProof::None => Err(client_authentication::required()),
            (Platform::Public, None) if self.proof != ClientProof::None && self.client.web_redirect_uris.is_empty() => {
                Err(errors::PUBLIC_CLIENT_WITH_CREDENTIAL
                    .because("Client is public so neither 'client_assertion' nor 'client_secret' should be presented."))
            }
            _ => Ok(()),
        }
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
    if agents::is_exchange(&scope) {
        return agents::exchange_token(request, &tenant.id);
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
    let continuous = authorize::read_claims(request.form)?.continuous;
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

/// The object id of an application's service principal in a tenant; derived, so that it is the same in every run.
pub(crate) fn service_principal(client: &str, tenant: &str) -> String {
    super::random::derived_guid(&format!("{client}|{tenant}"))
}

fn cannot_sign() -> Refusal {
    errors::INVALID_REQUEST.because("The emulator could not sign a token.")
}

/// Issues what a user's grant allows: the answer of every grant that has a user.
///
/// `refresh` asks for a refresh token and says for which platform and since when its chain lives.
pub(crate) fn respond(
    request: &TokenRequest<'_>,
    grant: &Grant,
    asked: &Asked,
    nonce: Option<&str>,
    refresh: Option<(Platform, i64)>,
) -> Result<Value, Refusal> {
    let TokenRequest { world, config, client, .. } = *request;
    let user = request.user(grant)?;
    let target = asked.single_target()?;
    let claims = authorize::read_claims(request.form)?;
    policy::check(user, grant.with_mfa, claims.wants_mfa, &target, policy::Through::Grant)?;
    let mut grant = grant.clone();
    grant.contexts.add(claims.contexts);
    let grant = &grant;
    policy::check_consent(world, config, user, grant, client, asked)?;
    let form = Form { proof: request.proof, continuous: claims.continuous, stepped_up: claims.wants_mfa };
    let access =
        tokens::access_token(world, config, Holder::User { grant, user }, &target, form).ok_or_else(cannot_sign)?;
    let mut body = json!({
        "token_type": "Bearer",
        "scope": granted_scope(asked, &target),
        "expires_in": access.expires_in,
        "ext_expires_in": access.expires_in,
        "access_token": access.value,
    });
    let Some(object) = body.as_object_mut() else {
        return Ok(body);
    };
    if let Some((platform, chain_started)) = refresh {
        let value = format!("1.A{}.{}", world.random.text::<24>(), world.random.text::<384>());
        let token = RefreshToken {
            grant: grant.clone(),
            scope: asked.raw.clone(),
            platform,
            issued: world.clock.now(),
            chain_started,
            redeemed: false,
        };
        world.state().refresh_tokens.insert(value.clone(), token);
        object.insert("refresh_token".to_owned(), Value::from(value));
        if platform == Platform::SinglePage {
            let left = config.policy.refresh_token_spa - (world.clock.now() - chain_started);
            object.insert("refresh_token_expires_in".to_owned(), Value::from(left));
        }
    }
    if asked.has("openid") {
        let wanted = IdTokenRequest { nonce, profile: asked.has("profile"), email: asked.has("email") };
        let id_token = tokens::id_token(world, config, grant, user, wanted).ok_or_else(cannot_sign)?;
        object.insert("id_token".to_owned(), Value::from(id_token));
    }
    if request.form.get("client_info") == Some("1") {
        use base64::Engine as _;
        // The home account, also for guests: what MSAL keys its cache with.
        let info = json!({ "uid": user.id, "utid": user.tenant }).to_string();
        object.insert(
            "client_info".to_owned(),
            Value::from(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(info)),
        );
    }
    if request.v1 {
        object.insert("resource".to_owned(), Value::from(target.written_as.clone()));
        object.insert("expires_in".to_owned(), Value::from(access.expires_in.to_string()));
        object.insert("expires_on".to_owned(), Value::from((world.clock.now() + access.expires_in).to_string()));
    }
    Ok(body)
}

/// The `scope` of an answer: permissions as they were asked for, with the OpenID ones for Graph only, as Entra ID does.
fn granted_scope(asked: &Asked, target: &Target) -> String {
    let mut scopes: Vec<String> = Vec::new();
    if matches!(target.resource, Resource::Graph) {
        scopes.extend(asked.openid.iter().filter(|scope| *scope != "offline_access").cloned());
    }
    scopes.extend(target.permissions.iter().map(|permission| permission.written_as.clone()));
    if target.default {
        scopes.push(format!("{}/.default", target.written_as));
    }
    scopes.join(" ")
}
