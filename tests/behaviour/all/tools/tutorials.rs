//! `docs/src/tutorials/write-a-tool.md`: its programs are those of the projects, which `projects.rs` builds.

use std::fs;

use super::projects::Project;
use crate::support::tests_dir;

/// The first block of a language on a page.
fn block<'p>(page: &'p str, language: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no block of {language}"));
    rest.split_once("```").expect("the block ends").0
}

#[test]
fn the_programs_of_the_tutorial_are_those_of_the_projects() {
    let page =
        fs::read_to_string(tests_dir().join("../docs/src/tutorials/write-a-tool.md")).expect("the page is there");
    for (language, folder, file) in
        [("rust", "rust", "src/lib.rs"), ("js", "js", "tool.js"), ("python", "python", "src/app.py")]
    {
        let source = Project::new(folder).read(file);
        let program = source.split("\n#[cfg(test)]").next().expect("a split has a first part");
        assert_eq!(block(&page, language), program, "{file}");
    }
}

#[test]
fn the_commands_of_the_tutorial_are_those_of_the_projects() {
    let page =
        fs::read_to_string(tests_dir().join("../docs/src/tutorials/write-a-tool.md")).expect("the page is there");
    let page = page.replace("mail.wasm", "order-desk.wasm");
    for language in ["rust", "js", "python"] {
        for command in Project::new(language).commands() {
            assert!(page.contains(&format!("{command}\n")), "{language}: {command}");
        }
    }
}
