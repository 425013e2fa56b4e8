//! The servers that are compared, and how they are started.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use entra_mcp_emulator::{Builder, Emulator};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use url::Url;

use crate::load::Target;
use crate::native::{Native, TOOL_DELAY};
use crate::ours::Ours;
use crate::session::{self, Session};
use crate::tokens::{self, SCOPE, Tokens};
use crate::tools::Tools;
use crate::{PEER, PEER_WITH_MEMORY, PROTOCOL};

/// The person that calls.
pub(crate) const ALICE: &str = "alice@contoso.example";

/// The last revision of MCP that the TypeScript SDK speaks.
const PROTOCOL_OF_TYPESCRIPT: &str = "2025-11-25";

/// A server that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Ours,
    Rmcp,
    RmcpWithMemory,
    TypeScript,
    FastMcpJwt,
    FastMcpAzure,
}

impl Contender {
    pub(crate) const ALL: [Self; 6] =
        [Self::Ours, Self::Rmcp, Self::RmcpWithMemory, Self::TypeScript, Self::FastMcpJwt, Self::FastMcpAzure];

    /// One of each kind, where how it looks at tokens does not matter.
    pub(crate) const KINDS: [Self; 4] = [Self::Ours, Self::RmcpWithMemory, Self::TypeScript, Self::FastMcpJwt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "entra-mcp",
            Self::Rmcp => "rmcp",
            Self::RmcpWithMemory => "rmcp, with memory",
            Self::TypeScript => "TypeScript SDK",
            Self::FastMcpJwt => "FastMCP, JWT",
            Self::FastMcpAzure => "FastMCP, Azure",
        }
    }

    /// The last revision of MCP that it speaks.
    fn protocol(self) -> &'static str {
        if self == Self::TypeScript { PROTOCOL_OF_TYPESCRIPT } else { PROTOCOL }
    }
}

/// Entra ID and Graph, and what is installed here.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    tokens: OnceCell<Tokens>,
    tools: Tools,
}

/// A server that runs, until this is dropped.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) server: Server,
    url: String,
    /// What the person calls with: of a session, where the server has sessions.
    pub(crate) token: String,
}

pub(crate) enum Server {
    Ours(Box<Ours>, Session),
    Peer { native: Native, _folder: TempDir },
}

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl World {
    pub(crate) async fn new() -> Self {
        let emulator = Builder::new().start().await.unwrap();
        Self { emulator, tokens: OnceCell::new(), tools: Tools::of(&workspace()) }
    }

    /// Tokens of Entra ID, which take some seconds to sign.
    pub(crate) async fn tokens(&self) -> &Tokens {
        self.tokens.get_or_init(|| tokens::issue(&self.emulator)).await
    }

    /// Starts a server, and the person signs in where the server has sessions. `None`: it is not installed.
    pub(crate) async fn start(&self, contender: Contender) -> Option<Running> {
        self.start_with(contender, &[], None).await
    }

    /// The same with arguments for `entra-mcp serve`, and with a time that the tools of the others take.
    pub(crate) async fn start_with(
        &self,
        contender: Contender,
        more: &[&str],
        delay: Option<Duration>,
    ) -> Option<Running> {
        if contender == Contender::Ours {
            let ours = Ours::start(&self.emulator, more);
            let session = session::sign_in(ours.server.public_url(), "/mcp", ALICE).await;
            let (url, token) = (ours.server.at("/mcp"), session.access_token.clone());
            return Some(Running { contender, server: Server::Ours(Box::new(ours), session), url, token });
        }
        let folder = tempfile::tempdir().unwrap();
        let Some(mut command) = self.peer(contender, folder.path()).await else {
            println!("{}: left out, because it is not installed (tests/clients/install.sh)", contender.name());
            return None;
        };
        command.envs(delay.map(|delay| (TOOL_DELAY, delay.as_millis().to_string())));
        let native = Native::of(command);
        let url = native.url.clone();
        let token = if contender == Contender::FastMcpAzure {
            let site = url.strip_suffix("/mcp").unwrap();
            session::sign_in_for(site, "/mcp", ALICE, SCOPE).await.access_token
        } else {
            self.tokens().await.one.clone()
        };
        Some(Running { contender, server: Server::Peer { native, _folder: folder }, url, token })
    }

    /// From the start of a server of others until it listens. `None`: it is not installed.
    pub(crate) async fn listens_after(&self, contender: Contender) -> Option<Duration> {
        let folder = tempfile::tempdir().unwrap();
        let command = self.peer(contender, folder.path()).await?;
        let started = Instant::now();
        let _native = Native::of(command);
        Some(started.elapsed())
    }

    /// What starts a server of others, which keeps what it keeps in a folder.
    async fn peer(&self, contender: Contender, folder: &Path) -> Option<Command> {
        let issuer = &self.tokens().await.issuer;
        let accepted = serde_json::to_string(issuer).unwrap();
        let (program, arguments) = match contender {
            Contender::Ours => return None,
            Contender::Rmcp => (this_program(), vec![PEER.to_owned(), accepted]),
            Contender::RmcpWithMemory => (this_program(), vec![PEER_WITH_MEMORY.to_owned(), accepted]),
            Contender::TypeScript => {
                let (node, script) = self.typescript()?;
                (node, vec![script, "http".to_owned(), accepted])
            }
            Contender::FastMcpJwt => {
                let (python, script) = self.fastmcp()?;
                (python, vec![script, "jwt".to_owned(), accepted])
            }
            Contender::FastMcpAzure => {
                let (python, script) = self.fastmcp()?;
                let at = self.emulator.endpoints();
                let site = json!({
                    "authority": at.authority,
                    "tenant_id": at.tenant_id,
                    "client_id": at.confidential_client_id,
                    "client_secret": at.client_secret,
                    "issuer": issuer.issuer,
                    "port": free_port(),
                });
                (python, vec![script, "azure".to_owned(), site.to_string()])
            }
        };
        let mut command = Command::new(program);
        command.args(arguments);
        set_apart(&mut command, folder);
        Some(command)
    }

    /// What starts a server of others on standard input and output.
    pub(crate) fn on_stdio(&self, contender: Contender, folder: &Path) -> Option<Command> {
        let (program, script) = match contender {
            Contender::Ours => return None,
            Contender::Rmcp | Contender::RmcpWithMemory => (PathBuf::from(env!("CARGO_BIN_EXE_rmcp-server")), None),
            Contender::TypeScript => self.typescript().map(|(node, script)| (node, Some(script)))?,
            Contender::FastMcpJwt | Contender::FastMcpAzure => {
                self.fastmcp().map(|(python, script)| (python, Some(script)))?
            }
        };
        let mut command = Command::new(program);
        command.args(script.into_iter().flat_map(|script| [script, "stdio".to_owned()]));
        set_apart(&mut command, folder);
        Some(command)
    }

    fn typescript(&self) -> Option<(PathBuf, String)> {
        self.script("mcp-sdk-1", "costs.mjs")
    }

    fn fastmcp(&self) -> Option<(PathBuf, String)> {
        self.script("fastmcp", "costs.py")
    }

    fn script(&self, client: &str, name: &str) -> Option<(PathBuf, String)> {
        let script = self.tools.clients().join(client).join(name);
        Some((self.tools.client(client)?, script.display().to_string()))
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// As such a server runs in production, with what it keeps in a folder of its own.
fn set_apart(command: &mut Command, folder: &Path) {
    command.env("NODE_ENV", "production").env("FASTMCP_HOME", folder).current_dir(folder).stderr(Stdio::null());
}

/// A port that nothing listens on now. The address of a server that people sign in at is known before it starts.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        match &self.server {
            Server::Ours(ours, _) => ours.server.pid(),
            Server::Peer { native, .. } => native.pid(),
        }
    }

    /// Where it listens, whatever clients call it.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, Url::parse(&self.url).unwrap().port().unwrap()))
    }

    /// What clients call it.
    pub(crate) fn host(&self) -> String {
        Url::parse(&self.url).unwrap().authority().to_owned()
    }

    /// Calls with these tokens, by turns.
    pub(crate) async fn target(&self, tokens: &[String]) -> Target {
        Target::speaking(self.contender.protocol(), self.pid(), &self.url, tokens).await
    }

    /// Calls of the person.
    pub(crate) async fn own_target(&self) -> Target {
        self.target(std::slice::from_ref(&self.token)).await
    }
}
