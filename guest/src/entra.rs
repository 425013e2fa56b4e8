//! What is specific to Microsoft Entra ID.

pub mod error_codes;
