//! One form for the token or device authorization endpoint: what all five grants send.
//!
//! A form borrows its secrets, and the body made of it is zeroised on drop. Its room is reserved before anything is
//! written, so that no copy is left behind by growing.

use std::borrow::Cow;
use std::fmt;

use base::Secret;
use url::form_urlencoded;
use zeroize::Zeroizing;

/// An encoded byte is at most `%` and two digits.
const MAX_ENCODED_BYTES: usize = 3;
/// `&` before a field and `=` inside of it.
const SEPARATORS: usize = 2;

/// The value of a field. There is no owned secret: it would not be zeroised.
#[derive(Clone)]
enum FormValue<'a> {
    Plain(Cow<'a, str>),
    Secret(&'a Secret<String>),
}

impl FormValue<'_> {
    fn reveal(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl fmt::Debug for FormValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => text.fmt(f),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

/// The fields of one request, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Form<'a>(Vec<(&'static str, FormValue<'a>)>);

impl<'a> Form<'a> {
    /// A request for tokens with this grant.
    pub(super) fn of_grant(grant_type: &'static str) -> Self {
        Self::default().with("grant_type", grant_type)
    }

    /// Adds a field that is no secret.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.0.push((name, FormValue::Plain(value.into())));
        self
    }

    /// Adds a secret.
    pub(super) fn with_secret(mut self, name: &'static str, value: &'a Secret<String>) -> Self {
        self.0.push((name, FormValue::Secret(value)));
        self
    }

    /// Adds the scopes, if there are any.
    pub(super) fn with_scopes(self, scopes: &[String]) -> Self {
        if scopes.is_empty() { self } else { self.with("scope", scopes.join(" ")) }
    }

    /// The body of a request.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let room = |(name, value): &(&str, FormValue<'_>)| {
            SEPARATORS + MAX_ENCODED_BYTES * name.len().saturating_add(value.reveal().len())
        };
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(self.0.iter().map(room).sum()));
        for (name, value) in &self.0 {
            form.append_pair(name, value.reveal());
        }
        Zeroizing::new(form.finish().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_without_growing() {
        let secret = Secret::from("ü&=+% ä".repeat(50).as_str());
        let form = Form::of_grant("x").with("b c", "d&e").with_secret("f", &secret);
        let body = form.encode();
        let room: usize = form.0.iter().map(|(name, value)| 2 + 3 * (name.len() + value.reveal().len())).sum();
        assert!(body.len() <= room && body.capacity() == room, "{} of {}", body.len(), body.capacity());
        let fields: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        let expected = [("grant_type", "x"), ("b c", "d&e"), ("f", secret.reveal().as_str())];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn debug_of_a_form_shows_no_secret() {
        let secret = Secret::from("hunter2");
        let shown = format!("{:?}", Form::of_grant("refresh_token").with_secret("refresh_token", &secret));
        assert!(shown.contains("refresh_token") && shown.contains("[redacted]") && !shown.contains("hunter2"));
    }
}
