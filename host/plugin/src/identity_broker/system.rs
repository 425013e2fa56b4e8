//! The broker of this system: on Linux the Microsoft identity broker, over the session bus.
//!
//! Windows has one in WAM and macOS one in the Company Portal. This release asks neither, and says so.

use async_trait::async_trait;

#[cfg(not(target_os = "linux"))]
use super::not_in_this_release;
use super::{BrokerAccount, BrokerError, BrokerRequest, BrokerTokens, IdentityBroker};

#[cfg(target_os = "linux")]
mod bus;
#[cfg(any(target_os = "linux", test))]
mod message;

/// The broker of the user of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemBroker;

#[cfg(target_os = "linux")]
#[async_trait]
impl IdentityBroker for SystemBroker {
    async fn accounts(&self, client_id: &str, correlation_id: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
        bus::accounts(client_id, correlation_id).await
    }

    async fn acquire_silently(&self, request: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        bus::acquire_silently(request).await
    }

    async fn ask_person(&self, request: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        bus::ask_person(request).await
    }
}

#[cfg(not(target_os = "linux"))]
#[async_trait]
impl IdentityBroker for SystemBroker {
    async fn accounts(&self, _: &str, _: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
        Err(not_in_this_release(std::env::consts::OS))
    }

    async fn acquire_silently(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        Err(not_in_this_release(std::env::consts::OS))
    }

    async fn ask_person(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        Err(not_in_this_release(std::env::consts::OS))
    }
}
