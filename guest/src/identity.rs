//! Who calls a remote server, as Entra ID names them.

/// Somebody, and the client they use. All of it is from a token that was validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The tenant. A GUID.
    pub tenant_id: &'a str,
    /// The person or the application within the tenant. A GUID.
    pub object_id: &'a str,
    /// The client.
    pub client_id: &'a str,
}
