//! Files and folders that only one user may read or change: the mode of a file says so on Unix, its access list on Windows.
//!
//! Threat: an attacker with an account on the machine was there first, with a folder or a file of the expected name, a
//! symbolic link that leads elsewhere, or the right to rename a folder above. So this walks a path from the root, link
//! by link, and examines what it opens through its descriptor.
//!
//! On Windows, what is created gets a list of its own with the user and the system in it (`access_list.rs`).
//! The files that SQLite makes beside a database have the list of the folder: values in them are sealed.
//!
//! Why this is not `fs-mistrust`: that crate judges paths, while this judges the descriptor that the program then uses.
//! It also trusts a group by what the user database says of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// What is said of a folder or a file that other users can change.
const WRITABLE: &str = "can be written by other users than its owner";

/// What is said of a folder or a file of another user.
const FOREIGN: &str = "belongs to another user";

/// How its user makes a file private.
#[cfg(feature = "sqlite")]
pub(crate) const FILE_FIX: &str =
    if cfg!(windows) { "icacls FILE /inheritance:r /grant:r USER:F" } else { "chmod 600" };

/// How its user keeps others from changing a folder.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) const FOLDER_FIX: &str =
    if cfg!(windows) { "icacls FOLDER /inheritance:r /grant:r USER:(OI)(CI)F" } else { "chmod go-w" };

/// A folder or a file that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {rule}")]
pub(crate) struct Exposed {
    pub(crate) path: PathBuf,
    /// Which rule it breaks.
    pub(crate) rule: &'static str,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateFolderError {
    #[error(transparent)]
    Exposed(#[from] Exposed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The user whose files these are to be.
#[derive(Debug, Clone)]
pub(crate) struct FileOwner {
    #[cfg(unix)]
    id: u32,
    /// What the administrator's files show where the administrator has no user id of this process's kind.
    #[cfg(unix)]
    unmapped: Option<u32>,
    /// As access lists name it.
    #[cfg(windows)]
    name: Option<String>,
}

impl FileOwner {
    /// The user of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            #[cfg(unix)]
            id: rustix::process::geteuid().as_raw(),
            #[cfg(unix)]
            unmapped: unix::unmapped_administrator(),
            #[cfg(windows)]
            name: crate::access_list::user_of_process().ok(),
        }
    }

    /// A user who does not own the files that this process makes.
    #[cfg(all(test, unix))]
    pub(crate) fn another() -> Self {
        Self { id: rustix::process::geteuid().as_raw() + 1, unmapped: None }
    }

    /// A user who does not own what this process makes.
    #[cfg(all(test, windows))]
    pub(crate) fn another() -> Self {
        Self { name: Some("S-1-5-21-1-2-3-1002".to_owned()) }
    }

    /// Creates a folder and its missing parents, for the user only, and returns where it really is. An existing
    /// folder has to belong to the user, and no other user may be able to change it or what leads to it.
    pub(crate) fn folder(&self, path: &Path) -> Result<PathBuf, PrivateFolderError> {
        let path = std::path::absolute(path)?;
        #[cfg(unix)]
        return unix::walk(self, &path, unix::create);
        #[cfg(windows)]
        return windows::walk(self, &path, windows::create);
    }

    /// The same of a folder that is there. Nothing is created.
    #[cfg(feature = "sqlite")]
    pub(crate) fn existing_folder(&self, path: &Path) -> Result<PathBuf, PrivateFolderError> {
        let path = std::path::absolute(path)?;
        #[cfg(unix)]
        return unix::walk(self, &path, |_| Err(io::ErrorKind::NotFound.into()));
        #[cfg(windows)]
        return windows::walk(self, &path, |_| Err(io::ErrorKind::NotFound.into()));
    }

    /// Examines what leads to a file, which need not exist. No other user than the administrator may be able to change a
    /// folder on the way, as they could put another file of the user there. Nothing is created.
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    pub(crate) fn way_to(&self, file: &Path) -> Result<(), PrivateFolderError> {
        let path = std::path::absolute(file)?;
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            unix::examine(self, folder)?;
        }
        #[cfg(windows)]
        if let Some(folder) = path.parent() {
            windows::examine(self, folder)?;
        }
        Ok(())
    }

    /// Whether a file is a regular one of the user that no other user can change.
    #[cfg(feature = "code-cache")]
    pub(crate) fn check_unchangeable(&self, file: &File) -> Result<(), &'static str> {
        self.check(file, 0o022, WRITABLE)
    }

    /// Whether a file is a regular one of the user that no other user can read or change.
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    pub(crate) fn check_private(&self, file: &File) -> Result<(), &'static str> {
        self.check(file, 0o077, "can be read or written by other users than its owner")
    }

    /// `forbidden`: a mode. On Windows, its read bits stand for the rights to read, and its write bits for those to change.
    fn check(&self, file: &File, forbidden: u32, rule: &'static str) -> Result<(), &'static str> {
        let Ok(metadata) = file.metadata() else {
            return Err("cannot be examined");
        };
        if !metadata.is_file() {
            return Err("is not a regular file");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            if metadata.uid() != self.id {
                return Err(FOREIGN);
            }
            if metadata.mode() & forbidden != 0 {
                return Err(rule);
            }
        }
        #[cfg(windows)]
        {
            use crate::access_list::Forbidden;
            let forbidden = if forbidden & 0o044 == 0 { Forbidden::Change } else { Forbidden::Use };
            match windows::judge(self, file, forbidden) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => return Err(windows::rule(fault, rule)),
                Err(_) => return Err("cannot be examined"),
            }
        }
        Ok(())
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    no_link(options().read(true).open(path)?)
}

/// Creates a file that must not exist yet.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    #[cfg(windows)]
    return crate::access_list::create_new(path);
    #[cfg(not(windows))]
    options().write(true).create_new(true).open(path)
}

/// Opens a file for appending, creating it if it does not exist.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    #[cfg(windows)]
    return no_link(crate::access_list::open_append(path)?);
    #[cfg(not(windows))]
    options().append(true).create(true).open(path)
}

/// Opens a file that is there for appending. Where only files that can be read can be locked (Windows), it can be read as well.
#[cfg(feature = "sqlite")]
pub(crate) fn open_append_existing(path: &Path) -> io::Result<File> {
    no_link(options().read(cfg!(windows)).append(true).open(path)?)
}

/// New files are the user's alone. A symbolic link is not followed, and a named pipe not waited for.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;

        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, crate::access_list::NO_LINKS);
    options
}

/// Windows opens the link itself, where Unix refuses to.
fn no_link(file: File) -> io::Result<File> {
    #[cfg(windows)]
    if file.metadata()?.is_symlink() {
        return Err(io::Error::other("it is a symbolic link"));
    }
    Ok(file)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn create(path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn broken(user: &FileOwner, path: &Path) -> Exposed {
        match user.folder(path) {
            Err(PrivateFolderError::Exposed(exposed)) => exposed,
            other => panic!("{other:?}"),
        }
    }

    /// A folder below one that tests may change, without symbolic links.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().canonicalize().unwrap().join("top");
        let below = top.join("middle").join("below");
        create(&below).unwrap();
        (root, top, below)
    }

    #[test]
    fn what_is_missing_is_created_for_the_user_only() {
        let (_root, top, _) = folders();
        let path = top.join("a").join("b");
        assert_eq!(FileOwner::of_process().folder(&path).unwrap(), path);
        for folder in [&path, path.parent().unwrap()] {
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_folder_that_has_to_be_there_is_not_created() {
        let (_root, top, below) = folders();
        assert_eq!(FileOwner::of_process().existing_folder(&below).unwrap(), below);
        let missing = FileOwner::of_process().existing_folder(&top.join("a").join("b"));
        assert!(matches!(missing, Err(PrivateFolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound));
        assert!(fs::symlink_metadata(top.join("a")).is_err());
    }

    #[test]
    fn nothing_is_created_below_a_folder_that_others_can_change() {
        let (_root, top, _) = folders();
        set_mode(&top, 0o770);
        let path = top.join("a").join("b");
        assert_eq!(broken(&FileOwner::of_process(), &path), Exposed { path: top.clone(), rule: WRITABLE });
        assert!(fs::symlink_metadata(top.join("a")).is_err());
    }

    #[test]
    fn a_folder_that_others_can_change_is_not_used() {
        let (_root, _, below) = folders();
        for mode in [0o720, 0o702, 0o777, 0o1777] {
            set_mode(&below, mode);
            assert_eq!(broken(&FileOwner::of_process(), &below), Exposed { path: below.clone(), rule: WRITABLE });
        }
        set_mode(&below, 0o755);
        assert_eq!(FileOwner::of_process().folder(&below).unwrap(), below);
    }

    #[test]
    fn a_folder_below_one_that_others_can_change_is_not_used() {
        let (_root, top, below) = folders();
        for mode in [0o770, 0o707] {
            set_mode(&top, mode);
            assert_eq!(broken(&FileOwner::of_process(), &below), Exposed { path: top.clone(), rule: WRITABLE });
        }
        // There, only the owner of a folder can rename it.
        set_mode(&top, 0o1777);
        assert_eq!(FileOwner::of_process().folder(&below).unwrap(), below);
    }

    #[test]
    fn a_folder_of_another_user_is_not_used() {
        let (_root, _, below) = folders();
        let exposed = broken(&FileOwner::another(), &below);
        assert_eq!(exposed.rule, FOREIGN);
        assert!(below.starts_with(&exposed.path));
    }

    #[cfg(any(feature = "redis", feature = "sqlite"))]
    #[test]
    fn no_folder_above_a_file_can_be_changed_by_others_and_none_is_created() {
        let (_root, top, below) = folders();
        let (user, file) = (FileOwner::of_process(), below.join("file"));
        let exposed = |path: &Path| match user.way_to(path) {
            Err(PrivateFolderError::Exposed(exposed)) => exposed,
            other => panic!("{other:?}"),
        };
        assert!(user.way_to(&file).is_ok(), "the file itself may be missing");
        for folder in [&below, below.parent().unwrap(), &top] {
            for mode in [0o770, 0o707] {
                set_mode(folder, mode);
                assert_eq!(exposed(&file), Exposed { path: folder.to_path_buf(), rule: WRITABLE });
            }
            set_mode(folder, 0o755);
        }
        symlink(&below, top.join("link")).unwrap();
        set_mode(&below, 0o770);
        assert_eq!(exposed(&top.join("link").join("file")), Exposed { path: below.clone(), rule: WRITABLE });
        set_mode(&below, 0o700);
        match FileOwner::another().way_to(&file) {
            Err(PrivateFolderError::Exposed(exposed)) => assert_eq!(exposed.rule, FOREIGN),
            // The folders of the administrator are as good as the user's own.
            other => assert!(other.is_ok() && rustix::process::geteuid().is_root(), "{other:?}"),
        }
        match user.way_to(&top.join("missing").join("file")) {
            Err(PrivateFolderError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
        assert!(fs::symlink_metadata(top.join("missing")).is_err());
    }

    #[test]
    fn folders_on_the_way_belong_to_the_user_or_the_administrator() {
        let user = FileOwner { id: 1000, unmapped: None };
        for (owner, mode, expected) in [
            (1000, 0o700, Ok(())),
            (0, 0o755, Ok(())),
            (0, 0o1777, Ok(())),
            (1000, 0o1775, Ok(())),
            (1001, 0o700, Err(FOREIGN)),
            (1001, 0o1777, Err(FOREIGN)),
            (65534, 0o755, Err(FOREIGN)),
            (0, 0o775, Err(WRITABLE)),
            (1000, 0o757, Err(WRITABLE)),
        ] {
            assert_eq!(unix::judge(&user, owner, mode), expected, "{owner} {mode:o}");
        }
        // In a user namespace without the administrator.
        assert_eq!(unix::judge(&FileOwner { id: 1000, unmapped: Some(65534) }, 65534, 0o755), Ok(()));
    }

    #[test]
    fn a_user_namespace_is_recognised() {
        assert!(unix::has_all_users("         0          0 4294967295\n"));
        assert!(!unix::has_all_users("      1000       1000          1\n"));
        assert!(!unix::has_all_users("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn a_symbolic_link_is_followed_only_through_folders_that_others_cannot_change() {
        let (_root, top, below) = folders();
        let other = top.join("other");
        create(&other).unwrap();
        symlink(&below, other.join("absolute")).unwrap();
        symlink("../middle/below", other.join("relative")).unwrap();
        for link in ["absolute", "relative"] {
            assert_eq!(FileOwner::of_process().folder(&other.join(link)).unwrap(), below);
        }
        symlink(other.join("absolute"), top.join("chain")).unwrap();
        set_mode(&other, 0o770);
        for path in [other.join("absolute"), other.join("relative"), top.join("chain")] {
            assert_eq!(broken(&FileOwner::of_process(), &path), Exposed { path: other.clone(), rule: WRITABLE });
        }
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_not_used() {
        let (_root, top, _) = folders();
        fs::write(top.join("file"), "").unwrap();
        assert!(FileOwner::of_process().folder(&top.join("file")).is_err());
    }

    #[test]
    fn neither_a_symbolic_link_nor_a_folder_is_used_as_a_file() {
        let (_root, top, _) = folders();
        fs::write(top.join("file"), "content").unwrap();
        symlink(top.join("file"), top.join("link")).unwrap();
        assert!(open(&top.join("file")).is_ok());
        assert!(open(&top.join("link")).is_err());
        let folder = open(&top).unwrap();
        assert_eq!(FileOwner::of_process().check(&folder, 0, WRITABLE), Err("is not a regular file"));
    }

    #[test]
    fn a_file_is_judged_by_its_owner_and_mode() {
        let (_root, top, _) = folders();
        let path = top.join("file");
        fs::write(&path, "content").unwrap();
        for (mode, forbidden, fits) in [
            (0o600, 0o077, true),
            (0o640, 0o077, false),
            (0o644, 0o022, true),
            (0o664, 0o022, false),
            (0o602, 0o022, false),
        ] {
            set_mode(&path, mode);
            let file = open(&path).unwrap();
            let found = FileOwner::of_process().check(&file, forbidden, WRITABLE);
            assert_eq!(found, if fits { Ok(()) } else { Err(WRITABLE) }, "{mode:o}");
            assert_eq!(FileOwner::another().check(&file, forbidden, WRITABLE), Err(FOREIGN));
        }
    }
}
