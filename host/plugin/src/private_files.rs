//! Files and folders that only the user may read, on systems where a file says so itself (Unix).
//!
//! On Windows the per-user folders we write to are private by their inherited access lists.

use std::fs;
#[cfg(feature = "sqlite")]
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a folder and what is missing above it, readable for the user only. An existing one is left as it is.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(feature = "sqlite")]
/// Creates a file that must not exist yet.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

#[cfg(feature = "sqlite")]
/// Opens a file for appending, creating it if it does not exist.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    options().append(true).create(true).open(path)
}

#[cfg(feature = "sqlite")]
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(feature = "sqlite")]
/// Says which rule an opened file breaks: it must be a regular file, and nobody but its owner may have access.
pub(crate) fn check_private(file: &File) -> Result<(), &'static str> {
    let Ok(metadata) = file.metadata() else {
        return Err("cannot be examined");
    };
    if !metadata.is_file() {
        return Err("is not a regular file");
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0 {
        return Err("can be read or written by others than its owner");
    }
    Ok(())
}

#[cfg(feature = "code-cache")]
/// Says which rule a folder breaks: it must be a folder of this user's that nobody else can write to.
pub(crate) fn check_private_folder(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_dir() {
        return Err("it is not a folder".into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err("it belongs to another user".into());
        }
        if metadata.mode() & 0o022 != 0 {
            return Err("it can be written by others than its owner".into());
        }
    }
    Ok(())
}
