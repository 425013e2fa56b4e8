//! The clock of the machine is set back an hour under programs that run: they lose nothing, and say it where it matters.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::commands::Home;
use super::serve::Server;
use crate::support::process;
use crate::support::remote::{ALICE, call_request};
use crate::support::session;

/// Stands before the function of the system that tells the time: an hour less, while there is a file.
const SET_BACK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    const char *file = getenv("CLOCK_IS_SET_BACK_IF");
    if (result == 0 && clock == CLOCK_REALTIME && file && access(file, F_OK) == 0) now->tv_sec -= 3600;
    return result;
}
"#;

/// A home whose programs have a clock that can be set back.
struct Machine {
    home: Home,
    library: PathBuf,
}

impl Machine {
    async fn new() -> Self {
        let home = Home::new().await;
        let (source, library) = (home.path().join("clock.c"), home.path().join("clock.so"));
        std::fs::write(&source, SET_BACK).unwrap();
        // The compiler that has built SQLite.
        let mut compiler = process::command("cc");
        let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().await.unwrap();
        assert!(built.success(), "{built}");
        Self { home, library }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("set-back")
    }

    fn set_back(&self) {
        std::fs::write(self.file(), "").unwrap();
    }

    fn set_right(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    fn with_clock(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_IS_SET_BACK_IF", self.file()).stdin(Stdio::null());
        command
    }

    /// Exit code, standard output and standard error.
    async fn run(&self, command: Command) -> (Option<i32>, String, String) {
        let output = self.with_clock(command).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

#[tokio::test]
async fn a_person_stays_signed_in_and_a_new_sign_in_is_told_of_the_clock() {
    let machine = Machine::new().await;
    let home = &machine.home;
    let (code, _, log) = machine.run(home.program_with_person(&["login"])).await;
    assert_eq!(code, Some(0), "{log}");
    let (_, before, _) = machine.run(home.program(&["whoami"])).await;
    machine.set_back();
    let (code, after, log) = machine.run(home.program(&["whoami"])).await;
    assert_eq!((code, &after), (Some(0), &before), "{log}");
    let (code, _, log) = machine.run(home.program_with_person(&["login"])).await;
    assert_eq!(code, Some(1), "{log}");
    // 3,600 s, or one less or more, because an answer tells whole seconds.
    assert!(log.contains("the ID token is not valid now, because this machine's clock is 3"), "{log}");
    assert!(log.contains(" s behind that of Microsoft Entra ID; correct the date and time of this machine"), "{log}");
    machine.set_right();
    let (code, after, log) = machine.run(home.program(&["whoami"])).await;
    assert_eq!((code, &after), (Some(0), &before), "{log}");
}

#[tokio::test]
async fn a_session_goes_on_while_the_clock_is_set_back_and_afterwards() {
    let machine = Machine::new().await;
    let at = machine.home.emulator().endpoints();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--client-id", &at.confidential_client_id];
    let mut command = machine.with_clock(machine.home.program(&arguments));
    command.env("AZURE_CLIENT_SECRET", &at.client_secret);
    let server = Server::start(command).await;
    let url = server.ready["public_url"].as_str().unwrap().to_owned();
    let session = session::sign_in(&url, "/mcp", ALICE).await;
    let http = reqwest::Client::new();
    let call = async |token: &str| {
        let (parts, body) = call_request(token).into_parts();
        let request = http.post(format!("{url}{}", parts.uri)).headers(parts.headers).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    let refresh = async |token: &str| {
        let form = [("grant_type", "refresh_token"), ("client_id", &session.client_id), ("refresh_token", token)];
        let answer = http.post(format!("{url}/token")).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let tokens: Value = answer.json().await.unwrap();
        ["access_token", "refresh_token"].map(|name| tokens[name].as_str().unwrap().to_owned())
    };
    assert_eq!(call(&session.access_token).await, 200);
    machine.set_back();
    // How much of its time has passed cannot be said.
    assert_eq!(call(&session.access_token).await, 401);
    let [access, refreshed] = refresh(&session.refresh_token).await;
    assert_eq!(call(&access).await, 200);
    machine.set_right();
    let [access, _] = refresh(&refreshed).await;
    assert_eq!(call(&access).await, 200);
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
}
