//! The capabilities of the component, and what is made of them alone: the trail of a call, sealed values, one question
//! at a time, random texts. A function that does input or output takes one of these traits as a parameter. Nothing here
//! knows Microsoft Entra ID, OAuth, MCP or WIT.

pub mod capabilities;
pub mod limits;
pub mod random;
pub mod sealed;
pub mod single_flight;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trail;

pub use capabilities::*;
pub use trail::{SessionNames, Trail, Unrecorded};
