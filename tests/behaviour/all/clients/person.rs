//! The person at the machine: looks at everything that is shown to them, and signs in there, or does not.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use entra_mcp_emulator::user_agent::{HeadlessBrowser, Landing};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use crate::support::patience::eventually;
use crate::support::process;

/// User name and password.
const ALICE: [&str; 2] = ["alice@contoso.example", "emulator"];

/// What the openers never write.
const LEAVE: &str = "leave";

/// What stands between the address and the code in an instruction to enter one.
const CODE: &str = " and enter the code ";

/// What the person does with a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Signs in as Alice.
    SignsIn,
    /// Signs in as Alice, once the application awaits the answer: some open the page first.
    SignsInOnceAwaited,
    /// Leaves the page alone.
    LooksAway,
}

/// The party that opened a page, or showed an instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opener {
    /// The server, by `BROWSER`.
    Server,
    /// The MCP client, on behalf of the server.
    Client,
}

/// A page that was opened, by itself or on an instruction.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) opener: Opener,
    pub(crate) url: String,
    /// Where the sign-in led, unless the person looked away.
    pub(crate) landing: Option<Landing>,
}

pub(crate) struct Person {
    pipe: PathBuf,
    server_opener: PathBuf,
    client_opener: PathBuf,
    visits: JoinHandle<Vec<Visit>>,
}

impl Person {
    /// Sits down. The habits are for one page each, in order; then every page is signed in at.
    pub(crate) fn new(folder: &Path, habits: &[Habit]) -> Self {
        Self::trusting(folder, habits, None)
    }

    /// As [`Self::new`], with a browser that trusts the certificate in a file.
    pub(crate) fn trusting(folder: &Path, habits: &[Habit], certificate: Option<PathBuf>) -> Self {
        let pipe = folder.join("pages");
        let made = process::blocking("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success(), "mkfifo: {made}");
        let (pages, opened) = mpsc::unbounded_channel();
        let end = pipe.clone();
        // A thread of its own, because opening a pipe blocks until another process opens it for writing.
        thread::spawn(move || {
            loop {
                for line in fs::read_to_string(&end).unwrap().lines() {
                    if line == LEAVE || pages.send(line.to_owned()).is_err() {
                        return;
                    }
                }
            }
        });
        Self {
            server_opener: opener(folder, "server", &pipe),
            client_opener: opener(folder, "client", &pipe),
            visits: tokio::spawn(look_at(opened, habits.iter().copied().collect(), certificate)),
            pipe,
        }
    }

    /// The value of `BROWSER`.
    pub(crate) fn server_opener(&self) -> &Path {
        &self.server_opener
    }

    /// A program that does for the client what `BROWSER` does for the server.
    pub(crate) fn client_opener(&self) -> &Path {
        &self.client_opener
    }

    /// Finishes with the pages at hand; returns all there were.
    pub(crate) async fn leave(self) -> Vec<Visit> {
        let mut pipe = fs::OpenOptions::new().write(true).open(&self.pipe).unwrap();
        writeln!(pipe, "{LEAVE}").unwrap();
        drop(pipe);
        self.visits.await.unwrap()
    }
}

fn opener(folder: &Path, name: &str, pipe: &Path) -> PathBuf {
    let path = folder.join(format!("{name}-opens"));
    let script = format!("#!/bin/sh\nprintf '{name} %s\\n' \"$1\" >'{}'\n", pipe.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

async fn look_at(
    mut opened: mpsc::UnboundedReceiver<String>,
    mut habits: VecDeque<Habit>,
    certificate: Option<PathBuf>,
) -> Vec<Visit> {
    let mut visits = Vec::new();
    while let Some(line) = opened.recv().await {
        let (opener, text) = line.split_once(' ').unwrap();
        let (before, code) = text.split_once(CODE).map_or((text, None), |(before, code)| (before, Some(code)));
        let url = before.rsplit(' ').next().unwrap();
        let habit = habits.pop_front().unwrap_or(Habit::SignsIn);
        if matches!(habit, Habit::SignsInOnceAwaited) {
            until_awaited(url).await;
        }
        let landing = match habit {
            Habit::SignsIn | Habit::SignsInOnceAwaited => {
                let (mut browser, [name, password]) = (HeadlessBrowser::new(), ALICE);
                if let Some(certificate) = &certificate {
                    browser = browser.trusting(certificate).unwrap();
                }
                let landing = match code {
                    Some(code) => browser.approve_device_code(url, code.trim_end_matches('.'), name, password).await,
                    None => browser.sign_in(url, name, password).await,
                };
                Some(landing.unwrap())
            }
            Habit::LooksAway => None,
        };
        let opener = if opener == "server" { Opener::Server } else { Opener::Client };
        visits.push(Visit { opener, url: url.to_owned(), landing });
    }
    visits
}

/// Returns when a server listens at the redirect URI in an authorization request.
async fn until_awaited(url: &str) {
    let url = Url::parse(url).unwrap();
    let (_, redirect_uri) = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap();
    let redirect_uri = Url::parse(&redirect_uri).unwrap();
    let addresses = redirect_uri.socket_addrs(|| None).unwrap();
    let awaited = eventually(|| async { TcpStream::connect(&*addresses).await.ok() }).await;
    drop(awaited.unwrap_or_else(|error| panic!("{redirect_uri} is awaited: {error}")));
}
