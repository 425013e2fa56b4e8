//! The device-code flow: the code endpoint, the page where a person types the code, and the polling.

use serde_json::{Value, json};

use super::answers::{Ids, only_post};
use super::client_authentication::{self, authenticate};
use super::errors::{self, Refusal};
use super::http::{Incoming, Reply};
use super::pages;
use super::parameters::missing;
use super::resources::{self, At};
use super::sign_in;
use super::state::device_code::{DeviceCode, DeviceOutcome, Outcome};
use super::state::transaction::{Progress, Prompt, Purpose, Transaction};
use super::state::{Contexts, Grant, Platform};
use super::tenants::{self, Authority};
use super::token_request::{TokenRequest, respond};
use super::tokens::ClientProof;
use super::world::World;

/// Letters of user codes: as in Entra ID, no vowels and none that looks like another.
const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXYZ23456789";
const USER_CODE_LENGTH: usize = 9;

/// Serves `/oauth2/v2.0/devicecode`.
pub(crate) fn issue(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    if incoming.method != http::Method::POST {
        return only_post(world, incoming);
    }
    match try_issue(world, segment, incoming) {
        Ok(body) => Ids::new(world, incoming).label(Reply::ok(&body)).with("cache-control", "no-store, no-cache"),
        Err(refusal) => refusal.reply(world, incoming),
    }
}

fn try_issue(world: &World, segment: &str, incoming: &Incoming) -> Result<Value, Refusal> {
    let config = world.config();
    let form = incoming.form();
    let authority = Authority::parse(&config, segment)?;
    let id = form.get("client_id").ok_or_else(|| missing("client_id"))?;
    let client = config.application(id).ok_or_else(|| tenants::application_not_found(id, segment))?;
    authority.admits_application(&config, client)?;
    if client.disabled {
        return Err(
            errors::APPLICATION_DISABLED.because(format!("Application '{}'({}) is disabled.", client.id, client.name))
        );
    }
    let proof = authenticate(world, &config, incoming, &form, client, segment)?;
    if proof == ClientProof::None && !client.allow_public_client {
        return Err(client_authentication::required());
    }
    let scope = form.get("scope").ok_or_else(|| missing("scope"))?;
    resources::parse(world, &config, client, scope, At::Token)?;
    let script = world.device_script();
    let lifetime = script.expires_in.unwrap_or(config.policy.device_code).max(1);
    let user_code: String = (0..USER_CODE_LENGTH)
        .filter_map(|_| {
            let drawn = world.random.next() % u64::try_from(LETTERS.len()).unwrap_or(1);
            LETTERS.get(usize::try_from(drawn).unwrap_or(0)).copied().map(char::from)
        })
        .collect();
    let device_code = format!("D{}", world.random.text::<96>());
    let mut outcome = Outcome::Pending;
    match &script.outcome {
        Some(DeviceOutcome::Declined) => outcome = Outcome::Declined,
        Some(DeviceOutcome::Expired) => outcome = Outcome::Expired,
        Some(DeviceOutcome::ApprovedBy(username)) => {
            if let Some(user) = config.user_named(username) {
                let tenant = authority.issuing_tenant(&config, user, client)?;
                outcome = Outcome::Approved(Grant {
                    user: user.id.clone(),
                    tenant: tenant.id.clone(),
                    client: client.id.clone(),
                    signed_in_at: world.clock.now(),
                    with_mfa: false,
                    contexts: Contexts::default(),
                    session: world.random.guid(),
                    epoch: world.state().epoch(&user.id),
                });
            }
        }
        None => {}
    }
    let verification_uri = format!("{}/devicelogin", world.base);
    let body = json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": verification_uri,
        "expires_in": lifetime,
        "interval": script.interval.unwrap_or(config.policy.device_code_interval),
        "message": format!(
            "To sign in, use a web browser to open the page {verification_uri} and enter the code {user_code} to authenticate."
        ),
    });
    let code = DeviceCode {
        user_code,
        client: client.id.clone(),
        authority,
        scope: scope.to_owned(),
        expires: world.clock.now() + lifetime,
        outcome,
        slow_down: script.slow_down,
    };
    world.state().device_codes.insert(device_code, code);
    Ok(body)
}

/// Serves the page where the code is typed.
pub(crate) fn login(world: &World, incoming: &Incoming) -> Reply {
    const PATH: &str = "/devicelogin";
    if incoming.method != http::Method::POST {
        // No `verification_uri_complete`: a code in the query is not filled in, as Entra ID does not.
        return pages::enter_code(PATH, "", None);
    }
    let config = world.config();
    let form = incoming.form();
    let typed = form.get("user_code").unwrap_or_default().trim().to_ascii_uppercase();
    let now = world.clock.now();
    let found = world
        .state()
        .device_codes
        .find(|code| code.user_code == typed && code.expires > now && matches!(code.outcome, Outcome::Pending));
    let Some((device_code, code)) = found else {
        return pages::enter_code(PATH, &typed, Some("That code didn't work. Check the code and try again."));
    };
    let transaction = Transaction {
        client: code.client,
        authority: code.authority,
        purpose: Purpose::Device { device_code },
        scope: code.scope,
        prompt: Prompt::SelectAccount,
        login_hint: None,
        wants_mfa: false,
        contexts: Contexts::default(),
        canary: world.random.text::<24>(),
        browser: incoming.cookie(sign_in::BROWSER_COOKIE).map_or_else(|| world.random.text::<24>(), str::to_owned),
        created: now,
        progress: Progress::default(),
    };
    sign_in::begin(world, &config, transaction, incoming)
}

/// Serves the polling of the token endpoint.
pub(crate) fn redeem(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    let world = request.world;
    let presented =
        request.form.get("device_code").or_else(|| request.form.get("code")).ok_or_else(|| missing("device_code"))?;
    if request.proof == ClientProof::None && !request.client.allow_public_client {
        return Err(client_authentication::required());
    }
    let unknown = || errors::DEVICE_UNKNOWN.because("The device code is not valid for this application.");
    let (grant, scope) = {
        let mut state = world.state();
        let code = state
            .device_codes
            .get_mut(presented)
            .filter(|code| code.client == request.client.id)
            .ok_or_else(unknown)?;
        if world.clock.now() >= code.expires {
            return Err(expired());
        }
        if code.slow_down > 0 {
            code.slow_down -= 1;
            return Err(errors::DEVICE_SLOW_DOWN.because("The client is polling too frequently."));
        }
        match std::mem::replace(&mut code.outcome, Outcome::Redeemed) {
            Outcome::Approved(grant) => (grant, code.scope.clone()),
            other => {
                let refusal = match &other {
                    Outcome::Pending => errors::DEVICE_PENDING
                        .because("OAuth 2.0 device flow error. Authorization is pending. Continue polling."),
                    Outcome::Declined => {
                        errors::DEVICE_DECLINED.because("The user declined the authorization request.")
                    }
                    Outcome::Expired => expired(),
                    Outcome::Redeemed | Outcome::Approved(_) => {
                        errors::CODE_REDEEMED.because("OAuth2 device code was already redeemed.")
                    }
                };
                code.outcome = other;
                return Err(refusal);
            }
        }
    };
    let asked = request.parse(request.form.get("scope").unwrap_or(&scope))?;
    let refresh = asked.has("offline_access").then(|| (Platform::Public, world.clock.now()));
    respond(request, &grant, &asked, None, refresh)
}

fn expired() -> Refusal {
    errors::DEVICE_EXPIRED
        .because("The provided value for the input parameter 'device_code' is not valid. This device code has expired.")
}
