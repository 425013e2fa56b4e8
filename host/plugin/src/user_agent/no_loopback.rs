//! Replaces the redirect listeners in builds without the feature `browser`: there are none.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::{Page, UserAgentError};
use crate::clock::Clock;
use crate::random::Random;

/// The registry of listeners, always empty.
#[derive(Debug, Clone)]
pub struct LoopbackListeners(());

/// A listener; no value of this type exists.
#[derive(Debug)]
pub struct LoopbackListener(Infallible);

impl LoopbackListeners {
    /// The empty registry.
    pub fn new(_: Arc<dyn Clock>, _: Arc<dyn Random>) -> Self {
        Self(())
    }

    /// Always fails.
    pub async fn open(&self) -> Result<LoopbackListener, UserAgentError> {
        Err(UserAgentError::Unsupported)
    }

    /// Always fails.
    pub fn attach(&self, _: &str) -> Result<LoopbackListener, UserAgentError> {
        Err(UserAgentError::NoSuchListener)
    }
}

impl LoopbackListener {
    /// Cannot be called.
    pub fn redirect_uri(&self) -> String {
        match self.0 {}
    }

    /// Cannot be called.
    pub async fn wait(&mut self, _: Duration) -> Option<String> {
        match self.0 {}
    }

    /// Cannot be called.
    pub fn respond(&mut self, _: &Page) {
        match self.0 {}
    }

    /// Cannot be called.
    pub fn detach(&mut self, _: Duration) -> String {
        match self.0 {}
    }
}
