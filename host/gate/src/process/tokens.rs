//! The file with a token in the caller's name, which a process reads.
//!
//! The file is there before the process starts, and is replaced by renaming, so that a process never reads half of one.
//! The token is as fresh as the latest requests allow: each request renews one that is older than four minutes, and
//! without requests it is renewed for as long as the handle of the latest one can be used. After that, the file keeps
//! the last token, which expires; the next request renews it before the process sees that request.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::clock::{self, Clock};
use zeroize::Zeroizing;

use super::lines::{Withheld, printable};
use super::settings::{HANDLE_USABLE, RENEW_AFTER, TOKEN_WITHIN, TRY_AGAIN_AFTER};

/// Gets tokens in the name of callers.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// An access token for the resource of the server, in the name of the handle's caller.
    async fn token(&self, handle: &str) -> Result<Zeroizing<String>, TokenFileError>;
}

/// Why there is no token. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// There may be one later; an earlier one may still be good.
    #[error("no token now: {0}")]
    Unavailable(String),
    /// The caller gets none any more.
    #[error("no token for this caller: {0}")]
    Refused(String),
}

/// Keeps the token of one process fresh.
pub(super) struct TokenFile {
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    withheld: Withheld,
    /// The latest request, as long as its handle can be used.
    latest: Mutex<Option<Latest>>,
    /// The process has ended: no token is written any more. Locked while one is written.
    closed: Mutex<bool>,
    /// One renewal at a time. Since when the token in the file is there, if there is one.
    written: tokio::sync::Mutex<Option<Duration>>,
}

struct Latest {
    handle: Zeroizing<String>,
    at: Duration,
}

impl Latest {
    fn new(handle: &str, clock: &dyn Clock) -> Self {
        Self { handle: Zeroizing::new(handle.to_owned()), at: clock.monotonic() }
    }
}

impl TokenFile {
    /// Writes the first token into the folder, which is the process's own.
    pub(super) async fn create(
        folder: &Path,
        tokens: Arc<dyn Tokens>,
        clock: Arc<dyn Clock>,
        withheld: Withheld,
        handle: &str,
    ) -> Result<Self, TokenFileError> {
        let latest = Mutex::new(Some(Latest::new(handle, &*clock)));
        let path = folder.join("token");
        let written = tokio::sync::Mutex::new(None);
        let file = Self { tokens, clock, path, withheld, latest, closed: Mutex::new(false), written };
        file.renew().await?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file for good.
    pub(super) fn remove(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        // It may be missing already. What remains goes with the folder.
        let _ = fs::remove_file(&self.path);
    }

    /// A request of the process's person has come with this handle.
    pub(super) async fn requested(&self, handle: &str) -> Result<(), TokenFileError> {
        {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = Some(Latest::new(handle, &*self.clock));
        }
        match self.renew().await {
            Err(TokenFileError::Unavailable(reason)) => {
                tracing::warn!(
                    reason = printable(&reason),
                    "the token of a process cannot be renewed; it keeps the last one"
                );
                Ok(())
            }
            renewed => renewed,
        }
    }

    /// Keeps the token fresh between requests, for ever.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let now = self.clock.monotonic();
            let due = self.written.lock().await.map_or(now, |at| at.saturating_add(RENEW_AFTER));
            // After a failure, or when the handle is too old.
            let next = if due > now { due } else { now.saturating_add(TRY_AGAIN_AFTER) };
            self.clock.sleep_until(next).await;
            if !self.has_handle() {
                continue;
            }
            if let Err(error) = self.renew().await {
                tracing::warn!(error = printable(&error.to_string()), "the token of a process was not renewed");
            }
        }
    }

    /// Whether the handle of the latest request can still be used. One that cannot is forgotten.
    fn has_handle(&self) -> bool {
        let now = self.clock.monotonic();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.take_if(|latest| now > latest.at.saturating_add(HANDLE_USABLE));
        latest.is_some()
    }

    fn replace(&self, token: &str) -> Result<(), TokenFileError> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(TokenFileError::Unavailable("the process has ended".into()));
        }
        write(&self.path, token).map_err(|error| TokenFileError::Unavailable(error.to_string()))
    }

    /// Replaces a token that is too old.
    async fn renew(&self) -> Result<(), TokenFileError> {
        let mut written = self.written.lock().await;
        let now = self.clock.monotonic();
        if written.is_some_and(|at| now.saturating_sub(at) < RENEW_AFTER) {
            return Ok(());
        }
        let handle = {
            let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.as_ref().map(|latest| latest.handle.clone())
        };
        let handle = handle.ok_or_else(|| TokenFileError::Unavailable("no request has come lately".into()))?;
        let answer = tokio::select! {
            answer = self.tokens.token(&handle) => answer,
            () = clock::sleep(&*self.clock, TOKEN_WITHIN) => Err(TokenFileError::Unavailable("it takes too long".into())),
        };
        match answer {
            Ok(token) => {
                self.replace(&token)?;
                *self.withheld.lock().unwrap_or_else(PoisonError::into_inner) = token;
                *written = Some(now);
                Ok(())
            }
            Err(TokenFileError::Refused(reason)) => {
                // The file may be missing already.
                let _ = fs::remove_file(&self.path);
                *written = None;
                Err(TokenFileError::Refused(reason))
            }
            Err(error) if written.is_none() => Err(TokenFileError::Refused(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Puts the token where the last one was. The folder is private, so the file cannot be another user's.
fn write(path: &Path, token: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&new)?.write_all(token.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use entra_mcp_plugin::clock::ManualClock;

    use super::*;

    #[derive(Default)]
    struct Counting {
        count: AtomicU32,
        refuse: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl Tokens for Counting {
        async fn token(&self, handle: &str) -> Result<Zeroizing<String>, TokenFileError> {
            if self.refuse.load(Ordering::Relaxed) {
                return Err(TokenFileError::Refused("disabled".into()));
            }
            let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Zeroizing::new(format!("{handle}-{count}")))
        }
    }

    struct Kept {
        folder: tempfile::TempDir,
        tokens: Arc<Counting>,
        clock: ManualClock,
        file: Arc<TokenFile>,
    }

    impl Kept {
        async fn new() -> Self {
            let (folder, tokens, clock) =
                (tempfile::tempdir().unwrap(), Arc::<Counting>::default(), ManualClock::new(0));
            let file = TokenFile::create(
                folder.path(),
                Arc::clone(&tokens) as Arc<dyn Tokens>,
                Arc::new(clock.clone()),
                Withheld::default(),
                "h1",
            );
            let file = Arc::new(file.await.unwrap());
            Self { folder, tokens, clock, file }
        }

        fn token(&self) -> Option<String> {
            fs::read_to_string(self.folder.path().join("token")).ok()
        }
    }

    #[tokio::test]
    async fn a_request_renews_a_token_that_is_old() {
        let kept = Kept::new().await;
        assert_eq!(kept.token().as_deref(), Some("h1-1"));
        kept.file.requested("h2").await.unwrap();
        assert_eq!(kept.token().as_deref(), Some("h1-1"));
        kept.clock.advance(RENEW_AFTER);
        kept.file.requested("h3").await.unwrap();
        assert_eq!(kept.token().as_deref(), Some("h3-2"));
    }

    #[tokio::test]
    async fn without_requests_it_is_renewed_while_the_handle_can_be_used() {
        let kept = Kept::new().await;
        let file = Arc::clone(&kept.file);
        let task = tokio::spawn(async move { file.keep_fresh().await });
        for _ in 0..6 {
            kept.clock.next_wait().await;
            kept.clock.advance(RENEW_AFTER);
        }
        kept.clock.next_wait().await;
        assert_eq!(kept.token().as_deref(), Some("h1-3"));
        assert!(kept.file.latest.lock().unwrap().is_none(), "the handle is forgotten");
        kept.file.requested("h2").await.unwrap();
        assert_eq!(kept.token().as_deref(), Some("h2-4"));
        task.abort();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_reads_the_file_and_it_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let kept = Kept::new().await;
        let mode = fs::metadata(kept.folder.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let Kept { folder, file, .. } = kept;
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn no_token_is_written_after_the_end() {
        let kept = Kept::new().await;
        kept.file.remove();
        kept.clock.advance(RENEW_AFTER);
        kept.file.requested("h2").await.unwrap();
        assert_eq!(kept.token(), None);
    }

    #[tokio::test]
    async fn a_caller_who_is_refused_has_no_token_any_more() {
        let kept = Kept::new().await;
        kept.tokens.refuse.store(true, Ordering::Relaxed);
        kept.clock.advance(RENEW_AFTER);
        assert_eq!(kept.file.requested("h2").await, Err(TokenFileError::Refused("disabled".into())));
        assert_eq!(kept.token(), None);
    }
}
