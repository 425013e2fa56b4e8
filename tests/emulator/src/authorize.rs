//! `/oauth2/v2.0/authorize`: checks the request, then hands over to the sign-in pages.
//!
//! Entra ID tells an application about a mistake only after it knows that the redirect URI is the application's; before
//! that, the person in front of the browser sees an error page.

use super::World;
use super::config::{Application, Config};
use super::errors::{self, Ids, Refusal};
use super::http::{Incoming, Params, Reply};
use super::pages;
use super::resources::{self, At, Resource};
use super::sign_in;
use super::state::{Challenge, Contexts, Platform};
use super::tenants::{self, Authority};

/// A sign-in on its way, from the authorize request (or a typed device code) to its end.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) client: String,
    pub(crate) authority: Authority,
    pub(crate) purpose: Purpose,
    pub(crate) scope: String,
    pub(crate) prompt: Prompt,
    pub(crate) login_hint: Option<String>,
    /// The client asked for a second factor through the `claims` parameter.
    pub(crate) wants_mfa: bool,
    /// The authentication contexts that the client asked for in the same way.
    pub(crate) contexts: Contexts,
    /// Guards the forms against other sites.
    pub(crate) canary: String,
    pub(crate) browser: String,
    pub(crate) created: i64,
    pub(crate) progress: Progress,
}

/// How far a sign-in has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The home object id of the chosen account.
    pub(crate) user: Option<String>,
    pub(crate) password_given: bool,
    pub(crate) with_mfa: bool,
    pub(crate) consented: bool,
    pub(crate) confirmed: bool,
    /// The person asked for the user-name page instead of the account picker.
    pub(crate) other_account: bool,
}

/// What a sign-in ends in.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Redirect(Redirect),
    Device { device_code: String },
}

/// Where and how the answer goes back.
#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    pub(crate) uri: String,
    pub(crate) platform: Platform,
    pub(crate) mode: ResponseMode,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Prompt {
    AsNeeded,
    None,
    Login,
    SelectAccount,
    Consent,
}

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

/// A `resource` parameter has to name the resource the scopes are for (RFC 8707 as Entra ID understands it).
pub(crate) fn check_resource(
    world: &World,
    config: &Config,
    parameters: &Params,
    asked: Option<&Resource>,
) -> Result<(), Refusal> {
    let Some(written) = parameters.get("resource") else {
        return Ok(());
    };
    let named = resources::resource(world, config, written);
    let asked_id = asked.map_or(super::config::GRAPH_APP_ID, Resource::id);
    // Entra ID compares with the App ID URI as registered; a resource it does not know cannot match either.
    if named.is_some_and(|resource| resource.id() == asked_id) {
        return Ok(());
    }
    Err(errors::RESOURCE_MISMATCH
        .because("The resource parameter provided in the request doesn't match with the requested scopes."))
}

/// What the `claims` parameter asks for, as far as it is understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// The client handles claims challenges.
    pub(crate) continuous: bool,
    pub(crate) wants_mfa: bool,
    pub(crate) contexts: Contexts,
}

/// The authentication contexts of Conditional Access, `c1` to `c99`, in one request for the claim `acrs`.
fn contexts(asked: Option<&serde_json::Value>) -> Vec<String> {
    let is_context = |id: &&str| {
        let number = id.strip_prefix('c').filter(|number| !number.starts_with('0'));
        number.and_then(|number| number.parse::<u8>().ok()).is_some_and(|number| (1..=99).contains(&number))
    };
    let one = asked.and_then(|asked| asked.get("value")).into_iter();
    let many = asked.and_then(|asked| asked.get("values")).and_then(serde_json::Value::as_array).into_iter().flatten();
    one.chain(many).filter_map(serde_json::Value::as_str).filter(is_context).map(str::to_owned).collect()
}

/// Reads the `claims` parameter.
pub(crate) fn read_claims(parameters: &Params) -> Result<Claims, Refusal> {
    let Some(text) = parameters.get("claims") else {
        return Ok(Claims::default());
    };
    let document: serde_json::Value = serde_json::from_str(text)
        .map_err(|_| errors::CLAIMS_UNREADABLE.because("The 'claims' parameter is not a valid JSON object."))?;
    let contains = |pointer: &str, wanted: &str| {
        let value = document.pointer(pointer);
        let one = value.and_then(|value| value.get("value")).and_then(serde_json::Value::as_str);
        let many = value.and_then(|value| value.get("values")).and_then(serde_json::Value::as_array);
        one.is_some_and(|one| one.eq_ignore_ascii_case(wanted))
            || many.is_some_and(|many| {
                many.iter().any(|one| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(wanted)))
            })
    };
    let contexts = Contexts {
        access_token: contexts(document.pointer("/access_token/acrs")),
        id_token: contexts(document.pointer("/id_token/acrs")),
    };
    Ok(Claims {
        continuous: contains("/access_token/xms_cc", "cp1"),
        wants_mfa: contains("/access_token/amr", "mfa")
            || contains("/id_token/amr", "mfa")
            // Here every authentication context stands for a second factor.
            || !contexts.is_empty()
            // The claims of a 50076 or 53003 name the policies to satisfy; here that is always a second factor.
            || document.pointer("/access_token/capolids").is_some(),
        contexts,
    })
}

/// Finds the platform a redirect URI is registered under.
///
/// Registered URIs match exactly, except that `http://localhost` stands for every port. `127.0.0.1` has no such
/// exception.
pub(crate) fn platform_of(client: &Application, uri: &str) -> Option<Platform> {
    [
        (&client.public_redirect_uris, Platform::Public),
        (&client.web_redirect_uris, Platform::Web),
        (&client.spa_redirect_uris, Platform::SinglePage),
    ]
    .into_iter()
    .find(|(registered, _)| registered.iter().any(|one| one == uri || is_same_localhost(one, uri)))
    .map(|(_, platform)| platform)
}

fn is_same_localhost(registered: &str, uri: &str) -> bool {
    let (Ok(registered), Ok(uri)) = (url::Url::parse(registered), url::Url::parse(uri)) else {
        return false;
    };
    let is_localhost = |url: &url::Url| url.scheme() == "http" && url.host_str() == Some("localhost");
    is_localhost(&registered)
        && is_localhost(&uri)
        && registered.path() == uri.path()
        && registered.query() == uri.query()
        && uri.fragment().is_none()
        && uri.username().is_empty()
}

pub(crate) fn missing(parameter: &str) -> Refusal {
    errors::MISSING_PARAMETER.because(format!("The request body must contain the following parameter: '{parameter}'."))
}

/// Sends a refusal to the application.
pub(crate) fn send_error(world: &World, incoming: &Incoming, redirect: &Redirect, refusal: &Refusal) -> Reply {
    let ids = Ids::new(world, incoming);
    let mut answer = vec![
        ("error".to_owned(), refusal.code.error.to_owned()),
        ("error_description".to_owned(), refusal.description(&ids)),
        ("error_uri".to_owned(), format!("{}/error?code={}", world.base, refusal.code.number)),
    ];
    if let Some(suberror) = refusal.code.suberror {
        answer.push(("error_subcode".to_owned(), suberror.to_owned()));
    }
    if let Some(claims) = &refusal.claims {
        answer.push(("claims".to_owned(), claims.clone()));
    }
    ids.label(send(world, redirect, answer))
}

/// Sends an answer to the application in the response mode it asked for.
pub(crate) fn send(world: &World, redirect: &Redirect, mut answer: Vec<(String, String)>) -> Reply {
    use super::faults::RedirectFault;
    let state = match world.faults().take_redirect_fault() {
        None => redirect.state.clone(),
        Some(RedirectFault::WrongState) => Some("a-state-never-sent".to_owned()),
        Some(RedirectFault::MissingState) => None,
    };
    if let Some(state) = state {
        answer.push(("state".to_owned(), state));
    }
    let encoded = || url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&answer).finish();
    match redirect.mode {
        ResponseMode::FormPost => Reply::html(http::StatusCode::OK, pages::form_post(&redirect.uri, &answer)),
        ResponseMode::Fragment => Reply::redirect(&format!("{}#{}", redirect.uri, encoded())),
        ResponseMode::Query => {
            // A registered root is written with its slash, as browsers do.
            let uri = match url::Url::parse(&redirect.uri) {
                Ok(url) if url.path() == "/" && url.query().is_none() => url.to_string(),
                _ => redirect.uri.clone(),
            };
            let separator = if uri.contains('?') { '&' } else { '?' };
            Reply::redirect(&format!("{uri}{separator}{}", encoded()))
        }
    }
    .with("cache-control", "no-store, no-cache")
}
