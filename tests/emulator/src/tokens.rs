//! Tokens as Entra ID forms them: v1 and v2 access tokens, ID tokens, and Graph's opaque ones.
//!
//! A token for an application is a signed JWT in the version *the resource* asks for, whichever endpoint the client used.
//! A token for Microsoft Graph is random text: Microsoft reserves its form, and a client that parses one must fail here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde_json::{Map, Value, json};

use super::agents;
use super::config::{Application, Config, User};
use super::faults::TokenFault;
use super::jwt;
use super::keys::SigningKey;
use super::resources::{Resource, Target};
use super::state::{Grant, GraphSubject, GraphToken};
use super::world::World;

/// How the client proved its identity; written into `azpacr` or `appidacr`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientProof {
    None,
    Secret,
    Assertion,
}

impl ClientProof {
    fn class(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Secret => "1",
            Self::Assertion => "2",
        }
    }
}

/// An access token with its life.
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) value: String,
    pub(crate) expires_in: i64,
}

/// The principal that an access token is issued to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder<'a> {
    /// A user, through an application.
    User { grant: &'a Grant, user: &'a User },
    /// An application or managed identity itself.
    Application { tenant: &'a str, client: &'a str, object: &'a str, roles: &'a [String] },
}

/// What else decides the form of an access token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) proof: ClientProof,
    /// The client said it can handle claims challenges (`xms_cc: cp1`).
    pub(crate) continuous: bool,
    /// The client asked for more than a sign-in, such as the authentication context `c1`.
    pub(crate) stepped_up: bool,
}

/// Issues an access token for one resource.
pub(crate) fn access_token(
    world: &World,
    config: &Config,
    holder: Holder<'_>,
    target: &Target,
    form: Form,
) -> Option<AccessToken> {
    let policy = &config.policy;
    let is_graph = matches!(target.resource, Resource::Graph);
    let expires_in = if form.continuous && is_graph {
        policy.continuous_access_token
    } else {
        world.random.within(policy.access_token_shortest..=policy.access_token_longest)
    };
    let now = world.clock.now();
    let value = match &target.resource {
        Resource::Graph => {
            // Long enough that a client with a small buffer notices; some 1,500 characters is what Graph's have.
            let value = format!("EwB{}.opaque-to-clients.{}", world.random.text::<48>(), world.random.text::<512>());
            let (subject, permissions) = match holder {
                Holder::User { grant, .. } => (
                    GraphSubject::User(grant.clone()),
                    target.permissions.iter().map(|permission| permission.name.clone()).collect(),
                ),
                Holder::Application { tenant, roles, .. } => {
                    (GraphSubject::Application { tenant: tenant.to_owned() }, roles.to_vec())
                }
            };
            let in_context = form.stepped_up && matches!(&subject, GraphSubject::User(grant) if grant.with_mfa);
            let expires = now + expires_in;
            let token = GraphToken { subject, permissions, expires, continuous: form.continuous, in_context };
            world.state().graph_tokens.insert(value.clone(), token);
            value
        }
        Resource::Application(resource) => {
            let claims = claims(world, config, holder, resource, target, form, now, now + expires_in);
            if let (Holder::User { grant, .. }, Some(id)) = (holder, claims.get("uti").and_then(Value::as_str)) {
                world.state().issued.insert(id.to_owned(), grant.clone());
            }
            sign(&world.keys.current(), &claims)?
        }
    };
    Some(AccessToken { value, expires_in })
}

#[expect(clippy::too_many_arguments, reason = "every one of them becomes a claim")]
fn claims(
    world: &World,
    config: &Config,
    holder: Holder<'_>,
    resource: &Application,
    target: &Target,
    form: Form,
    now: i64,
    expires: i64,
) -> Value {
    let v2 = resource.access_token_version >= 2;
    let mut claims = Map::new();
    let (tenant, client) = match holder {
        Holder::User { grant, .. } => (grant.tenant.as_str(), grant.client.as_str()),
        Holder::Application { tenant, client, .. } => (tenant, client),
    };
    // A v1 audience is the resource as the client named it, a v2 audience always the client id.
    let audience =
        if v2 || target.written_as.is_empty() { &resource.id } else { v1_audience(resource, &target.written_as) };
    let issuer = if v2 { world.issuer(tenant) } else { config.policy.v1_issuer.replace("{tenantid}", tenant) };
    set(&mut claims, "aud", audience);
    set(&mut claims, "iss", issuer);
    set(&mut claims, "iat", now);
    set(&mut claims, "nbf", now);
    set(&mut claims, "exp", expires);
    set(&mut claims, "aio", world.random.text::<48>());
    let (client_claim, class_claim) = if v2 { ("azp", "azpacr") } else { ("appid", "appidacr") };
    set(&mut claims, client_claim, client);
    set(&mut claims, class_claim, form.proof.class());
    set(&mut claims, "tid", tenant);
    set(&mut claims, "uti", world.random.text::<16>());
    set(&mut claims, "rh", format!("1.{}.", world.random.text::<24>()));
    set(&mut claims, "ver", if v2 { "2.0" } else { "1.0" });
    if form.continuous {
        set(&mut claims, "xms_cc", json!(["cp1"]));
    }
    match holder {
        Holder::User { grant, user } => {
            let object = user.id_in(tenant).unwrap_or(&user.id);
            set(&mut claims, "oid", object);
            set(&mut claims, "sub", pairwise(&resource.id, object, tenant));
            let scopes: Vec<&str> = target.permissions.iter().map(|permission| permission.name.as_str()).collect();
            set(&mut claims, "scp", scopes.join(" "));
            set(&mut claims, "name", user.display_name());
            set(&mut claims, "sid", grant.session.as_str());
            if v2 {
                set(&mut claims, "preferred_username", user.username.as_str());
            } else {
                set(&mut claims, "acr", "1");
                set(&mut claims, "amr", if grant.with_mfa { json!(["pwd", "mfa"]) } else { json!(["pwd"]) });
                set(&mut claims, "unique_name", user.username.as_str());
                set(&mut claims, "upn", user.username.as_str());
                set(&mut claims, "ipaddr", "127.0.0.1");
                for (claim, property) in [("family_name", "surname"), ("given_name", "givenName")] {
                    if let Some(value) = user.property(property) {
                        set(&mut claims, claim, value);
                    }
                }
            }
            if let Some(idp) = foreign_provider(user, tenant) {
                set(&mut claims, "idp", idp);
            }
            if resource.asks_for("accessToken", "acct") {
                set(&mut claims, "acct", u8::from(user.tenant != tenant));
            }
            if resource.idtyp_for_users {
                set(&mut claims, "idtyp", "user");
            }
            if let Some(roles) = user.roles.get(&resource.id).filter(|roles| !roles.is_empty()) {
                set(&mut claims, "roles", json!(roles));
            }
            if resource.group_claims {
                add_groups(&mut claims, user, config, object, tenant);
            }
            if !grant.contexts.access_token.is_empty() {
                set(&mut claims, "acrs", json!(grant.contexts.access_token));
            }
        }
        Holder::Application { object, roles, .. } => {
            set(&mut claims, "oid", object);
            // An application is its own subject: it stands for no user whose id would need hiding.
            set(&mut claims, "sub", object);
            if resource.idtyp_for_applications {
                set(&mut claims, "idtyp", "app");
            }
            if !v2 {
                set(&mut claims, "idp", config.policy.v1_issuer.replace("{tenantid}", tenant));
            }
            if !roles.is_empty() {
                set(&mut claims, "roles", json!(roles));
            }
        }
    }
    if let Some(client) = config.application(client) {
        let user = match holder {
            Holder::User { user, .. } => Some(user),
            Holder::Application { .. } => None,
        };
        agents::facets(&mut claims, client, user);
    }
    Value::Object(claims)
}

/// The App ID URI the client meant, trailing slash and all; its id when it was asked for by id.
fn v1_audience<'a>(resource: &'a Application, written_as: &str) -> &'a str {
    let registered =
        resource.identifier_uris.iter().find(|uri| *uri == written_as || uri.strip_suffix('/') == Some(written_as));
    registered.map_or(&resource.id, String::as_str)
}

/// Groups, or the overage claims. The address in them is the retired Azure AD Graph one, as Entra ID still writes it:
/// it does not work, and a client must not follow it anyway.
fn add_groups(claims: &mut Map<String, Value>, user: &User, config: &Config, object: &str, tenant: &str) {
    if user.groups > config.policy.groups_in_token {
        set(claims, "_claim_names", json!({ "groups": "src1" }));
        let endpoint = format!("https://graph.windows.net/{tenant}/users/{object}/getMemberObjects");
        set(claims, "_claim_sources", json!({ "src1": { "endpoint": endpoint } }));
    } else if user.groups > 0 {
        set(claims, "groups", user.group_ids().collect::<Vec<_>>());
    }
}

/// What an ID token depends on besides the grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdTokenRequest<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) profile: bool,
    pub(crate) email: bool,
}

/// Issues an ID token, spoilt if a fault says so.
pub(crate) fn id_token(
    world: &World,
    config: &Config,
    grant: &Grant,
    user: &User,
    request: IdTokenRequest<'_>,
) -> Option<String> {
    let now = world.clock.now();
    let object = user.id_in(&grant.tenant).unwrap_or(&user.id);
    let mut claims = Map::new();
    set(&mut claims, "aud", grant.client.as_str());
    set(&mut claims, "iss", world.issuer(&grant.tenant));
    set(&mut claims, "iat", now);
    set(&mut claims, "nbf", now);
    set(&mut claims, "exp", now + config.policy.id_token);
    set(&mut claims, "aio", world.random.text::<48>());
    set(&mut claims, "oid", object);
    set(&mut claims, "sub", pairwise(&grant.client, object, &grant.tenant));
    set(&mut claims, "tid", grant.tenant.as_str());
    set(&mut claims, "sid", grant.session.as_str());
    set(&mut claims, "uti", world.random.text::<16>());
    set(&mut claims, "rh", format!("1.{}.", world.random.text::<24>()));
    set(&mut claims, "ver", "2.0");
    if request.profile {
        set(&mut claims, "name", user.display_name());
        set(&mut claims, "preferred_username", user.username.as_str());
    }
    if let Some(mail) = user.property("mail").filter(|_| request.email) {
        set(&mut claims, "email", mail);
    }
    if let Some(idp) = foreign_provider(user, &grant.tenant) {
        set(&mut claims, "idp", idp);
    }
    if let Some(nonce) = request.nonce {
        set(&mut claims, "nonce", nonce);
    }
    let client = config.application(&grant.client)?;
    if let Some(roles) = user.roles.get(&client.id).filter(|roles| !roles.is_empty()) {
        set(&mut claims, "roles", json!(roles));
    }
    if client.asks_for("idToken", "acct") {
        set(&mut claims, "acct", u8::from(user.tenant != grant.tenant));
    }
    if client.group_claims {
        add_groups(&mut claims, user, config, object, &grant.tenant);
    }
    if !grant.contexts.id_token.is_empty() {
        set(&mut claims, "acrs", json!(grant.contexts.id_token));
    }
    let key = match world.faults().take_token_fault() {
        None => world.keys.current(),
        Some(fault) => spoil(world, &mut claims, fault),
    };
    sign(&key, &Value::Object(claims))
}

/// Makes a token that must be refused, and only for the one reason.
fn spoil(world: &World, claims: &mut Map<String, Value>, fault: TokenFault) -> std::sync::Arc<SigningKey> {
    let foreign = "0badbad0-0000-4000-a000-00000000bad0";
    match fault {
        TokenFault::UnknownKey => return world.keys.unknown.clone(),
        TokenFault::WrongNonce => set(claims, "nonce", "a-nonce-never-sent"),
        TokenFault::MissingNonce => drop(claims.remove("nonce")),
        TokenFault::WrongIssuer => set(claims, "iss", format!("https://attacker.example/{foreign}/v2.0")),
        TokenFault::WrongAudience => set(claims, "aud", foreign),
        TokenFault::WrongTenant => set(claims, "tid", foreign),
        TokenFault::Expired => {
            for (claim, ago) in [("iat", 7_200), ("nbf", 7_200), ("exp", 3_600)] {
                set(claims, claim, world.clock.now() - ago);
            }
        }
        TokenFault::NotYetValid => set(claims, "nbf", world.clock.now() + 3_600),
    }
    world.keys.current()
}

/// Signs claims with one of the emulator's keys.
pub(crate) fn sign(key: &SigningKey, claims: &Value) -> Option<String> {
    jwt::sign_rs256(&key.pair, &json!({ "typ": "JWT", "alg": "RS256", "kid": key.id, "x5t": key.id }), claims)
}

/// A subject that differs from application to application.
pub(crate) fn pairwise(application: &str, object: &str, tenant: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{application}|{object}|{tenant}").as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// The home directory of a guest, in the form of `idp`.
fn foreign_provider(user: &User, tenant: &str) -> Option<String> {
    (user.tenant != tenant).then(|| {
        if user.is_personal() { "live.com".to_owned() } else { format!("https://sts.windows.net/{}/", user.tenant) }
    })
}

fn set(claims: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    claims.insert(name.to_owned(), value.into());
}
