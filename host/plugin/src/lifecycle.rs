//! What the component says of its settings and of Entra ID (`wit/lifecycle.wit`).

pub use crate::bindings::export::lifecycle::{Problem, Subject};
