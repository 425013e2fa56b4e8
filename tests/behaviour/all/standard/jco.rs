//! `jco serve`, which runs components in Node.js: in V8, with an implementation of WASI of its own.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use entra_mcp_compose::{ADAPTER, plug};
use entra_mcp_emulator::Emulator;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::host::{FOLDER, emulator, files, variables};
use super::session::whole_session;
use crate::support::patience::eventually;
use crate::support::{process, tests_dir, tools};

/// What jco says when it serves. It looks for a free port itself.
const READY: &str = "Server listening @ localhost:";

/// The process, which ends with this value.
pub(crate) struct Jco {
    pub(crate) emulator: Emulator,
    pub(crate) public_url: String,
    child: Child,
    log: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Drop for Jco {
    fn drop(&mut self) {
        // jco starts another process, which serves: the two are a group.
        let group = format!("-{}", self.child.id());
        let _ = process::blocking("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// The component for hosts that do not know all instructions. `None` where the build script has found no jco.
pub(crate) fn portable() -> Vec<u8> {
    // This module is compiled without jco as well.
    let built = option_env!("ENTRA_MCP_PORTABLE_COMPONENT");
    let built = PathBuf::from(built.expect("it is built where jco is installed"));
    std::fs::read(built).expect("the component was built")
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
async fn a_session_lives_from_registration_to_revocation_in_jco_serve() {
    let mut jco = Jco::serve(&plug(&portable(), ADAPTER).expect("the two fit"), &[]).await;
    whole_session(&jco.public_url).await;
    let log = jco.log();
    assert!(log.contains("\"event\":\"session.revoked\""), "{log}");
    for (path, bytes) in files(&jco.folder.path().join("records")) {
        assert!(!String::from_utf8_lossy(&bytes).contains("eyJ"), "{}", path.display());
    }
    assert!(jco.child.try_wait().expect("a process").is_none(), "{log}");
}

impl Jco {
    /// Serves an artefact with the usual variables and these.
    pub(crate) async fn serve(artefact: &[u8], more: &[(&str, &str)]) -> Self {
        // Clients use this port, and jco another one that only it knows.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let public_url = format!("http://localhost:{}", listener.local_addr().expect("an address").port());
        let emulator = emulator(&public_url).await;
        let mut variables = variables(&emulator, &public_url, FOLDER);
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (child, log, folder) = start(artefact, &variables);
        let jco = Self { emulator, public_url, child, log, folder };
        let port = eventually(|| {
            let log = jco.log();
            async move {
                let port = log.split_once(READY)?.1;
                let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u16>().ok()
            }
        });
        let port = match port.await {
            Ok(port) => port,
            Err(error) => panic!("jco does not serve, {error}: {}", jco.log()),
        };
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("localhost", port)).await.expect("jco listens");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        jco
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no test panicked").clone()
    }
}

fn start(component: &[u8], variables: &[(String, String)]) -> (Child, Arc<Mutex<String>>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let artefact = folder.path().join("served.wasm");
    std::fs::write(&artefact, component).expect("a file");
    let records = folder.path().join("records");
    std::fs::create_dir(&records).expect("a folder");
    // jco grants all folders by itself. The module lies where it finds the implementation of WASI that jco uses.
    let served = folder.path().join("served");
    let grants = served.join("grants.mjs");
    std::fs::create_dir(&served).expect("a folder");
    let module = format!(
        "import {{ _setPreopens }} from \"@bytecodealliance/preview2-shim/filesystem\";\n_setPreopens({{ {FOLDER:?}: {records:?} }});\n"
    );
    std::fs::write(&grants, module).expect("a file");
    let mut command = process::blocking(tools::client("jco"));
    command
        .arg(tests_dir().join("clients/jco/node_modules/@bytecodealliance/jco/src/jco.js"))
        .arg("serve")
        .arg("--jco-dir")
        .arg(&served)
        .arg("--jco-import")
        .arg(&grants)
        .arg(&artefact)
        .env_clear()
        .env("PATH", process::path())
        .env("TMPDIR", folder.path())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().expect("node starts");
    let log = Arc::<Mutex<String>>::default();
    let (lines, into) = (child.stderr.take().expect("a pipe"), Arc::clone(&log));
    std::thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            let mut log = into.lock().expect("no test panicked");
            log.push_str(&line);
            log.push('\n');
        }
    });
    (child, log, folder)
}
