//! What the operator says about a server that runs as a process, and the bounds that are not settings.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// An MCP server that is a program with JSON-RPC lines on its standard streams.
#[derive(Clone)]
pub struct ProcessSettings {
    /// The name of the server, for the log.
    pub name: String,
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// The `PATH` of this process. The program is looked for in it once, at the start; the process does not get it.
    pub search_path: Option<OsString>,
    /// Variables of the process: these, those that name the caller, and no others.
    pub variables: Vec<(String, String)>,
    /// Working folder of every process. `None`: each process has an empty one of its own.
    pub folder: Option<PathBuf>,
    /// Where the private folders of the processes are made, such as the machine's folder for temporary files.
    pub private_folders: PathBuf,
    /// A process without a request in flight and without an open event stream ends after this time.
    pub idle: Duration,
    /// Most processes at a time.
    pub max_processes: usize,
    /// Most processes at a time for one person.
    pub max_processes_per_person: usize,
    /// Longest time without an answer for a client that accepts no event stream. Other clients get a stream instead.
    pub answer_within: Duration,
}

impl fmt::Debug for ProcessSettings {
    /// The values of variables and the arguments may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ProcessSettings")
            .field("name", &self.name)
            .field("program", &self.command.first())
            .field("variables", &variables)
            .field("folder", &self.folder)
            .field("idle", &self.idle)
            .field("max_processes", &self.max_processes)
            .field("max_processes_per_person", &self.max_processes_per_person)
            .finish_non_exhaustive()
    }
}

/// Longest line of a process in bytes: as long as a message of the local server. A longer one is skipped; if it is an
/// answer, its request gets an error.
pub(super) const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes at each end of a longer line in which the id of the answer is looked for: the members besides the result take 40.
pub(super) const END_BYTES: usize = 128;

/// Requests in flight in one process. A client has a handful, and one caller may run several clients.
pub(super) const MAX_IN_FLIGHT: usize = 64;

/// Requests of one process that its client has not answered yet.
pub(super) const MAX_ASKED: usize = 64;

/// Messages that wait until a process reads them. The request with another one waits for room.
pub(super) const MAX_QUEUED_MESSAGES: usize = 16;

/// Messages for a process that nothing waits with: cancellations, and refusals of what it asks. A process that reads has
/// none waiting; one that leaves so many does not read any more, and is ended.
pub(super) const MAX_UNREAD_MESSAGES: usize = 4 * MAX_IN_FLIGHT;

/// Bytes of a stream that its client has not read. Beyond them, the process is not read either.
pub(super) const MAX_UNREAD_BYTES: usize = 256 * 1024;

/// Bytes of a stream that are kept for a client that lost its connection (`Last-Event-ID`).
pub(super) const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Events of a stream that are kept for that.
pub(super) const MAX_KEPT_EVENTS: usize = 256;

/// Streams of a session that are kept after their end.
pub(super) const MAX_KEPT_STREAMS: usize = 16;

/// Bytes of the streams that are kept after their end, for one session.
pub(super) const MAX_KEPT_STREAM_BYTES: usize = 4 * 1024 * 1024;

/// How long a request goes on whose client lost the stream of its answer and may ask for the rest. Clients try again
/// within some seconds.
pub(super) const RESUME_WITHIN: Duration = Duration::from_secs(30);

/// After this time without a message, an answer begins as an event stream, so that proxies and clients see that the server
/// is alive.
pub(super) const STREAM_AFTER: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGTERM. Then comes SIGKILL.
pub(super) const END_WITHIN: Duration = Duration::from_secs(2);

/// A process that ends by itself earlier than this has crashed at its start.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How long a person waits after the second crash in a row. It doubles with each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait after crashes.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// People whose crashes are remembered. Beyond them, the oldest is forgotten.
pub(super) const MAX_REMEMBERED_CRASHES: usize = 1024;

/// Longest line of the log in bytes. The rest of a line of a process is left out.
pub(super) const MAX_LOGGED_BYTES: usize = 2048;

/// Lines of one process in the log, in one [`LOG_PERIOD`]. Further ones are counted.
pub(super) const MAX_LOGGED_LINES: u32 = 100;

/// See [`MAX_LOGGED_LINES`].
pub(super) const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Age at which the token of a process is replaced. The component gives out tokens that live longer than this.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(4 * 60);

/// How long after a request its handle can still be used for that, a minute less than its life.
pub(super) const HANDLE_USABLE: Duration = Duration::from_secs(9 * 60);

/// When to try again, without a request, to replace a token.
pub(super) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Longest time until a token is there. Entra ID answers within a second, or asks to wait.
pub(super) const TOKEN_WITHIN: Duration = Duration::from_secs(30);
