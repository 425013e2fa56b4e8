//! The only way to the public Internet: Client ID Metadata Documents (`wit/client-metadata.wit`).
//!
//! The component judges the content of a document.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::bindings::client_metadata as wit;

#[cfg(feature = "outbound-http")]
mod places;
#[cfg(feature = "outbound-http")]
mod public;

#[cfg(feature = "outbound-http")]
pub use public::PublicClientMetadata;

pub use crate::bindings::client_metadata::{Document, FetchError};

/// Reads documents at addresses that unauthenticated clients choose.
#[async_trait]
pub trait ClientMetadata: Send + Sync + 'static {
    /// Fetches `url`. `client` causes it, if its address is known: what fetches occupy at the same time is shared among
    /// clients.
    async fn fetch(&self, url: &str, client: Option<IpAddr>) -> Result<Document, FetchError>;
}

/// Reads nothing: for hosts without unauthenticated clients.
#[derive(Debug, Default)]
pub struct NoClientMetadata;

#[async_trait]
impl ClientMetadata for NoClientMetadata {
    async fn fetch(&self, _: &str, _: Option<IpAddr>) -> Result<Document, FetchError> {
        Err(FetchError::Denied("this host fetches no documents".to_owned()))
    }
}

/// The state of an instance.
pub(crate) struct ClientMetadataCtx {
    source: Arc<dyn ClientMetadata>,
}

impl ClientMetadataCtx {
    pub(crate) fn new(source: Arc<dyn ClientMetadata>) -> Self {
        Self { source }
    }
}

impl wit::Host for ClientMetadataCtx {
    async fn fetch(&mut self, url: String, client: Option<String>) -> wasmtime::Result<Result<Document, FetchError>> {
        Ok(self.source.fetch(&url, client.and_then(|address| address.parse().ok())).await)
    }
}
