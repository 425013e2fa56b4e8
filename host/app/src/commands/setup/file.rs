//! The configuration file: which lines change, and nothing else of it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use toml::{Table, Value};

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
        let text = old.clone().unwrap_or_default();
        let present: Table = text.parse().unwrap_or_default();
        let tenant = config.several_tenants.as_deref().unwrap_or(tenant);
        let mut wanted = vec![("tenant-id", tenant.into()), ("client-id", app_id.unwrap_or(NEW).into())];
        wanted.extend(config.given.iter().map(|(name, value)| (*name, with_known(present.get(*name), value))));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut changes = Vec::new();
        for (name, value) in &wanted {
            if present.get(*name) != Some(value) {
                changes.push(set(&mut lines, name, value));
            }
        }
        let mut new = lines.join("\n");
        new.push('\n');
        let change = Self { path, old, new, changes };
        change.check(&wanted)?;
        Ok(change)
    }

    /// Whether the new text says what it should: a value over several lines, for one, is not for this program.
    fn check(&self, wanted: &[(&'static str, Value)]) -> Result<(), SetupError> {
        let parsed: Result<Table, _> = self.new.parse();
        let is_said = |table: &Table| wanted.iter().all(|(name, value)| table.get(*name) == Some(value));
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
        #[cfg(unix)]
        let mut file = {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(self.path)?
        };
        #[cfg(windows)]
        let mut file = entra_mcp_plugin::access_list::create_new(self.path)?;
        file.write_all(self.new.as_bytes())
    }
}

/// What a setting will be. A list, which is one of files, keeps what it has: the server may need the old one for a while.
fn with_known(known: Option<&Value>, given: &Value) -> Value {
    let Value::Array(given) = given else { return given.clone() };
    let mut files = known.and_then(Value::as_array).cloned().unwrap_or_default();
    let absolute = |file: &Value| file.as_str().and_then(|file| std::path::absolute(file).ok());
    for file in given {
        if !files.iter().any(|known| known == file || absolute(known) == absolute(file)) {
            files.push(file.clone());
        }
    }
    Value::Array(files)
}

/// Sets a key of the first table, in which all settings are. Returns the line as it was and as it is.
fn set(lines: &mut Vec<String>, name: &str, value: &Value) -> (Option<String>, String) {
    let new = format!("{name} = {value}");
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
        let change = set(&mut file, "client-id", &"b".into());
        assert_eq!(change, (Some("client-id = \"a\" # old".to_owned()), "client-id = \"b\"".to_owned()));
        assert_eq!(file, lines("# mine\nclient-id = \"b\"\nlog-format = \"json\"\n\n[[tools]]\nclient-id = \"x\""));
    }

    #[test]
    fn a_new_setting_stands_before_the_first_table() {
        let mut file = lines("log-format = \"json\"\n\n[[tools]]\nfile = \"x\"");
        set(&mut file, "client-id", &"b".into());
        assert_eq!(file, lines("log-format = \"json\"\nclient-id = \"b\"\n\n[[tools]]\nfile = \"x\""));
        let mut empty = Vec::new();
        set(&mut empty, "certificate-file", &files(&["/x.pem", "/y.pem"]));
        assert_eq!(empty, ["certificate-file = [\"/x.pem\", \"/y.pem\"]"]);
    }

    fn files(files: &[&str]) -> Value {
        Value::Array(files.iter().map(|file| Value::from(*file)).collect())
    }

    #[test]
    fn a_list_of_files_is_added_to_and_names_no_file_twice() {
        let here = std::path::absolute("here.pem").unwrap().display().to_string();
        for (known, given, expected) in [
            (None, files(&["/new.pem", "/old.pem"]), files(&["/new.pem", "/old.pem"])),
            (Some(files(&["/old.pem"])), files(&["/new.pem"]), files(&["/old.pem", "/new.pem"])),
            (Some(files(&["/old.pem", "/new.pem"])), files(&["/new.pem"]), files(&["/old.pem", "/new.pem"])),
            (Some(files(&["here.pem"])), files(&[&here]), files(&["here.pem"])),
            (None, files(&["/new.pem", "/new.pem"]), files(&["/new.pem"])),
            (Some("a".into()), "b".into(), "b".into()),
        ] {
            assert_eq!(with_known(known.as_ref(), &given), expected, "{known:?} and {given:?}");
        }
    }
}
