//! What the component is given of the world, in each of its two environments.

pub mod confidential_client;
pub mod public_client;
