//! What the program shows on a terminal, and nowhere else: a pseudo-terminal (pty(7)) stands for that of a person.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use entra_mcp_emulator::{Builder, DeviceOutcome, DeviceScript};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::commands::Home;
use crate::support::patience::soon;

const ALICE: &str = "alice@contoso.example";

/// White on black: what a line of a QR code begins with, and what it ends with.
const BEGIN: &str = "\u{1b}[97;40m";
const END: &str = "\u{1b}[0m";

/// A terminal: the end of the person, and that of the program. Programs that other tests start meanwhile have neither.
fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let person = openpt(flags).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let program = ioctl_tiocgptpeer(&person, flags).unwrap();
    (person.into(), program.into())
}

/// All that is shown until no program has the terminal open any more, which is an error of the other end.
fn shown_on(mut person: File) -> String {
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = person.read(&mut part) {
        shown.extend_from_slice(&part[..length]);
    }
    String::from_utf8(shown).unwrap()
}

/// Signs in with a code that is entered on another device, and returns what is on standard error: a terminal, or a
/// pipe. The locale is in `LANG`.
async fn sign_in_by_code(on_terminal: bool, locale: &str) -> String {
    // The link of a code is one for another device where it is of https.
    let home = Home::of(Builder::new().tls(true)).await;
    let outcome = Some(DeviceOutcome::ApprovedBy(ALICE.to_owned()));
    let at_once = DeviceScript { interval: Some(0), outcome, ..DeviceScript::default() };
    home.emulator().control().script_device_codes(at_once);
    let mut command = home.program(&["login", "--sign-in", "device-code"]);
    command.env("LANG", locale).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let reading = if on_terminal {
        let (person, program) = terminal();
        command.stderr(program);
        Some(tokio::task::spawn_blocking(move || shown_on(person)))
    } else {
        command.stderr(Stdio::piped());
        None
    };
    let child = command.spawn().unwrap();
    // It has the end of the program open.
    drop(command);
    let output = soon(child.wait_with_output()).await.expect("the sign-in ends").unwrap();
    let shown = match reading {
        Some(reading) => soon(reading).await.expect("the program closes the terminal").unwrap(),
        None => String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("enter the code"), "{shown}");
    shown
}

#[tokio::test]
async fn a_terminal_shows_the_link_of_a_code_as_a_qr_code_as_well() {
    let shown = sign_in_by_code(true, "C.UTF-8").await;
    let lines: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix(BEGIN)?.strip_suffix(END)).collect();
    let width = lines.first().unwrap_or_else(|| panic!("no QR code in {shown}")).chars().count();
    // A square, with two modules in each line.
    assert_eq!(lines.len(), width.div_ceil(2), "{shown}");
    assert!(lines.iter().all(|line| line.chars().count() == width), "{shown}");
    assert!(lines.iter().flat_map(|line| line.chars()).all(|cell| "█▀▄ ".contains(cell)), "{shown}");
    let (prompt, code) = (shown.find("enter the code"), shown.find(BEGIN));
    assert!(prompt < code, "the text stands above it");
}

#[tokio::test]
async fn without_a_terminal_or_without_unicode_there_is_the_text_alone() {
    for (on_terminal, locale) in [(false, "C.UTF-8"), (true, "C")] {
        let shown = sign_in_by_code(on_terminal, locale).await;
        assert!(!shown.contains(BEGIN) && !shown.contains('█'), "{on_terminal} {locale}: {shown}");
    }
}
