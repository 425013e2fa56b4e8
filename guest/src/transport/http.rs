//! The remote server: what is served at which path, and the rules that hold for all of it.

pub mod message;

use self::message::{Answer, Request, text};
use crate::environment::Environment;

/// Answers one request.
pub async fn handle(_env: &Environment, _request: Request) -> Answer {
    Answer::Full(text(404, "Not found"))
}
