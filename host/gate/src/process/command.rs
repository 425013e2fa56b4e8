//! The program of a server: found once, started without anything that it was not given, and ended with its children.
//!
//! A process is the leader of a session of its own, and a signal goes to its whole process group. A child that makes itself
//! the leader of another session is out of reach; containers and control groups are for those.
//!
//! On Linux, the process (not its children) is killed when this program ends in whatever way, by the system: with the thread
//! that has started it, see [`super::starter`]. On Windows, the process and its children are in a job, which the system ends
//! with this program.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use process_wrap::tokio::{ChildWrapper, CommandWrap};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

/// Why a command cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerCommandError {
    /// It names no program.
    #[error("the command is empty")]
    Empty,
    /// There is no such program.
    #[error("{0}: no such program")]
    NotFound(String),
    /// The folder for it does not exist.
    #[error("{0}: no such folder")]
    NoFolder(PathBuf),
}

/// A program that exists, and its arguments.
#[derive(Clone)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// Finds the program: a name is looked for in `search_path`, anything else is a path.
    pub(super) fn find(command: &[String], search_path: Option<&OsStr>) -> Result<Self, ServerCommandError> {
        let (name, arguments) = command.split_first().ok_or(ServerCommandError::Empty)?;
        let not_found = || ServerCommandError::NotFound(name.clone());
        if name.is_empty() {
            return Err(ServerCommandError::Empty);
        }
        let path = if Path::new(name).components().count() > 1 || name.contains(std::path::MAIN_SEPARATOR) {
            Some(PathBuf::from(name)).filter(|path| is_program(path))
        } else {
            let folders = std::env::split_paths(search_path.unwrap_or_default());
            folders
                .filter(|folder| folder.is_absolute())
                .flat_map(|folder| candidates(&folder, name))
                .find(|path| is_program(path))
        };
        let path = std::path::absolute(path.ok_or_else(not_found)?).map_err(|_| not_found())?;
        Ok(Self { path, arguments: arguments.to_vec() })
    }

    /// Starts the program in a folder, with these variables and no others.
    #[allow(clippy::disallowed_methods, reason = "this module is where MCP servers are started")]
    pub(super) fn start(&self, folder: &Path, variables: &[(OsString, OsString)]) -> io::Result<Started> {
        let mut command = CommandWrap::with_new(&self.path, |command| {
            command
                .args(&self.arguments)
                .current_dir(folder)
                .env_clear()
                .envs(variables.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            #[cfg(target_os = "linux")]
            die_with_this_program(command);
        });
        #[cfg(unix)]
        command.wrap(process_wrap::tokio::ProcessSession);
        #[cfg(windows)]
        command.wrap(process_wrap::tokio::KillOnDrop).wrap(process_wrap::tokio::JobObject);
        let mut child = command.spawn()?;
        let (input, output, errors) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let group = ProcessGroup { id: child.id(), child };
        match (input, output, errors) {
            (Some(input), Some(output), Some(errors)) => Ok(Started { group, input, output, errors }),
            _ => Err(io::Error::other("the process has no pipes")),
        }
    }
}

/// Has the system kill the process when the thread that starts it ends.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library cannot set this between fork and exec in another way")]
fn die_with_this_program(command: &mut tokio::process::Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let this_program = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before.
        match getppid() == Some(this_program) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: between fork and exec, only functions that are safe in signal handlers may be called. These are two system
    // calls, and nothing is allocated.
    unsafe { command.pre_exec(before_exec) };
}

/// What a name in a folder may stand for. On Windows, programs and scripts of its own shell have an extension, which is left away
/// mostly. The standard library starts such scripts safely.
fn candidates(folder: &Path, name: &str) -> Vec<PathBuf> {
    if !cfg!(windows) {
        return vec![folder.join(name)];
    }
    const EXTENSIONS: [&str; 4] = ["exe", "com", "cmd", "bat"];
    let given = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if EXTENSIONS.contains(&given.as_str()) {
        return vec![folder.join(name)];
    }
    EXTENSIONS.iter().map(|extension| folder.join(format!("{name}.{extension}"))).collect()
}

fn is_program(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    }
    #[cfg(not(unix))]
    path.is_file()
}

/// A process that runs.
pub(super) struct Started {
    pub(super) group: ProcessGroup,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) errors: ChildStderr,
}

/// A process and its children. They are killed when this is dropped.
pub(super) struct ProcessGroup {
    id: Option<u32>,
    child: Box<dyn ChildWrapper>,
}

impl ProcessGroup {
    /// The id of the process.
    pub(super) fn id(&self) -> Option<u32> {
        self.id
    }

    /// Returns when the process itself has ended, whatever its children do. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.inner_mut().wait().await.ok()
    }

    /// Asks the process and its children to end.
    pub(super) fn terminate(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    /// Kills the process and its children, once.
    pub(super) fn kill(&mut self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
        // The job, with all that is in it.
        #[cfg(windows)]
        let _ = self.child.start_kill();
        // The process itself, where there are no groups. An error says that it has ended.
        let _ = self.child.inner_mut().start_kill();
        self.id = None;
    }

    /// The group keeps its id for as long as one process is in it. An error says that none is.
    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.id.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process_group(id, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.id.is_some() {
            self.kill();
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn find(command: &[&str], path: &str) -> Result<PathBuf, ServerCommandError> {
        let command: Vec<String> = command.iter().map(|&part| part.to_owned()).collect();
        Program::find(&command, Some(OsStr::new(path))).map(|program| program.path)
    }

    #[test]
    fn a_program_is_found_once_and_by_its_whole_path() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        std::fs::write(inside("plain"), "").unwrap();
        std::os::unix::fs::symlink("/bin/sh", inside("shell")).unwrap();
        let path = format!("relative:/nowhere:{}", folder.path().display());
        assert_eq!(find(&["shell", "-c"], &path), Ok(inside("shell")));
        assert_eq!(find(&["/bin/sh"], ""), Ok("/bin/sh".into()));
        for name in ["plain", "missing", "/bin", "/nowhere/sh"] {
            assert_eq!(find(&[name], &path), Err(ServerCommandError::NotFound(name.into())), "{name}");
        }
        assert_eq!(find(&[], &path), Err(ServerCommandError::Empty));
        assert_eq!(find(&[""], &path), Err(ServerCommandError::Empty));
    }
}

#[cfg(test)]
#[cfg(windows)]
mod windows_tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn find(command: &[&str], path: &Path) -> Result<PathBuf, ServerCommandError> {
        let command: Vec<String> = command.iter().map(|&part| part.to_owned()).collect();
        Program::find(&command, Some(path.as_os_str())).map(|program| program.path)
    }

    #[test]
    fn a_program_is_found_without_its_extension() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        for name in ["node.exe", "npx.cmd", "npx", "python3.11.exe"] {
            std::fs::write(inside(name), "").unwrap();
        }
        for (name, found) in [
            ("node", "node.exe"),
            ("node.exe", "node.exe"),
            // Beside it is a script for another system.
            ("npx", "npx.cmd"),
            ("python3.11", "python3.11.exe"),
        ] {
            assert_eq!(find(&[name], folder.path()), Ok(inside(found)), "{name}");
        }
        assert_eq!(find(&["missing"], folder.path()), Err(ServerCommandError::NotFound("missing".into())));
    }

    /// `cmd` starts a program of its own, which waits for input and holds the pipe of the output open: that is closed when both
    /// have ended.
    #[tokio::test]
    async fn the_children_of_a_process_end_with_it() {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let path = environment.iter().find(|(name, _)| name.eq_ignore_ascii_case("PATH")).map(|(_, path)| path.clone());
        let command = ["cmd", "/c", "cmd /c echo begun & cmd /c pause"].map(str::to_owned);
        let program = Program::find(&command, path.as_deref()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut started = program.start(folder.path(), &environment).unwrap();
        let mut first = [0];
        assert_eq!(started.output.read(&mut first).await.unwrap(), 1, "the child has begun");
        drop(started.group);
        started.output.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
