//! The component's findings about its settings and Entra ID (`wit/lifecycle.wit`).

pub use crate::bindings::export::lifecycle::{Problem, Subject};
