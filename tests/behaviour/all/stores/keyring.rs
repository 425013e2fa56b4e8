//! The data key in the keyring of a desktop: `gnome-keyring` on a bus of its own, unlocked without a prompt.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::host::commands::Home;
use crate::support::process;

/// Starts the keyring and runs a program in its session. `PASSWORD` unlocks it; without one it stays locked, and there is no
/// display on which a person could be asked.
const SESSION: &str = r#"
if [ -n "$PASSWORD" ]; then printf %s "$PASSWORD" | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
else gnome-keyring-daemon --start --components=secrets >/dev/null 2>&1; fi
exec "$@"
"#;

const PASSWORD: &str = "recognisable-password";

fn store(home: &Home, extension: &str) -> PathBuf {
    home.path().join(".local/share/entra-mcp").join(format!("secrets.{extension}"))
}

/// A program with the same arguments and variables in a session of a desktop.
async fn in_session(home: &Home, password: &str, program: Command) -> Output {
    let run = home.path().join("run");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700)).unwrap();
    let program = program.as_std();
    let mut command = process::command("dbus-run-session");
    command.args(["--", "sh", "-c", SESSION, "sh"]).arg(program.get_program()).args(program.get_args());
    command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("XDG_RUNTIME_DIR", run).env("PASSWORD", password);
    // Into files: a daemon of the session that lives on would keep a pipe open.
    let files = ["session.out", "session.err"].map(|name| home.path().join(name));
    let [stdout, stderr] = files.each_ref().map(|file| std::fs::File::create(file).unwrap());
    let status = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).status().await.unwrap();
    let [stdout, stderr] = files.map(|file| std::fs::read(file).unwrap());
    Output { status, stdout, stderr }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn unlocked(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(&in_session(home, PASSWORD, home.program(arguments)).await)
}

/// Every file of the home but the store's has another content than before.
fn content(home: &Home) -> Vec<Option<Vec<u8>>> {
    ["db", "key"].map(|extension| std::fs::read(store(home, extension)).ok()).to_vec()
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "dbus-run-session", tool = "gnome-keyring-daemon")),
    ignore = "needs gnome-keyring: use tests/run"
)]
async fn the_key_of_a_new_store_is_in_the_keyring_and_in_no_file() {
    let home = Home::new().await;
    let signed_in = in_session(&home, PASSWORD, home.program_with_person(&["login"])).await;
    let (code, _, log) = said(&signed_in);
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("the key of the sign-ins"), "{log}");
    let key = std::fs::read_to_string(store(&home, "key")).unwrap();
    let name = key.trim_end().strip_prefix("keyring:").expect("the file names the entry");
    assert_eq!(name.len(), 32);

    // Another session, with another daemon.
    let (code, output, log) = unlocked(&home, &["accounts"]).await;
    assert!(code == Some(0) && output.contains("alice@contoso.example"), "{output} {log}");
    assert_eq!(unlocked(&home, &["store", "check"]).await.0, Some(0));
    let (code, output, log) = unlocked(&home, &["store", "rotate-key"]).await;
    assert!(code == Some(0) && output.contains("the keyring of the system"), "{output} {log}");
    let (code, output, log) = unlocked(&home, &["store", "check"]).await;
    assert!(code == Some(0) && output.contains("under earlier keys"), "{output} {log}");
    assert_eq!(std::fs::read_to_string(store(&home, "key")).unwrap(), key, "the file names the same entry");
    // The setting is about new stores.
    let (code, output, log) = unlocked(&home, &["accounts", "--store-key-in", "file"]).await;
    assert!(code == Some(0) && output.contains("alice@contoso.example"), "{output} {log}");

    let before = content(&home);
    for command in [&["accounts"][..], &["store", "check"], &["store", "rotate-key"]] {
        let (code, output, log) = said(&in_session(&home, "", home.program(command)).await);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}: {log}");
        assert!(log.contains("the keyring is locked") && log.contains("Nothing was changed"), "{command:?}: {log}");
        let (code, output, log) = said(&home.program(command).output().await.unwrap());
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}: {log}");
        assert!(log.contains("no keyring answers here"), "{command:?}: {log}");
    }
    // A keyring without the entry.
    std::fs::remove_dir_all(home.path().join(".local/share/keyrings")).unwrap();
    for command in [&["accounts"][..], &["store", "check"], &["store", "rotate-key"]] {
        let (code, output, log) = unlocked(&home, command).await;
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}: {log}");
        assert!(log.contains("its key is not there") && log.contains(name), "{command:?}: {log}");
    }
    assert_eq!(content(&home), before, "nothing is overwritten");
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "dbus-run-session", tool = "gnome-keyring-daemon")),
    ignore = "needs gnome-keyring: use tests/run"
)]
async fn a_locked_keyring_is_not_used_for_a_new_store_and_no_person_is_asked() {
    let home = Home::new().await;
    // The keyring of a desktop exists before the program does.
    let other = home.path().join("other/secrets.db");
    let _ = unlocked(&home, &["accounts", "--store", other.to_str().unwrap(), "--store-key-in", "keyring"]).await;
    let locked = in_session(&home, "", home.program_with_person(&["login"])).await;
    let (code, _, log) = said(&locked);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the key of the sign-ins is in the file") && log.contains("the keyring is locked"), "{log}");
    let (code, output, log) = unlocked(&home, &["accounts"]).await;
    assert!(code == Some(0) && output.contains("alice@contoso.example"), "{output} {log}");
    assert!(!log.contains("the key of the sign-ins"), "it is said once: {log}");
    assert_eq!(std::fs::read(store(&home, "key")).unwrap().len(), 32);
}

#[tokio::test]
async fn without_a_keyring_the_key_is_in_a_file_and_that_is_said_once() {
    let home = Home::new().await;
    let told = |output: &Output| said(output).2.matches("the key of the sign-ins is in the file").count();
    let accounts = async || home.program(&["accounts"]).output().await.unwrap();
    let refused = home.program(&["accounts", "--store-key-in", "keyring"]).output().await.unwrap();
    let (code, output, log) = said(&refused);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(log.contains("no keyring answers here"), "{log}");
    assert_eq!(content(&home), [None, None], "nothing is made");
    let first = accounts().await;
    assert_eq!((first.status.code(), told(&first)), (Some(0), 1), "{}", said(&first).2);
    let second = accounts().await;
    assert_eq!((second.status.code(), told(&second)), (Some(0), 0), "{}", said(&second).2);
    let of_choice = home.program(&["accounts", "--store", "chosen.db", "--store-key-in", "file"]);
    let of_choice = { of_choice }.current_dir(home.path()).output().await.unwrap();
    assert_eq!((of_choice.status.code(), told(&of_choice)), (Some(0), 0), "{}", said(&of_choice).2);
    let both =
        home.program(&["accounts", "--store-key-in", "keyring", "--store-key-file", "key"]).output().await.unwrap();
    assert!(both.status.code() == Some(2) && said(&both).2.contains("--store-key-in"), "{}", said(&both).2);
}

#[tokio::test]
async fn that_the_key_is_in_a_file_is_said_whatever_is_logged() {
    for filter in ["off", "error", "debug"] {
        let home = Home::new().await;
        let accounts = home.program(&["accounts"]).env("RUST_LOG", filter).output().await.unwrap();
        let (code, _, log) = said(&accounts);
        assert_eq!(
            (code, log.matches("the key of the sign-ins is in the file").count()),
            (Some(0), 1),
            "{filter}: {log}"
        );
    }
}

/// The bus is a socket that takes connections and says nothing.
#[tokio::test]
async fn a_keyring_that_does_not_answer_holds_nothing_up() {
    let home = Home::new().await;
    let socket = home.path().join("bus");
    let _bus = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let address = format!("unix:path={}", socket.display());
    let output = home.program(&["accounts"]).env("DBUS_SESSION_BUS_ADDRESS", address).output().await.unwrap();
    let (code, _, log) = said(&output);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the keyring has not answered within 5 s"), "{log}");
}
