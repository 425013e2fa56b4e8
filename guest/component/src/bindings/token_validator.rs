//! Converts between the types of `token-validator` and [`entra::token`].

use super::generated::entra_mcp::plugin::types;

entra::convert_token_validator_types!(types);
