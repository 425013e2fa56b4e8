//! Pages of the documentation, for tests that run what a page says.

use std::fs;

use super::tests_dir;

/// A page of the book, or a part of it.
pub(crate) struct Page {
    name: String,
    text: String,
}

impl Page {
    /// The page with this path below `docs/src`.
    pub(crate) fn read(name: &str) -> Self {
        let path = tests_dir().join("../docs/src").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// What is below a heading of the second level.
    pub(crate) fn section(&self, heading: &str) -> Self {
        let start = format!("\n## {heading}\n");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("{}: no {heading}", self.name));
        let text = rest.split("\n## ").next().unwrap_or_default().to_owned();
        Self { name: format!("{} ({heading})", self.name), text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The blocks of a language, in their order.
    pub(crate) fn blocks(&self, language: &str) -> Vec<String> {
        let start = format!("```{language}\n");
        let blocks = self.text.split(start.as_str()).skip(1);
        blocks.map(|rest| rest.split_once("```").expect("a block ends").0.to_owned()).collect()
    }

    /// The first block of a language.
    pub(crate) fn block(&self, language: &str) -> String {
        self.blocks(language).into_iter().next().unwrap_or_else(|| panic!("{}: no block of {language}", self.name))
    }
}

/// A text with all that names a machine of the page's reader replaced; each has to be there.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the text of the page");
    text.replace(from, to)
}
