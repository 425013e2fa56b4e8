//! What all grants of the token endpoint begin with, and what those of a user end in.

use serde_json::{Value, json};

use super::client_authentication;
use super::config::{Application, Config, User};
use super::errors::{self, Refusal};
use super::http::Params;
use super::parameters::{check_resource, read_claims};
use super::policy;
use super::resources::{self, Asked, At, Resource, Target};
use super::state::{Grant, Platform, RefreshToken};
use super::tenants::{self, Authority};
use super::tokens::{self, ClientProof, Form, Holder, IdTokenRequest};
use super::world::World;

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

impl TokenRequest<'_> {
    /// The `scope` parameter, or what the v1 endpoint has instead. `None` if absent, `Some("")` if empty.
    pub(crate) fn scope(&self) -> Option<String> {
        if self.v1 {
            return self.form.get("resource").map(|resource| format!("openid {resource}/.default"));
        }
        self.form.0.iter().find(|(name, _)| name == "scope").map(|(_, value)| value.trim().to_owned())
    }

    pub(crate) fn parse(&self, scope: &str) -> Result<Asked, Refusal> {
        let asked = resources::parse(self.world, self.config, self.client, scope, At::Token)?;
        if !self.v1 {
            check_resource(self.world, self.config, self.form, asked.targets.first().map(|target| &target.resource))?;
        }
        Ok(asked)
    }

    pub(crate) fn user(&self, grant: &Grant) -> Result<&User, Refusal> {
        self.config.user(&grant.user).ok_or_else(|| tenants::no_such_user(&grant.user, &grant.tenant))
    }

    /// Checks that a credential is present where the platform wants one, and an origin where only browsers may redeem.
    pub(crate) fn check_platform(&self, platform: Platform) -> Result<(), Refusal> {
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

pub(crate) fn cannot_sign() -> Refusal {
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
    let claims = read_claims(request.form)?;
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
