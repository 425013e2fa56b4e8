//! What the component may use of the world: capabilities, and what is made of them.
//!
//! [`store::Store`] is the raw port. [`records`] is the only caller of it: typed records, with their key schemes, times
//! to live and compare-and-swap. [`once`](mod@once) lets one call at a time ask a service, for all instances that share the store.
//! Nothing here knows a protocol, a token or MCP.

pub mod once;
pub mod records;
pub mod store;

/// Fakes for tests.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    pub mod scheduler;
    pub mod simulation;
}

/// What will come from the crate `base`, and from this crate's own capabilities.
mod base {
    pub(crate) mod encoding {
        pub(crate) use entra_mcp::encoding::{base64url, digest, from_base64url, random_token, same_bytes};
    }
    pub(crate) mod secret {
        pub(crate) use entra_mcp::secret::Secret;
    }
}

/// Time and randomness.
mod capabilities {
    pub(crate) use entra_mcp::environment::{Clock, Random};
}
