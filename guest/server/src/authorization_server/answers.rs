//! Answers of the endpoints: redirects to clients, and errors in JSON.

use http::header::{CACHE_CONTROL, LOCATION, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response};
use serde_json::json;

use crate::message::{json, text};
use crate::server_world::ServerWorld;

/// An error that a client is told (RFC 6749 sections 4.1.2.1 and 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OAuthRefusal {
    /// `invalid_request` …
    pub(super) error: &'static str,
    /// For the client's developer or user; says what can be done.
    pub(super) description: String,
}

impl OAuthRefusal {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into() }
    }
}

/// Sends the person on. 303: whatever the method was, the next request is a `GET`, without the form.
pub(super) fn redirect(url: &str) -> Response<Vec<u8>> {
    let mut response = text(303, "");
    match HeaderValue::from_str(url) {
        Ok(mut location) => {
            location.set_sensitive(true);
            response.headers_mut().insert(LOCATION, location);
        }
        // Every URL that gets here was parsed.
        Err(_) => *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR,
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The way back to a client: its redirect URI and its `state`.
#[derive(Clone, Copy)]
pub(super) struct Back<'a> {
    /// As registered and requested.
    pub(super) redirect_uri: &'a str,
    /// As the client sent it.
    pub(super) state: Option<&'a str>,
}

impl Back<'_> {
    /// The answer to the authorization request.
    pub(super) fn with(&self, env: &ServerWorld<'_>, parameters: &[(&str, &str)]) -> Response<Vec<u8>> {
        redirect(&self.url(env, parameters))
    }

    /// The URL that carries the answer to the client, with `iss` (RFC 9207).
    fn url(&self, env: &ServerWorld<'_>, parameters: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        if let Some(state) = self.state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", &env.site.settings.public_url);
        // The redirect URI may have a query, which is kept (RFC 6749 section 3.1.2).
        let separator = match self.redirect_uri.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        format!("{}{separator}{}", self.redirect_uri, query.finish())
    }

    /// The error answer.
    pub(super) fn refuse(&self, env: &ServerWorld<'_>, refusal: &OAuthRefusal) -> Response<Vec<u8>> {
        redirect(&self.refusal_url(env, refusal))
    }

    /// The URL that carries the error to the client.
    pub(super) fn refusal_url(&self, env: &ServerWorld<'_>, refusal: &OAuthRefusal) -> String {
        let description = described(env, &refusal.description);
        self.url(env, &[("error", refusal.error), ("error_description", &description)])
    }
}

/// An error of the token or revocation endpoint.
pub(super) fn refusal(env: &ServerWorld<'_>, status: u16, refusal: &OAuthRefusal) -> Response<Vec<u8>> {
    let description = described(env, &refusal.description);
    let mut response = json(status, &json!({ "error": refusal.error, "error_description": description }));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The client did not prove its identity (RFC 6749 section 5.2).
pub(super) fn invalid_client(env: &ServerWorld<'_>, description: &str, basic: bool) -> Response<Vec<u8>> {
    let mut response = refusal(env, 401, &OAuthRefusal::new("invalid_client", description));
    if basic {
        let challenge = HeaderValue::from_static("Basic realm=\"entra-mcp\", charset=\"UTF-8\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Something is out of reach; the same request may succeed later.
pub(super) fn unavailable(env: &ServerWorld<'_>, description: &str, retry_after: u64) -> Response<Vec<u8>> {
    let refused = OAuthRefusal::new("temporarily_unavailable", description);
    with_retry_after(refusal(env, 503, &refused), retry_after)
}

/// Says when to come back.
pub(super) fn with_retry_after(mut response: Response<Vec<u8>>, seconds: u64) -> Response<Vec<u8>> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// The description with the correlation id, in the characters that are allowed in it (RFC 6749 section 5.2).
fn described(env: &ServerWorld<'_>, description: &str) -> String {
    let allowed = |character: char| match character {
        '"' => '\'',
        '\u{2018}' | '\u{2019}' => '\'',
        '\\' => '/',
        ' '..='~' => character,
        _ => '?',
    };
    let description: String = description.chars().map(allowed).collect();
    format!("{description} (correlation id {})", env.correlation_id())
}

#[cfg(test)]
mod tests {
    use world::testing::World;

    use super::*;
    use crate::testing::ServerWorlds as _;

    #[test]
    fn the_query_of_a_redirect_uri_is_kept() {
        let env = World::default().remote();
        for (redirect_uri, expected) in [
            ("https://a.example/cb", "https://a.example/cb?code=c&state=s+%26&iss=https%3A%2F%2Fmcp.example.com"),
            (
                "https://a.example/cb?x=1",
                "https://a.example/cb?x=1&code=c&state=s+%26&iss=https%3A%2F%2Fmcp.example.com",
            ),
        ] {
            let response = Back { redirect_uri, state: Some("s &") }.with(&env, &[("code", "c")]);
            assert_eq!((response.status().as_u16(), response.headers()[LOCATION].to_str().unwrap()), (303, expected));
        }
    }

    #[test]
    fn a_description_has_the_allowed_characters_only() {
        let text = described(&World::default().remote(), "say \"no\" \\ \u{e9}\n");
        assert_eq!(text, "say 'no' / ?? (correlation id c-1)");
    }
}
