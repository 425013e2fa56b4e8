//! Everything that is particular to Microsoft Entra ID: clouds, tenants, issuers, error codes.

pub mod clouds;
pub mod error_codes;
pub mod issuers;
pub mod tenants;
