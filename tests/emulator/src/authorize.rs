//! `/oauth2/v2.0/authorize`: checks the request, then hands over to the sign-in pages.
//!
//! Entra ID tells an application about a mistake only after it knows that the redirect URI is the application's; before
//! that, the person in front of the browser sees an error page.

use super::answers::Ids;
use super::config::{Application, Config};
use super::errors::{self, Refusal};
use super::http::{Incoming, Params, Reply};
use super::pages;
use super::parameters::{check_resource, missing, read_claims};
use super::redirects::{platform_of, send_error};
use super::resources::{self, At};
use super::sign_in;
use super::state::Challenge;
use super::state::transaction::{Progress, Prompt, Purpose, Redirect, ResponseMode, Transaction};
use super::tenants::{self, Authority};
use super::world::World;

/// Serves an authorize request.
pub(crate) fn authorize(world: &World, segment: &str, incoming: &Incoming) -> Reply {
    let config = world.config();
    let parameters = if incoming.method == http::Method::POST { incoming.form() } else { incoming.query.clone() };
    let (authority, client, redirect) = match trusted_part(&config, segment, &parameters) {
        Ok(parts) => parts,
        Err(refusal) => return pages::refusal(&refusal, &Ids::new(world, incoming), None),
    };
    match transaction(world, &config, authority, client, &redirect, &parameters, incoming) {
        Ok(transaction) => sign_in::begin(world, &config, transaction, incoming),
        Err(refusal) => send_error(world, incoming, &redirect, &refusal),
    }
}

/// Everything that has to be right before the redirect URI may be used, even for an error.
fn trusted_part<'a>(
    config: &'a Config,
    segment: &str,
    parameters: &Params,
) -> Result<(Authority, &'a Application, Redirect), Refusal> {
    if let Some(name) = parameters.repeated() {
        return Err(errors::REPEATED_PARAMETER
            .because(format!("The request is not properly formatted. The parameter '{name}' is duplicated.")));
    }
    let authority = Authority::parse(config, segment)?;
    let id = parameters.get("client_id").ok_or_else(|| missing("client_id"))?;
    let tenant = authority.tenant(config).map_or(segment, |tenant| tenant.name.as_str());
    let client = config.application(id).ok_or_else(|| tenants::application_not_found(id, tenant))?;
    authority.admits_application(config, client)?;
    if client.disabled {
        return Err(
            errors::APPLICATION_DISABLED.because(format!("Application '{}'({}) is disabled.", client.id, client.name))
        );
    }
    let registered =
        client.public_redirect_uris.len() + client.web_redirect_uris.len() + client.spa_redirect_uris.len();
    if registered == 0 {
        return Err(errors::NO_REPLY_ADDRESS_REGISTERED.because("No reply address is registered for the application."));
    }
    let uri =
        parameters.get("redirect_uri").ok_or_else(|| errors::NO_REPLY_ADDRESS.because("No reply address provided."))?;
    let platform = platform_of(client, uri).ok_or_else(|| {
        errors::REDIRECT_MISMATCH.because(format!(
            "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the \
             application '{}'. Make sure the redirect URI sent in the request matches one added to your application in the \
             Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about how to fix this.",
            client.id
        ))
    })?;
    let mode = match parameters.get("response_mode") {
        Some("fragment") => ResponseMode::Fragment,
        Some("form_post") => ResponseMode::FormPost,
        _ => ResponseMode::Query,
    };
    let redirect = Redirect {
        uri: uri.to_owned(),
        platform,
        mode,
        state: parameters.get("state").map(str::to_owned),
        nonce: parameters.get("nonce").map(str::to_owned),
        challenge: None,
    };
    Ok((authority, client, redirect))
}

fn transaction(
    world: &World,
    config: &Config,
    authority: Authority,
    client: &Application,
    redirect: &Redirect,
    parameters: &Params,
    incoming: &Incoming,
) -> Result<Transaction, Refusal> {
    match parameters.get("response_type") {
        Some("code") => {}
        None => return Err(missing("response_type")),
        Some(other) => {
            return Err(errors::UNKNOWN_RESPONSE_TYPE
                .because(format!("response_type '{other}' is not enabled for the application '{}'.", client.id)));
        }
    }
    if let Some(mode) =
        parameters.get("response_mode").filter(|mode| !["query", "fragment", "form_post"].contains(mode))
    {
        return Err(errors::BAD_RESPONSE_MODE
            .because(format!("'{mode}' is not a supported value of 'response_mode' for this request.")));
    }
    let challenge = challenge(parameters)?;
    let v1 = !incoming.path.contains("/v2.0/");
    let scope = match (parameters.get("scope"), parameters.get("resource")) {
        (scope, Some(resource)) if v1 => format!("{} {resource}/.default", scope.unwrap_or("openid")),
        (Some(scope), _) => scope.to_owned(),
        (None, _) if v1 => "openid profile".to_owned(),
        (None, _) => return Err(missing("scope")),
    };
    let asked = resources::parse(world, config, client, &scope, At::Authorize)?;
    if !v1 {
        check_resource(world, config, parameters, asked.targets.first().map(|target| &target.resource))?;
    }
    let claims = read_claims(parameters)?;
    Ok(Transaction {
        client: client.id.clone(),
        authority,
        purpose: Purpose::Redirect(Redirect { challenge, ..redirect.clone() }),
        scope,
        prompt: match parameters.get("prompt") {
            Some("none") => Prompt::None,
            Some("login") => Prompt::Login,
            Some("select_account") => Prompt::SelectAccount,
            Some("consent") => Prompt::Consent,
            _ => Prompt::AsNeeded,
        },
        login_hint: parameters.get("login_hint").map(str::to_owned),
        wants_mfa: claims.wants_mfa,
        contexts: claims.contexts,
        canary: world.random.text::<24>(),
        browser: incoming.cookie(sign_in::BROWSER_COOKIE).map_or_else(|| world.random.text::<24>(), str::to_owned),
        created: world.clock.now(),
        progress: Progress::default(),
    })
}

fn challenge(parameters: &Params) -> Result<Option<Challenge>, Refusal> {
    let Some(challenge) = parameters.get("code_challenge") else {
        return Ok(None);
    };
    let well_formed = (43..=128).contains(&challenge.len())
        && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    match parameters.get("code_challenge_method") {
        _ if !well_formed => Err(errors::VERIFIER_MISMATCH.because("The Code_Challenge parameter is malformed.")),
        Some("S256") => Ok(Some(Challenge::S256(challenge.to_owned()))),
        None | Some("plain") => Ok(Some(Challenge::Plain(challenge.to_owned()))),
        Some(_) => {
            Err(errors::INVALID_REQUEST.because("The code_challenge_method parameter must be 'plain' or 'S256'."))
        }
    }
}
