//! A folder that the host has granted, by `wasi:filesystem`.
//!
//! Not by the standard library: it opens every file that it writes with `mutate-directory`, which jco refuses.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use super::{Folder, FolderError};

/// Bytes that are read at once.
const READ_BYTES: u64 = 64 * 1024;

/// A folder within a granted one.
pub(crate) struct Files {
    /// None if no granted folder has it inside.
    granted: Option<Descriptor>,
    /// Where it is in the granted one: empty, or with a slash at its end.
    within: String,
    /// Its own name, for the operator.
    name: String,
}

impl Files {
    /// The folder with this path, by which the host has granted it or one above it.
    pub(crate) fn new(path: &str) -> Self {
        let name = path.trim_end_matches('/').to_owned();
        let mut found: Option<(Descriptor, String, usize)> = None;
        for (descriptor, granted) in get_directories() {
            let granted = granted.trim_end_matches('/');
            let Some(rest) = name.strip_prefix(granted) else { continue };
            let is_inside = rest.is_empty() || rest.starts_with('/');
            if is_inside && found.as_ref().is_none_or(|(_, _, longest)| *longest < granted.len()) {
                let rest = rest.trim_matches('/');
                let within = if rest.is_empty() { String::new() } else { format!("{rest}/") };
                found = Some((descriptor, within, granted.len()));
            }
        }
        let (granted, within) = found.map_or((None, String::new()), |(granted, within, _)| (Some(granted), within));
        Self { granted, within, name }
    }

    fn granted(&self) -> Result<&Descriptor, FolderError> {
        self.granted.as_ref().ok_or(FolderError::Missing)
    }

    fn at(&self, path: &str) -> String {
        match (self.within.is_empty(), path.is_empty()) {
            (true, true) => ".".to_owned(),
            (false, true) => self.within.trim_end_matches('/').to_owned(),
            (_, false) => format!("{}{path}", self.within),
        }
    }

    fn open(&self, path: &str, how: OpenFlags, to: DescriptorFlags) -> Result<Descriptor, FolderError> {
        let opened = self.granted()?.open_at(PathFlags::empty(), &self.at(path), how, to);
        opened.map_err(|code| self.error("open", path, code))
    }

    fn error(&self, doing: &str, path: &str, code: ErrorCode) -> FolderError {
        match code {
            ErrorCode::NoEntry => FolderError::Missing,
            ErrorCode::Exist | ErrorCode::NotEmpty => FolderError::Exists,
            code => FolderError::Failed(format!("cannot {doing} {}/{path}: {}", self.name, code.name())),
        }
    }
}

impl Folder for Files {
    async fn list(&self, folder: &str) -> Result<Vec<String>, FolderError> {
        let failed = |code| self.error("list", folder, code);
        let entries =
            self.open(folder, OpenFlags::DIRECTORY, DescriptorFlags::READ)?.read_directory().map_err(failed)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read_directory_entry().map_err(failed)? {
            // Some hosts name the folder itself and the one above it.
            if entry.name != "." && entry.name != ".." {
                names.push(entry.name);
            }
        }
        Ok(names)
    }

    async fn read(&self, file: &str, longest: usize) -> Result<Vec<u8>, FolderError> {
        let opened = self.open(file, OpenFlags::empty(), DescriptorFlags::READ)?;
        let mut bytes = Vec::new();
        loop {
            let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let (piece, ends) = opened.read(READ_BYTES, offset).map_err(|code| self.error("read", file, code))?;
            bytes.extend_from_slice(&piece);
            if bytes.len() > longest {
                return Err(FolderError::Failed(format!("{}/{file} is too long", self.name)));
            }
            if ends || piece.is_empty() {
                return Ok(bytes);
            }
        }
    }

    async fn write_new(&self, file: &str, bytes: &[u8], durable: bool) -> Result<(), FolderError> {
        let failed = |code| self.error("write", file, code);
        let opened = self.open(file, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::WRITE)?;
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let offset = u64::try_from(written).unwrap_or(u64::MAX);
            let more = usize::try_from(opened.write(rest, offset).map_err(failed)?).unwrap_or_default();
            if more == 0 {
                return Err(failed(ErrorCode::InsufficientSpace));
            }
            written = written.saturating_add(more);
        }
        if durable { opened.sync_data().map_err(failed) } else { Ok(()) }
    }

    async fn empty(&self, file: &str) -> Result<(), FolderError> {
        self.open(file, OpenFlags::TRUNCATE, DescriptorFlags::WRITE).map(drop)
    }

    async fn make(&self, folder: &str) -> Result<(), FolderError> {
        self.granted()?.create_directory_at(&self.at(folder)).map_err(|code| self.error("make", folder, code))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        let granted = self.granted()?;
        granted.rename_at(&self.at(from), granted, &self.at(to)).map_err(|code| self.error("rename", from, code))
    }

    async fn remove_file(&self, file: &str) -> Result<(), FolderError> {
        self.granted()?.unlink_file_at(&self.at(file)).map_err(|code| self.error("remove", file, code))
    }

    async fn remove_folder(&self, folder: &str) -> Result<(), FolderError> {
        self.granted()?.remove_directory_at(&self.at(folder)).map_err(|code| self.error("remove", folder, code))
    }
}
