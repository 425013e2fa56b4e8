//! Bodies of asynchronous functions that are compiled once.
//!
//! The compiler copies the body of an `async fn`, and of all that it awaits, into every crate in which it is awaited: a tenth of
//! the component was such copies. So a large function that other crates call is no `async fn`: it is never inlined, returns a
//! [`BodyOnce`], and its body is in its own crate alone. That costs an allocation, which does not count where a call begins or
//! where a service is asked.

use std::pin::Pin;

/// What a large asynchronous function returns that other crates call.
pub type BodyOnce<'f, T> = Pin<Box<dyn Future<Output = T> + 'f>>;
