//! The browser of a person: the cookie that recognises it, and what is bound to it.
//!
//! The cookie is sealed. It names the browser, so that what begins in one browser cannot be ended in another (login
//! CSRF), and the person who last signed in with it, so that a consent given before is recognised. It grants nothing:
//! its holder still has to sign in at Entra ID.

use std::time::Duration;

use base::encoding::{digest, same_secret};
use base::settings::HttpSettings;
use http::HeaderValue;
use http::header::COOKIE;
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::random::random_token;
use world::records::{Partition, Sealed};
use zeroize::Zeroizing;

use super::redirect_uri;
use crate::message::Request;
use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// The cookie. The prefix has browsers accept it only from the host itself, over TLS, for all paths: no other host
/// of the domain can plant one.
const COOKIE_NAME: &str = "__Host-entra-mcp";
/// Without TLS, which is for a server on the person's own machine only, browsers refuse the prefix.
const LOCAL_COOKIE_NAME: &str = "entra-mcp";
/// Characters of the digest that tells servers apart which share a host.
const SUFFIX: usize = 8;
/// How long a browser is recognised after its last visit: as long as a consent is remembered.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a form may stay open.
const FORM_LIFETIME: Duration = Duration::from_secs(3600);
/// How far the clocks of two servers may be apart.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// The person who last signed in with a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedUser {
    /// The person's tenant.
    pub tenant_id: String,
    /// The person within the tenant.
    pub object_id: String,
}

/// The browser that sent a request. It is recognised by a sealed cookie, which only this server can read or make.
pub struct Browser<'e> {
    env: &'e ServerWorld<'e>,
    id: String,
    user: Option<RememberedUser>,
}

/// What is in the cookie.
#[derive(Serialize, Deserialize)]
struct BrowserCookie {
    id: String,
    user: Option<RememberedUser>,
    /// Unix time in seconds.
    made_at: u64,
}

/// Cookies.
const COOKIES: Sealed<BrowserCookie> = Sealed::json(Partition::AuthorizationServer, "browser-key");
/// When a form was made, in Unix seconds. Its key is that of the cookies; what the two are bound to keeps them apart.
const FORMS: Sealed<u64> = COOKIES.with_encoding(
    |made_at| Ok(Zeroizing::new(made_at.to_be_bytes().to_vec())),
    |bytes| bytes.try_into().ok().map(u64::from_be_bytes),
);

impl<'e> Browser<'e> {
    /// The browser that sent `request`; a new one if it brings no cookie of this server, several, or one that cannot be
    /// trusted.
    pub async fn of(env: &'e ServerWorld<'e>, request: &Request) -> Result<Self, StoreError> {
        let presented = only_cookie(request, &cookie_name(env.site.settings));
        let opened = match presented {
            Some(sealed) => env.entra.records.open(&COOKIES, COOKIE_NAME.as_bytes(), sealed).await?,
            None => None,
        };
        let now = env.entra.clock.now();
        let content = opened.filter(|content| is_current(now, content.made_at, LIFETIME));
        Ok(match content {
            Some(content) => Self { env, id: content.id, user: content.user },
            None => Self { env, id: random_token(env.entra.random), user: None },
        })
    }

    /// Names the browser; 256 random bits that only this server knows; the browser holds them sealed. Bind what belongs
    /// to one browser (a pending authorization, a `state`) to it, and compare with [`Browser::is`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this is the browser that `id` names. Constant time.
    pub fn is(&self, id: &str) -> bool {
        same_secret(self.id.as_bytes(), id.as_bytes())
    }

    /// What a form of this server carries, so that only a page that this browser was shown can have sent it.
    pub async fn csrf(&self, request_id: &str) -> Result<String, StoreError> {
        let entra = &self.env.entra;
        entra.records.seal(&FORMS, &self.form(request_id), &entra.clock.now()).await
    }

    /// Whether `token` is from [`Browser::csrf`], for this browser and this request, at most an hour old.
    pub async fn check_csrf(&self, request_id: &str, token: &str) -> Result<bool, StoreError> {
        let entra = &self.env.entra;
        let made_at = entra.records.open(&FORMS, &self.form(request_id), token).await?;
        Ok(made_at.is_some_and(|made_at| is_current(entra.clock.now(), made_at, FORM_LIFETIME)))
    }

    /// The person who last signed in here.
    pub fn remembered_user(&self) -> Option<&RememberedUser> {
        self.user.as_ref()
    }

    /// Remembers the person that has signed in here. It takes effect with [`Browser::set_cookie_header`].
    pub fn remember_user(&mut self, user: RememberedUser) {
        self.user = Some(user);
    }

    /// The value of `Set-Cookie`. Send it with every page and redirect of `/authorize` and `/auth/callback`.
    pub async fn set_cookie_header(&self) -> Result<HeaderValue, StoreError> {
        let content =
            BrowserCookie { id: self.id.clone(), user: self.user.clone(), made_at: self.env.entra.clock.now() };
        let sealed = self.env.entra.records.seal(&COOKIES, COOKIE_NAME.as_bytes(), &content).await?;
        let (name, secure) = (cookie_name(self.env.site.settings), is_secure(self.env.site.settings));
        let secure = if secure { "; Secure" } else { "" };
        let cookie = format!("{name}={sealed}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}", LIFETIME.as_secs());
        // Of base64url and constants.
        let mut value = HeaderValue::from_str(&cookie).map_err(|_| StoreError::TooLarge)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What a form is bound to. The digest keeps the two parts apart.
    fn form(&self, request_id: &str) -> Vec<u8> {
        format!("entra-mcp form v1\n{}\n{}", self.id, digest(request_id.as_bytes())).into_bytes()
    }
}

fn is_secure(settings: &HttpSettings) -> bool {
    settings.public_url.starts_with("https://") || !redirect_uri::is_loopback(&settings.public_url)
}

/// Browsers keep cookies by host, whatever the port, and those of this server are for all paths: servers that are not
/// alone on a host (with a path prefix, or on a port of the person's own machine) each have a name of their own.
fn cookie_name(settings: &HttpSettings) -> String {
    let secure = is_secure(settings);
    let name = if secure { COOKIE_NAME } else { LOCAL_COOKIE_NAME };
    let alone = secure && settings.public_url.strip_prefix("https://").is_some_and(|host| !host.contains(['/', ':']));
    if alone {
        return name.to_owned();
    }
    let digest = digest(settings.public_url.as_bytes());
    format!("{name}-{}", digest.get(..SUFFIX).unwrap_or_default())
}

/// The value of the cookie, if there is exactly one of that name: of two, another site or program has set one.
fn only_cookie<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let headers = request.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = headers
        .flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Whether something made at `made_at` still counts.
fn is_current(now: u64, made_at: u64, lifetime: Duration) -> bool {
    made_at <= now.saturating_add(CLOCK_TOLERANCE.as_secs()) && now < made_at.saturating_add(lifetime.as_secs())
}
