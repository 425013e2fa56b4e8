//! How owners and access lists decide about a path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{Exposed, FOREIGN, FileOwner, PrivateFolderError, WRITABLE};
use crate::access_list::{self, Fault, Forbidden};

/// Links that are followed on one path. Windows itself follows 63.
const MAX_LINKS: usize = 40;

/// Follows a path from its root, lets `make` create what is missing on it, and returns it without links, in the form that may be
/// long. Nothing on the way may be replaced by another user than the administrators; no other user may change the folder at its
/// end.
pub(super) fn walk(
    user: &FileOwner,
    path: &Path,
    make: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, PrivateFolderError> {
    let here = follow(user, path, make)?;
    if !fs::symlink_metadata(&here)?.is_dir() {
        return Err(Exposed { path: here, rule: "is not a folder" }.into());
    }
    check(user, &here, Forbidden::Change)?;
    Ok(access_list::unlimited(&here))
}

/// Follows a path from its root in the same way, and creates nothing.
pub(super) fn examine(user: &FileOwner, path: &Path) -> Result<(), PrivateFolderError> {
    let here = follow(user, path, |missing| fs::symlink_metadata(missing).map(drop))?;
    check(user, &here, Forbidden::Replace)
}

/// Follows a path, whose folders have to be good; the one at its end is not looked at.
fn follow(
    user: &FileOwner,
    path: &Path,
    make: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, PrivateFolderError> {
    let (mut here, mut ahead) = parts(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let is_root = here.parent().is_none();
        check(user, &here, if is_root { Forbidden::ReplaceInRoot } else { Forbidden::Replace })?;
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let found = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&next)?;
                fs::symlink_metadata(&next)?
            }
            found => found?,
        };
        if !found.is_symlink() {
            here = next;
            continue;
        }
        // Below the root of a drive, others may put links, and a link can be made to lead elsewhere.
        check(user, &next, Forbidden::Change)?;
        links += 1;
        if links > MAX_LINKS {
            return Err(Exposed { path: next, rule: "leads through too many symbolic links" }.into());
        }
        let (root, names) = parts(&fs::read_link(&next)?);
        if !root.as_os_str().is_empty() {
            here = here.join(root);
        }
        for name in names.into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(here)
}

/// Creates a folder for the user only, unless another process has just done so.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match access_list::create_folder(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The root of a path, with the drive if it has one, and the names after it.
fn parts(path: &Path) -> (PathBuf, VecDeque<OsString>) {
    let (mut root, mut names) = (PathBuf::new(), VecDeque::new());
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => root.push(component),
            Component::ParentDir => names.push_back("..".into()),
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::CurDir => {}
        }
    }
    (root, names)
}

fn check(user: &FileOwner, path: &Path, forbidden: Forbidden) -> Result<(), PrivateFolderError> {
    let opened = access_list::open_to_judge(path)?;
    match judge(user, &opened, forbidden)? {
        Ok(()) => Ok(()),
        Err(fault) => Err(Exposed { path: path.to_owned(), rule: rule(fault, WRITABLE) }.into()),
    }
}

/// Judges an open file or folder.
pub(super) fn judge(user: &FileOwner, file: &File, forbidden: Forbidden) -> io::Result<Result<(), Fault>> {
    let name = user.name.as_deref().ok_or_else(|| io::Error::other("the user of this process is not known"))?;
    access_list::judge_open(file, name, forbidden)
}

/// What is said of a fault. `allowed`: what others can do.
pub(super) fn rule(fault: Fault, allowed: &'static str) -> &'static str {
    match fault {
        Fault::Foreign => FOREIGN,
        Fault::Allowed => allowed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::access_list::{create_with, is_changeable_by_others, is_readable_by_others};
    use crate::private_files;

    /// Everyone may read, and everyone may do everything.
    const READ: &str = "(A;;FR;;;WD)";
    const ALL: &str = "(A;;FA;;;WD)";

    fn exposed<T: std::fmt::Debug>(found: Result<T, PrivateFolderError>) -> Exposed {
        match found {
            Err(PrivateFolderError::Exposed(exposed)) => exposed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_created_is_for_the_user_only() {
        let root = tempfile::tempdir().unwrap();
        let user = FileOwner::of_process();
        let folder = user.folder(&root.path().join("a").join("b")).unwrap();
        let (new, appended) = (folder.join("new"), folder.join("appended"));
        private_files::create_new(&new).unwrap();
        private_files::open_append(&appended).unwrap();
        for path in [&new, &appended] {
            assert_eq!((is_readable_by_others(path), is_changeable_by_others(path)), (Some(false), Some(false)));
            let file = private_files::open(path).unwrap();
            assert_eq!(user.check_private(&file), Ok(()));
            assert_eq!(FileOwner::another().check_private(&file), Err(FOREIGN));
        }
        assert!(private_files::create_new(&new).is_err(), "it is there");
    }

    #[test]
    fn a_file_that_others_can_read_is_not_private() {
        let root = tempfile::tempdir().unwrap();
        let user = FileOwner::of_process();
        for (name, entries, unchangeable) in [("read", READ, true), ("all", ALL, false)] {
            let path = root.path().join(name);
            create_with(&path, entries, false).unwrap();
            let file = private_files::open(&path).unwrap();
            assert_eq!(
                user.check_private(&file),
                Err("can be read or written by other users than its owner"),
                "{name}"
            );
            assert_eq!(user.check_unchangeable(&file).is_ok(), unchangeable, "{name}");
        }
    }

    #[test]
    fn neither_a_folder_that_others_can_change_is_used_nor_one_below_it() {
        let root = tempfile::tempdir().unwrap();
        let user = FileOwner::of_process();
        let (open, shown) = (root.path().join("open"), root.path().join("shown"));
        create_with(&open, ALL, true).unwrap();
        create_with(&shown, READ, true).unwrap();
        assert_eq!(exposed(user.folder(&open)), Exposed { path: open.clone(), rule: WRITABLE });
        assert_eq!(exposed(user.folder(&open.join("below"))), Exposed { path: open.clone(), rule: WRITABLE });
        assert_eq!(
            exposed(user.way_to(&open.join("below").join("file"))),
            Exposed { path: open.clone(), rule: WRITABLE }
        );
        assert!(!fs::exists(open.join("below")).unwrap(), "nothing was made there");
        assert!(user.folder(&shown).is_ok(), "reading the names changes nothing");
        assert_eq!(exposed(FileOwner::another().folder(&shown)).rule, FOREIGN);
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(FileOwner::of_process().folder(&root.path().join("file")).is_err());
    }

    #[test]
    fn a_path_has_a_root_and_names() {
        for (path, root, names) in [
            (r"C:\a\..\b", r"C:\", &["a", "..", "b"][..]),
            (r"\\?\C:\a", r"\\?\C:\", &["a"]),
            (r"\\server\share\a", r"\\server\share\", &["a"]),
            (r"a\b", "", &["a", "b"]),
        ] {
            let (found, ahead) = parts(Path::new(path));
            let ahead: Vec<_> = ahead.iter().map(|name| name.to_str().unwrap()).collect();
            assert_eq!((found.to_str().unwrap(), ahead.as_slice()), (root, names));
        }
        for (path, unlimited) in
            [(r"C:\a", r"\\?\C:\a"), (r"\\server\share\a", r"\\?\UNC\server\share\a"), (r"\\?\C:\a", r"\\?\C:\a")]
        {
            assert_eq!(access_list::unlimited(Path::new(path)), Path::new(unlimited));
        }
    }
}
