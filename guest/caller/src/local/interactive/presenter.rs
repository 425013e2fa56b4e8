//! How a person learns that a sign-in waits.

use std::time::Duration;

use async_trait::async_trait;

use crate::local::SignInError;
use crate::local::attempt::Instruction;

/// How a person learns what to do. Implemented by the MCP side for a client's capabilities.
#[async_trait(?Send)]
pub trait Presenter {
    /// Shows the instruction, and waits at most `timeout` for the person to take notice. Calls [`Alive::alive`] about every
    /// second, and stops with its error.
    async fn present(
        &self,
        instruction: &Instruction,
        timeout: Duration,
        alive: &dyn Alive,
    ) -> Result<Presentation, SignInError>;
    /// Called about every second while the person is awaited.
    fn waiting(&self, instruction: &Instruction, waited: Duration);
    /// The sign-in that was presented has ended.
    fn ended(&self);
}

/// A call that leads a sign-in.
#[async_trait(?Send)]
pub trait Alive {
    /// Shows the other calls that this one is still there. An error says that another call leads now.
    async fn alive(&self) -> Result<(), SignInError>;
}

/// What became of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presentation {
    /// The client has shown it, and opens the page.
    ByClient,
    /// The client shows it and repeats the call afterwards.
    Deferred,
    /// The client cannot; the user agent has to.
    Unsupported,
    /// The person refused.
    Declined,
}

/// For callers without an MCP client, such as the command line.
pub struct NoClient;

#[async_trait(?Send)]
impl Presenter for NoClient {
    async fn present(&self, _: &Instruction, _: Duration, _: &dyn Alive) -> Result<Presentation, SignInError> {
        Ok(Presentation::Unsupported)
    }
    fn waiting(&self, _: &Instruction, _: Duration) {}
    fn ended(&self) {}
}
