//! An MCP server that is a program: a process for each person, with JSON-RPC lines on its standard streams.
//!
//! Towards clients it is a server over Streamable HTTP, of the versions with sessions and of the one without:
//!
//! - `initialize` starts a process of its own, for the caller and this session. The session id is unguessable and works
//!   for that caller only; the component seals it besides. `DELETE` ends the process.
//! - A request without a session goes to the one process of its person and client, which its first request starts.
//!   A `server/discover` that a server of an earlier version refuses is passed on as it is answered: the client then begins
//!   with `initialize`.
//! - An answer is one JSON message if nothing came before it, else an event stream. The events of a session have ids, and
//!   `GET` with `Last-Event-ID` repeats what was lost, within bounds. `bridge` says which message goes where.
//! - A client that goes away cancels its request; one that has seen an event id has half a minute to come back.
//!
//! A process gets nothing but what the settings name and the identity of its caller: `ENTRA_MCP_CALLER_TENANT_ID`,
//! `ENTRA_MCP_CALLER_OBJECT_ID`, `ENTRA_MCP_CALLER_CLIENT_ID`, `ENTRA_MCP_CALLER_ROLES` (separated by spaces, as they were
//! when the process started), and, if it is to have tokens, `ENTRA_MCP_TOKEN_FILE`. It ends when it is idle, when another
//! caller needs its place, and with this program: its standard input ends, the process group gets SIGTERM, and after two
//! seconds SIGKILL. If this program is killed, so is the process on Linux; elsewhere it sees the end of its input, as its
//! children do.
//!
//! Deliberately absent: a sandbox. A process may do what the user of this program may do. Batches of messages, which one
//! version of MCP had, are refused.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::gatekeeper::Caller;
use entra_mcp_plugin::random::{Random, unguessable_id};
use http::{Method, Request, Response};
use tempfile::TempDir;

mod answer;
mod bridge;
mod command;
mod front;
mod lines;
mod message;
mod owner;
mod registry;
mod running;
mod settings;
mod starter;
mod stream;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod tokens;

pub(crate) use lines::printable;

pub use command::ServerCommandError;
pub use settings::ProcessSettings;
pub use tokens::{TokenFileError, Tokens};

use self::answer::Wishes;
use self::command::Program;
use self::lines::{ProcessLog, Withheld};
use self::owner::ProcessOwner;
use self::registry::Registry;
use self::running::{Pin, Process, ProcessEnd, ProcessParts};
use self::starter::Starter;
use self::tokens::TokenFile;
use crate::behind::{AnswerBody, Behind, BehindError, Sender};

/// An MCP server that is a program. Dropping it ends its processes.
pub struct ProcessUpstream {
    settings: ProcessSettings,
    program: Program,
    starter: Starter,
    tokens: Option<Arc<dyn Tokens>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    registry: Arc<Registry>,
}

impl ProcessUpstream {
    /// Finds the program, and starts nothing yet. `tokens`: where the tokens come from, if processes are to have any.
    pub fn new(
        settings: ProcessSettings,
        tokens: Option<Arc<dyn Tokens>>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ServerCommandError> {
        let program = Program::find(&settings.command, settings.search_path.as_deref())?;
        if let Some(folder) = settings.folder.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(ServerCommandError::NoFolder(folder.clone()));
        }
        let registry = Registry::new(settings.max_processes, settings.max_processes_per_person);
        Ok(Self { settings, program, starter: Starter::default(), tokens, clock, random, registry })
    }

    /// Ends all processes, and returns when they are gone.
    pub async fn end(&self) {
        self.registry.close();
        self.registry.empty().await;
    }

    /// The process of an owner without a session. The first request starts it; others wait until it has started.
    async fn of_owner(&self, owner: &ProcessOwner, sender: &Sender) -> Result<Pin, BehindError> {
        let slot = self.registry.slot(owner);
        let mut process = slot.lock().await;
        if let Some(Ok(pin)) = process.as_ref().map(Process::pin) {
            return Ok(pin);
        }
        let pin = self.start(owner, None, sender).await?;
        *process = Some(Arc::clone(pin.process()));
        Ok(pin)
    }

    /// The process of a new session.
    async fn of_new_session(&self, owner: &ProcessOwner, sender: &Sender) -> Result<Pin, BehindError> {
        let id = unguessable_id(&*self.random).map_err(|error| BehindError::Unreachable(error.to_string()))?;
        self.start(owner, Some(id), sender).await
    }

    /// Starts a process.
    async fn start(&self, owner: &ProcessOwner, session: Option<String>, sender: &Sender) -> Result<Pin, BehindError> {
        self.registry.may_start(owner, self.clock.monotonic())?;
        let place = self.registry.place(&owner.person).await?;
        let unreachable = |error: &dyn fmt::Display| BehindError::Unreachable(error.to_string());
        let private =
            PrivateFolder::create(self.settings.private_folders.clone()).await.map_err(|error| unreachable(&error))?;
        let withheld = Withheld::default();
        let token = match &self.tokens {
            Some(tokens) => {
                let (tokens, clock) = (Arc::clone(tokens), Arc::clone(&self.clock));
                let file = TokenFile::create(private.path(), tokens, clock, Arc::clone(&withheld), &sender.handle);
                Some(file.await.map_err(|error| unreachable(&error))?)
            }
            None => None,
        };
        let variables = self.variables(&sender.caller, token.as_ref());
        let folder = self.settings.folder.clone().unwrap_or_else(|| private.empty());
        let now = self.clock.monotonic();
        let program = self.program.clone();
        let started = self.starter.run(move || program.start(&folder, &variables)).await.map_err(|error| {
            self.registry.ended(owner, ProcessEnd::Crashed, now, now);
            unreachable(&error)
        })?;
        let number = place.number;
        tracing::info!(server = %self.settings.name, process = number, pid = started.group.id(), "started a process");
        let log = ProcessLog::new(self.settings.name.clone(), number, Arc::clone(&self.clock), withheld);
        let (clock, idle) = (Arc::clone(&self.clock), self.settings.idle);
        let parts = ProcessParts { number, owner: owner.clone(), session, clock, idle, token, log };
        let (registry, clock, owner) = (Arc::clone(&self.registry), Arc::clone(&self.clock), owner.clone());
        let pin = Process::run(parts, started, move |end| {
            registry.ended(&owner, end, now, clock.monotonic());
            // The place is free when nothing of the process is left.
            drop(private);
            drop(place);
        });
        self.registry.started(number, pin.process());
        Ok(pin)
    }

    /// The environment of a process: nothing but this.
    fn variables(&self, caller: &Caller, token: Option<&TokenFile>) -> Vec<(OsString, OsString)> {
        let named = self.settings.variables.iter().map(|(name, value)| (name.into(), value.into()));
        let identity = [
            ("ENTRA_MCP_CALLER_TENANT_ID", caller.tenant_id.clone()),
            ("ENTRA_MCP_CALLER_OBJECT_ID", caller.object_id.clone()),
            ("ENTRA_MCP_CALLER_CLIENT_ID", caller.client_id.clone()),
            ("ENTRA_MCP_CALLER_ROLES", caller.roles.join(" ")),
        ];
        let identity = identity.into_iter().map(|(name, value)| (name.into(), value.into()));
        let token = token.map(|token| ("ENTRA_MCP_TOKEN_FILE".into(), token.path().into()));
        named.chain(identity).chain(token).collect()
    }
}

impl Drop for ProcessUpstream {
    fn drop(&mut self) {
        self.registry.close();
    }
}

impl fmt::Debug for ProcessUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessUpstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl Behind for ProcessUpstream {
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        let (head, body) = request.into_parts();
        let wishes = Wishes::of(&head.headers);
        match head.method {
            Method::POST => self.post(&wishes, &body, &sender).await,
            Method::GET => self.listen(&wishes, &sender),
            Method::DELETE => self.delete(&wishes, &sender),
            _ => Ok(answer::not_allowed("GET, POST, DELETE")),
        }
    }

    fn time_to_answer(&self) -> Duration {
        self.settings.answer_within
    }
}

/// A folder that only the user of this program may enter, for one process.
struct PrivateFolder {
    folder: Option<TempDir>,
    /// Where in it no other user may enter.
    path: PathBuf,
}

impl PrivateFolder {
    async fn create(inside: PathBuf) -> io::Result<Self> {
        let creating = tokio::task::spawn_blocking(move || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("entra-mcp-");
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
            let folder = builder.tempdir_in(inside)?;
            let path = private_in(&folder)?;
            std::fs::create_dir(path.join(EMPTY))?;
            io::Result::Ok(Self { folder: Some(folder), path })
        });
        creating.await.map_err(io::Error::other)?
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, where a process works that has no other.
    fn empty(&self) -> PathBuf {
        self.path().join(EMPTY)
    }
}

/// Name of the folder in which a process works that has no other.
const EMPTY: &str = "work";

/// A temporary folder is private from the start, as the system knows modes.
#[cfg(not(windows))]
fn private_in(folder: &TempDir) -> io::Result<PathBuf> {
    Ok(folder.path().to_owned())
}

/// A folder in the temporary one, which has an access list of its own.
#[cfg(windows)]
fn private_in(folder: &TempDir) -> io::Result<PathBuf> {
    let path = folder.path().join("private");
    entra_mcp_plugin::access_list::create_folder(&path)?;
    Ok(path)
}

impl Drop for PrivateFolder {
    /// A process may have left much in it, so another thread removes it.
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        let remove = move || {
            if let Err(error) = folder.close() {
                tracing::warn!(%error, "the folder of a process cannot be removed");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
