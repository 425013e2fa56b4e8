//! Files and folders that only the user may read, on systems where the mode of a file says so (Unix).
//!
//! On Windows, the inherited access lists of the per-user folders make the files in them private.

use std::fs;
#[cfg(feature = "sqlite")]
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a folder and its missing parents, readable for the user only. Leaves an existing one as it is.
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
/// Says which rule an opened file breaks: it must be a regular file, and only its owner may have access.
pub(crate) fn check_private(file: &File) -> Result<(), &'static str> {
    let Ok(metadata) = file.metadata() else {
        return Err("cannot be examined");
    };
    if !metadata.is_file() {
        return Err("is not a regular file");
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0 {
        return Err("can be read or written by other users than its owner");
    }
    Ok(())
}

#[cfg(feature = "code-cache")]
/// Says which rule a folder breaks: it must be a folder of this user that no other user can write to.
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
            return Err("it can be written by other users than its owner".into());
        }
    }
    Ok(())
}
