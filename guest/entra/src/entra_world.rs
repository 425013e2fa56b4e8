//! What the protocol needs of the world.

use base::settings::Settings;
use world::records::Records;
use world::{ClientCredential, Clock, Http, Random, Signatures, Trail};

/// What one call may use of the world to speak with Microsoft Entra ID and Microsoft Graph. Made anew for every call.
#[derive(Clone, Copy)]
pub struct EntraWorld<'w> {
    /// What is configured.
    pub settings: &'w Settings,
    /// Outbound HTTP, to the allow-listed hosts only.
    pub http: &'w dyn Http,
    /// Records that outlive the instance.
    pub records: Records<'w>,
    /// Wall clock, monotonic clock, timers.
    pub clock: &'w dyn Clock,
    /// Cryptographically secure randomness.
    pub random: &'w dyn Random,
    /// The host's arithmetic of signatures; without it, this crate verifies them all itself.
    pub signatures: Option<&'w dyn Signatures>,
    /// The application's credential for the token endpoint.
    pub credential: &'w dyn ClientCredential,
    /// What is known of the call, and its security events.
    pub trail: &'w Trail<'w>,
}
