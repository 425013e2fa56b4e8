//! The pages that people see: consent, and what went wrong. Everything is escaped; there are no scripts.

use http::Response;

use crate::transport::http::message::text;

/// What the consent page says.
#[derive(Debug, Clone)]
pub struct Consent<'a> {
    /// What the client calls itself, or its id.
    pub client_name: &'a str,
    /// The host that vouches for the client (that of its metadata document), if any does.
    pub client_host: Option<&'a str>,
    /// The redirect URI's host: where the person is sent afterwards.
    pub redirect_host: &'a str,
    /// The redirect goes to a program on this machine.
    pub redirect_is_loopback: bool,
    /// What is asked for, in plain words.
    pub scopes: &'a [&'a str],
    /// The account that the client suggests.
    pub account_hint: Option<&'a str>,
    /// Where the form is sent.
    pub action: &'a str,
    /// Names the request that is consented to, in the form.
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
