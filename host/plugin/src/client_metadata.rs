//! The only way to the public Internet: Client ID Metadata Documents (`wit/client-metadata.wit`).
//!
//! The component judges the content of a document.

use std::sync::Arc;

use async_trait::async_trait;

use crate::bindings::client_metadata as wit;

#[cfg(feature = "outbound-http")]
mod public;

#[cfg(feature = "outbound-http")]
pub use public::PublicClientMetadata;

pub use crate::bindings::client_metadata::{Document, FetchError};

/// Reads documents at addresses that unauthenticated clients choose.
#[async_trait]
pub trait ClientMetadata: Send + Sync + 'static {
    /// Fetches `url`.
    async fn fetch(&self, url: &str) -> Result<Document, FetchError>;
}

/// Reads nothing: for hosts without unauthenticated clients.
#[derive(Debug, Default)]
pub struct NoClientMetadata;

#[async_trait]
impl ClientMetadata for NoClientMetadata {
    async fn fetch(&self, _: &str) -> Result<Document, FetchError> {
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
    async fn fetch(&mut self, url: String) -> wasmtime::Result<Result<Document, FetchError>> {
        Ok(self.source.fetch(&url).await)
    }
}
