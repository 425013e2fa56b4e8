//! The bindings of WASI, by the names that `fetch` and `wasi` have for them.

pub(super) use super::generated::wasi::{clocks, http, io, random};
