//! The emulator behaves as Entra ID and Microsoft Graph do, where a client notices.

mod code_flow;
