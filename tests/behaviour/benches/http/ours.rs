//! The server of this project: the release binary, with the emulator as Entra ID and Graph.

use entra_mcp_emulator::Emulator;
use tempfile::TempDir;

use crate::load::Target;
use crate::server::Server;
use crate::session;
use crate::tokens::SCOPE;

pub(crate) struct Ours {
    server: Server,
    _folder: TempDir,
}

impl Ours {
    /// With sessions, and one that a user has signed in for.
    pub(crate) async fn with_session(emulator: &Emulator) -> (Self, Target) {
        let ours = Self::start(emulator, &[]);
        let session = session::sign_in(ours.server.public_url(), "/mcp", "alice@contoso.example").await;
        let target = ours.target(&[session.access_token]).await;
        (ours, target)
    }

    /// For clients that bring tokens of Entra ID.
    pub(crate) fn for_bearers(emulator: &Emulator) -> Self {
        Self::start(emulator, &["--token-mode", "bearer", "--required-scope", SCOPE])
    }

    fn start(emulator: &Emulator, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The record of every call is written, not counted: it is a part of what a call costs.
        let more = [&["--rate-limit", "called-records=off"], more].concat();
        Self { server: Server::start(emulator.endpoints(), folder.path(), &more), _folder: folder }
    }

    /// Requests with these tokens, by turns.
    pub(crate) async fn target(&self, tokens: &[String]) -> Target {
        Target::new(self.server.pid(), &self.server.at("/mcp"), tokens).await
    }
}
