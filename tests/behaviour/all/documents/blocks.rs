//! The fenced blocks of the pages, and what each of them is.
//!
//! A block is something that a reader takes over (a command, a program, a configuration), a drawing, or output. Output is
//! marked in the block's info string with `test=` and the name of the test that produces it. Renderers show the first
//! word of an info string at most.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::support::tests_dir;

/// Pages beside the book.
const BESIDE: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "host/plugin/README.md"];

/// Languages that readers take over.
const INPUT: [&str; 11] = ["caddy", "ini", "js", "nginx", "python", "rust", "sh", "toml", "wit", "xml", "yaml"];

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    Drawing,
    /// Output of the test with this name.
    Output(String),
}

/// A page of the documentation.
pub(super) struct Page {
    /// Relative to the workspace.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A fenced block.
pub(super) struct Block {
    pub(super) info: String,
    /// Where the content is in the page: all lines between the fences.
    pub(super) content: Range<usize>,
}

impl Block {
    /// What the info string and the content say; an error says what is wrong with them.
    pub(super) fn kind(&self, content: &str) -> Result<Kind, String> {
        let mut words = self.info.split_whitespace();
        let language = words.next().unwrap_or_default();
        let is_transcript = content.lines().any(|line| line.trim_start().starts_with("$ "));
        match (language, words.collect::<Vec<_>>().as_slice()) {
            (_, [mark]) if mark.starts_with("test=") => Ok(Kind::Output(mark["test=".len()..].to_owned())),
            ("json", ["input"]) => Ok(Kind::Input),
            ("text", ["drawing"]) => Ok(Kind::Drawing),
            (language, []) if INPUT.contains(&language) && !is_transcript => Ok(Kind::Input),
            _ => Err(format!("`{}` says neither `test=…` nor that it is input or a drawing", self.info)),
        }
    }
}

impl Page {
    /// Every page of the book, and those beside it.
    pub(super) fn all() -> Vec<Self> {
        let workspace = workspace();
        let mut paths: Vec<_> = BESIDE.iter().map(|path| workspace.join(path)).collect();
        let mut folders = vec![workspace.join("docs/src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the folder can be read") {
                let path = entry.expect("the folder can be read").path();
                match path.extension() {
                    None => folders.push(path),
                    Some(extension) if extension == "md" => paths.push(path),
                    Some(_) => {}
                }
            }
        }
        paths.sort();
        let read = |path: PathBuf| Self {
            text: fs::read_to_string(&path).expect("a page is text"),
            path: path.strip_prefix(&workspace).expect("a page is in the workspace").to_owned(),
        };
        paths.into_iter().map(read).collect()
    }

    /// The blocks in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open, mut at) = (Vec::new(), None, 0);
        for line in self.text.split_inclusive('\n') {
            let next = at + line.len();
            match (line.trim().strip_prefix("```"), open.take()) {
                (Some(info), None) => open = Some((info.to_owned(), next)),
                (Some(_), Some((info, start))) => blocks.push(Block { info, content: start..at }),
                (None, before) => open = before,
            }
            at = next;
        }
        assert!(open.is_none(), "{}: a block does not end", self.path.display());
        blocks
    }
}

/// The folder of the workspace.
pub(super) fn workspace() -> PathBuf {
    tests_dir().join("..").canonicalize().expect("the tests are in the workspace")
}

/// Where the renewed page of a test is written to.
pub(super) fn renewed(test: &str, page: &Path) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents").join(test).join(page);
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
    path
}
