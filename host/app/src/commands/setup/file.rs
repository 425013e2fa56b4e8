//! The configuration file: which lines change, and nothing else of it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::error::SetupError;
use crate::commands::CommandError;
use crate::config::SetupConfig;

/// Stands for the id of an application that is not registered yet.
const NEW: &str = "(the new client id)";

/// What the file will be.
pub(super) struct FileChange<'a> {
    path: &'a Path,
    /// What is there; `None`: there is no file.
    old: Option<String>,
    new: String,
    /// For each line that changes: how it is now, and how it will be.
    changes: Vec<(Option<String>, String)>,
}

impl<'a> FileChange<'a> {
    /// Compares the file with what belongs into it. Without an `app_id`, it is for showing only.
    pub(super) fn new(config: &'a SetupConfig, app_id: Option<&str>, tenant: &str) -> Result<Self, CommandError> {
        let path = config.file.as_path();
        let old = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(CommandError::File { path: path.display().to_string(), reason: error.to_string() });
            }
        };
        let mut wanted = vec![("client-id", app_id.unwrap_or(NEW).to_owned())];
        if !config.several_tenants {
            wanted.insert(0, ("tenant-id", tenant.to_owned()));
        }
        wanted.extend(config.given.iter().cloned());
        let text = old.clone().unwrap_or_default();
        let present: toml::Table = text.parse().unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut changes = Vec::new();
        for (name, value) in &wanted {
            let is_same = match present.get(*name) {
                Some(toml::Value::String(known)) => known == value,
                Some(toml::Value::Array(known)) => known.as_slice() == [toml::Value::from(value.as_str())],
                _ => false,
            };
            if !is_same {
                changes.push(set(&mut lines, name, value, *name == "certificate-file"));
            }
        }
        let mut new = lines.join("\n");
        new.push('\n');
        let change = Self { path, old, new, changes };
        change.check(&wanted)?;
        Ok(change)
    }

    /// Whether the new text says what it should: a value over several lines, for one, is not for this program.
    fn check(&self, wanted: &[(&'static str, String)]) -> Result<(), SetupError> {
        let parsed: Result<toml::Table, _> = self.new.parse();
        let is_said = |table: &toml::Table| {
            wanted.iter().all(|(name, value)| match table.get(*name) {
                Some(toml::Value::String(known)) => known == value,
                Some(toml::Value::Array(known)) => known.as_slice() == [toml::Value::from(value.as_str())],
                _ => false,
            })
        };
        match parsed {
            Ok(table) if is_said(&table) => Ok(()),
            Ok(_) => Err(self.by_hand("a setting stands in it twice, or over several lines")),
            Err(error) => Err(self.by_hand(error.message())),
        }
    }

    fn by_hand(&self, reason: &str) -> SetupError {
        let lines = self.changes.iter().map(|(_, new)| new.clone()).collect();
        SetupError::File { path: self.path.display().to_string(), reason: reason.to_owned(), lines }
    }

    /// What changes, for people.
    pub(super) fn shown(&self) -> Option<String> {
        if self.changes.is_empty() {
            return None;
        }
        let state = if self.old.is_some() { "changed" } else { "new" };
        let mut lines = vec![format!("Configuration file {} ({state})", self.path.display())];
        for (old, new) in &self.changes {
            lines.extend(old.iter().map(|old| format!("  - {old}")));
            lines.push(format!("  + {new}"));
        }
        Some(lines.join("\n"))
    }

    /// Writes it, if something changes.
    pub(super) fn write(&self) -> Result<(), CommandError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let written = match &self.old {
            // A file that is there keeps its owner and its mode.
            Some(_) => fs::write(self.path, &self.new),
            None => self.create(),
        };
        written.map_err(|error| CommandError::NotWritten {
            path: self.path.display().to_string(),
            reason: error.to_string(),
        })
    }

    fn create(&self) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.path)?.write_all(self.new.as_bytes())
    }
}

/// Sets a key of the first table, in which all settings are. Returns the line as it was and as it is.
fn set(lines: &mut Vec<String>, name: &str, value: &str, is_list: bool) -> (Option<String>, String) {
    let value = toml::Value::from(value);
    let new = if is_list { format!("{name} = [{value}]") } else { format!("{name} = {value}") };
    let end = lines.iter().position(|line| line.trim_start().starts_with('[')).unwrap_or(lines.len());
    let is_it = |line: &String| {
        let key = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && key.trim_matches('"') == name
    };
    let known = lines.iter().take(end).position(is_it);
    match known.and_then(|at| lines.get_mut(at)) {
        Some(line) => (Some(std::mem::replace(line, new.clone())), new),
        None => {
            // Before the empty lines that part the settings from the first table.
            let filled = lines.iter().take(end).rposition(|line| !line.trim().is_empty());
            lines.insert(filled.map_or(0, |at| at.saturating_add(1)), new.clone());
            (None, new)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_setting_is_replaced_where_it_stands_and_nothing_else_changes() {
        let mut file = lines("# mine\nclient-id = \"a\" # old\nlog-format = \"json\"\n\n[[tools]]\nclient-id = \"x\"");
        let change = set(&mut file, "client-id", "b", false);
        assert_eq!(change, (Some("client-id = \"a\" # old".to_owned()), "client-id = \"b\"".to_owned()));
        assert_eq!(file, lines("# mine\nclient-id = \"b\"\nlog-format = \"json\"\n\n[[tools]]\nclient-id = \"x\""));
    }

    #[test]
    fn a_new_setting_stands_before_the_first_table() {
        let mut file = lines("log-format = \"json\"\n\n[[tools]]\nfile = \"x\"");
        set(&mut file, "client-id", "b", false);
        assert_eq!(file, lines("log-format = \"json\"\nclient-id = \"b\"\n\n[[tools]]\nfile = \"x\""));
        let mut empty = Vec::new();
        set(&mut empty, "certificate-file", "/x.pem", true);
        assert_eq!(empty, ["certificate-file = [\"/x.pem\"]"]);
    }
}
