//! The bindings of WASI, by the names that [`fetch`](crate::fetch) has for them.

pub(crate) use wasip2::{clocks, http, io};
