//! Access lists of Windows: what they let other users do with a file, and files and folders that are private from the start.
//!
//! Windows writes a security descriptor as text (SDDL), and this module reads only that: so the judgement is safe code that is
//! tested on every system, and the calls that take pointers are in one file (`access_list/system.rs`).
//!
//! Trusted besides the user are the system, the administrators of the machine, and the installer of Windows: they can change
//! any file in other ways as well.
//!
//! Why this is neither a crate nor `icacls.exe`: the crates for access lists (`windows-acl`, `windows-permissions`) have had no
//! release for years, and set a list after the file is there. So does the program, whose output is in the language of the system.

#[cfg(windows)]
mod system;

#[cfg(windows)]
pub(crate) use system::NO_LINKS;

#[cfg(windows)]
use std::fs::File;
#[cfg(windows)]
use std::io;
#[cfg(windows)]
use std::path::{Path, PathBuf};

/// Rights to read what is in a file, or the names in a folder.
const READ: u32 = 0x1 | GENERIC_READ | GENERIC_ALL;
/// Rights to change a file or a folder: its content, its attributes, its name, its access list or its owner.
const CHANGE: u32 = 0x2 | 0x4 | 0x10 | DELETE_CHILD | 0x100 | DELETE | CHANGE_LIST | GENERIC_WRITE | GENERIC_ALL;
/// Rights to put something else in the place of what is in a folder: to delete what is in it, or to rename the folder itself.
/// To create something new in it is not among them, as below the root of a drive every user may.
const REPLACE: u32 = DELETE_CHILD | DELETE | CHANGE_LIST | GENERIC_ALL;

const DELETE_CHILD: u32 = 0x40;
const DELETE: u32 = 0x1_0000;
/// `WRITE_DAC` and `WRITE_OWNER`.
const CHANGE_LIST: u32 = 0x4_0000 | 0x8_0000;
const GENERIC_ALL: u32 = 0x1000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const GENERIC_READ: u32 = 0x8000_0000;

/// The rights that have names, as Windows writes them.
const NAMED_RIGHTS: [(&[u8], u32); 21] = [
    (b"FA", 0x1f_01ff),
    (b"FR", 0x12_0089),
    (b"FW", 0x12_0116),
    (b"FX", 0x12_00a0),
    (b"GA", GENERIC_ALL),
    (b"GR", GENERIC_READ),
    (b"GW", GENERIC_WRITE),
    (b"GX", 0x2000_0000),
    (b"RC", 0x2_0000),
    (b"SD", DELETE),
    (b"WD", 0x4_0000),
    (b"WO", 0x8_0000),
    (b"CC", 0x1),
    (b"DC", 0x2),
    (b"LC", 0x4),
    (b"SW", 0x8),
    (b"RP", 0x10),
    (b"WP", 0x20),
    (b"DT", DELETE_CHILD),
    (b"LO", 0x80),
    (b"CR", 0x100),
];

/// The system, the administrators and the installer of Windows, by their names and numbers.
const TRUSTED: [&str; 5] =
    ["SY", "S-1-5-18", "BA", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"];

/// Entries that mean the owner, who is judged by itself.
const OWNER: [&str; 4] = ["OW", "S-1-3-4", "CO", "S-1-3-0"];

/// What other users must not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// To change a file or a folder.
    Change,
    /// To change a file, or to read it.
    Use,
    /// To put something else in the place of what is in a folder on the way to a file.
    Replace,
    /// The same of the root of a drive, which has no name that could be changed.
    ReplaceInRoot,
}

impl Forbidden {
    fn rights(self) -> u32 {
        match self {
            Self::Change => CHANGE,
            Self::Use => CHANGE | READ,
            Self::Replace => REPLACE,
            Self::ReplaceInRoot => REPLACE & !DELETE,
        }
    }
}

/// What is wrong with a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It belongs to a user who is not trusted.
    Foreign,
    /// Users who are not trusted can do what they must not.
    Allowed,
}

/// Judges the descriptor of a file, written as text with its owner and its list. `user` is written in the same way. What is not
/// understood counts as allowed.
pub(crate) fn judge(descriptor: &str, user: &str, forbidden: Forbidden) -> Result<(), Fault> {
    let is_trusted = |name: &str| name == user || TRUSTED.contains(&name);
    let (owner, list) = descriptor.split_once("D:").ok_or(Fault::Allowed)?;
    let owner = owner.strip_prefix("O:").and_then(|owner| owner.split("G:").next()).ok_or(Fault::Foreign)?;
    if !is_trusted(owner) {
        return Err(Fault::Foreign);
    }
    let (flags, entries) = list.find('(').map_or((list, ""), |at| list.split_at(at));
    // Without a list, everything is allowed.
    if flags.contains("NO_ACCESS_CONTROL") {
        return Err(Fault::Allowed);
    }
    for entry in entries.split_terminator(')') {
        let mut fields = entry.strip_prefix('(').ok_or(Fault::Allowed)?.split(';');
        let [kind, flags, rights, _, _, name] = std::array::from_fn(|_| fields.next().unwrap_or_default());
        match kind {
            "D" => continue,
            "A" if fields.next().is_none() => {}
            _ => return Err(Fault::Allowed),
        }
        let is_for_children_only = flags.as_bytes().chunks(2).any(|flag| flag == b"IO");
        if is_for_children_only || is_trusted(name) || OWNER.contains(&name) {
            continue;
        }
        if rights_of(rights) & forbidden.rights() != 0 {
            return Err(Fault::Allowed);
        }
    }
    Ok(())
}

/// The rights in an entry: a number, or names in a row. What is not known counts as all rights.
fn rights_of(text: &str) -> u32 {
    if let Some(digits) = text.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).unwrap_or(u32::MAX);
    }
    let named =
        |name: &[u8]| NAMED_RIGHTS.iter().find(|(known, _)| *known == name).map_or(u32::MAX, |(_, right)| *right);
    text.as_bytes().chunks(2).fold(0, |rights, name| rights | named(name))
}

/// The user of this process, as descriptors have it.
#[cfg(windows)]
pub(crate) fn user_of_process() -> io::Result<String> {
    // Some users have a short name in descriptors, which depends on the machine.
    let text = system::Descriptor::of_text(&format!("O:{}", system::user_of_process()?))?.text()?;
    text.strip_prefix("O:").map(str::to_owned).ok_or_else(|| io::Error::other("the user has no name"))
}

/// Judges an open file or folder.
#[cfg(windows)]
pub(crate) fn judge_open(file: &File, user: &str, forbidden: Forbidden) -> io::Result<Result<(), Fault>> {
    Ok(judge(&system::Descriptor::of_file(file)?.text()?, user, forbidden))
}

/// Opens a file or a folder to judge it. A link is not followed.
#[cfg(windows)]
pub(crate) fn open_to_judge(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;

    const READ_ATTRIBUTES_AND_CONTROL: u32 = 0x80 | 0x2_0000;
    let mut options = std::fs::OpenOptions::new();
    options.access_mode(READ_ATTRIBUTES_AND_CONTROL).custom_flags(system::FOLDERS_TOO | system::NO_LINKS);
    options.open(path)
}

/// Whether other users than the owner can read a file. `None`: it cannot be examined.
#[cfg(windows)]
pub fn is_readable_by_others(path: &Path) -> Option<bool> {
    is_allowed(path, Forbidden::Use)
}

/// Whether other users than the owner can change a file. `None`: it cannot be examined.
#[cfg(windows)]
pub fn is_changeable_by_others(path: &Path) -> Option<bool> {
    is_allowed(path, Forbidden::Change)
}

#[cfg(windows)]
fn is_allowed(path: &Path, forbidden: Forbidden) -> Option<bool> {
    let file = File::open(path).ok()?;
    judge_open(&file, &user_of_process().ok()?, forbidden).ok().map(|judged| judged == Err(Fault::Allowed))
}

/// The list of what is private: the user and the system may do everything, and nothing comes from the folder above. What is
/// created in such a folder has the same list.
#[cfg(windows)]
fn private(for_folder: bool) -> io::Result<system::Descriptor> {
    let (user, inherited) = (system::user_of_process()?, if for_folder { "OICI" } else { "" });
    system::Descriptor::of_text(&format!("D:P(A;{inherited};FA;;;{user})(A;{inherited};FA;;;SY)"))
}

/// Creates a file that must not exist yet, for this user only, to be written.
#[cfg(windows)]
pub fn create_new(path: &Path) -> io::Result<File> {
    system::create_new(&unlimited(path), &private(false)?)
}

/// Opens a file for appending. One that does not exist is created for this user only. It can be locked, which Windows does not
/// allow with a file that can only be appended to.
#[cfg(windows)]
pub fn open_append(path: &Path) -> io::Result<File> {
    system::open_append(&unlimited(path), &private(false)?)
}

/// Creates a folder for this user only.
#[cfg(windows)]
pub fn create_folder(path: &Path) -> io::Result<()> {
    system::create_folder(&unlimited(path), &private(true)?)
}

/// The same absolute path in the form that has no limit of 260 characters. The standard library does so by itself; SQLite and
/// the calls here do not.
#[cfg(windows)]
pub(crate) fn unlimited(path: &Path) -> PathBuf {
    use std::ffi::OsString;
    use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Component, Prefix};

    let Ok(path) = std::path::absolute(path) else { return path.to_owned() };
    let Some(Component::Prefix(prefix)) = path.components().next() else { return path };
    let (before, skipped) = match prefix.kind() {
        Prefix::Disk(_) => (r"\\?\", 0),
        // One of the two separators that it begins with stays.
        Prefix::UNC(..) => (r"\\?\UNC", 1),
        _ => return path,
    };
    let mut long = OsString::from(before);
    long.push(OsString::from_wide(&path.as_os_str().encode_wide().skip(skipped).collect::<Vec<_>>()));
    long.into()
}

/// Creates a file or a folder with an access list of the test's choice, after the user's own entry.
#[cfg(all(test, windows))]
pub(crate) fn create_with(path: &Path, entries: &str, folder: bool) -> io::Result<()> {
    let descriptor = system::Descriptor::of_text(&format!("D:P{entries}(A;;FA;;;{})", system::user_of_process()?))?;
    match folder {
        true => system::create_folder(path, &descriptor)?,
        false => system::create_new(path, &descriptor).map(drop)?,
    }
    // Wine takes away what the user's mask forbids when something is created.
    system::set_list(path, &descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "S-1-5-21-1-2-3-1001";
    const OTHER: &str = "S-1-5-21-1-2-3-1002";

    fn judged(descriptor: &str, forbidden: Forbidden) -> Result<(), Fault> {
        judge(descriptor, USER, forbidden)
    }

    #[test]
    fn what_only_the_user_and_the_administrators_have_is_private() {
        for owner in [USER, "SY", "BA", TRUSTED[4]] {
            let list = format!("O:{owner}D:PAI(A;OICI;FA;;;SY)(A;OICIID;0x1f01ff;;;BA)(A;;FA;;;{USER})(A;;FA;;;OW)");
            for forbidden in [Forbidden::Change, Forbidden::Use, Forbidden::Replace, Forbidden::ReplaceInRoot] {
                assert_eq!(judged(&list, forbidden), Ok(()), "{owner} {forbidden:?}");
            }
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_foreign() {
        for owner in [OTHER, "BU", "WD", ""] {
            assert_eq!(
                judged(&format!("O:{owner}G:BUD:(A;;FA;;;{USER})"), Forbidden::Change),
                Err(Fault::Foreign),
                "{owner}"
            );
        }
        assert_eq!(judged(&format!("D:(A;;FA;;;{USER})"), Forbidden::Change), Err(Fault::Foreign));
    }

    #[test]
    fn others_are_judged_by_their_rights() {
        use Forbidden::{Change, Replace, ReplaceInRoot, Use};
        for (rights, forbids) in [
            ("FA", &[Change, Use, Replace, ReplaceInRoot][..]),
            ("0x1f01ff", &[Change, Use, Replace, ReplaceInRoot]),
            // What every user may do on a drive that was formatted by Windows.
            ("0x1301bf", &[Change, Use, Replace]),
            ("GA", &[Change, Use, Replace, ReplaceInRoot]),
            ("FW", &[Change, Use]),
            ("DCLCRPCR", &[Change, Use]),
            ("LC", &[Change, Use]),
            ("WD", &[Change, Use, Replace, ReplaceInRoot]),
            ("FR", &[Use]),
            ("0x1200a9", &[Use]),
            ("FX", &[]),
            ("RCLO", &[]),
            ("??", &[Change, Use, Replace, ReplaceInRoot]),
            ("0xnone", &[Change, Use, Replace, ReplaceInRoot]),
        ] {
            let list = format!("O:{USER}D:AI(A;;FA;;;SY)(A;ID;{rights};;;BU)");
            for forbidden in [Change, Use, Replace, ReplaceInRoot] {
                let expected = if forbids.contains(&forbidden) { Err(Fault::Allowed) } else { Ok(()) };
                assert_eq!(judged(&list, forbidden), expected, "{rights} {forbidden:?}");
            }
        }
    }

    #[test]
    fn entries_that_deny_or_are_for_children_only_allow_nothing() {
        for entry in
            [format!("(D;;FA;;;{OTHER})"), "(A;OICIIO;FA;;;AU)".into(), "(A;OICIIOID;GA;;;CO)".into(), String::new()]
        {
            assert_eq!(judged(&format!("O:{USER}D:P{entry}(A;;FA;;;{USER})"), Forbidden::Use), Ok(()), "{entry}");
        }
    }

    #[test]
    fn what_is_not_understood_counts_as_allowed() {
        for list in
            ["", "D:NO_ACCESS_CONTROL", "D:(XA;;FR;;;WD;(a == (b)))", "D:(OA;;FR;x;;WD)", "D:(A;;FR;;;SY)x", "D:(A;;FR"]
        {
            assert_eq!(judged(&format!("O:{USER}{list}"), Forbidden::Use), Err(Fault::Allowed), "{list}");
        }
    }
}
