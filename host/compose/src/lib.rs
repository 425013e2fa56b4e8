//! Composition of components.
//!
//! The component imports interfaces of its own, which a host implements. A component that exports them, an *adapter*, can
//! do so as well: [`plug`] connects the two and gives one component, which imports what the adapter needs. [`wrap`] puts both
//! in front of a tool, so that the tool is protected in any host of `wasi:http`.

mod adapters;
mod chain;
mod plug;
mod wrap;

pub use adapters::{ADAPTER, GATE, KEEPER, parts};
pub use chain::in_front;
pub use plug::{ComposeError, plug};
pub use wrap::{Parts, wrap};
