//! `entra-mcp tools new`: a project for a tool component, which builds and whose tests pass as it is.
//!
//! The templates are projects themselves, in `tools/templates`, with `my-tools` in place of the name. The interfaces
//! that they need are those of the contract, so a project fits the program that made it.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap::ValueEnum;

use super::CommandError;
use crate::console;

/// The name of the project in the templates, as packages and as modules are called.
const NAME: &str = "my-tools";
const MODULE: &str = "my_tools";

/// Longest name of a project; a name of a server in the configuration may be as long.
const MAX_NAME_LETTERS: usize = 64;

/// The interfaces of a tool component. The order is that of the contract.
const INTERFACES: [&str; 3] = [
    include_str!("../../../../wit/types.wit"),
    include_str!("../../../../wit/tool-types.wit"),
    include_str!("../../../../wit/tool-provider.wit"),
];

/// The package that the interfaces are in.
const PACKAGE: &str = "package entra-mcp:plugin@0.2.0;\n";

/// A file of a template, with the path that it gets.
type File = (&'static str, &'static str);

/// Files of the folder of a template.
macro_rules! template {
    ($folder:literal: $($file:literal)*) => {
        [$(($file, include_str!(concat!("tools/templates/", $folder, "/", $file)))),*]
    };
}

/// Interfaces of WASI.
macro_rules! wasi {
    ($($package:literal)*) => {
        [$((
            concat!("wit/deps/wasi-", $package, ".wit"),
            include_str!(concat!("../../../../wit/deps/", $package, ".wit")),
        )),*]
    };
}

const RUST: [File; 6] =
    template!("rust": ".gitignore" "Cargo.lock" "Cargo.toml" "README.md" "src/lib.rs" "wit/world.wit");
const JS: [File; 7] = template!(
    "js": ".gitignore" "README.md" "package-lock.json" "package.json" "tool.js" "tool.test.js" "wit/world.wit"
);
const PYTHON: [File; 6] = template!(
    "python": ".gitignore" "README.md" "requirements.txt" "src/app.py" "test_app.py" "wit/world.wit"
);
/// Python speaks `wasi:http` itself, which refers to the others.
const WASI: [File; 7] = wasi!("cli" "clocks" "filesystem" "http" "io" "random" "sockets");

/// What the tools are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust, built with cargo
    Rust,
    /// JavaScript, built with jco
    Js,
    /// Python, built with componentize-py
    Python,
}

impl Language {
    fn files(self) -> Vec<File> {
        match self {
            Self::Rust => RUST.to_vec(),
            Self::Js => JS.to_vec(),
            Self::Python => [&PYTHON[..], &WASI].concat(),
        }
    }

    /// What builds the project, in its folder.
    fn build(self) -> &'static str {
        match self {
            Self::Rust => "cargo build --release --target wasm32-wasip2",
            Self::Js => "npm ci --ignore-scripts && npm run build",
            Self::Python => {
                "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt && \
                 .venv/bin/componentize-py -d wit -w tool componentize -p src app -o my-tools.wasm"
            }
        }
    }

    /// The component, in the folder of the project.
    fn component(self) -> &'static str {
        match self {
            Self::Rust => "target/wasm32-wasip2/release/my_tools.wasm",
            Self::Js | Self::Python => "my-tools.wasm",
        }
    }
}

/// Makes the project in a new folder of the current one.
pub fn new(name: &str, language: Language) -> Result<(), CommandError> {
    write_project(Path::new(name), name, language)?;
    console::result(&next(name, language));
    Ok(())
}

fn next(name: &str, language: Language) -> String {
    let mut text =
        format!("{name} is a project now; its README.md says more. Build it, and see what it would be granted:\n");
    let _ = write!(text, "\n  cd {name} && {}", named(language.build(), name));
    let _ = write!(text, "\n  entra-mcp inspect {}", named(language.component(), name));
    text
}

/// A text of a template with the name of the project.
fn named(text: &str, name: &str) -> String {
    text.replace(NAME, name).replace(MODULE, &name.replace('-', "_"))
}

/// Names that cargo, npm and the configuration all take.
fn check(name: &str) -> Result<(), CommandError> {
    let is_known = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let begins_well = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if begins_well && name.chars().all(is_known) && !name.ends_with('-') && name.len() <= MAX_NAME_LETTERS {
        return Ok(());
    }
    Err(CommandError::Usage(format!(
        "{name:?} is no name for a project: it begins with a letter from a to z, goes on with such letters, digits and hyphens, \
         does not end with a hyphen, and has at most {MAX_NAME_LETTERS} of them"
    )))
}

fn write_project(folder: &Path, name: &str, language: Language) -> Result<(), CommandError> {
    check(name)?;
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CommandError::Usage(format!(
            "{} is there already: choose another name, or remove it first",
            folder.display()
        )),
        _ => CommandError::NotWritten { path: folder.display().to_string(), reason: error.to_string() },
    })?;
    for (path, content) in language.files() {
        write(&folder.join(path), &named(content, name))?;
    }
    let interfaces = INTERFACES.map(|interface| format!("\n{interface}")).concat();
    write(&folder.join("wit/deps/entra-mcp-plugin.wit"), &format!("{PACKAGE}{interfaces}"))
}

fn write(path: &Path, content: &str) -> Result<(), CommandError> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, content))
        .map_err(|error| CommandError::NotWritten { path: path.display().to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: [Language; 3] = [Language::Rust, Language::Js, Language::Python];

    /// The lines of a source that its author writes: without tests, and without empty lines.
    fn authored(source: &str) -> usize {
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        source.lines().filter(|line| !line.trim().is_empty()).count()
    }

    #[test]
    fn no_template_has_more_than_forty_lines_of_the_authors_own() {
        for (files, source) in [(&RUST[..], "src/lib.rs"), (&JS[..], "tool.js"), (&PYTHON[..], "src/app.py")] {
            let (_, content) = files.iter().find(|(path, _)| *path == source).unwrap();
            assert!(authored(content) <= 40, "{source}: {}", authored(content));
        }
    }

    #[test]
    fn every_file_of_a_template_is_written_with_the_name_of_the_project() {
        for language in LANGUAGES {
            let folder = tempfile::tempdir().unwrap();
            let project = folder.path().join("order-desk");
            write_project(&project, "order-desk", language).unwrap();
            for (path, _) in language.files() {
                let written = fs::read_to_string(project.join(path)).unwrap();
                assert!(!written.contains(NAME) && !written.contains(MODULE), "{path}");
            }
            let interfaces = fs::read_to_string(project.join("wit/deps/entra-mcp-plugin.wit")).unwrap();
            assert!(interfaces.starts_with(PACKAGE) && interfaces.contains("interface tool-provider"));
        }
    }

    #[test]
    fn what_builds_a_project_is_what_its_readme_says() {
        for language in LANGUAGES {
            let files = language.files();
            let (_, readme) = files.iter().find(|(path, _)| *path == "README.md").unwrap();
            for command in language.build().split(" && ") {
                assert!(readme.contains(command), "{command}");
            }
            assert!(readme.contains(&format!("entra-mcp inspect {}\n", language.component())));
        }
    }

    #[test]
    fn a_folder_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_project(folder.path(), "order-desk", Language::Rust).unwrap_err();
        assert!(matches!(error, CommandError::Usage(_)), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_that_cargo_or_npm_or_a_shell_would_not_take_are_refused() {
        let long = "a".repeat(MAX_NAME_LETTERS + 1);
        for name in ["", "-a", "a-", "1a", "Mail", "a_b", "a b", "../a", "a/b", "a$b", "ä", &long] {
            assert!(matches!(check(name), Err(CommandError::Usage(_))), "{name}");
        }
        for name in ["a", "mail", "order-desk-2", &long[1..]] {
            assert!(check(name).is_ok(), "{name}");
        }
    }
}
