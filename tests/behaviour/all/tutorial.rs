//! `docs/src/tutorials/add-a-tool.md`, followed to the letter.
//!
//! This is the only test that runs cargo: what it proves is that the page is true. It works on a copy of the component in
//! the target directory, offline, and shares what is compiled already.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{process, tests_dir};

/// The start of the list of tools.
const LIST: &str = "\ntools! {\n";

/// The block of Rust that follows a text of the page.
fn block_after<'p>(page: &'p str, text: &str) -> &'p str {
    let (_, rest) = page.split_once(text).unwrap_or_else(|| panic!("the page does not say {text}"));
    let (before, rest) = rest.split_once("```rust\n").expect("a block follows");
    assert!(!before.contains("```"), "another block is in between");
    rest.split_once("```").expect("the block ends").0
}

/// Copies the sources in a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("it is something").is_dir() {
            true if entry.file_name() == "fuzz" => {}
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("the file can be copied")),
        }
    }
}

/// A copy of the component as a workspace of its own.
fn copy_of_the_component(workspace: &Path) -> PathBuf {
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adding-a-tool");
    if copied.exists() {
        fs::remove_dir_all(&copied).expect("the last copy can be removed");
    }
    copy(&workspace.join("guest"), &copied.join("guest"));
    copy(&workspace.join("wit"), &copied.join("wit"));
    // The rules that the keeper shares with the program.
    copy(&workspace.join("host/boundary"), &copied.join("host/boundary"));
    // Vectors that tests of the component read.
    copy(&workspace.join("tests/fixtures/wycheproof"), &copied.join("tests/fixtures/wycheproof"));
    let manifest = fs::read_to_string(workspace.join("Cargo.toml")).expect("the workspace has a manifest");
    let (before, rest) = manifest.split_once("\nmembers = ").expect("the workspace has members");
    let (members, _) = rest.split_once(']').expect("they are a list");
    let members: Vec<_> = members.split('"').filter(|member| member.starts_with("guest/")).collect();
    let (_, after) = rest.split_once("\nexclude = ").expect("what is excluded follows: change this test");
    let manifest = format!("{before}\nmembers = {members:?}\nexclude = {after}");
    // Cargo tells packages apart by their place in the workspace, which is the same here: with the version of the original
    // it would take the one's tests for the other's.
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"\nedition");
    assert!(manifest.contains(version), "the version of the workspace is elsewhere: change this test");
    let manifest = manifest.replace(version, "version = \"0.0.0\"\nedition");
    let boundary = concat!("host/boundary\", version = \"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(manifest.contains(boundary), "the crate of shared rules is elsewhere: change this test");
    let manifest = manifest.replace(boundary, "host/boundary\"");
    fs::write(copied.join("Cargo.toml"), manifest).expect("written");
    fs::copy(workspace.join("Cargo.lock"), copied.join("Cargo.lock")).expect("the workspace has a lock file");
    copied
}

#[test]
fn a_tool_is_one_file_and_one_line() {
    let workspace = tests_dir().join("..").canonicalize().expect("the tests are in the workspace");
    let page = fs::read_to_string(workspace.join("docs/src/tutorials/add-a-tool.md")).expect("the page is there");
    let (file, line) = (block_after(&page, "`guest/server/src/tools/who_am_i.rs`:"), block_after(&page, "## The line"));
    assert_eq!(line.trim_end().lines().count(), 1, "one line, not {line}");

    let copied = copy_of_the_component(&workspace);
    let (tool, list) = (copied.join("guest/server/src/tools/who_am_i.rs"), copied.join("guest/server/src/tools.rs"));
    assert!(!tool.exists(), "the tool of the page is in the component");
    fs::write(&tool, file).expect("written");
    let tools = fs::read_to_string(&list).expect("the list of tools is there");
    let (before, after) = tools.split_once(LIST).expect("the list begins as the page says");
    fs::write(&list, format!("{before}{LIST}{line}{after}")).expect("written");

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder is in the target directory");
    let output = process::blocking(process::variable("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&copied)
        .args(["test", "--offline", "--quiet", "--package", "entra-mcp-guest-server", "--lib", "--target-dir"])
        .arg(target)
        .args(["--", "tools::"])
        .output()
        .expect("cargo starts");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}");
    assert!(!printed.contains("warning"), "{printed}");
    let passed = printed.split("test result: ok. ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    // Those of the file, and those that look at all tools.
    assert!(passed.is_some_and(|passed| passed >= 4), "{printed}");
}
