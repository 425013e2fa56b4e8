//! Compiled code on disk, so that only the first start compiles the component.
//!
//! Loading compiled code means running it. So the cache uses a folder of its own that only this user can enter, and
//! rejects a folder that other users can write to. The name of an entry carries the SHA-256 of its content, and an
//! entry is loaded only if the two agree: a truncated or damaged entry is compiled again. This guards against
//! accidents. An attacker that can write to the folder as this user can do anything else as well.
//!
//! The compiler takes more memory than everything else, and does not give it back. A program that can compile in a
//! second process of its own ([`CodeCache::component`]) does so, and only loads the result.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ring::digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::private_files;

/// Entries that the cache keeps: a handful of versions of one component, each for its engine. An entry has about 10 MB.
const MAX_ENTRIES: usize = 8;

const EXTENSION: &str = "compiled";

/// Where the compiled code is kept.
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
        let folder = match open(folder) {
            Ok(folder) => folder,
            Err(reason) => {
                unusable(reason);
                return Component::new(engine, component);
            }
        };
        let name = name(engine, component);
        if let Some(component) = load(engine, &folder, &name) {
            return Ok(component);
        }
        if compiler.is_some_and(compiled)
            && let Some(component) = load(engine, &folder, &name)
        {
            return Ok(component);
        }
        let code = engine.precompile_component(component)?;
        if let Err(error) = keep(&folder, &name, &code) {
            unusable(error.to_string());
        }
        run(engine, &code)
    }

    /// Compiles the component into the folder, unless it is there.
    pub fn fill(&self, engine: &Engine, component: &[u8]) -> wasmtime::Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let folder = open(folder).map_err(wasmtime::Error::msg)?;
        let name = name(engine, component);
        if load(engine, &folder, &name).is_none() {
            keep(&folder, &name, &engine.precompile_component(component)?)?;
        }
        Ok(())
    }
}

/// Whether another process could compile the component.
fn compiled(mut compiler: Command) -> bool {
    let status = compiler.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let done = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !done {
        tracing::warn!(?status, "the component cannot be compiled by a process of its own");
    }
    done
}

fn open(folder: &Path) -> Result<PathBuf, String> {
    private_files::create_folder(folder).map_err(|error| error.to_string())?;
    private_files::check_private_folder(folder)?;
    folder.canonicalize().map_err(|error| error.to_string())
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

/// The files in the folder that are entries.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
}

/// The name of an entry's component, and the hash of its content.
fn parts(path: &Path) -> Option<(&str, &str)> {
    path.file_stem()?.to_str()?.rsplit_once('.')
}

/// Loads the compiled code with this name. Removes an entry that is damaged, or that another compiler made.
fn load(engine: &Engine, folder: &Path, name: &str) -> Option<Component> {
    entries(folder).filter(|path| parts(path).is_some_and(|(of, _)| of == name)).find_map(|path| {
        let whole = parts(&path).map(|(_, hash)| hash.to_owned()) == content_hash(&path).ok();
        let loaded = if whole { deserialize(engine, &path) } else { Err(wasmtime::Error::msg("it is damaged")) };
        match loaded {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(entry = %path.display(), %error, "compiled code cannot be used");
                // If it stays, the next start finds it again.
                let _ = fs::remove_file(&path);
                None
            }
        }
    })
}

fn content_hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(base16ct::lower::encode_string(hash.finish().as_ref())),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[allow(unsafe_code, reason = "code that was compiled before is run as it is")]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the content is bit for bit what this program wrote after compiling, into a folder that only this
    // user can enter. Entries are replaced and removed, never changed.
    match unsafe { Component::deserialize_file(engine, path) } {
        Ok(component) => Ok(component),
        // Some file systems do not allow mapping code.
        Err(_) => run(engine, &fs::read(path)?),
    }
}

#[allow(unsafe_code, reason = "code that was compiled before is run as it is")]
fn run(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the compiler made this, in this process or as for `deserialize`.
    unsafe { Component::deserialize(engine, code) }
}

/// Stores the code of a component, and keeps at most [`MAX_ENTRIES`].
fn keep(folder: &Path, name: &str, code: &[u8]) -> io::Result<()> {
    let hash = digest::digest(&digest::SHA256, code);
    let path = folder.join(format!("{name}.{}.{EXTENSION}", base16ct::lower::encode_string(hash.as_ref())));
    write(folder, &path, code)?;
    forget_old(folder, &path);
    Ok(())
}

/// Writes a file beside the entry and renames it, so that no process loads half an entry.
fn write(folder: &Path, path: &Path, code: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix("new-").tempfile_in(folder)?;
    temporary.write_all(code)?;
    temporary.persist(path)?;
    Ok(())
}

/// Removes the oldest entries beyond [`MAX_ENTRIES`].
fn forget_old(folder: &Path, new: &Path) {
    let age = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
    let mut others: Vec<_> = entries(folder).filter(|path| path != new).filter_map(age).collect();
    others.sort();
    let surplus = others.len().saturating_add(1).saturating_sub(MAX_ENTRIES);
    for (_, path) in others.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = "(component)";

    fn engine() -> Engine {
        crate::component::engine().unwrap()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        entries(folder).collect()
    }

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
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(folder.path()).unwrap_err(), "it can be written by other users than its owner");
            CodeCache::Folder(folder.path().to_owned()).component(&engine(), &component(), None).unwrap();
        }
        assert!(files(folder.path()).is_empty());
    }

    fn component() -> Vec<u8> {
        wat::parse_str(COMPONENT).unwrap()
    }

    #[test]
    fn what_was_compiled_is_loaded_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, engine, component) = (CodeCache::Folder(folder.path().to_owned()), engine(), component());
        assert!(load(&engine, folder.path(), &name(&engine, &component)).is_none());
        cache.component(&engine, &component, None).unwrap();
        let entries = files(folder.path());
        assert_eq!(entries.len(), 1);
        assert!(load(&engine, folder.path(), &name(&engine, &component)).is_some());
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
            assert!(load(&engine, folder.path(), &name(&engine, &component)).is_none());
            assert!(!entry.exists());
            cache.component(&engine, &component, None).unwrap();
            assert_eq!(files(folder.path()).len(), 1);
        }
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::Folder(folder.path().to_owned());
        for number in 0..MAX_ENTRIES + 3 {
            let component = wat::parse_str(format!("(component (core module (func (drop (i32.const {number})))))"));
            cache.fill(&engine(), &component.unwrap()).unwrap();
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
