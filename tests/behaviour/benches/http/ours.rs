//! The server of this project: the release binary, with the emulator as Entra ID and Graph.

use std::os::unix::fs::PermissionsExt as _;

use entra_mcp_emulator::Emulator;
use entra_mcp_plugin::secret_store::KEY_BYTES;
use tempfile::TempDir;

use crate::load::Target;
use crate::redis::Redis;
use crate::server::Server;
use crate::tokens::SCOPE;
use crate::{processors, session};

pub(crate) struct Ours {
    pub(crate) server: Server,
    #[allow(dead_code, reason = "it is there until the end; one of the benchmarks looks into it")]
    pub(crate) folder: TempDir,
}

impl Ours {
    /// With sessions, and one that a user has signed in for.
    pub(crate) async fn with_session(emulator: &Emulator) -> (Self, Target) {
        let ours = Self::start(emulator, &[]);
        let session = session::sign_in(ours.server.public_url(), "/mcp", "alice@contoso.example").await;
        let target = ours.target(&[session.access_token]).await;
        (ours, target)
    }

    /// The same with the sessions in a Redis of its own, with the key in a file. `None` where `redis-server` does not start.
    pub(crate) async fn with_session_in_redis(emulator: &Emulator) -> Option<(Self, Redis, Target)> {
        let redis = Redis::start()?;
        let key = redis.folder().join("data.key");
        std::fs::write(&key, [7; KEY_BYTES]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (url, key) = (redis.url(), key.display().to_string());
        let ours = Self::start(emulator, &["--store", &url, "--store-key-file", &key]);
        let session = session::sign_in(ours.server.public_url(), "/mcp", "alice@contoso.example").await;
        let target = ours.target(&[session.access_token]).await;
        Some((ours, redis, target))
    }

    /// For clients that bring tokens of Entra ID.
    pub(crate) fn for_bearers(emulator: &Emulator) -> Self {
        Self::start(emulator, &["--token-mode", "bearer", "--required-scope", SCOPE])
    }

    /// Without bounds of what one caller may ask.
    pub(crate) fn start(emulator: &Emulator, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The record of every call is written, not counted: it is a part of what a call costs.
        let unbounded = ["called-records=off", "call=off", "graph-request=off"].map(|bound| ["--rate-limit", bound]);
        let more = [&unbounded.concat()[..], more].concat();
        let server = processors::of_servers(|| Server::start(emulator.endpoints(), folder.path(), &more));
        Self { server, folder }
    }

    /// Requests with these tokens, by turns.
    pub(crate) async fn target(&self, tokens: &[String]) -> Target {
        Target::new(self.server.pid(), &self.server.at("/mcp"), tokens).await
    }
}
