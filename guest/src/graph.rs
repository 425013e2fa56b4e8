//! Microsoft Graph: requests with a token of our own, the retry rules, typed errors.

mod app_token;
pub mod client;
pub mod error;
pub mod groups;
pub mod profile;

#[cfg(test)]
mod tests;

pub use client::{Bearer, TokenSource, get, post_read_only};
pub use error::GraphError;
