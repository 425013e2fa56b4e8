//! A real folder, for tests.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;

use super::{Folder, FolderError};

/// A folder of this machine.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// The folder with this path, which need not exist yet.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn error(&self, doing: &str, path: &str, error: &std::io::Error) -> FolderError {
        match error.kind() {
            ErrorKind::NotFound => FolderError::Missing,
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => FolderError::Exists,
            _ => FolderError::Failed(format!("cannot {doing} {}: {error}", self.at(path).display())),
        }
    }
}

impl Folder for Files {
    async fn list(&self, folder: &str) -> Result<Vec<String>, FolderError> {
        let failed = |error| self.error("list", folder, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(folder)).map_err(failed)? {
            // No name of the store is anything but ASCII.
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    async fn read(&self, file: &str, longest: usize) -> Result<Vec<u8>, FolderError> {
        let failed = |error| self.error("read", file, &error);
        let opened = fs::File::open(self.at(file)).map_err(failed)?;
        let mut bytes = Vec::new();
        let bound = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        opened.take(bound).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > longest {
            return Err(FolderError::Failed(format!("{} is too long", self.at(file).display())));
        }
        Ok(bytes)
    }

    async fn write_new(&self, file: &str, bytes: &[u8], durable: bool) -> Result<(), FolderError> {
        let failed = |error| self.error("write", file, &error);
        let mut opened = OpenOptions::new().write(true).create_new(true).open(self.at(file)).map_err(failed)?;
        opened.write_all(bytes).map_err(failed)?;
        if durable { opened.sync_data().map_err(failed) } else { Ok(()) }
    }

    async fn empty(&self, file: &str) -> Result<(), FolderError> {
        let opened = OpenOptions::new().write(true).truncate(true).open(self.at(file));
        opened.map(drop).map_err(|error| self.error("empty", file, &error))
    }

    async fn make(&self, folder: &str) -> Result<(), FolderError> {
        fs::create_dir(self.at(folder)).map_err(|error| self.error("make", folder, &error))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        fs::rename(self.at(from), self.at(to)).map_err(|error| self.error("rename", from, &error))
    }

    async fn remove_file(&self, file: &str) -> Result<(), FolderError> {
        fs::remove_file(self.at(file)).map_err(|error| self.error("remove", file, &error))
    }

    async fn remove_folder(&self, folder: &str) -> Result<(), FolderError> {
        fs::remove_dir(self.at(folder)).map_err(|error| self.error("remove", folder, &error))
    }
}

#[cfg(test)]
mod tests {
    use world::testing::run;

    use super::*;

    #[test]
    fn a_folder_moves_with_all_that_is_in_it_and_never_onto_something() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        for folder in ["new", "new/1", "old", "empty"] {
            run(files.make(folder)).unwrap();
        }
        run(files.write_new("new/1/v", b"new", false)).unwrap();
        run(files.write_new("old/v", b"old", true)).unwrap();
        assert_eq!(run(files.rename("new", "old")), Err(FolderError::Exists));
        run(files.rename("new", "empty")).unwrap();
        assert_eq!(run(files.read("empty/1/v", 3)).unwrap(), b"new");
        assert_eq!(run(files.read("old/v", 3)).unwrap(), b"old");
        assert_eq!(run(files.rename("new", "other")), Err(FolderError::Missing));
        assert_eq!(run(files.rename("old", "missing/old")), Err(FolderError::Missing));
        assert_eq!(run(files.remove_folder("old")), Err(FolderError::Exists));
        run(files.empty("old/v")).unwrap();
        assert_eq!(run(files.read("old/v", 3)).unwrap(), b"");
        run(files.remove_file("old/v")).unwrap();
        run(files.remove_folder("old")).unwrap();
        assert_eq!(run(files.list("")).unwrap(), ["empty"]);
    }

    #[test]
    fn a_file_is_made_once_and_read_within_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        run(files.write_new("v", b"12345", false)).unwrap();
        assert_eq!(run(files.write_new("v", b"6", false)), Err(FolderError::Exists));
        assert!(matches!(run(files.read("v", 4)), Err(FolderError::Failed(_))));
        assert_eq!(run(files.read("w", 4)), Err(FolderError::Missing));
        assert_eq!(run(files.list("w")), Err(FolderError::Missing));
        assert_eq!(run(files.make("w/x")), Err(FolderError::Missing));
    }
}
