//! An Entra ID and Microsoft Graph emulator, for tests and for development without a tenant.
//!
//! It behaves as Entra ID does where a client would notice: endpoints, tokens, sign-in pages, refusals with their
//! AADSTS codes. It is checked with Microsoft's own client libraries for Python and Node. The rules come from
//! Microsoft's documentation of the identity platform, from what its client libraries expect, and from published error
//! reports.
//!
//! **What it is not.** Nothing here is secure: passwords, secrets and keys are public, random values are predictable.
//! It therefore listens on loopback only. It has no B2C, no SAML or WS-Federation, no implicit flow, no password grant, no
//! brokers, and no writing to the directory besides app registrations. Conditional access is one setting of each user, not a policy engine.
//!
//! [`user_agent`] is a headless browser that signs in at it. The program uses both, for `entra-mcp emulator` and
//! `entra-mcp demo`; so nothing here panics or prints.
//!
//! Each capability is one file. Endpoints are plain functions from a request to a reply over one shared `World`;
//! `listener` does everything that is about networks.

mod agent_grants;
mod agents;
mod answers;
mod arguments;
mod authorize;
mod client_authentication;
mod clock;
mod config;
mod control;
mod device_code;
mod emulator;
mod endpoint;
mod errors;
mod faults;
mod graph;
mod http;
mod jwt;
mod keys;
mod listener;
mod managed_identity;
mod metadata;
mod on_behalf_of;
mod pages;
mod parameters;
mod policy;
mod random;
mod redirects;
mod requests;
mod resources;
mod sign_in;
mod state;
mod tenants;
mod token_endpoint;
mod token_request;
mod tokens;
pub mod user_agent;
mod world;

pub use arguments::{Arguments, ArgumentsError};
pub use clock::Clock;
pub use config::{
    Announce, Application, Audience, CONSUMERS_TENANT, Config, ConfigError, FederatedCredential, GRAPH_APP_ID,
    GraphPermissions, Guest, ManagedIdentity, Policy, Registration, Requirement, Scope, Secret, Tenant, User,
};
pub use control::{Control, ControlError, FederatedToken};
pub use emulator::{Builder, Emulator, Endpoints, StartError};
pub use endpoint::Endpoint;
pub use faults::{Fault, RedirectFault, TokenFault};
pub use keys::{KeyError, Rotation};
pub use listener::TlsError;
pub use managed_identity::IDENTITY_HEADER;
pub use requests::{RecordedRequest, Sighting};
pub use state::device_code::{DeviceOutcome, DeviceScript};
