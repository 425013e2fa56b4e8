//! Compiled code on disk, so that only the first start compiles the component.
//!
//! This is wasmtime's own cache: its entries are named by the hash of the component and of everything the compiler
//! was told, written to a temporary file and renamed. An entry that is cut short or cannot be unpacked is compiled
//! again; a flipped bit inside of one is noticed no more than in any other program file, and deleting the folder (or
//! `--no-code-cache`) is the remedy. What wasmtime does not look at is who else could write there, and loading
//! compiled code means running it. So a folder of our own is used that only this user can enter, and a folder that
//! others can write to is not used at all.

use std::path::{Path, PathBuf};

use wasmtime::{Cache, CacheConfig, Config};

use crate::private_files;

/// Entries that are kept: a handful of versions of the one component, each for its engine.
const MAX_ENTRIES: u64 = 16;

/// Bytes that are kept. An entry is about 3 MB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where compiled code is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeCache {
    /// Nowhere: every start compiles.
    Off,
    /// In this folder, which is created if it does not exist.
    Folder(PathBuf),
}

impl CodeCache {
    /// Configures an engine. A folder that cannot be used costs time, nothing else: it is logged.
    pub(crate) fn apply(&self, config: &mut Config) {
        let Self::Folder(folder) = self else { return };
        match open(folder) {
            Ok(cache) => {
                config.cache(Some(cache));
            }
            Err(reason) => {
                tracing::warn!(folder = %folder.display(), %reason, "compiled code is not kept");
            }
        }
    }
}

fn open(folder: &Path) -> Result<Cache, String> {
    private_files::create_folder(folder).map_err(|error| error.to_string())?;
    private_files::check_private_folder(folder)?;
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let mut config = CacheConfig::new();
    config.with_directory(folder).with_file_count_soft_limit(MAX_ENTRIES).with_files_total_size_soft_limit(MAX_BYTES);
    Cache::new(config).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_created_for_the_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b");
        open(&path).unwrap();
        private_files::check_private_folder(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o707, 0o777] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(folder.path()).unwrap_err(), "it can be written by others than its owner");
        }
    }
}
