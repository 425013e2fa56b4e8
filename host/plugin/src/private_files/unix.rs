//! How owners and modes decide about a path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::{Exposed, FOREIGN, FileOwner, PrivateFolderError, WRITABLE};

/// Symbolic links that are followed on one path, as on Linux.
const MAX_LINKS: usize = 40;

/// Restricts the removal and renaming of what is in a folder to the owners.
const STICKY: u32 = 0o1000;

/// Follows a path from the root, lets `make` create what is missing on it, and returns it without symbolic links.
/// Nothing is created in a folder that was not found good. Nothing on the way may be changed by another user than the
/// administrator; the folder at its end belongs to the user.
pub(super) fn walk(
    user: &FileOwner,
    path: &Path,
    make: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, PrivateFolderError> {
    let here = follow(user, path, make)?;
    let found = fs::symlink_metadata(&here)?;
    let exposed = |rule| Err(Exposed { path: here.clone(), rule }.into());
    if !found.is_dir() {
        return exposed("is not a folder");
    }
    if found.uid() != user.id {
        return exposed(FOREIGN);
    }
    if found.mode() & 0o022 != 0 {
        return exposed(WRITABLE);
    }
    Ok(here)
}

/// Follows a path from the root in the same way, and creates nothing. All folders may belong to the administrator as well,
/// also the one at its end.
pub(super) fn examine(user: &FileOwner, path: &Path) -> Result<(), PrivateFolderError> {
    let here = follow(user, path, |missing| fs::symlink_metadata(missing).map(drop))?;
    Ok(check_on_the_way(user, &here, &fs::symlink_metadata(&here)?)?)
}

/// Follows a path, whose folders have to be good; the one at its end is not looked at.
fn follow(
    user: &FileOwner,
    path: &Path,
    make: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, PrivateFolderError> {
    let mut ahead: VecDeque<OsString> = names(path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        check_on_the_way(user, &here, &fs::symlink_metadata(&here)?)?;
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
        // In a folder that all may write to, such as /tmp, others may put links, and links have no mode.
        if !user.trusts(found.uid()) {
            return Err(Exposed { path: next, rule: FOREIGN }.into());
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Exposed { path: next, rule: "leads through too many symbolic links" }.into());
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(here)
}

/// Creates a folder for the user only, unless another process has just done so.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

fn check_on_the_way(user: &FileOwner, path: &Path, found: &Metadata) -> Result<(), Exposed> {
    judge(user, found.uid(), found.mode()).map_err(|rule| Exposed { path: path.to_owned(), rule })
}

/// What other users cannot change, by its owner and mode: neither the next name on the path nor what it stands for.
pub(super) fn judge(user: &FileOwner, owner: u32, mode: u32) -> Result<(), &'static str> {
    if !user.trusts(owner) {
        return Err(FOREIGN);
    }
    if mode & 0o022 != 0 && mode & STICKY == 0 {
        return Err(WRITABLE);
    }
    Ok(())
}

impl FileOwner {
    /// Whether files of the owner are as good as the user's own.
    fn trusts(&self, owner: u32) -> bool {
        owner == self.id || owner == 0 || self.unmapped == Some(owner)
    }
}

/// In a user namespace (a container without privileges, bubblewrap), the files of the machine's administrator show
/// the id that stands for all ids without a place there. On a machine without namespaces no file is shown so.
pub(super) fn unmapped_administrator() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
    if has_all_users(&map) { None } else { overflow.trim().parse().ok() }
}

/// Whether the map of a user namespace has every user in it, as that of the machine itself has.
pub(super) fn has_all_users(map: &str) -> bool {
    let count = |line: &str| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(count).sum::<u64>() >= u64::from(u32::MAX)
}
