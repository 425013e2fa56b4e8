//! The way to the person at this machine (`wit/user-agent.wit`).
//!
//! [`UserAgent`] starts a browser and shows prompts; [`LoopbackListeners`] receives redirects. The registry of
//! listeners belongs to the host, not to an instance: a sign-in may be continued by another instance.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasData, Resource, ResourceTable};

use crate::bindings::user_agent as wit;

#[cfg(feature = "browser")]
mod browser;
#[cfg(feature = "browser")]
mod loopback;
#[cfg(not(feature = "browser"))]
mod no_loopback;

#[cfg(feature = "browser")]
pub use browser::{Prompts, SystemBrowser};
#[cfg(feature = "browser")]
pub use loopback::{LoopbackListener, LoopbackListeners};
#[cfg(not(feature = "browser"))]
pub use no_loopback::{LoopbackListener, LoopbackListeners};

/// Longest URL that is handed to a browser, in bytes. Those of Entra ID are under 2 KiB; Windows commands end at 32
/// KiB.
const MAX_URL_BYTES: usize = 16 * 1024;

/// Longest prompt, in bytes.
const MAX_PROMPT_BYTES: usize = 4 * 1024;

/// Longest text of a result page, in bytes: heading and message each.
const MAX_PAGE_TEXT_BYTES: usize = 4 * 1024;

/// Why the host could not reach the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserAgentError {
    /// There is no person at this machine.
    #[error("there is no person at this machine")]
    Unsupported,
    /// No browser could be started, or no port could be opened.
    #[error("{0}")]
    Unavailable(String),
    /// No listener with this id is running.
    #[error("no such redirect listener is running")]
    NoSuchListener,
    /// Too many listeners run already.
    #[error("too many redirect listeners are running")]
    TooManyListeners,
}

/// The final page in the browser tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether the sign-in succeeded.
    pub success: bool,
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub message: String,
}

impl From<UserAgentError> for wit::UserAgentError {
    fn from(error: UserAgentError) -> Self {
        match error {
            UserAgentError::Unsupported => Self::Unsupported,
            UserAgentError::Unavailable(reason) => Self::Unavailable(reason),
            UserAgentError::NoSuchListener => Self::NoSuchListener,
            UserAgentError::TooManyListeners => Self::TooManyListeners,
        }
    }
}

/// A browser and an output for prompts.
#[async_trait]
pub trait UserAgent: Send + Sync + 'static {
    /// Opens an `http` or `https` URL; succeeds when the browser has started.
    async fn open_browser(&self, url: &str) -> Result<(), UserAgentError>;
    /// Shows a message outside of the MCP conversation, if there is an output for it.
    async fn prompt(&self, message: &str);
}

/// An environment without a person.
#[derive(Debug, Default)]
pub struct NoUserAgent;

#[async_trait]
impl UserAgent for NoUserAgent {
    async fn open_browser(&self, _: &str) -> Result<(), UserAgentError> {
        Err(UserAgentError::Unsupported)
    }

    async fn prompt(&self, _: &str) {}
}

/// The state of an instance.
pub(crate) struct UserAgentCtx {
    agent: Arc<dyn UserAgent>,
    listeners: LoopbackListeners,
}

impl UserAgentCtx {
    pub(crate) fn new(agent: Arc<dyn UserAgent>, listeners: LoopbackListeners) -> Self {
        Self { agent, listeners }
    }
}

/// The context with the instance's table of resources.
pub(crate) struct UserAgentCtxView<'a> {
    pub(crate) ctx: &'a mut UserAgentCtx,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasUserAgent;

impl HasData for HasUserAgent {
    type Data<'a> = UserAgentCtxView<'a>;
}

/// A browser is only ever sent to a web page: never to a file, a script, or a program that registered a scheme.
fn check_url(url: &str) -> Result<(), UserAgentError> {
    if url.len() > MAX_URL_BYTES {
        return Err(UserAgentError::Unavailable("the URL to open is too long".into()));
    }
    match url::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "https" | "http") && !url.contains(char::is_whitespace) => Ok(()),
        _ => Err(UserAgentError::Unavailable("only http and https URLs are opened".into())),
    }
}

/// The longest prefix of `text` that is no longer than `bytes` and ends between two characters.
fn clipped(text: &str, bytes: usize) -> &str {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= bytes).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

impl wit::Host for UserAgentCtxView<'_> {
    async fn open_browser(&mut self, url: String) -> wasmtime::Result<Result<(), wit::UserAgentError>> {
        let opened = match check_url(&url) {
            Ok(()) => self.ctx.agent.open_browser(&url).await,
            Err(error) => Err(error),
        };
        Ok(opened.map_err(Into::into))
    }

    async fn prompt(&mut self, message: String) -> wasmtime::Result<()> {
        self.ctx.agent.prompt(clipped(&message, MAX_PROMPT_BYTES)).await;
        Ok(())
    }
}

impl wit::HostLoopbackListener for UserAgentCtxView<'_> {
    async fn open(&mut self) -> wasmtime::Result<Result<Resource<LoopbackListener>, wit::UserAgentError>> {
        Ok(match self.ctx.listeners.open().await {
            Ok(listener) => Ok(self.table.push(listener)?),
            Err(error) => Err(error.into()),
        })
    }

    async fn attach(
        &mut self,
        id: String,
    ) -> wasmtime::Result<Result<Resource<LoopbackListener>, wit::UserAgentError>> {
        Ok(match self.ctx.listeners.attach(&id) {
            Ok(listener) => Ok(self.table.push(listener)?),
            Err(error) => Err(error.into()),
        })
    }

    fn redirect_uri(&mut self, listener: Resource<LoopbackListener>) -> wasmtime::Result<String> {
        Ok(self.table.get(&listener)?.redirect_uri())
    }

    async fn wait(
        &mut self,
        listener: Resource<LoopbackListener>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Option<String>> {
        let timeout = Duration::from_millis(timeout_ms.into());
        Ok(self.table.get_mut(&listener)?.wait(timeout).await)
    }

    fn respond(&mut self, listener: Resource<LoopbackListener>, page: wit::Page) -> wasmtime::Result<()> {
        let page = Page {
            success: page.success,
            title: clipped(&page.title, MAX_PAGE_TEXT_BYTES).to_owned(),
            message: clipped(&page.message, MAX_PAGE_TEXT_BYTES).to_owned(),
        };
        self.table.get_mut(&listener)?.respond(&page);
        Ok(())
    }

    fn detach(&mut self, listener: Resource<LoopbackListener>, lifetime_seconds: u32) -> wasmtime::Result<String> {
        Ok(self.table.get_mut(&listener)?.detach(Duration::from_secs(lifetime_seconds.into())))
    }

    fn drop(&mut self, listener: Resource<LoopbackListener>) -> wasmtime::Result<()> {
        self.table.delete(listener)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_pages_are_opened() {
        for refused in ["file:///etc/passwd", "javascript:alert(1)", "vscode://x", "https://a b", "", "/etc", "-url"] {
            assert!(matches!(check_url(refused), Err(UserAgentError::Unavailable(_))), "{refused}");
        }
        assert_eq!(check_url("https://login.microsoftonline.com/x?y=z"), Ok(()));
        assert_eq!(check_url("http://127.0.0.1:1/x"), Ok(()));
    }

    #[test]
    fn an_overlong_url_is_refused() {
        let url = format!("https://host/{}", "x".repeat(MAX_URL_BYTES));
        assert!(matches!(check_url(&url), Err(UserAgentError::Unavailable(_))));
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("aé", 2), "a");
        assert_eq!(clipped("é", 1), "");
    }
}
