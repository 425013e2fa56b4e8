//! The component, as the gate sees it: `gatekeeper` of the contract.

use async_trait::async_trait;
use entra_mcp_plugin::gatekeeper::{Admission, AnswerHead, Header, Request, Response};
use entra_mcp_plugin::{Error, Plugin};

/// Decides about requests to servers behind. The gate never goes on where one of these fails.
#[async_trait]
pub trait Gatekeeper: Send + Sync + 'static {
    /// Decides about a request.
    async fn admit(&self, request: &Request) -> Result<Admission, Error>;

    /// Records that the server behind has answered. The result is what to set on the answer, or an answer in its place.
    async fn answered(&self, handle: &str, head: &AnswerHead) -> Result<Result<Vec<Header>, Response>, Error>;

    /// Takes out of a JSON-RPC message what the caller may not see.
    async fn judge_answer(&self, handle: &str, message: &str) -> Result<String, Error>;
}

#[async_trait]
impl Gatekeeper for Plugin {
    async fn admit(&self, request: &Request) -> Result<Admission, Error> {
        self.admit(request).await
    }

    async fn answered(&self, handle: &str, head: &AnswerHead) -> Result<Result<Vec<Header>, Response>, Error> {
        self.answered(handle, head).await
    }

    async fn judge_answer(&self, handle: &str, message: &str) -> Result<String, Error> {
        self.judge_answer(handle, message).await
    }
}
