//! Disks as they are: one without room, and one that cannot be written. Each is a file system of its own, in a mount namespace
//! that ends with the program, so no other process sees it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{SecretStore as _, SqliteStore, StoreError};

use super::{bytes, text};
use crate::host::commands::Home;
use crate::support::process;

/// Mounts a small disk at `$DISK`, and runs the script with it. `program` is the program with its arguments before those of
/// the command.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=400k,mode=700 tmpfs "$DISK" || exit 99
"#;

/// Runs a script in a mount namespace. Each line of its output that it marks with `==` begins what a step has said.
async fn on_a_small_disk(home: &Home, script: &str) -> Output {
    let disk = home.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let program = home.program_with_person(&[]);
    let program = program.as_std();
    let mut command = process::command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{ON_A_SMALL_DISK}{script}")]);
    command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("DISK", &disk).env("PROGRAM", program.get_program()).env("STORE", disk.join("s.db"));
    command.stdin(Stdio::null()).output().await.unwrap()
}

/// What the steps have said, with their exit codes.
fn steps(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let steps: Vec<_> = text
        .split("== ")
        .skip(1)
        .filter_map(|step| {
            let (code, said) = step.split_once('\n')?;
            Some((code.to_owned(), said.to_owned()))
        })
        .collect();
    assert_ne!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    steps
}

const STEP: &str = r#"
step() { said=$("$PROGRAM" "$@" --store "$STORE" --store-key-in file 2>&1); echo "== $?"; echo "$said"; }
"#;

#[tokio::test]
#[cfg_attr(not(tool = "unshare"), ignore = "needs unshare(1), and the right to mount a file system")]
async fn on_a_disk_without_room_nothing_is_lost_and_the_program_says_so() {
    let home = Home::new().await;
    let script = format!(
        r#"{STEP}
step login
head -c 1000000 /dev/zero > "$DISK/filler" 2>/dev/null
step accounts
step login
rm "$DISK/filler"
step accounts
step whoami
"#
    );
    let output = on_a_small_disk(&home, &script).await;
    let steps = steps(&output);
    let [login, full, full_login, accounts, whoami] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(login.0 == "0" && login.1.contains("Signed in as alice"), "{login:?}");
    for refused in [full, full_login] {
        assert!(refused.0 == "1" && refused.1.contains("the disk has no room"), "{refused:?}");
    }
    for kept in [accounts, whoami] {
        assert!(kept.0 == "0" && kept.1.contains("alice@contoso.example"), "{kept:?}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "unshare"), ignore = "needs unshare(1), and the right to mount a file system")]
async fn on_a_read_only_disk_nothing_is_lost_and_the_program_says_so() {
    let home = Home::new().await;
    let script = format!(
        r#"{STEP}
step login
mount -o remount,ro "$DISK"
step accounts
step login
mount -o remount,rw "$DISK"
step accounts
"#
    );
    let output = on_a_small_disk(&home, &script).await;
    let steps = steps(&output);
    let [login, accounts, again, kept] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(login.0 == "0" && login.1.contains("Signed in as alice"), "{login:?}");
    for refused in [accounts, again] {
        assert!(refused.0 == "1" && refused.1.contains("Read-only file system"), "{refused:?}");
    }
    assert!(kept.0 == "0" && kept.1.contains("alice@contoso.example"), "{kept:?}");
}

#[tokio::test]
#[ignore = "another test of this module starts it"]
async fn worker() {
    let Some(disk) = process::variable("DISK_OF_THE_WORKER") else {
        panic!("a part of another test of this module, which starts it")
    };
    let disk = Path::new(&disk);
    let open = || SqliteStore::open(&disk.join("store.db"), Arc::new(SystemClock::new())).unwrap();
    let store = open();
    store.put("account", bytes("refresh token"), None).await.unwrap();
    let mut stored = 0_u32;
    let refused = loop {
        match store.put(&format!("k/{stored}"), bytes(&"v".repeat(8_000)), None).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, StoreError::Full(reason) if reason.contains("disk")), "{refused}");
    assert!(stored > 3, "{stored}");
    for number in 0..stored {
        assert!(store.get(&format!("k/{number}")).await.unwrap().is_some(), "{number} of {stored}");
    }
    assert!(store.get(&format!("k/{stored}")).await.unwrap().is_none(), "it was not written");
    // With room again, the same process goes on, and another one finds everything.
    std::fs::remove_file(disk.join("filler")).unwrap();
    store.put("more", bytes("v"), None).await.unwrap();
    drop(store);
    let store = open();
    assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("refresh token"));
    for name in (0..stored).map(|number| format!("k/{number}")).chain(["more".to_owned()]) {
        assert!(store.get(&name).await.unwrap().is_some(), "{name}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "unshare"), ignore = "needs unshare(1), and the right to mount a file system")]
async fn a_store_that_is_open_when_the_disk_fills_up_keeps_everything_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=2m,mode=700 tmpfs "$DISK_OF_THE_WORKER" || exit 99
head -c 1000000 /dev/zero > "$DISK_OF_THE_WORKER/filler"
exec "$0" "$@""#;
    let mut command = process::command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "stores::disk::worker", "--ignored"]);
    command.env("DISK_OF_THE_WORKER", folder.path()).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
