//! What the server of the person at this machine needs of the world.

use caller::PersonWorld;

use crate::tool_lists::ProvidedWorld;

/// What one message of the person at this machine may use of the world.
#[derive(Clone, Copy)]
pub struct LocalWorld<'w> {
    /// The protocol, and ways to reach the person.
    pub person: PersonWorld<'w>,
    /// The tools of servers behind the component.
    pub provided: ProvidedWorld<'w>,
}
