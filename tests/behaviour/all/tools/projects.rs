//! `entra-mcp tools new`: each project builds, and its tests pass, with the commands of its own README.
//!
//! What README says about packages is done before the tests (`tests/clients/install.sh`, from the same lock files),
//! so that the tests need no network; every other command is taken from README and run in a shell.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::support::{process, tools};

const NAME: &str = "order-desk";
/// What the tests do not run: packages are installed before, and the last command is for the component that is built.
const NOT_RUN: [&str; 4] = ["npm ci ", "python3 -m venv ", ".venv/bin/pip install ", "entra-mcp inspect "];

/// A project that the program has made.
pub(super) struct Project {
    _parent: TempDir,
    folder: PathBuf,
}

impl Project {
    pub(super) fn new(language: &str) -> Self {
        let parent = tempfile::tempdir().expect("there is a place for temporary files");
        let output = new(parent.path(), NAME, language);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).expect("text");
        let next: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(next.len(), 2, "{printed}");
        assert!(next[0].starts_with("cd order-desk && "), "{printed}");
        assert!(next[1].starts_with("entra-mcp inspect "), "{printed}");
        let folder = parent.path().join(NAME);
        Self { _parent: parent, folder }
    }

    /// A file of the project.
    pub(super) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The commands of README, in their order.
    pub(super) fn commands(&self) -> Vec<String> {
        let readme = self.read("README.md");
        let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let commands = blocks.flat_map(str::lines).filter(|line| !NOT_RUN.iter().any(|not| line.starts_with(not)));
        commands.map(str::to_owned).collect()
    }

    /// Runs the commands of README, of which the last one but for `inspect` builds `component`.
    fn follow_readme(&self, component: &str) -> PathBuf {
        let commands = self.commands();
        assert!(commands.len() >= 2, "README tests and builds: {commands:?}");
        for command in commands {
            let output = process::blocking("sh")
                .args(["-ec", &command])
                .current_dir(&self.folder)
                // Kept from one run to the next, because cargo would compile the same packages each time.
                .env("CARGO_TARGET_DIR", self.cargo_target())
                .env("NO_UPDATE_NOTIFIER", "1")
                .output()
                .expect("a shell starts");
            let printed = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&printed));
        }
        let built = match component.strip_prefix("target/") {
            Some(below) => self.cargo_target().join(below),
            None => self.folder.join(component),
        };
        assert!(built.is_file(), "README builds {component}");
        built
    }

    /// Names the files of the project, and what is in them.
    fn fingerprint(&self) -> u64 {
        let (mut folders, mut files) = (vec![self.folder.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the project is readable") {
                let path = entry.expect("the project is readable").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((fs::read(&path).expect("the project is readable"), path));
                }
            }
        }
        let files =
            files.into_iter().map(|(content, path)| (path.strip_prefix(&self.folder).map(PathBuf::from), content));
        let mut files: Vec<_> = files.map(|(path, content)| (path.expect("it is in the project"), content)).collect();
        files.sort();
        let mut told = DefaultHasher::new();
        files.hash(&mut told);
        told.finish()
    }

    fn cargo_target(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools-rust")
    }

    /// Puts what is installed already where README has it installed.
    fn with(self, installed: &Path, name: &str) -> Self {
        symlink(installed, self.folder.join(name)).expect("the link can be made");
        self
    }
}

/// What a language's project builds, and where its packages are put if they were installed before.
fn kit(language: &str) -> (&'static str, Option<(PathBuf, &'static str)>) {
    match language {
        "rust" => ("target/wasm32-wasip2/release/order_desk.wasm", None),
        "js" => ("order-desk.wasm", Some((tools::builder("tools-js").join("node_modules"), "node_modules"))),
        "python" => ("order-desk.wasm", Some((tools::builder("tools-python"), ".venv"))),
        other => panic!("there is no project in {other}"),
    }
}

/// Makes a project, tests and builds it as its README says; the component.
fn build(language: &str) -> (Project, PathBuf) {
    let (component, packages) = kit(language);
    let mut project = Project::new(language);
    if let Some((installed, name)) = packages {
        project = project.with(&installed, name);
    }
    let built = project.follow_readme(component);
    (project, built)
}

/// The component of a language's project. The tools of JavaScript and Python never build the same one twice, and an engine
/// takes long to compile: so one is kept as long as the project is the same.
pub(super) fn component(language: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools-built");
    let kept = folder.join(format!("{language}-{:016x}.wasm", Project::new(language).fingerprint()));
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.is_file() {
        let (_project, built) = build(language);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let new = tempfile::NamedTempFile::new_in(&folder).expect("a file can be made");
        fs::copy(built, new.path()).expect("the component can be copied");
        new.persist(&kept).expect("the component can be kept");
    }
    // Compiled once, here, and not by each server that is started with it.
    let output = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"))
        .arg("inspect")
        .arg(&kept)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    kept
}

fn new(place: &Path, name: &str, language: &str) -> std::process::Output {
    process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"))
        .args(["tools", "new", name, "--language", language])
        .current_dir(place)
        .output()
        .expect("the program starts")
}

#[test]
#[cfg_attr(given_test_tools, ignore = "needs the Rust target wasm32-wasip2: rustup target add wasm32-wasip2")]
fn a_project_in_rust_is_tested_and_built_as_its_readme_says() {
    build("rust");
}

#[test]
#[cfg_attr(not(client = "tools-js"), ignore = "needs the client tools-js: use tests/run")]
fn a_project_in_javascript_is_tested_and_built_as_its_readme_says() {
    build("js");
}

#[test]
#[cfg_attr(not(client = "tools-python"), ignore = "needs the client tools-python: use tests/run")]
fn a_project_in_python_is_tested_and_built_as_its_readme_says() {
    build("python");
}

#[test]
fn a_folder_that_is_there_is_left_alone_and_a_name_that_does_not_fit_is_refused() {
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    fs::create_dir(place.path().join(NAME)).expect("made");
    for name in [NAME, "../order-desk", "Order Desk"] {
        let output = new(place.path(), name, "js");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert_eq!(fs::read_dir(place.path()).expect("readable").count(), 1);
    assert_eq!(fs::read_dir(place.path().join(NAME)).expect("readable").count(), 0);
}
