//! The identity broker of the machine (`wit/identity-broker.wit`).
//!
//! A broker holds the sign-ins of the person, and gives tokens to applications. The component judges its answers.

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasData, Resource, ResourceTable};
use zeroize::Zeroizing;

use crate::bindings::identity_broker as wit;
use crate::clock::Clock;

#[cfg(feature = "identity-broker")]
mod system;

pub use crate::bindings::identity_broker::{BrokerAccount, BrokerError, BrokerRequest};
#[cfg(feature = "identity-broker")]
pub use system::SystemBroker;

/// Tokens from a broker. Redacted in `Debug`, zeroised on drop.
pub struct BrokerTokens {
    /// The access token.
    pub access_token: Zeroizing<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// The ID token of the account.
    pub id_token: Zeroizing<String>,
}

impl fmt::Debug for BrokerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_token: _, expires_at, id_token: _ } = self;
        f.debug_struct("BrokerTokens").field("expires_at", expires_at).finish_non_exhaustive()
    }
}

/// A broker.
#[async_trait]
pub trait IdentityBroker: Send + Sync + 'static {
    /// The accounts that it has for an application.
    async fn accounts(&self, client_id: &str, correlation_id: &str) -> Result<Vec<BrokerAccount>, BrokerError>;
    /// Tokens of an account, without the person.
    async fn acquire_silently(&self, request: BrokerRequest) -> Result<BrokerTokens, BrokerError>;
    /// Tokens that the person is asked for, in a window of the broker. Dropping the future closes the window and gives
    /// the answer up. It is polled once when the request starts, and then whenever the component waits.
    async fn ask_person(&self, request: BrokerRequest) -> Result<BrokerTokens, BrokerError>;
}

/// A machine without a broker.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIdentityBroker;

/// What is said of the broker of a system that this release does not ask; `system` as [`std::env::consts::OS`] names it.
#[cfg(any(test, all(feature = "identity-broker", not(target_os = "linux"))))]
fn not_in_this_release(system: &str) -> BrokerError {
    let broker = match system {
        "windows" => "the broker of Windows (WAM)",
        "macos" => "the broker of macOS (Company Portal)",
        _ => "a broker of this system",
    };
    BrokerError::Absent(format!("{broker} is not in this release"))
}

fn none<T>() -> Result<T, BrokerError> {
    Err(BrokerError::Absent("this program asks no broker".to_owned()))
}

#[async_trait]
impl IdentityBroker for NoIdentityBroker {
    async fn accounts(&self, _: &str, _: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
        none()
    }

    async fn acquire_silently(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        none()
    }

    async fn ask_person(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        none()
    }
}

/// The state of an instance.
pub(crate) struct IdentityBrokerCtx {
    broker: Arc<dyn IdentityBroker>,
    clock: Arc<dyn Clock>,
}

impl IdentityBrokerCtx {
    pub(crate) fn new(broker: Arc<dyn IdentityBroker>, clock: Arc<dyn Clock>) -> Self {
        Self { broker, clock }
    }
}

/// The context with the instance's table of resources.
pub(crate) struct IdentityBrokerCtxView<'a> {
    pub(crate) ctx: &'a mut IdentityBrokerCtx,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasIdentityBroker;

impl HasData for HasIdentityBroker {
    type Data<'a> = IdentityBrokerCtxView<'a>;
}

type Answer = Pin<Box<dyn Future<Output = Result<BrokerTokens, BrokerError>> + Send>>;

/// A request in which the broker asks the person.
///
/// It holds the future itself, and no task: whatever drops it, as the end of a call does, has closed the window
/// afterwards.
pub struct InteractiveRequest {
    /// `None` once the answer was returned.
    answer: Option<Answer>,
}

impl fmt::Debug for InteractiveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InteractiveRequest").finish_non_exhaustive()
    }
}

impl InteractiveRequest {
    /// Asks the broker.
    async fn start(broker: Arc<dyn IdentityBroker>, request: BrokerRequest) -> Self {
        let mut answer: Answer = Box::pin(async move { broker.ask_person(request).await });
        let answered = tokio::select! {
            biased;
            answered = answer.as_mut() => Some(answered),
            () = ready(()) => None,
        };
        if let Some(answered) = answered {
            answer = Box::pin(ready(answered));
        }
        Self { answer: Some(answer) }
    }

    async fn wait(&mut self, timeout: Duration, clock: &dyn Clock) -> wit::BrokerAnswer {
        let Some(answer) = &mut self.answer else {
            return wit::BrokerAnswer::Failed(BrokerError::Unavailable("the answer was already returned".to_owned()));
        };
        let deadline = clock.monotonic().saturating_add(timeout);
        let answered = tokio::select! {
            biased;
            answered = answer.as_mut() => answered,
            () = clock.sleep_until(deadline) => return wit::BrokerAnswer::Pending,
        };
        self.answer = None;
        match answered {
            Ok(tokens) => wit::BrokerAnswer::Received(tokens.into()),
            Err(error) => wit::BrokerAnswer::Failed(error),
        }
    }
}

impl From<BrokerTokens> for wit::BrokerTokens {
    fn from(tokens: BrokerTokens) -> Self {
        let BrokerTokens { access_token, expires_at, id_token } = tokens;
        Self {
            access_token: access_token.to_string(),
            expires_at_unix_seconds: expires_at,
            id_token: id_token.to_string(),
        }
    }
}

impl wit::Host for IdentityBrokerCtxView<'_> {
    async fn accounts(
        &mut self,
        client_id: String,
        correlation_id: String,
    ) -> wasmtime::Result<Result<Vec<BrokerAccount>, BrokerError>> {
        Ok(self.ctx.broker.accounts(&client_id, &correlation_id).await)
    }

    async fn acquire_silently(
        &mut self,
        request: BrokerRequest,
    ) -> wasmtime::Result<Result<wit::BrokerTokens, BrokerError>> {
        Ok(self.ctx.broker.acquire_silently(request).await.map(Into::into))
    }
}

impl wit::HostInteractiveRequest for IdentityBrokerCtxView<'_> {
    async fn start(&mut self, request: BrokerRequest) -> wasmtime::Result<Resource<InteractiveRequest>> {
        let request = InteractiveRequest::start(Arc::clone(&self.ctx.broker), request).await;
        Ok(self.table.push(request)?)
    }

    async fn wait(
        &mut self,
        request: Resource<InteractiveRequest>,
        timeout_ms: u32,
    ) -> wasmtime::Result<wit::BrokerAnswer> {
        let clock = Arc::clone(&self.ctx.clock);
        Ok(self.table.get_mut(&request)?.wait(Duration::from_millis(timeout_ms.into()), &*clock).await)
    }

    fn drop(&mut self, request: Resource<InteractiveRequest>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::ManualClock;

    /// A broker whose person never answers. It notes when its window opens and closes.
    #[derive(Clone, Default)]
    struct Silent(Arc<Mutex<Vec<&'static str>>>);

    impl Silent {
        fn note(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }

        fn noted(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().clone()
        }
    }

    struct Window(Silent);

    impl Drop for Window {
        fn drop(&mut self) {
            self.0.note("closed");
        }
    }

    #[async_trait]
    impl IdentityBroker for Silent {
        async fn accounts(&self, _: &str, _: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
            none()
        }

        async fn acquire_silently(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
            none()
        }

        async fn ask_person(&self, _: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
            self.note("opened");
            let _window = Window(self.clone());
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_person_who_does_not_answer_is_waited_for_only_so_long() {
        let clock = ManualClock::new(0);
        let mut request = InteractiveRequest::start(Arc::new(Silent::default()), request()).await;
        let answer = request.wait(Duration::ZERO, &clock).await;
        assert!(matches!(answer, wit::BrokerAnswer::Pending), "{answer:?}");
    }

    #[tokio::test]
    async fn the_window_opens_with_the_request_and_is_closed_as_soon_as_the_request_is_dropped() {
        let broker = Silent::default();
        let started = InteractiveRequest::start(Arc::new(broker.clone()), request()).await;
        assert_eq!(broker.noted(), ["opened"]);
        drop(started);
        assert_eq!(broker.noted(), ["opened", "closed"]);
    }

    #[tokio::test]
    async fn an_answer_is_returned_once() {
        let clock = ManualClock::new(0);
        let mut request = InteractiveRequest::start(Arc::new(NoIdentityBroker), request()).await;
        let answer = request.wait(Duration::from_secs(1), &clock).await;
        assert!(matches!(answer, wit::BrokerAnswer::Failed(BrokerError::Absent(_))), "{answer:?}");
        let answer = request.wait(Duration::from_secs(1), &clock).await;
        assert!(matches!(answer, wit::BrokerAnswer::Failed(BrokerError::Unavailable(_))), "{answer:?}");
    }

    #[test]
    fn the_broker_of_a_system_that_is_not_asked_is_named() {
        for (system, expected) in [
            ("windows", "the broker of Windows (WAM) is not in this release"),
            ("macos", "the broker of macOS (Company Portal) is not in this release"),
            ("freebsd", "a broker of this system is not in this release"),
        ] {
            let BrokerError::Absent(said) = not_in_this_release(system) else { panic!("{system}") };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let tokens = BrokerTokens {
            access_token: Zeroizing::new("recognisable".to_owned()),
            expires_at: 1,
            id_token: Zeroizing::new("recognisable".to_owned()),
        };
        assert_eq!(format!("{tokens:?}"), "BrokerTokens { expires_at: 1, .. }");
    }

    fn request() -> BrokerRequest {
        BrokerRequest {
            client_id: String::new(),
            authority: String::new(),
            scopes: Vec::new(),
            account: None,
            login_hint: None,
            claims: None,
            correlation_id: String::new(),
        }
    }
}
