//! What the `entra-mcp` program does, a module per subcommand. `main.rs` parses the arguments.

use entra_mcp_compose::ComposeError;
use entra_mcp_plugin::client_credential::CredentialError;
use entra_mcp_plugin::secret_store::{KeyError, OpenError, StoreError};
use entra_mcp_plugin::sign_in::Account;
use entra_mcp_plugin::transport::stdio::StdioError;
use entra_mcp_plugin::{Error, Plugin};
use entra_mcp_server::{ServerError, TlsError};

use crate::audit::AuditFileError;
use crate::composition::behind::ToolsError;
use crate::composition::confidential_client::ConfidentialError;
use crate::config::ConfigError;
use crate::telemetry::{MetricsError, TelemetryError};

pub mod account_list;
pub mod accounts;
pub mod client_secret;
pub mod compile;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
#[cfg(feature = "demo")]
pub mod emulator;
#[cfg(feature = "demo")]
pub mod headless_browser;
pub mod inspect;
pub mod login;
pub mod logout;
mod notices;
pub mod serve;
pub mod settings;
pub mod setup;
pub mod stdio;
pub mod store;
pub mod tools;
pub mod validate;
pub mod whoami;
pub mod wrap;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration has to be corrected.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The component cannot be made ready, a call into it failed, or it says why there is no sign-in.
    #[error(transparent)]
    Plugin(Error),
    /// There is no place for the secret store.
    #[error("{0}. If that folder cannot be written, pass --store with a file elsewhere, or `memory`")]
    StorePlace(Error),
    /// The arguments contradict each other or the present state.
    #[error("{0}")]
    Usage(String),
    /// Accounts may still be signed in.
    #[error("{0}")]
    SignedIn(String),
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A component cannot be protected.
    #[error("{path} cannot be wrapped: {reason}")]
    NotWrapped {
        /// The file.
        path: String,
        /// Why.
        reason: ComposeError,
    },
    /// It cannot be said what tools a component has.
    #[error("this host cannot run the tools of {path}: {reason}")]
    ToolsUnknown {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file or folder cannot be written.
    #[error("{path} cannot be written: {reason}")]
    NotWritten {
        /// The file or folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file with signing keys cannot be used.
    #[error("the file with the signing keys, {path}, cannot be used: {reason}")]
    KeyFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Tokens were refused.
    #[error("{refused} of {total} tokens refused")]
    TokensRefused {
        /// How many.
        refused: u64,
        /// Of how many.
        total: u64,
    },
    /// It could not be decided about tokens.
    #[error("{undecided} of {total} tokens could not be judged")]
    TokensUndecided {
        /// How many.
        undecided: u64,
        /// Of how many.
        total: u64,
    },
    /// The doctor has found something.
    #[error("failures: {failures}, warnings: {warnings}")]
    Found {
        /// What does not work.
        failures: usize,
        /// What may not work for every client.
        warnings: usize,
    },
    /// The check at the start has found a problem.
    #[error("the check at the start has found a problem: {0}")]
    StartCheck(String),
    /// Something prevented it from deciding about tokens.
    #[error(transparent)]
    Undecided(Box<CommandError>),
    /// The app registration was not made or repaired.
    #[error(transparent)]
    Setup(#[from] setup::error::SetupError),
    /// Tools cannot be served.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The transport cannot start.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The server cannot start.
    #[error(transparent)]
    Http(#[from] ServerError),
    /// There is no credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The audit file cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditFileError),
    /// Telemetry cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The listener for metrics cannot start.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A check of the store has found damage.
    #[error("the store is damaged")]
    StoreDamaged,
    /// The keys of the store cannot be replaced.
    #[error(transparent)]
    StoreKey(#[from] KeyError),
    /// The emulator cannot start.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Emulator(#[from] entra_mcp_emulator::StartError),
    /// The arguments for the emulator cannot be used.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    EmulatorArguments(#[from] entra_mcp_emulator::ArgumentsError),
    /// The emulator's sign-in pages refused.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    HeadlessBrowser(#[from] entra_mcp_emulator::user_agent::AgentError),
    /// A step of the demonstration failed.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// A signal has ended the command before it was done.
    #[error("ended by a signal")]
    Ended,
    /// The process cannot receive signals or start threads.
    #[error("the process cannot be set up: {0}")]
    Process(#[from] std::io::Error),
}

impl CommandError {
    /// The exit code: 2 if the command line or the configuration has to be changed, 130 if a signal has ended the
    /// command, as shells say of Ctrl-C, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ended => 130,
            Self::Found { failures: 0, .. } => 1,
            Self::Found { .. } => 2,
            Self::Setup(error) if error.is_usage() => 2,
            Self::Config(_)
            | Self::Usage(_)
            | Self::StartCheck(_)
            | Self::TokensUndecided { .. }
            | Self::Undecided(_) => 2,
            Self::Plugin(Error::Endpoint(_) | Error::CertificateFile { .. }) => 2,
            Self::Http(ServerError::Insecure(_) | ServerError::Tls(_)) | Self::Credential(_) => 2,
            Self::Audit(_) | Self::Telemetry(_) | Self::Tools(_) | Self::NotWrapped { .. } => 2,
            _ => 1,
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match error {
            Error::SecretStore(OpenError::Database { .. } | OpenError::Key { .. }) => Self::StorePlace(error),
            error => Self::Plugin(error),
        }
    }
}

impl From<TlsError> for CommandError {
    fn from(error: TlsError) -> Self {
        Self::Http(error.into())
    }
}

impl From<ConfidentialError> for CommandError {
    fn from(error: ConfidentialError) -> Self {
        match error {
            ConfidentialError::Build(error) => error.into(),
            ConfidentialError::Credential(error) => Self::Credential(error),
        }
    }
}

/// Runs a command to its end. Background work that still waits then, such as a read of standard input, does not hold up
/// the end of the process.
pub fn block_on(command: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// Lists the accounts, with one kind of error.
async fn accounts(plugin: &Plugin) -> Result<Vec<Account>, CommandError> {
    Ok(plugin.accounts().await?)
}

/// The requests to open files anew (SIGHUP), which programs send that rotate them. While this exists, the signal does
/// not end the process.
pub(crate) struct ReopenRequest {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl ReopenRequest {
    pub(crate) fn listen() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { signal: signal(SignalKind::hangup())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Returns when there is one.
    pub(crate) async fn received(&mut self) {
        #[cfg(unix)]
        self.signal.recv().await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

/// The requests to end the process (SIGTERM and SIGINT; on Windows Ctrl-C, Ctrl-Break, the end of the console, of the session
/// and of the system), listened for from the moment this is made.
pub(crate) struct EndRequest {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    terminate: tokio::signal::windows::CtrlBreak,
    #[cfg(windows)]
    close: tokio::signal::windows::CtrlClose,
    #[cfg(windows)]
    log_off: tokio::signal::windows::CtrlLogoff,
    #[cfg(windows)]
    shut_down: tokio::signal::windows::CtrlShutdown,
}

impl EndRequest {
    pub(crate) fn listen() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { signals: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?] })
        }
        #[cfg(windows)]
        {
            use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};
            let (interrupt, terminate, close) = (ctrl_c()?, ctrl_break()?, ctrl_close()?);
            Ok(Self { interrupt, terminate, close, log_off: ctrl_logoff()?, shut_down: ctrl_shutdown()? })
        }
    }

    /// Returns when the process is asked to end.
    pub(crate) async fn received(&mut self) {
        #[cfg(unix)]
        {
            let [terminate, interrupt] = &mut self.signals;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        #[cfg(windows)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.close.recv() => {}
            _ = self.log_off.recv() => {}
            _ = self.shut_down.recv() => {}
        }
    }
}
