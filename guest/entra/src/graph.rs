//! Microsoft Graph: requests with a token of the server's own, the retry rules, typed errors.

mod app_token;
pub mod client;
pub mod collection;
pub mod error;
pub mod groups;
pub mod memberships;
pub mod profile;
pub mod users;

#[cfg(test)]
mod tests;

pub use app_token::AppTokens;
pub use client::{GraphChallenge, Source, TokenSource, get, post_read_only};
pub use error::GraphError;
