//! Callers, and how a token in the caller's name is acquired: the person at this machine, a session of the server, a
//! bearer of a token that Entra ID has issued. Nothing here knows MCP, the tools, HTTP requests or pages.

pub mod bearer;
pub mod caller;
pub mod claims;
pub mod local;
pub mod renewal;
pub mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use caller::{
    BearerCaller, Caller, CallerAuthentication, CallerReference, Delegated, NoToken, PersonCaller, Remedy, RetryPause,
    SessionCaller,
};
pub use local::PersonWorld;
