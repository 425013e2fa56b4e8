//! `entra-mcp client-secret`: keeps the client secret of the remote server in its encrypted store.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::sync::Arc;

use entra_mcp_plugin::client_credential::{MAX_SECRET_BYTES, checked_secret, secret_record};
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::SecretStore;
use zeroize::Zeroizing;

use super::CommandError;
use crate::composition;
use crate::config::{ServeConfig, StoreLocation};
use crate::console;
#[cfg(windows)]
use crate::windows_console;

/// Reads the secret from standard input and stores it for the configured application.
pub async fn set(config: &ServeConfig) -> Result<(), CommandError> {
    let store = store(config).await?;
    let secret = read()?;
    let secret = checked_secret(&secret)
        .map_err(|reason| CommandError::Usage(format!("the input is no client secret: {reason}")))?;
    store.put(&secret_record(&config.common.settings.client_id), secret, None).await?;
    console::result("The client secret is stored.");
    Ok(())
}

/// Forgets it.
pub async fn delete(config: &ServeConfig) -> Result<(), CommandError> {
    store(config).await?.delete(&secret_record(&config.common.settings.client_id)).await?;
    console::result("The client secret is deleted.");
    Ok(())
}

async fn store(config: &ServeConfig) -> Result<Arc<dyn SecretStore>, CommandError> {
    if config.common.store.location == StoreLocation::Memory {
        let text = "the store is `memory`, which ends with this command: name a file with --store";
        return Err(CommandError::Usage(text.to_owned()));
    }
    Ok(composition::store::open(&config.common.store, Arc::new(SystemClock::new())).await?.records)
}

/// One line of a person's, unseen, or all that a program writes.
fn read() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    let mut input = io::stdin().lock().take(MAX_SECRET_BYTES as u64 + 1);
    if io::stdin().is_terminal() {
        console::notice("Paste the client secret (it is not shown) and press Enter:");
        let _unseen = Unseen::begin();
        input.read_until(b'\n', &mut bytes)?;
    } else {
        input.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// While it exists, the terminal does not show what is typed.
struct Unseen {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
    #[cfg(windows)]
    before: Option<u32>,
}

impl Unseen {
    fn begin() -> Self {
        #[cfg(unix)]
        {
            use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
            let before = tcgetattr(io::stdin()).ok();
            if let Some(before) = &before {
                let mut unseen = before.clone();
                unseen.local_modes.remove(LocalModes::ECHO);
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &unseen);
            }
            Self { before }
        }
        #[cfg(windows)]
        Self { before: windows_console::hide_input() }
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
        #[cfg(windows)]
        if let Some(before) = self.before {
            windows_console::set_input_mode(before);
        }
    }
}
