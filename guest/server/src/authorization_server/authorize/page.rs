//! The pages of `/authorize` that say what went wrong, where no client can be told.

use http::Response;
use world::StoreError;

use super::super::answers::{self, OAuthRefusal};
use super::super::pages;
use super::super::parameters::ParameterError;
use crate::server_world::ServerWorld;

/// A page that says what went wrong, where no client can be told.
pub(in super::super) fn error(env: &ServerWorld<'_>, status: u16, message: &str) -> Response<Vec<u8>> {
    pages::error(status, "The sign-in cannot go on", message, env.correlation_id())
}

/// The page for an authorization that is not there, or not this browser's.
pub(in super::super) fn gone(env: &ServerWorld<'_>) -> Response<Vec<u8>> {
    let text = "This sign-in was finished already, took longer than ten minutes, or was begun in another browser. Go \
                back to your application and start again.";
    error(env, 400, text)
}

/// The page for want of the store.
pub(super) fn store_failed(env: &ServerWorld<'_>, reason: &StoreError) -> Response<Vec<u8>> {
    let response = error(env, 503, &format!("{}. Try again later.", sentence(reason).trim_end_matches('.')));
    answers::with_retry_after(response, 5)
}

/// An error text as a sentence.
pub(in super::super) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => text,
    }
}

impl From<ParameterError> for OAuthRefusal {
    fn from(error: ParameterError) -> Self {
        Self::new("invalid_request", sentence(&error))
    }
}
