//! Our server: the release binary, with the emulator in this process and a session that a user has signed in for.

use entra_mcp_tests::emulator::{Builder, Emulator};
use tempfile::TempDir;

use crate::Served;
use crate::server::Server;
use crate::session;

pub(crate) struct Ours {
    server: Server,
    token: String,
    _emulator: Emulator,
    _folder: TempDir,
}

pub(crate) async fn start() -> Ours {
    let emulator = Builder::new().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(emulator.endpoints(), folder.path(), &[]);
    let session = session::sign_in(server.public_url(), "/mcp", "alice@contoso.example").await;
    Ours { server, token: session.access_token, _emulator: emulator, _folder: folder }
}

impl Ours {
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(crate) fn served(&self) -> Served {
        Served { url: self.server.at("/mcp"), token: self.token.clone() }
    }
}
