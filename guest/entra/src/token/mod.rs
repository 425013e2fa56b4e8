//! Token validation: whether a token issued by Microsoft Entra ID is genuine, meant for this application, in date, and
//! sufficient.
//!
//! [`validation`] holds the steps and is the only module that can make a [`ValidatedToken`]. The others serve it:
//! [`compact`], `claims` and `agent` read a token, [`jwks`] reads keys, `authority` and `documents` fetch and keep them,
//! `given_keys` stands in for them,
//! `signature` and `rs256` verify, `validated` remembers, [`stated`] reads what is not verified. Errors are one closed set, [`TokenError`].

mod agent;
mod authority;
mod claims;
pub mod compact;
pub mod contract;
mod deadline;
mod documents;
mod error;
mod evidence;
mod given_keys;
pub(crate) mod instance;
pub mod jwks;
mod requirements;
mod rs256;
mod signature;
pub mod stated;
mod validated;
pub mod validation;

#[cfg(test)]
mod tests;

pub use authority::AuthorityEndpoints;
pub use documents::AuthorityFault;
pub use error::{BearerChallenge, KeyFault, Part, TokenError};
pub use evidence::{Category, EvidenceValue};
pub use given_keys::GivenKeys;
pub use requirements::{GroupResolver, Requirements};
pub use validation::{
    IdTokenExpectations, ValidatedIdToken, ValidatedToken, check_authority, check_keys, endpoints, forget,
    forget_principal, knows_authority, validate_access_token, validate_access_token_by_keys,
    validate_access_token_with, validate_id_token,
};

/// Reads a claims set and drops it: for fuzzing. Nothing that passes is validated.
#[doc(hidden)]
pub fn check_claims(json: &[u8]) -> Result<(), TokenError> {
    let claims = base::strict_json::parse_object(json).map_err(|_| TokenError::JsonInvalid { part: Part::Claims })?;
    claims::Claims::read(&claims).map(drop)
}
