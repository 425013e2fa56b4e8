//! Who calls, in the header fields of Azure App Service. The form is that of the gate, from the same file.

use std::fmt;

use base::principal::Principal;
use world::provided_tools::ToolCaller;

use crate::request::Field;

#[path = "../../server/src/gatekeeper/identity/easy_auth.rs"]
mod easy_auth;

/// The fields cannot be made of a caller.
pub enum IdentityError {
    /// A claim cannot be written into a field.
    Unavailable {
        /// Not known here.
        retry_after: Option<u32>,
    },
}

impl fmt::Debug for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unavailable { retry_after: _ } = self;
        f.write_str("Unavailable")
    }
}

/// The fields that tell who calls.
pub fn fields(principal: &Principal) -> Result<Vec<Field>, IdentityError> {
    let caller = ToolCaller {
        tenant_id: principal.tenant_id.clone(),
        object_id: principal.object_id.clone(),
        client_id: principal.client_id.clone(),
        kind: principal.kind,
        agent: principal.agent.is_some(),
        scopes: principal.scopes.clone(),
        roles: principal.roles.clone(),
        correlation_id: String::new(),
    };
    let fields = easy_auth::headers(&caller)?;
    Ok(fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
}
