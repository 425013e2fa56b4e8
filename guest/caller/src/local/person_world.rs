//! What a sign-in needs of the world.

use base::settings::LocalSettings;
use entra::EntraWorld;
use world::{Broker, Channel, UserAgent};

/// What one call may use of the world to reach the person at this machine.
#[derive(Clone, Copy)]
pub struct PersonWorld<'w> {
    /// The protocol.
    pub entra: EntraWorld<'w>,
    /// How people sign in.
    pub settings: &'w LocalSettings,
    /// The account (home account id) that the person has chosen on this connection, while several are signed in.
    pub chosen: Option<&'w str>,
    /// Browser, loopback listener, prompt.
    pub agent: &'w dyn UserAgent,
    /// The identity broker of the machine, which is asked only if the settings say so.
    pub broker: &'w dyn Broker,
    /// The connection of the message that is being handled.
    pub channel: &'w dyn Channel,
}
