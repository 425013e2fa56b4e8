//! The capabilities that the program gives to the component, in each of its two environments.

pub mod applications;
pub mod behind;
pub mod client_credential;
pub mod confidential_client;
pub mod key_vault;
pub mod public_client;
pub mod store;
