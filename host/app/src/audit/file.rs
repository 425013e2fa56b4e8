//! The file that records go to.
//!
//! It is opened for appending, and every write consists of whole lines, so several processes may share it. It is opened
//! anew when its name leads to another file, as after logrotate. It is not synchronised to the disk after each write: a
//! written record outlives the process, but not a power failure.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use entra_mcp_plugin::clock::Clock;

/// Bounds the size of the audit files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes at which a new file begins; 0 leaves rotation to another program.
    pub max_bytes: u64,
    /// Files that are kept besides the one that is written: `audit.jsonl.1` is the youngest.
    pub keep: u32,
    /// Days for which no record is deleted, whatever it costs: 0 for none. A file is as old as its last record.
    pub keep_days: u32,
}

/// Seconds of a day.
const DAY: u64 = 24 * 3_600;

/// Why the files are not rotated.
enum NotRotated {
    /// The operating system does not do it.
    Io(io::Error),
    /// That would delete a file too early.
    TooYoung { oldest: PathBuf, age: Duration },
}

impl From<io::Error> for NotRotated {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The audit file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the audit file {path} cannot be opened: {reason}")]
pub struct AuditFileError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub reason: io::Error,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity(u64, u64);

impl FileIdentity {
    #[cfg(unix)]
    fn of(_: &File, metadata: &fs::Metadata) -> Self {
        Self::in_metadata(metadata)
    }

    #[cfg(unix)]
    fn in_metadata(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(windows)]
    fn of(file: &File, _: &fs::Metadata) -> Self {
        let known = winapi_util::file::information(file);
        known.map_or(Self(0, 0), |known| Self(known.volume_serial_number(), known.file_index()))
    }

    /// That of the file that has a name now, with what else is known of it.
    fn at(path: &Path) -> io::Result<(Self, fs::Metadata)> {
        let metadata = fs::metadata(path)?;
        #[cfg(unix)]
        return Ok((Self::in_metadata(&metadata), metadata));
        #[cfg(windows)]
        Ok((Self::of(&File::open(path)?, &metadata), metadata))
    }
}

/// A file that is written and rotated.
pub(super) struct AuditFile {
    path: PathBuf,
    rotation: Rotation,
    clock: Arc<dyn Clock>,
    file: File,
    identity: FileIdentity,
    is_regular: bool,
    /// A write broke off within a line.
    torn: bool,
    /// The last rotation failed, and the log has it.
    stuck: bool,
    /// The next rotation would delete a file too early, and the log has it.
    warned: bool,
}

impl AuditFile {
    pub(super) fn open(path: &Path, rotation: Rotation, clock: Arc<dyn Clock>) -> Result<Self, AuditFileError> {
        let opened = open(path);
        let opened = opened.map_err(|reason| AuditFileError { path: path.to_owned(), reason })?;
        let OpenedFile { file, identity, is_regular } = opened;
        let torn = is_regular && ends_within_a_line(path);
        let (path, stuck, warned) = (path.to_owned(), false, false);
        Ok(Self { path, rotation, clock, file, identity, is_regular, torn, stuck, warned })
    }

    /// Whether it is a file, and not a device or a pipe, which may keep a writer waiting.
    pub(super) fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// Closes the file, and opens the file that has its name now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let OpenedFile { file, identity, is_regular } = open(&self.path)?;
        (self.file, self.identity, self.is_regular) = (file, identity, is_regular);
        self.torn = is_regular && ends_within_a_line(&self.path);
        Ok(())
    }

    /// Appends whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let found = match FileIdentity::at(&self.path) {
            Ok((identity, found)) if identity == self.identity => Some(found),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match found {
            None => self.reopen()?,
            // A device or a pipe cannot be rotated.
            Some(found) if found.is_file() && self.is_full(found.len(), lines.len()) => self.rotate_or_go_on()?,
            Some(_) => {}
        }
        append(&mut self.file, &mut self.torn, lines)
    }

    fn is_full(&self, bytes: u64, more: usize) -> bool {
        let total = bytes.saturating_add(more.try_into().unwrap_or(u64::MAX));
        self.rotation.max_bytes > 0 && bytes > 0 && total > self.rotation.max_bytes
    }

    /// A file that is too long is better than no record. But where rotation would delete records too early, there is room
    /// for no more: an attacker who fills the files must not thereby get rid of what they say.
    fn rotate_or_go_on(&mut self) -> io::Result<()> {
        match self.rotate() {
            Ok(()) => {
                self.stuck = false;
                self.warn_if_full();
                self.reopen()
            }
            Err(NotRotated::TooYoung { oldest, age }) => Err(io::Error::other(format!(
                "the audit files are full, and {} has records of {} days ago, which have to be kept for {}: move it \
                 away, or raise --audit-max-bytes or --audit-keep, or lower --audit-keep-days",
                oldest.display(),
                age.as_secs() / DAY,
                self.rotation.keep_days
            ))),
            Err(NotRotated::Io(error)) => {
                if !self.stuck {
                    tracing::error!(%error, "the audit file cannot be rotated: it goes on growing");
                }
                self.stuck = true;
                Ok(())
            }
        }
    }

    /// Moves the file out of the way, unless another process is just doing so.
    fn rotate(&self) -> Result<(), NotRotated> {
        // The lock is on the old file, and ends when it is closed. A process that waits for the lock then finds another
        // file under the name.
        match self.file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(()),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        if FileIdentity::at(&self.path).is_ok_and(|(identity, _)| identity != self.identity) {
            return Ok(());
        }
        if let Some(too_young) = self.too_young()? {
            // The file stays open, and other processes wait for nothing.
            self.file.unlock()?;
            return Err(too_young);
        }
        for number in (1..self.rotation.keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number.saturating_add(1)));
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(fs::rename(&self.path, self.numbered(1))?)
    }

    /// The file that the next rotation deletes, if its last record is too young for that.
    fn too_young(&self) -> io::Result<Option<NotRotated>> {
        if self.rotation.keep_days == 0 {
            return Ok(None);
        }
        let oldest = self.numbered(self.rotation.keep);
        let written = match fs::metadata(&oldest) {
            Ok(found) => found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let age = self.clock.now().saturating_sub(written);
        let kept = Duration::from_secs(u64::from(self.rotation.keep_days).saturating_mul(DAY));
        Ok((age < kept).then_some(NotRotated::TooYoung { oldest, age }))
    }

    /// Tells the operator while there is still room.
    fn warn_if_full(&mut self) {
        let full = matches!(self.too_young(), Ok(Some(_)));
        if full && !self.warned {
            tracing::warn!(
                path = %self.path.display(),
                days = self.rotation.keep_days,
                "the last of the audit files is written: when it is full, and the oldest is still younger than \
                 --audit-keep-days, events are not recorded any more. Move old files away, or raise --audit-keep"
            );
        }
        self.warned = full;
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// What is found under the name.
struct OpenedFile {
    file: File,
    identity: FileIdentity,
    is_regular: bool,
}

/// Opens a file for appending. It is made readable for its owner only, if it does not exist.
fn open_append(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }
    #[cfg(windows)]
    entra_mcp_plugin::access_list::open_append(path)
}

fn open(path: &Path) -> io::Result<OpenedFile> {
    let file = open_append(path)?;
    let metadata = file.metadata()?;
    Ok(OpenedFile { identity: FileIdentity::of(&file, &metadata), is_regular: metadata.is_file(), file })
}

/// Whether the last line of a file lacks its end, because the disk was full when a process wrote it that has ended since.
fn ends_within_a_line(path: &Path) -> bool {
    let mut last = [b'\n'];
    let read = File::open(path).and_then(|mut file| {
        // A file without a last byte has no line at all.
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last != [b'\n']
}

/// Writes lines whole, normally at once. If a write breaks off within a line, the next one begins on a line of its own.
pub(super) fn append(stream: &mut impl io::Write, torn: &mut bool, lines: &[u8]) -> io::Result<()> {
    if *torn {
        stream.write_all(b"\n")?;
        *torn = false;
    }
    let mut rest = lines;
    while !rest.is_empty() {
        let written = match stream.write(rest) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            written => written,
        };
        let written = written.inspect_err(|_| {
            let before = lines.len().saturating_sub(rest.len()).checked_sub(1);
            *torn = before.and_then(|last| lines.get(last)).is_some_and(|last| *last != b'\n');
        })?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use entra_mcp_plugin::clock::ManualClock;

    use super::*;

    /// The time of the tests, in days since the Unix epoch.
    const TODAY: u64 = 20_000;

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    fn clock() -> ManualClock {
        ManualClock::new(TODAY * DAY)
    }

    fn audit(folder: &tempfile::TempDir, max_bytes: u64, keep: u32) -> AuditFile {
        kept(folder, Rotation { max_bytes, keep, keep_days: 0 }, &clock())
    }

    fn kept(folder: &tempfile::TempDir, rotation: Rotation, clock: &ManualClock) -> AuditFile {
        AuditFile::open(&folder.path().join("audit.jsonl"), rotation, Arc::new(clock.clone())).unwrap()
    }

    /// Lets a file be as old as if its last record had been written so many days ago.
    fn age(folder: &tempfile::TempDir, name: &str, old: u64) {
        let file = File::options().append(true).open(folder.path().join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + days(TODAY - old)).unwrap();
    }

    fn read(folder: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap()
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_full_makes_room_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = audit(&folder, 8, 2);
        for line in ["one1\n", "two2\n", "three\n", "four\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(names(&folder), ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
        let contents = ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"].map(|name| read(&folder, name));
        assert_eq!(contents, ["four\n", "three\n", "two2\n"]);
    }

    #[test]
    fn rotation_deletes_no_file_before_its_time_and_every_file_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let rotation = Rotation { max_bytes: 8, keep: 2, keep_days: 7 };
        let mut file = kept(&folder, rotation, &clock);
        for (line, days_ago) in [("one1\n", 7), ("two2\n", 6), ("three\n", 0)] {
            file.write(line.as_bytes()).unwrap();
            age(&folder, "audit.jsonl", days_ago);
        }
        let contents = || ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"].map(|name| read(&folder, name));
        assert_eq!(contents(), ["three\n", "two2\n", "one1\n"]);
        file.write(b"four\n").unwrap();
        assert_eq!(contents(), ["four\n", "three\n", "two2\n"], "the oldest was old enough");

        for _ in 0..3 {
            let error = file.write(b"five\n").unwrap_err().to_string();
            assert!(error.contains("audit.jsonl.2 has records of 6 days ago"), "{error}");
        }
        assert_eq!(contents(), ["four\n", "three\n", "two2\n"], "nothing is deleted, and the file does not grow");
        file.write(b"5\n").unwrap();
        assert_eq!(contents()[0], "four\n5\n", "what fits is written");

        clock.advance(days(1));
        file.write(b"six\n").unwrap();
        assert_eq!(contents(), ["six\n", "four\n5\n", "three\n"]);
        // The operator makes room.
        file.write(b"seven\n").unwrap_err();
        fs::rename(folder.path().join("audit.jsonl.2"), folder.path().join("moved")).unwrap();
        file.write(b"seven\n").unwrap();
        assert_eq!(contents(), ["seven\n", "six\n", "four\n5\n"]);
    }

    #[test]
    fn a_process_that_has_no_room_keeps_no_other_one_from_writing() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_bytes: 8, keep: 1, keep_days: 7 };
        let (mut one, mut other) = (kept(&folder, rotation, &clock()), kept(&folder, rotation, &clock()));
        one.write(b"one1\n").unwrap();
        one.write(b"two2\n").unwrap();
        other.write(b"x\n").unwrap();
        age(&folder, "audit.jsonl.1", 1);
        for _ in 0..2 {
            one.write(b"three\n").unwrap_err();
            other.write(b"three\n").unwrap_err();
        }
        age(&folder, "audit.jsonl.1", 7);
        other.write(b"three\n").unwrap();
        one.write(b"4\n").unwrap();
        assert_eq!(read(&folder, "audit.jsonl"), "three\n4\n");
    }

    #[test]
    fn a_file_from_the_future_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let mut file = kept(&folder, Rotation { max_bytes: 8, keep: 1, keep_days: 1 }, &clock);
        file.write(b"one1\n").unwrap();
        file.write(b"two2\n").unwrap();
        let future = File::options().append(true).open(folder.path().join("audit.jsonl.1")).unwrap();
        future.set_modified(UNIX_EPOCH + days(TODAY + 100)).unwrap();
        file.write(b"three\n").unwrap_err();
    }

    #[test]
    fn a_line_that_an_ended_process_has_torn_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("audit.jsonl"), "one\n{\"event\":\"to").unwrap();
        let mut file = audit(&folder, 0, 1);
        file.write(b"two\n").unwrap();
        file.reopen().unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(read(&folder, "audit.jsonl"), "one\n{\"event\":\"to\ntwo\nthree\n");
    }

    #[test]
    fn a_size_of_zero_leaves_rotation_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = audit(&folder, 0, 1);
        for _ in 0..100 {
            file.write(b"line\n").unwrap();
        }
        assert_eq!(names(&folder), ["audit.jsonl"]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_what_is_created() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mut file = audit(&folder, 5, 1);
        file.write(b"one\n").unwrap();
        file.write(b"two\n").unwrap();
        for name in names(&folder) {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_moved_or_deleted_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = audit(&folder, 0, 1);
        file.write(b"one\n").unwrap();
        fs::rename(folder.path().join("audit.jsonl"), folder.path().join("moved")).unwrap();
        file.write(b"two\n").unwrap();
        assert_eq!([read(&folder, "moved"), read(&folder, "audit.jsonl")], ["one\n", "two\n"]);
        fs::remove_file(folder.path().join("audit.jsonl")).unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(read(&folder, "audit.jsonl"), "three\n");
    }

    #[cfg(unix)]
    #[test]
    fn two_processes_that_share_a_file_lose_nothing_when_one_of_them_rotates() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (audit(&folder, 40, 100), audit(&folder, 40, 100));
        for number in 0..50 {
            let file = if number % 3 == 0 { &mut one } else { &mut other };
            file.write(format!("line {number:02}\n").as_bytes()).unwrap();
        }
        let mut lines: Vec<String> = Vec::new();
        for name in names(&folder) {
            lines.extend(read(&folder, &name).lines().map(str::to_owned));
        }
        lines.sort();
        let expected: Vec<_> = (0..50).map(|number| format!("line {number:02}")).collect();
        assert_eq!(lines, expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_not_a_lost_record() {
        let missing = Path::new("/does/not/exist/audit.jsonl");
        let rotation = Rotation { max_bytes: 0, keep: 1, keep_days: 0 };
        let open = |path: &Path| AuditFile::open(path, rotation, Arc::new(clock()));
        let error = open(missing).err().unwrap();
        assert_eq!(error.path, missing);

        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let mut file = open(&below.join("audit.jsonl")).unwrap();
        fs::remove_dir_all(&below).unwrap();
        assert_eq!(file.write(b"line\n").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&below).unwrap();
        file.write(b"line\n").unwrap();
    }

    #[test]
    fn what_a_broken_write_left_hides_no_later_line() {
        /// Has room for some bytes, and is full then.
        struct Small(Vec<u8>, usize);
        impl io::Write for Small {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let room = self.1.saturating_sub(self.0.len()).min(bytes.len());
                if room == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.extend_from_slice(&bytes[..room]);
                Ok(room)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut stream, mut torn) = (Small(Vec::new(), 6), false);
        append(&mut stream, &mut torn, b"one\n").unwrap();
        assert_eq!(append(&mut stream, &mut torn, b"two\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        stream.1 = 100;
        append(&mut stream, &mut torn, b"three\n").unwrap();
        assert_eq!(stream.0, b"one\ntw\nthree\n");
        stream.1 = stream.0.len();
        append(&mut stream, &mut torn, b"four\n").unwrap_err();
        stream.1 = 100;
        append(&mut stream, &mut torn, b"five\n").unwrap();
        assert_eq!(stream.0, b"one\ntw\nthree\nfive\n");
    }
}
