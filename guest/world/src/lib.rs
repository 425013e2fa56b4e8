//! The capabilities of the component, and what builds on them alone: typed records, one question at a time, the trail
//! of a call, random texts. A function that does input or output takes one of these as a parameter. Capabilities are
//! named after what they are for, such as a credential of the application or the tools of servers behind; nothing here
//! makes or reads a request of Microsoft Entra ID, OAuth or MCP, or names a generated type of the contract.
//!
//! [`store::Store`] is the raw port of the secret store, and [`records`] is its only caller: key schemes, times to live and
//! compare-and-swap are there. [`once`](mod@once) lets one call at a time ask a service, for all instances that share the
//! store.

pub mod body_once;
pub mod capabilities;
pub mod http_error;
pub mod limits;
pub mod once;
pub mod provided_tools;
pub mod random;
pub mod records;
pub mod sealing;
mod siv;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trail;

pub use body_once::BodyOnce;
pub use capabilities::*;
pub use http_error::HttpError;
pub use store::{NoStore, Store, StoreError};
pub use trail::{Carried, SessionNames, Trail, Unrecorded};
