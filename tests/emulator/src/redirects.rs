//! Redirect URIs: whether one is an application's, and how an answer gets there.

use super::answers::Ids;
use super::config::Application;
use super::errors::Refusal;
use super::faults::RedirectFault;
use super::http::{Incoming, Reply};
use super::pages;
use super::state::Platform;
use super::state::transaction::{Redirect, ResponseMode};
use super::world::World;

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
