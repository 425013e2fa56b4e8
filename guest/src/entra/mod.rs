//! Everything that is particular to Microsoft Entra ID: clouds, tenants, issuers, error codes.

pub mod clouds;
pub mod issuers;
pub mod tenants;
