//! What was found, as a tree for people and as JSON for programs.

use serde_json::{Value, json};

/// How much a finding matters, from nothing to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// It works.
    Good,
    /// It was not looked at, or says nothing of itself.
    Skipped,
    /// It works, or may not work for every client.
    Warning,
    /// It does not work.
    Failure,
}

impl Severity {
    fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Skipped => "·",
            Self::Warning => "!",
            Self::Failure => "✗",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// A stable name for programs.
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// What is the case.
    pub(super) what: String,
    /// What to change, and where. Every warning and every failure has it.
    pub(super) change: Option<String>,
}

impl Finding {
    pub(super) fn good(id: &'static str, what: impl Into<String>) -> Self {
        Self { id, severity: Severity::Good, what: what.into(), change: None }
    }

    pub(super) fn skipped(id: &'static str, what: impl Into<String>) -> Self {
        Self { id, severity: Severity::Skipped, what: what.into(), change: None }
    }

    pub(super) fn warning(id: &'static str, what: impl Into<String>, change: impl Into<String>) -> Self {
        Self { id, severity: Severity::Warning, what: what.into(), change: Some(change.into()) }
    }

    pub(super) fn failure(id: &'static str, what: impl Into<String>, change: impl Into<String>) -> Self {
        Self { id, severity: Severity::Failure, what: what.into(), change: Some(change.into()) }
    }

    /// From a sentence that says both: `what: what to change`. `otherwise` is what to change where it says only the first.
    pub(super) fn of_sentence(id: &'static str, sentence: &str, otherwise: &str) -> Self {
        match sentence.split_once(": ") {
            Some((what, change)) if !change.trim().is_empty() => Self::failure(id, what, change),
            _ => Self::failure(id, sentence.trim_end_matches([' ', ':']), otherwise),
        }
    }
}

/// Findings about one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) findings: Vec<Finding>,
}

/// All layers, in the order in which they fail in practice.
#[derive(Debug, Default)]
pub(super) struct Report(pub(super) Vec<Section>);

impl Report {
    pub(super) fn add(&mut self, title: &'static str, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.0.push(Section { title, findings });
        }
    }

    /// How many findings matter this much.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.0.iter().flat_map(|section| &section.findings).filter(|finding| finding.severity == severity).count()
    }

    /// The tree.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        for section in &self.0 {
            lines.push(section.title.to_owned());
            let last = section.findings.len().saturating_sub(1);
            for (number, finding) in section.findings.iter().enumerate() {
                let (branch, below) = if number == last { ("└─", "  ") } else { ("├─", "│ ") };
                // What a parser says has several lines.
                let what = finding.what.replace('\n', &format!("\n{below}   "));
                lines.push(format!("{branch} {} {what}", finding.severity.mark()));
                if let Some(change) = &finding.change {
                    lines.push(format!("{below}   → {change}"));
                }
            }
        }
        lines.push(format!(
            "{} ✗, {} !, {} ✓",
            self.count(Severity::Failure),
            self.count(Severity::Warning),
            self.count(Severity::Good)
        ));
        lines.join("\n")
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "id": finding.id, "severity": finding.severity.name(), "what": finding.what, "change": finding.change,
            })
        };
        let section = |section: &Section| {
            let findings: Vec<_> = section.findings.iter().map(finding).collect();
            json!({ "title": section.title, "findings": findings })
        };
        json!({
            "failures": self.count(Severity::Failure),
            "warnings": self.count(Severity::Warning),
            "sections": self.0.iter().map(section).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_a_line_for_what_is_the_case_and_one_for_what_to_change() {
        let mut report = Report::default();
        report.add(
            "Settings",
            vec![Finding::good("settings", "all set\nin both"), Finding::failure("x", "it is wrong", "do this")],
        );
        report.add("Nothing", Vec::new());
        report.add("Store", vec![Finding::warning("y", "it is tight", "do that")]);
        let expected = "Settings\n├─ ✓ all set\n│    in both\n└─ ✗ it is wrong\n     → do this\nStore\n└─ ! it is tight\n     → do that\n\
                        1 ✗, 1 !, 1 ✓";
        assert_eq!(report.text(), expected);
        assert_eq!(
            (&report.json()["failures"], &report.json()["sections"][1]["findings"][0]["id"]),
            (&json!(1), &json!("y"))
        );
    }

    #[test]
    fn a_sentence_is_split_into_what_and_what_to_change() {
        let finding = Finding::of_sentence("x", "The secret is wrong: use its value. (AADSTS7000215)", "-");
        assert_eq!(finding, Finding::failure("x", "The secret is wrong", "use its value. (AADSTS7000215)"));
        for without in ["It is wrong", "It is wrong: "] {
            assert_eq!(
                Finding::of_sentence("x", without, "see the log"),
                Finding::failure("x", "It is wrong", "see the log")
            );
        }
    }
}
