//! Errors of tool components.

use crate::outbound_http::PolicyError;
use crate::provided_tools::{DelegationError, ProviderError};

/// Why a tool component cannot be loaded. `server` names it.
#[derive(Debug, thiserror::Error)]
#[error("the tools {server:?} cannot be loaded: {problem}")]
pub struct LoadError {
    /// The name of the server in the settings.
    pub server: String,
    /// What is wrong.
    #[source]
    pub problem: LoadProblem,
}

/// An import that this host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownImport {
    /// Its name, with its version.
    pub name: String,
    /// The missing part of the host or the component.
    pub needed: &'static str,
}

impl std::fmt::Display for UnknownImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.needed)
    }
}

/// A fault of a tool component or its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadProblem {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(std::io::Error),
    /// The bytes are no WebAssembly.
    #[error("it is not WebAssembly in binary form")]
    NotWebAssembly,
    /// The bytes are a core module.
    #[error(
        "it is a core module and no component: build it for wasm32-wasip2, or turn it into a component with \
         `wasm-tools component new`"
    )]
    CoreModule,
    /// The compiler refuses it.
    #[error("it is not a valid component: {0:#}")]
    Invalid(wasmtime::Error),
    /// It exports neither `tool-provider` nor `wasi:http`.
    #[error(
        "it offers no tools: it exports neither entra-mcp:plugin/tool-provider@0.2 nor wasi:http/incoming-handler@0.2 nor \
         wasi:http/handler@0.3; its exports: {}", list(.0)
    )]
    NoTools(Vec<String>),
    /// It exports a version of `wasi:http/handler` that this host does not run, such as a release candidate.
    #[error(
        "it exports {0}, which this host does not run: build it for wasi:http/incoming-handler@0.2 or \
         wasi:http/handler@0.3.0"
    )]
    UnsupportedShape(String),
    /// It exports functions of WASI 0.2, and imports interfaces of WASI 0.3.
    #[error(
        "its exports are of WASI 0.2 and some of its imports are of WASI 0.3: {}. The functions of \
         entra-mcp:plugin/tool-provider and wasi:http/incoming-handler cannot wait for those of WASI 0.3: build the component \
         for WASI 0.2 (wasm32-wasip2), or as a whole MCP server that exports wasi:http/handler@0.3.0", list(.0)
    )]
    MixedVersions(Vec<String>),
    /// It imports what this host does not have.
    #[error("it imports what this host does not have: {}", list(.0))]
    UnknownImports(Vec<UnknownImport>),
    /// Its instances are to serve several calls, and it is a whole MCP server.
    #[error(
        "it is a whole MCP server (it exports wasi:http), each of whose requests has an instance of its own: remove reuse, \
         which is for components with entra-mcp:plugin/tool-provider"
    )]
    NoReuse,
    /// An entry of `egress` cannot be granted.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// There is another server of this name.
    #[error("there are two servers of this name")]
    DuplicateName,
    /// The engine refuses its configuration on this machine.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(crate::error::Error),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(crate::error::Error),
}

/// Why an entry of `egress` cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The destination is refused.
    #[error("egress: {0}")]
    Destination(#[from] PolicyError),
    /// It has a query or a fragment.
    #[error("egress: {0:?} has a query or a fragment; only scheme, host, port and a prefix of the path can be granted")]
    NotAPrefix(String),
    /// Servers read the path in different ways.
    #[error(
        "egress: servers read the path of {0:?} in different ways: write it without dots, backslashes and encoded slashes"
    )]
    Ambiguous(String),
    /// Two entries have the same destination.
    #[error("egress: {0:?} occurs twice: one request gets one token, so put the scopes of one resource into one entry")]
    Twice(String),
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a tool component has not answered an HTTP request, or not to the end. The texts are for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is no such server, or no place for another request now.
    #[error("{0}")]
    Unavailable(String),
    /// Its instance ended: a trap, or a bound of memory.
    #[error("the tool component ended: {0}")]
    Ended(String),
    /// It did not answer within the bound of time.
    #[error("the tool component did not answer in time")]
    TimedOut,
    /// The answer is longer than the bound, in bytes.
    #[error("the answer of the tool component is longer than {0} bytes")]
    TooLarge(u64),
    /// A request of the component got no token, and the component did not answer without it.
    #[error("a request of the tool component got no token ({}): {}", .0.code, .0.message)]
    Delegation(DelegationError),
}

impl From<ServeError> for ProviderError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Unavailable(reason) => Self::Unavailable(reason),
            ServeError::Ended(reason) => Self::Ended(reason),
            ServeError::TimedOut => Self::TimedOut,
            ServeError::TooLarge(bound) => Self::OverBytes(bound),
            ServeError::Delegation(error) => Self::Delegation(error),
        }
    }
}
