//! What may pass at the boundary between a tool or a server behind, its clients, and the APIs that it asks.
//!
//! The program and the keeper of `entra-mcp wrap` (`guest/keeper`) stand at the same boundary, natively and as a component.
//! Both have to read the same heads and streams in the same way, so the rules are here, once:
//!
//! - on the way to the client: [`answer`] (heads), [`events`] and [`event_ids`] (event streams), [`members`] (what in a message
//!   depends on the caller), [`unasked`] (lists in answers that pass unread);
//! - on the way to an API: [`destinations`] (where requests go), [`request`] (their header fields);
//! - on the way back: [`scrub`] (no token in an answer), [`claims_challenge`] (the challenge of an API that refuses a
//!   token).
//!
//! Plain data and pure functions: no I/O, no runtime, no bindings. A head is a list of names, in
//! lower case, and values ([`head`]).

pub mod answer;
pub mod claims_challenge;
pub mod destinations;
pub mod event_ids;
pub mod events;
pub mod head;
pub mod members;
pub mod request;
pub mod scrub;
pub mod unasked;
