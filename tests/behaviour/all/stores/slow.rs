//! A disk on which every wait for it takes most of a second: processes that come and go hold up no other one for so long that
//! it takes the store for locked.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{SecretStore as _, SqliteStore};
use futures_util::future::join_all;

use super::{bytes, text};
use crate::support::process;

/// Stands before the functions of the system that wait for a disk.
const SLOW: &str = r"
#include <sys/syscall.h>
#include <unistd.h>
int fsync(int file) { usleep(700000); return syscall(SYS_fsync, file); }
int fdatasync(int file) { usleep(700000); return syscall(SYS_fdatasync, file); }
";

const PROCESSES: usize = 4;

/// How often each process opens the store, counts once, and closes it, as a command does.
const ROUNDS: usize = 2;

async fn count(path: &Path) {
    let store = SqliteStore::open(path, Arc::new(SystemClock::new())).unwrap();
    loop {
        let current = store.get("counter").await.unwrap();
        let next = text(current.clone()).unwrap_or_else(|| "0".to_owned()).parse::<usize>().unwrap() + 1;
        if store.compare_and_swap("counter", current, bytes(&next.to_string()), None).await.unwrap() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "the other test of this module starts it"]
async fn worker() {
    let Some(path) = process::variable("STORE_OF_THE_SLOW_WORKER") else {
        panic!("a part of another test of this module, which starts it")
    };
    for _ in 0..ROUNDS {
        count(Path::new(&path)).await;
    }
}

#[tokio::test]
async fn processes_that_close_a_store_on_a_slow_disk_lock_no_other_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("slow.c"), folder.path().join("slow.so"));
    std::fs::write(&source, SLOW).unwrap();
    // The compiler that has built SQLite.
    let built =
        process::command("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().await.unwrap();
    assert!(built.success(), "{built}");
    let path = folder.path().join("store").join("store.db");
    let workers = (0..PROCESSES).map(|_| {
        let mut command = process::command(std::env::current_exe().unwrap());
        command.args(["stores::slow::worker", "--exact", "--ignored", "--test-threads=1"]);
        command.env("LD_PRELOAD", &library).env("STORE_OF_THE_SLOW_WORKER", &path).stdin(Stdio::null());
        async move { command.output().await.unwrap() }
    });
    for output in join_all(workers).await {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let store = SqliteStore::open(&path, Arc::new(SystemClock::new())).unwrap();
    let all = (PROCESSES * ROUNDS).to_string();
    assert_eq!(text(store.get("counter").await.unwrap()), Some(all));
}
