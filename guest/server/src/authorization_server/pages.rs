//! The pages that people see: consent, and what went wrong. Everything is escaped; there are no scripts.

use std::fmt::Write;

use base::encoding::escape_html;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderValue, Response};
use sha2::{Digest, Sha256};

use super::client::{Client, ClientOrigin};
use super::offer::Offered;
use super::redirect_uri::{self, private_use};
use super::text::{truncated, visible};
use crate::message::with_body;
use crate::site::SCOPE;

#[cfg(test)]
mod tests;

/// How much of a text from outside is shown, in characters: enough to recognise it, too little to push the buttons
/// out of sight.
const MAX_SHOWN_NAME: usize = 64;
const MAX_SHOWN_URI: usize = 300;
const MAX_SHOWN_MESSAGE: usize = 600;

/// Tools that the consent page lists. More would push the buttons out of sight; how many there are is said.
const MAX_SHOWN_TOOLS: usize = 20;

/// The look of all pages. Its hash is in the policy, so no other style is applied.
const STYLE: &str = include_str!("pages/style.css");

/// What the consent page says. The page itself finds out which host the redirect goes to, and warns of loopback.
#[derive(Debug, Clone)]
pub struct ConsentPage<'a> {
    /// The client that asks.
    pub client: &'a Client,
    /// Where the person is sent afterwards, as requested.
    pub redirect_uri: &'a str,
    /// What is asked for, in the short form; the page says it in plain words.
    pub scopes: &'a [String],
    /// What the client may use in the person's name.
    pub tools: &'a [Offered],
    /// The account that the client suggests (`login_hint`), if any.
    pub account_hint: Option<&'a str>,
    /// Where the form is sent: an absolute URL of this server. It is posted with `request_id`, `csrf_token` and
    /// `decision`, which is `allow` or `deny`.
    pub action: &'a str,
    /// Names the request that is consented to.
    pub request_id: &'a str,
    /// Shows that the form came from this server's page.
    pub csrf_token: &'a str,
}

/// The consent page.
///
/// Its policy has no `form-action`. Chromium applies that directive to every redirect that follows the form: to Entra
/// ID, to whatever Entra ID federates with, to the client's redirect URI, and to where the client goes from there (a
/// scheme of its own, often). The list cannot be known, and the form is this server's: no other party's markup is on
/// the page.
pub fn consent(page: &ConsentPage<'_>) -> Response<Vec<u8>> {
    let name = page.client.name.as_deref().map(visible).filter(|name| !name.is_empty());
    let name = shown(name.as_deref().unwrap_or("A program without a name"), MAX_SHOWN_NAME);
    let host = shown(&redirect_uri::host(page.redirect_uri), MAX_SHOWN_URI);
    let loopback = redirect_uri::is_loopback(page.redirect_uri);
    let scheme = private_use::scheme(page.redirect_uri).map(|scheme| shown(scheme, MAX_SHOWN_NAME));
    let mut body =
        format!("<h1>Allow access to your account?</h1>\n<p><strong><bdi>{name}</bdi></strong> asks to:</p>\n<ul>");
    for scope in page.scopes {
        let _ = write!(body, "<li>{}</li>", in_plain_words(scope, page.tools));
    }
    body.push_str("</ul>\n<dl>\n");
    let _ = writeln!(body, "<dt>Requested by</dt><dd>{}</dd>", vouching(page.client));
    let destination = match &scheme {
        Some(scheme) => format!("The program on this computer that opens links of the form <b>{scheme}:</b>"),
        None if loopback => format!("A program on this computer (<b>{host}</b>)"),
        None => format!("<b>{host}</b>"),
    };
    let _ = writeln!(
        body,
        "<dt>Where you are sent afterwards</dt><dd>{destination}<br><code>{}</code></dd>",
        shown(page.redirect_uri, MAX_SHOWN_URI)
    );
    if let Some(hint) = page.account_hint.map(visible).filter(|hint| !hint.is_empty()) {
        let _ = writeln!(
            body,
            "<dt>Account</dt><dd>The program suggests <bdi>{}</bdi>. You choose the account on the next page.</dd>",
            shown(&hint, MAX_SHOWN_NAME)
        );
    }
    body.push_str("</dl>\n");
    let mut described = " aria-describedby=\"warning\"";
    if let Some(scheme) = scheme {
        let _ = writeln!(
            body,
            "<p class=\"warning\" id=\"warning\" role=\"note\"><strong>Be careful:</strong> another program on this \
             computer may have claimed <b>{scheme}:</b> and would then get the answer. Allow it only if you have just \
             started to connect a program that you trust.</p>",
        );
    } else if loopback {
        body.push_str(
            "<p class=\"warning\" id=\"warning\" role=\"note\"><strong>Be careful:</strong> any program on this \
             computer could ask this in the name of another one. Allow it only if you have just started to connect a \
             program that you trust.</p>\n",
        );
    } else if page.client.host().is_some_and(|vouching| vouching != redirect_uri::host(page.redirect_uri)) {
        body.push_str(
            "<p class=\"warning\" id=\"warning\" role=\"note\"><strong>Be careful:</strong> you will be sent to \
             another site than the one that describes the program.</p>\n",
        );
    } else {
        described = "";
    }
    let _ = write!(
        body,
        "<form method=\"post\" action=\"{}\">\n\
         <input type=\"hidden\" name=\"request_id\" value=\"{}\">\n\
         <input type=\"hidden\" name=\"csrf_token\" value=\"{}\">\n\
         <button type=\"submit\" name=\"decision\" value=\"deny\" class=\"secondary\">Deny</button>\n\
         <button type=\"submit\" name=\"decision\" value=\"allow\"{described}>Allow</button>\n\
         </form>\n\
         <p class=\"small\">If you allow it, you sign in with Microsoft next. This page never asks for a password.</p>",
        escape_html(page.action),
        escape_html(page.request_id),
        escape_html(page.csrf_token),
    );
    document(200, "Allow access to your account?", &body, "")
}

/// Says to a person what went wrong, where no client can be told.
pub fn error(status: u16, title: &str, message: &str, correlation_id: &str) -> Response<Vec<u8>> {
    let body = format!(
        "<h1>{}</h1>\n<p role=\"alert\">{}</p>\n<p class=\"small\">If you ask for help, name this correlation id: \
         <code>{}</code></p>",
        shown(title, MAX_SHOWN_NAME),
        shown(message, MAX_SHOWN_MESSAGE),
        shown(correlation_id, MAX_SHOWN_NAME),
    );
    document(status, title, &body, "; form-action 'none'")
}

/// Says to a person that a client has asked for something wrong. `link` tells the client, at a site that only the
/// person can judge: the server does not send a person there without asking (RFC 9700 section 4.11.2).
pub fn refused(redirect_uri: &str, message: &str, link: &str, correlation_id: &str) -> Response<Vec<u8>> {
    let title = "The sign-in cannot go on";
    let body = format!(
        "<h1>{title}</h1>\n<p role=\"alert\">{}</p>\n<p>The program that asked is at <b>{}</b>. If you know that site, \
         you can <a href=\"{}\">go back to it and tell it what went wrong</a>. Otherwise close this page.</p>\n\
         <p class=\"small\">If you ask for help, name this correlation id: <code>{}</code></p>",
        shown(message, MAX_SHOWN_MESSAGE),
        shown(&redirect_uri::host(redirect_uri), MAX_SHOWN_URI),
        escape_html(link),
        shown(correlation_id, MAX_SHOWN_NAME),
    );
    document(400, title, &body, "; form-action 'none'")
}

/// Says something to a person: what this is, or that something is done.
pub fn info(title: &str, message: &str) -> Response<Vec<u8>> {
    let body = format!("<h1>{}</h1>\n<p>{}</p>", shown(title, MAX_SHOWN_NAME), shown(message, MAX_SHOWN_MESSAGE));
    document(200, title, &body, "; form-action 'none'")
}

/// What vouches for the name of the client.
fn vouching(client: &Client) -> String {
    match client.origin {
        ClientOrigin::Settings => "A program that the operator of this server has set up".to_owned(),
        ClientOrigin::Document => {
            let host = client.host().unwrap_or_default();
            format!("A program described by <b>{}</b>. Its name comes from that site.", shown(&host, MAX_SHOWN_URI))
        }
        ClientOrigin::Registration => {
            "A program that registered itself. <b>Its name has not been verified.</b>".to_owned()
        }
    }
}

fn in_plain_words(scope: &str, tools: &[Offered]) -> String {
    if scope == SCOPE {
        let mut lines: String = tools.iter().take(MAX_SHOWN_TOOLS).map(line).collect();
        if let Some(more) = tools.len().checked_sub(MAX_SHOWN_TOOLS).filter(|more| *more > 0) {
            let _ = write!(lines, "<li>and {more} more</li>");
        }
        let tools = lines;
        format!("Read your profile, and use the tools of this server in your name:<ul>{tools}</ul>")
    } else {
        format!("Use the permission <code>{}</code>", shown(scope, MAX_SHOWN_NAME))
    }
}

fn line(tool: &Offered) -> String {
    let title = shown(&tool.title, MAX_SHOWN_NAME);
    match &tool.about {
        Some(about) => format!("<li><bdi>{title}</bdi>: <bdi>{}</bdi></li>", shown(about, MAX_SHOWN_URI)),
        None => format!("<li>{title}</li>"),
    }
}

fn document(status: u16, title: &str, body: &str, policy: &str) -> Response<Vec<u8>> {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{} · entra-mcp</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        shown(title, MAX_SHOWN_NAME),
    );
    let mut response = with_body(status, "text/html; charset=utf-8", html.into_bytes());
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'{policy}");
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // With `no-referrer`, browsers would send `Origin: null` with the form, which is refused as another site's. Other
    // sites learn nothing either way.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text from outside: without hidden characters, not too long, escaped.
fn shown(text: &str, max: usize) -> String {
    escape_html(&truncated(&visible(text), max))
}
