//! Composition of components.
//!
//! The component imports interfaces of its own, which a host implements. A component that exports them, an *adapter*, can
//! do so as well: [`plug`] connects the two and gives one component, which imports what the adapter needs. [`wrap`] puts both
//! in front of a tool, so that the tool is protected in any host of `wasi:http`. [`functions`] puts tools in front of both, for
//! hosts that call functions.

mod adapters;
mod chain;
mod connect;
mod functions;
mod plug;
mod wrap;

pub use adapters::{ADAPTER, GATE, KEEPER, WASSETTE, parts};
pub use chain::in_front;
pub use functions::functions;
pub use plug::{ComposeError, plug};
pub use wrap::{Parts, wrap};
