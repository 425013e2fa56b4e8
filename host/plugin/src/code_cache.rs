//! Compiled code on disk, so that only the first start compiles the component.
//!
//! Loading compiled code means running it. So the folder belongs to this user, and no other user can change it or a
//! folder above it; an entry is a regular file of this user that no other user can write to, and not a symbolic link.
//! An entry carries the SHA-256 of its content in its name. The host loads it only if the two agree, from the
//! descriptor that it has examined and hashed; it compiles a truncated or damaged entry again. This guards against
//! other users and accidents. An attacker that runs programs as this user can do anything else as well.
//!
//! The compiler takes more memory than everything else, and does not give it back. A program that can compile in a
//! second process of its own ([`CodeCache::component`]) does so, and only loads the result.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use ring::digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::private_files::{self, FileOwner};

/// Entries that the cache keeps in any case: a handful of versions of the component and of each tool component. An entry of
/// the former has about 10 MB, one of an interpreter up to 100.
const KEPT_ENTRIES: usize = 24;

/// How long an entry beyond them is kept after it was last used. A server with more tools than that finds all of them again
/// after any restart, and what no server uses goes with the next new entry.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Entries that the cache has at most, whatever is used: more tools than a server has.
const MAX_ENTRIES: usize = 256;

const EXTENSION: &str = "compiled";

/// The folder of the compiled code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeCache {
    /// Nowhere: every start compiles.
    Off,
    /// In this folder, which is created if it does not exist.
    Folder(PathBuf),
}

impl CodeCache {
    /// The component, from the folder or newly compiled: by `compiler`, a program with the arguments that make it put
    /// the compiled code into this folder, or else in this process. A folder that cannot be used costs time and nothing
    /// else; the log says so.
    pub fn component(
        &self,
        engine: &Engine,
        component: &[u8],
        compiler: Option<Command>,
    ) -> wasmtime::Result<Component> {
        let Self::Folder(folder) = self else { return Component::new(engine, component) };
        let unusable =
            |reason: String| tracing::warn!(folder = %folder.display(), %reason, "compiled code is not kept");
        let folder = match Folder::open(folder, FileOwner::of_process()) {
            Ok(folder) => folder,
            Err(error) => {
                unusable(error.to_string());
                return Component::new(engine, component);
            }
        };
        let name = name(engine, component);
        if let Some(component) = folder.load(engine, &name) {
            return Ok(component);
        }
        if compiler.is_some_and(compiled)
            && let Some(component) = folder.load(engine, &name)
        {
            return Ok(component);
        }
        let code = engine.precompile_component(component)?;
        if let Err(error) = folder.keep(&name, &code) {
            unusable(error.to_string());
        }
        run(engine, &code)
    }

    /// Compiles the component into the folder, unless it is there.
    pub fn fill(&self, engine: &Engine, component: &[u8]) -> wasmtime::Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let folder = Folder::open(folder, FileOwner::of_process())?;
        let name = name(engine, component);
        if folder.load(engine, &name).is_none() {
            folder.keep(&name, &engine.precompile_component(component)?)?;
        }
        Ok(())
    }
}

/// Whether another process could compile the component.
fn compiled(mut compiler: Command) -> bool {
    compiler.env_clear();
    #[cfg(windows)]
    as_on_windows(&mut compiler);
    let status = compiler.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let done = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !done {
        tracing::warn!(?status, "the component cannot be compiled by a process of its own");
    }
    done
}

/// Gives a program what it cannot do without, the folder of the system, and no window of its own (`CREATE_NO_WINDOW`).
#[cfg(windows)]
#[allow(clippy::disallowed_methods, reason = "the variable is not a setting: the libraries of the system look for it")]
fn as_on_windows(program: &mut Command) {
    std::os::windows::process::CommandExt::creation_flags(program, 0x0800_0000);
    program.envs(std::env::var_os("SystemRoot").map(|folder| ("SystemRoot", folder)));
}

/// The prefix of a component's entries: it depends on the component and on all options of the compiler.
fn name(engine: &Engine, component: &[u8]) -> String {
    let mut told = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut told);
    let component = digest::digest(&digest::SHA256, component);
    format!(
        "{}-{:016x}",
        base16ct::lower::encode_string(component.as_ref().get(..16).unwrap_or_default()),
        told.finish()
    )
}

/// The name of an entry's component, and the hash of its content.
fn parts(path: &Path) -> Option<(&str, &str)> {
    path.file_stem()?.to_str()?.rsplit_once('.')
}

/// Why an entry was not loaded.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    /// It never will be.
    #[error("{0}")]
    Unusable(wasmtime::Error),
    /// It cannot be read at this moment.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// A folder that was found good, and its user.
struct Folder {
    path: PathBuf,
    user: FileOwner,
}

impl Folder {
    fn open(path: &Path, user: FileOwner) -> Result<Self, private_files::PrivateFolderError> {
        Ok(Self { path: user.folder(path)?, user })
    }

    /// The files that are entries.
    fn entries(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let files = fs::read_dir(&self.path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
    }

    /// Loads the compiled code with this name. Removes an entry that is damaged, that another user could write, or that
    /// another compiler made, and none that cannot be read just now.
    fn load(&self, engine: &Engine, name: &str) -> Option<Component> {
        self.entries().find_map(|path| {
            let (_, hash) = parts(&path).filter(|(of, _)| *of == name)?;
            match self.load_entry(engine, &path, hash) {
                Ok(component) => Some(component),
                Err(error) => {
                    tracing::warn!(entry = %path.display(), %error, "compiled code cannot be used");
                    if matches!(error, EntryError::Unusable(_)) {
                        // If it stays, the next start finds it again.
                        let _ = fs::remove_file(&path);
                    }
                    None
                }
            }
        })
    }

    fn load_entry(&self, engine: &Engine, path: &Path, hash: &str) -> Result<Component, EntryError> {
        let unusable = |reason: String| EntryError::Unusable(wasmtime::Error::msg(reason));
        let opened = private_files::open(path);
        // A link cannot be opened, and stays one.
        if opened.is_err() && fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(unusable("it is a symbolic link".to_owned()));
        }
        let mut file = opened?;
        file.metadata()?;
        self.user.check_unchangeable(&file).map_err(|rule| unusable(format!("it {rule}")))?;
        if content_hash(&mut file)? != hash {
            return Err(unusable("it is damaged".to_owned()));
        }
        // The time of an entry is that of its last use. Where it cannot be set, the entry counts as old.
        #[cfg(not(windows))]
        let _ = file.set_modified(now());
        #[cfg(windows)]
        let _ = attributes_of(path).and_then(|file| file.set_modified(now()));
        deserialize(engine, file)
    }

    /// Stores the code of a component, and removes what has not been used for long.
    fn keep(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let hash = digest::digest(&digest::SHA256, code);
        let entry = format!("{name}.{}.{EXTENSION}", base16ct::lower::encode_string(hash.as_ref()));
        let path = self.path.join(entry);
        self.write(&path, code)?;
        self.forget_old(&path);
        Ok(())
    }

    /// Writes a file beside the entry and renames it, so that no process loads half an entry. Temporary files are for the
    /// user only.
    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut temporary = tempfile::Builder::new().prefix("new-").tempfile_in(&self.path)?;
        temporary.write_all(code)?;
        temporary.persist(path)?;
        Ok(())
    }

    /// Removes the entries beyond [`KEPT_ENTRIES`] that were not used for [`KEPT_FOR`], and the oldest beyond
    /// [`MAX_ENTRIES`].
    fn forget_old(&self, new: &Path) {
        let used = |path: PathBuf| Some((fs::symlink_metadata(&path).ok()?.modified().ok()?, path));
        let mut others: Vec<_> = self.entries().filter(|path| path != new).filter_map(used).collect();
        others.sort();
        let beyond = |most: usize| others.len().saturating_add(1).saturating_sub(most);
        let (surplus, too_many) = (beyond(KEPT_ENTRIES), beyond(MAX_ENTRIES));
        let now = now();
        for (at, (used, path)) in others.into_iter().enumerate().take(surplus) {
            // One that was used in the future is not old.
            let is_old = now.duration_since(used).is_ok_and(|unused| unused >= KEPT_FOR);
            if is_old || at < too_many {
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the time of files, which the system sets")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Opens a file so that its times can be set. One that is open for reading does not do on Windows.
#[cfg(windows)]
fn attributes_of(path: &Path) -> io::Result<File> {
    const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
    let mut options = fs::OpenOptions::new();
    std::os::windows::fs::OpenOptionsExt::access_mode(&mut options, FILE_WRITE_ATTRIBUTES);
    options.open(path)
}

fn content_hash(file: &mut File) -> io::Result<String> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(base16ct::lower::encode_string(hash.finish().as_ref())),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Loads what the open file holds.
#[allow(unsafe_code, reason = "code that was compiled before is run as it is")]
fn deserialize(engine: &Engine, mut file: File) -> Result<Component, EntryError> {
    // SAFETY: the content is bit for bit what this program wrote after compiling, and no other user can change the
    // file. Entries are replaced and removed, never changed.
    if let Some(path) = path_of(&file)
        && let Ok(component) = unsafe { Component::deserialize_file(engine, path) }
    {
        return Ok(component);
    }
    // Some file systems do not allow mapping code.
    let mut code = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut code)?;
    run(engine, &code).map_err(EntryError::Unusable)
}

/// A path that leads to this very file, whatever has become of its name. The engine maps files by their path.
#[cfg(unix)]
fn path_of(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    Some(Path::new(folder).join(file.as_raw_fd().to_string()))
}

#[cfg(not(unix))]
fn path_of(_: &File) -> Option<PathBuf> {
    None
}

#[allow(unsafe_code, reason = "code that was compiled before is run as it is")]
fn run(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the compiler made this, in this process or as for `deserialize`.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = "(component)";

    fn engine() -> Engine {
        crate::component::engine().unwrap()
    }

    fn opened(path: &Path) -> Folder {
        Folder::open(path, FileOwner::of_process()).unwrap()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        opened(folder).entries().collect()
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_change_or_below_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        for (path, mode) in [(folder.path(), 0o770), (folder.path(), 0o707), (&below, 0o770), (&below, 0o707)] {
            drop(opened(&below));
            set_mode(path, mode);
            CodeCache::Folder(below.clone()).component(&engine(), &component(), None).unwrap();
            assert_eq!(fs::read_dir(&below).unwrap().count(), 0, "{path:?} {mode:o}");
            set_mode(path, 0o700);
        }
    }

    /// An entry that is right, in a folder of its own.
    #[cfg(unix)]
    fn entry() -> (tempfile::TempDir, PathBuf, String) {
        let folder = tempfile::tempdir().unwrap();
        let (engine, component) = (engine(), component());
        CodeCache::Folder(folder.path().to_owned()).fill(&engine, &component).unwrap();
        let path = files(folder.path()).remove(0);
        (folder, path, name(&engine, &component))
    }

    #[cfg(unix)]
    #[test]
    fn an_entry_that_others_can_write_to_is_removed_and_not_loaded() {
        for mode in [0o620, 0o602, 0o666] {
            let (folder, path, name) = entry();
            set_mode(&path, mode);
            assert!(opened(folder.path()).load(&engine(), &name).is_none(), "{mode:o}");
            assert!(!path.exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_entry_of_another_user_is_not_loaded() {
        let (folder, path, name) = entry();
        let folder = Folder { path: folder.path().to_owned(), user: FileOwner::another() };
        assert!(folder.load(&engine(), &name).is_none());
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn an_entry_that_is_a_symbolic_link_is_removed_and_not_loaded() {
        let (folder, path, name) = entry();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(opened(folder.path()).load(&engine(), &name).is_none());
        assert!(fs::symlink_metadata(&path).is_err() && elsewhere.exists());
    }

    #[cfg(unix)]
    #[test]
    fn an_entry_stays_that_cannot_be_read_at_this_moment() {
        let (folder, path, _) = entry();
        let folder = opened(folder.path());
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        let hash = parts(&path).unwrap().1;
        assert!(matches!(folder.load_entry(&engine(), &path, hash), Err(EntryError::Unreadable(_))));
        fs::write(&path, "damaged").unwrap();
        assert!(matches!(folder.load_entry(&engine(), &path, hash), Err(EntryError::Unusable(_))));
        fs::rename(&away, &path).unwrap();
        assert!(folder.load_entry(&engine(), &path, hash).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_that_was_examined_is_loaded_even_if_its_name_stands_for_another_one_now() {
        let (folder, path, _) = entry();
        let file = private_files::open(&path).unwrap();
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        fs::write(&path, "planted").unwrap();
        assert!(deserialize(&engine(), file).is_ok());
    }

    fn component() -> Vec<u8> {
        wat::parse_str(COMPONENT).unwrap()
    }

    #[test]
    fn what_was_compiled_is_loaded_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, engine, component) = (CodeCache::Folder(folder.path().to_owned()), engine(), component());
        assert!(opened(folder.path()).load(&engine, &name(&engine, &component)).is_none());
        cache.component(&engine, &component, None).unwrap();
        let entries = files(folder.path());
        assert_eq!(entries.len(), 1);
        assert!(opened(folder.path()).load(&engine, &name(&engine, &component)).is_some());
        cache.component(&engine, &component, None).unwrap();
        assert_eq!(files(folder.path()), entries);
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_noticed_and_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, engine, component) = (CodeCache::Folder(folder.path().to_owned()), engine(), component());
        cache.fill(&engine, &component).unwrap();
        let entry = files(folder.path()).remove(0);
        let right = fs::read(&entry).unwrap();
        let mut flipped = right.clone();
        flipped[right.len() / 2] ^= 1;
        for damaged in [flipped.as_slice(), &right[..right.len() - 1], &[]] {
            fs::write(&entry, damaged).unwrap();
            assert!(opened(folder.path()).load(&engine, &name(&engine, &component)).is_none());
            assert!(!entry.exists());
            cache.component(&engine, &component, None).unwrap();
            assert_eq!(files(folder.path()).len(), 1);
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_used_for_a_week_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::Folder(folder.path().to_owned());
        let fill = |number: usize| {
            let component = wat::parse_str(format!("(component (core module (func (drop (i32.const {number})))))"));
            cache.fill(&engine(), &component.unwrap()).unwrap();
        };
        let age = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(now() - KEPT_FOR).unwrap();
        for number in 0..KEPT_ENTRIES + 6 {
            fill(number);
        }
        assert_eq!(files(folder.path()).len(), KEPT_ENTRIES + 6, "a start with many tools finds all of them again");
        files(folder.path()).iter().for_each(|path| age(path));
        for number in 0..4 {
            fill(number);
        }
        assert_eq!(files(folder.path()).len(), KEPT_ENTRIES + 6, "nothing is new");
        fill(KEPT_ENTRIES + 6);
        assert_eq!(files(folder.path()).len(), KEPT_ENTRIES);
        let sorted = || files(folder.path()).into_iter().collect::<std::collections::BTreeSet<_>>();
        let before = sorted();
        for number in 0..4 {
            fill(number);
        }
        assert_eq!(sorted(), before, "those that were used last are still there");
    }

    #[test]
    fn the_number_of_entries_is_bounded_whatever_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let place = Folder::open(folder.path(), FileOwner::of_process()).unwrap();
        for number in 0..MAX_ENTRIES + 3 {
            place.keep(&format!("{number:032x}-0"), b"code").unwrap();
        }
        assert_eq!(files(folder.path()).len(), MAX_ENTRIES);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a program that cannot be started")]
    fn without_the_compiling_process_it_is_compiled_here() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::Folder(folder.path().to_owned());
        let compiler = Command::new(folder.path().join("missing"));
        cache.component(&engine(), &component(), Some(compiler)).unwrap();
        assert_eq!(files(folder.path()).len(), 1);
    }
}
