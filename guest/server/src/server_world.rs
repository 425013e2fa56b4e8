//! What the remote server needs of the world.

use base::settings::ServerSettings;
use entra::EntraWorld;
use world::{ClientMetadata, Log, RateLimiter};

use crate::client_documents::Documents;
use crate::site::Site;
use crate::tool_lists::ProvidedWorld;

/// What one request may use of the world.
#[derive(Clone, Copy)]
pub struct ServerWorld<'w> {
    /// The protocol.
    pub entra: EntraWorld<'w>,
    /// Where the server is.
    pub site: Site<'w>,
    /// The server behind the component that the message is for. None: the component's own tools.
    pub server: Option<&'w ServerSettings>,
    /// Bounds of how often something may be done.
    pub limiter: &'w dyn RateLimiter,
    /// Documents at addresses that strangers choose.
    pub client_metadata: &'w dyn ClientMetadata,
    /// Documents that the instance remembers.
    pub documents: &'w Documents,
    /// What only the operator should know.
    pub log: &'w dyn Log,
    /// The tools of servers behind the component.
    pub provided: ProvidedWorld<'w>,
}

impl ServerWorld<'_> {
    /// The correlation id of the request.
    pub fn correlation_id(&self) -> &str {
        self.entra.trail.id()
    }
}
