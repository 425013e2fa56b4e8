//! The emulator behaves as Entra ID and Microsoft Graph do, where a client notices.

mod agents;
mod chromium;
mod code_flow;
mod confidential;
mod control;
mod device_code;
mod faults;
mod graph;
mod graph_lists;
mod managed_identity;
mod metadata;
mod msal;
mod on_behalf_of;
mod refresh;
mod registrations;
mod sign_in_pages;
mod tenants;
mod tokens;
