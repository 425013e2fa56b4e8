//! The browser of a person: the cookie that recognises it, and what is bound to it.

use http::HeaderValue;

use crate::environment::{Environment, StoreError};
use crate::transport::http::message::Request;

/// The person who last signed in with a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedUser {
    /// The person's tenant.
    pub tenant_id: String,
    /// The person within the tenant.
    pub object_id: String,
}

/// The browser that sent a request. It is recognised by a sealed cookie, which only this server can read or make.
pub struct Browser<'e> {
    env: &'e Environment,
    id: String,
    user: Option<RememberedUser>,
}

impl<'e> Browser<'e> {
    /// The browser that sent `request`; a new one if it brings no cookie of ours, or one that cannot be trusted.
    pub fn of(env: &'e Environment, _request: &Request) -> Result<Self, StoreError> {
        Ok(Self { env, id: String::new(), user: None })
    }

    /// Names the browser; 256 random bits that nobody else knows, the browser included. Bind what belongs to one
    /// browser (a pending authorization, a `state`) to it, and compare with [`Browser::is`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this is the browser that `id` names. Constant time.
    pub fn is(&self, _id: &str) -> bool {
        false
    }

    /// What a form of ours carries, so that only a page that we have shown to this browser can have sent it.
    pub fn csrf(&self, _request_id: &str) -> Result<String, StoreError> {
        let _ = self.env;
        Ok(String::new())
    }

    /// Whether `token` is from [`Browser::csrf`], for this browser and this request, at most an hour old.
    pub fn check_csrf(&self, _request_id: &str, _token: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The person who last signed in here.
    pub fn remembered_user(&self) -> Option<&RememberedUser> {
        self.user.as_ref()
    }

    /// Remembers who has signed in here. It takes effect with [`Browser::set_cookie_header`].
    pub fn remember_user(&mut self, user: RememberedUser) {
        self.user = Some(user);
    }

    /// The value of `Set-Cookie`. Send it with every page and redirect of `/authorize` and `/auth/callback`.
    pub fn set_cookie_header(&self) -> Result<HeaderValue, StoreError> {
        Ok(HeaderValue::from_static(""))
    }
}
