//! The configuration of a tool component.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Linear memory of one call in bytes, unless set otherwise: enough for interpreters of JavaScript and Python.
pub const DEFAULT_MAX_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Time of one call, unless set otherwise. Clients rarely wait for longer.
pub const DEFAULT_MAX_TIME: Duration = Duration::from_secs(30);

/// Longest answer in bytes, unless set otherwise. A model reads a fraction of it.
pub const DEFAULT_MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Concurrent calls of one server, unless set otherwise.
pub const DEFAULT_MAX_CONCURRENT: usize = 64;

/// The source of a component.
#[derive(Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// A file with a component in its binary form.
    File(PathBuf),
    /// A component in its binary form.
    Bytes(Arc<[u8]>),
}

impl fmt::Debug for ComponentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
        }
    }
}

/// A destination that a tool component may send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressEntry {
    /// Scheme, host, port and prefix of the path: `https://api.contoso.com/v1/`. `http` on loopback only.
    pub to: String,
    /// The permissions of the token that is added to requests, each qualified with the one resource that they are of:
    /// `https://graph.microsoft.com/Mail.Read`. Empty: no token is added.
    pub permissions: Vec<String>,
}

/// A tool component and what it is granted. `Debug` leaves out the values of variables.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolComponentSettings {
    /// The server's name in the settings of the component that decides.
    pub name: String,
    /// The component.
    pub component: ComponentSource,
    /// The destinations to which it may send requests. Empty: nowhere.
    pub egress: Vec<EgressEntry>,
    /// The variables that it sees.
    pub variables: Vec<(String, String)>,
    /// Whether an instance may serve another call after its first, of another caller perhaps. Not of a whole MCP server.
    pub reuse: bool,
    /// Most linear memory of one call in bytes.
    pub max_memory_bytes: usize,
    /// Most time of one call, computing and waiting together.
    pub max_time: Duration,
    /// Longest answer in bytes.
    pub max_answer_bytes: usize,
    /// Most concurrent calls, of which one caller of tools has half at most. Further ones are refused as unavailable.
    pub max_concurrent: usize,
}

impl ToolComponentSettings {
    /// A component that is granted nothing, with the default limits.
    pub fn new(name: impl Into<String>, component: ComponentSource) -> Self {
        Self {
            name: name.into(),
            component,
            egress: Vec::new(),
            variables: Vec::new(),
            reuse: false,
            max_memory_bytes: DEFAULT_MAX_MEMORY_BYTES,
            max_time: DEFAULT_MAX_TIME,
            max_answer_bytes: DEFAULT_MAX_ANSWER_BYTES,
            max_concurrent: DEFAULT_MAX_CONCURRENT,
        }
    }
}

impl fmt::Debug for ToolComponentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            component,
            egress,
            variables,
            reuse,
            max_memory_bytes,
            max_time,
            max_answer_bytes,
            max_concurrent,
        } = self;
        f.debug_struct("ToolComponentSettings")
            .field("name", name)
            .field("component", component)
            .field("egress", egress)
            .field("variables", &variables.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("reuse", reuse)
            .field("max_memory_bytes", max_memory_bytes)
            .field("max_time", max_time)
            .field("max_answer_bytes", max_answer_bytes)
            .field("max_concurrent", max_concurrent)
            .finish()
    }
}
