//! Files and folders, as far as the store needs them.

#[cfg(test)]
mod native;
#[cfg(target_family = "wasm")]
mod wasi;

#[cfg(test)]
pub(crate) use native::Files;
#[cfg(target_family = "wasm")]
pub(crate) use wasi::Files;

/// Why an operation had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// What it is about is not there, or the folder around it is not.
    #[error("there is no such file or folder")]
    Missing,
    /// What it would make is there, or what it would remove or replace is not empty.
    #[error("it exists")]
    Exists,
    /// Anything else. The text is for the operator.
    #[error("{0}")]
    Failed(String),
}

/// A folder that other processes use at the same time. Every path is relative to it, with `/` between names.
///
/// Each operation is atomic. What makes records safe is [`Folder::rename`]: it moves a folder with all that is in it in one
/// step, and never onto something.
#[allow(async_fn_in_trait, reason = "one thread; the scheduler of the tests stops an instance between two operations")]
pub trait Folder {
    /// The names in a folder, in any order.
    async fn list(&self, folder: &str) -> Result<Vec<String>, FolderError>;
    /// The bytes of a file; [`FolderError::Failed`] for more than `longest`.
    async fn read(&self, file: &str, longest: usize) -> Result<Vec<u8>, FolderError>;
    /// Makes a file. `durable`: it is on the disk afterwards, whatever becomes of the machine.
    async fn write_new(&self, file: &str, bytes: &[u8], durable: bool) -> Result<(), FolderError>;
    /// Removes what is in a file.
    async fn empty(&self, file: &str) -> Result<(), FolderError>;
    /// Makes a folder.
    async fn make(&self, folder: &str) -> Result<(), FolderError>;
    /// Moves a folder to a name that is free, or that of an empty folder.
    async fn rename(&self, from: &str, to: &str) -> Result<(), FolderError>;
    /// Removes a file.
    async fn remove_file(&self, file: &str) -> Result<(), FolderError>;
    /// Removes an empty folder.
    async fn remove_folder(&self, folder: &str) -> Result<(), FolderError>;
}
