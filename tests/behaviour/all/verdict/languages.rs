//! The examples of the page in other languages, each as a program of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::authorities::{Liar, no_authorities};
use super::corpus::Corpus;
use super::{WITH_HTTP, WITH_KEYS, artefact};
use crate::support::patience::soon;
use crate::support::{process, tests_dir, tools};

/// The packages that turn a component into a module of JavaScript, and run it.
const JS: &str = "jco";
const PYTHON: &str = "validator-python";

fn example(name: &str) -> PathBuf {
    tests_dir().join("../docs/src/how-to/validate-tokens").join(name).canonicalize().unwrap()
}

/// Runs a program with these lines as its input; the lines that it prints.
async fn lines(command: &mut Command, input: &str) -> Vec<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // A program may print before it has read everything. One that ends early says why.
    let written = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = soon(child.wait_with_output()).await.expect("it ends").unwrap();
    let (stdout, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n--- stdout\n{stdout}\n--- stderr\n{errors}", output.status);
    written.await.unwrap().unwrap();
    stdout.lines().map(str::to_owned).collect()
}

/// A folder with the settings of the corpus in it.
fn folder(corpus: &Corpus) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("settings.json"), corpus.settings()).unwrap();
    folder
}

/// Turns a component into the module `validator/validator.js` in the folder, as the page says.
async fn transpile(component: &str, folder: &Path) {
    let node = tools::client(JS);
    let packages = tests_dir().join("clients").join(JS).join("node_modules").canonicalize().unwrap();
    std::os::unix::fs::symlink(&packages, folder.join("node_modules")).unwrap();
    let mut command = process::command(&node);
    command.arg(packages.join("@bytecodealliance/jco/src/jco.js")).arg("transpile").arg(artefact(component));
    command.args(["--name", "validator", "--out-dir", "validator"]).current_dir(folder);
    lines(&mut command, "").await;
}

/// What a program says of authorities that are another, each in a run of its own. `command` makes one with its settings in
/// the folder.
async fn judge_authorities(host: &str, folder: &Path, command: impl Fn() -> Command) {
    let liar = Liar::new().await;
    fs::write(folder.join("settings.json"), liar.corpus.settings()).unwrap();
    let token = format!("{}\n", liar.token());
    for (lie, metadata) in liar.lies() {
        liar.says(&metadata);
        liar.compare(host, lie, &lines(&mut command(), &token).await);
    }
    liar.corpus.lab.control().clear_faults();
    assert_eq!(lines(&mut command(), &token).await, [liar.corpus.cases[0].expected.as_str()], "{host}");
    for settings in no_authorities(&liar.corpus) {
        fs::write(folder.join("settings.json"), &settings).unwrap();
        assert_eq!(lines(&mut command(), &token).await, ["configuration-invalid"], "{host}: {settings}");
    }
}

fn python(folder: &Path) -> Command {
    let mut command = process::command(tools::client(PYTHON));
    command.arg(example("judge.py")).arg(artefact(WITH_HTTP)).arg("settings.json").current_dir(folder);
    command.env("PYTHONUTF8", "1");
    command
}

/// The module and the example are in the folder.
async fn prepare_node(folder: &Path) {
    transpile(WITH_HTTP, folder).await;
    fs::copy(example("judge.mjs"), folder.join("judge.mjs")).unwrap();
    fs::write(folder.join("package.json"), r#"{ "type": "module" }"#).unwrap();
}

fn node(folder: &Path) -> Command {
    let mut command = process::command(tools::client(JS));
    command.args(["judge.mjs", "settings.json"]).current_dir(folder);
    command
}

#[tokio::test]
#[cfg_attr(not(client = "validator-python"), ignore = "needs the client validator-python: use tests/run")]
async fn python_takes_no_keys_of_an_authority_that_is_another() {
    let folder = tempfile::tempdir().unwrap();
    judge_authorities("Python", folder.path(), || python(folder.path())).await;
}

#[tokio::test]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
async fn node_takes_no_keys_of_an_authority_that_is_another() {
    let folder = tempfile::tempdir().unwrap();
    prepare_node(folder.path()).await;
    judge_authorities("Node.js", folder.path(), || node(folder.path())).await;
}

#[tokio::test]
#[cfg_attr(not(client = "validator-python"), ignore = "needs the client validator-python: use tests/run")]
async fn python_gives_the_same_verdicts() {
    let corpus = Corpus::new().await;
    let folder = folder(&corpus);
    let said = lines(&mut python(folder.path()), &corpus.lines()).await;
    corpus.compare("Python", &said, |case| &case.expected);
}

#[tokio::test]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
async fn node_gives_the_same_verdicts() {
    let corpus = Corpus::new().await;
    let folder = folder(&corpus);
    prepare_node(folder.path()).await;
    let said = lines(&mut node(folder.path()), &corpus.lines()).await;
    corpus.compare("Node.js", &said, |case| &case.expected);
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "chromium", client = "pages", client = "jco")),
    ignore = "needs chromium and the clients jco and pages: use tests/run"
)]
async fn a_browser_gives_the_same_verdicts() {
    let corpus = Corpus::new().await;
    let folder = folder(&corpus);
    transpile(WITH_KEYS, folder.path()).await;
    fs::copy(example("judge.html"), folder.path().join("judge.html")).unwrap();
    fs::write(folder.path().join("jwks.json"), corpus.jwks().await).unwrap();
    let shim = folder.path().join("node_modules/@bytecodealliance/preview2-shim/lib/browser");
    std::os::unix::fs::symlink(shim.canonicalize().unwrap(), folder.path().join("preview2-shim")).unwrap();
    let tokens = folder.path().join("tokens.txt");
    fs::write(&tokens, corpus.lines().trim_end_matches('\n')).unwrap();

    let pages = tests_dir().join("clients/pages");
    let mut command = process::command(tools::client("pages"));
    command
        .arg(pages.join("judge.js"))
        .current_dir(pages)
        .env("CHROMIUM", tools::chromium())
        .env("FOLDER", folder.path())
        .env("TOKENS", tokens);
    corpus.compare("Chromium", &lines(&mut command, "").await, |case| &case.by_keys);
}
