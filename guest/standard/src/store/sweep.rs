//! Removes what has expired, and what instances left that ended in the middle of an operation.
//!
//! No process runs beside the requests, so some of the writes sweep a little. A write makes one record at most, and looks on
//! average at two: as long as records expire, at most every second one in the folder is over.

use super::version::VersionContent;
use super::{FolderStore, Found, Record, TMP};
use crate::folder::Folder;

/// One write in so many sweeps.
const EVERY: u8 = 16;
/// Records that it looks at, and shards.
const RECORDS: usize = 32;
/// Seconds after which no instance is still at work on a folder below `tmp`: hosts end requests after a minute at most.
const ABANDONED_SECONDS: u64 = 3600;

impl<F: Folder> FolderStore<'_, F> {
    /// Sweeps, if it is this write's turn. What fails here fails again, and is seen, where it matters.
    pub(super) async fn sweep_now_and_then(&self) {
        let mut random = [0; 3];
        self.random.fill(&mut random);
        let [turn, shard, start] = random;
        if turn % EVERY == 0 {
            self.sweep(shard.into(), start.into()).await;
        }
    }

    /// Sweeps some records, and abandoned folders. The numbers choose where to begin.
    pub(super) async fn sweep(&self, shard: usize, start: usize) {
        let Ok(mut shards) = self.folder.list("").await else { return };
        shards.retain(|name| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        rotate(&mut shards, shard);
        let mut left = RECORDS;
        for shard in shards.iter().take(RECORDS) {
            let Ok(mut records) = self.folder.list(shard).await else { continue };
            rotate(&mut records, start);
            for record in records.iter().take(left) {
                self.sweep_record(format!("{shard}/{record}")).await;
            }
            left = left.saturating_sub(records.len());
            if left == 0 {
                break;
            }
        }
        self.sweep_abandoned().await;
    }

    /// Ends a record that has expired, and removes one that is gone. Its key is not known here, and need not be: to say that
    /// a record is gone takes no seal, and a process that can write into the folder can remove a record anyway.
    pub(super) async fn sweep_record(&self, path: String) {
        let began = self.began();
        let record = Record { key: "", path };
        match self.look(&record).await {
            // Nothing but the folder, of a record that an instance has ended and not removed. It fails if there is one again.
            Ok(Found::Nothing) => drop(self.folder.remove_folder(&record.path).await),
            Ok(Found::Last(last)) if matches!(last.version.content, VersionContent::Gone) => {
                self.clear(&last.place).await
            }
            Ok(Found::Last(last)) if last.version.is_over(self.clock.now()) => drop(self.end(&last, &began).await),
            Ok(Found::Last(_)) | Err(_) => {}
        }
    }

    async fn sweep_abandoned(&self) {
        let Ok(names) = self.folder.list(TMP).await else { return };
        let now = self.clock.now();
        let is_abandoned = |name: &&String| {
            let made = name.split_once('-').and_then(|(seconds, _)| seconds.parse::<u64>().ok());
            made.is_none_or(|made| now.saturating_sub(made) > ABANDONED_SECONDS)
        };
        for name in names.iter().filter(is_abandoned).take(RECORDS) {
            self.discard(&format!("{TMP}/{name}")).await;
        }
    }
}

/// In the order of their names, from the one that the number chooses.
fn rotate(names: &mut [String], number: usize) {
    names.sort_unstable();
    names.rotate_left(number.checked_rem(names.len()).unwrap_or_default());
}
