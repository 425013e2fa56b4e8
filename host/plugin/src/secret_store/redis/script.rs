//! Scripts that Redis runs in one step.

use std::sync::OnceLock;

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use ring::digest;

use super::link::{Link, Repeat};
use crate::secret_store::StoreError;

/// A script. It is sent by its hash, and whole if the server does not have it (any more).
pub(super) struct Script {
    text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    /// Runs the script. `arguments` adds the number of keys, the keys and the arguments.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        link: &Link,
        repeat: Repeat,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<T, StoreError> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script);
            arguments(&mut command);
            command
        };
        // The name of a script is its SHA-1: that is the protocol, and no secret depends on it.
        let hash = self.hash.get_or_init(|| {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
            base16ct::lower::encode_string(hash.as_ref())
        });
        match link.sent(&command("EVALSHA", hash), repeat).await {
            Err(failure) if failure.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.ask(&command("EVAL", self.text), repeat).await
            }
            Err(failure) => Err(link.store_error(&failure)),
            Ok(value) => Ok(value),
        }
    }
}
