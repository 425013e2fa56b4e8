//! Microsoft Graph: requests with a token of our own, the retry rules, typed errors.

pub mod client;
pub mod error;
pub mod profile;

#[cfg(test)]
mod tests;

pub use client::{Bearer, TokenSource, get, post_read_only};
pub use error::GraphError;
