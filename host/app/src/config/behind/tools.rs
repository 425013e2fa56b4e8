//! Components with tools.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::MatchesError;
use clap::{Arg, ArgMatches};
use entra_mcp_plugin::environment::{ServerIdentity, ServerKind, ServerSettings};
use serde::Deserialize;

use super::Context;
use super::egress::{self, EgressConfig, EgressEntry};
use super::names::{GivenNames, Keys, ServerPlace};
use super::variables::{VariableEntries, Variables};
use crate::config::setting::SettingValue;
use crate::config::{ConfigError, within};

/// Memory of one call unless set otherwise, in MiB: a JavaScript engine with its program takes some 20.
const DEFAULT_MAX_MEMORY_MIB: u32 = 64;
/// Bounds of it: below, no engine starts; above, a few calls take a small machine's memory.
const MEMORY_MIB: RangeInclusive<u32> = 1..=1024;

/// Time of one call unless set otherwise, in seconds: Graph ends its own work after 30.
const DEFAULT_MAX_SECONDS: u32 = 30;
/// Bounds of it: the server gives up a request after 60 s.
const SECONDS: RangeInclusive<u32> = 1..=60;

/// Longest answer unless set otherwise, in KiB: more text than a model reads.
const DEFAULT_MAX_ANSWER_KIB: u32 = 1024;
/// Bounds of it: the answer passes through the memory of the component.
const ANSWER_KIB: RangeInclusive<u32> = 1..=4096;

/// Calls at the same time unless set otherwise.
const DEFAULT_MAX_CONCURRENT: u32 = 64;
/// Bounds of it. Each call has an instance.
const CONCURRENT: RangeInclusive<u32> = 1..=1024;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const KEYS: Keys = Keys { name: "tools.name", path: "tools.path", title: "tools.title", tools: "tools.tools" };

/// One `[[tools]]`, or one `--tools`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolsEntry {
    /// The component.
    pub file: PathBuf,
    /// The name of the server; left out: that of the file.
    pub name: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// For people.
    pub title: Option<String>,
    /// Tools that the consent page names, of a component that is a whole MCP server.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Where its requests may go.
    #[serde(default)]
    pub egress: Vec<EgressEntry>,
    /// Its variables.
    #[serde(default)]
    pub variables: VariableEntries,
    /// Whether an instance serves several calls.
    #[serde(default)]
    pub reuse: bool,
    /// Memory of one call.
    pub max_memory_mib: Option<u32>,
    /// Time of one call.
    pub max_seconds: Option<u32>,
    /// Longest answer.
    pub max_answer_kib: Option<u32>,
    /// Calls at the same time.
    pub max_concurrent: Option<u32>,
    /// Whether a flag or a variable names the file, and no `[[tools]]` says more about it.
    #[serde(skip)]
    pub is_bare: bool,
}

/// A component with tools, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolsConfig {
    /// Name and path.
    pub place: ServerPlace,
    /// The component. It can be read.
    pub file: PathBuf,
    /// Where its requests may go.
    pub egress: Vec<EgressConfig>,
    /// Its variables.
    pub variables: Variables,
    /// Whether an instance serves several calls.
    pub reuse: bool,
    /// Memory of one call.
    pub max_memory_bytes: usize,
    /// Time of one call.
    pub max_time: Duration,
    /// Longest answer.
    pub max_answer_bytes: usize,
    /// Calls at the same time.
    pub max_concurrent: usize,
    /// Whether a flag or a variable names the file, and nothing says more about it.
    pub is_bare: bool,
}

impl ToolsEntry {
    /// As a flag names it.
    pub fn bare(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), is_bare: true, ..Self::default() }
    }

    /// The files that a flag or a variable names, with what the configuration file says about them.
    pub(super) fn completed(named: Vec<Self>, known: &[Self]) -> Vec<Self> {
        let complete = |entry: Self| {
            let of_file: Vec<Self> =
                known.iter().filter(|known| is_same_file(&known.file, &entry.file)).cloned().collect();
            if of_file.is_empty() { vec![entry] } else { of_file }
        };
        named.into_iter().flat_map(complete).collect()
    }

    pub(super) fn checked(self, names: &mut GivenNames, context: &Context<'_>) -> Result<ToolsConfig, ConfigError> {
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.file));
        let place = names.place(&KEYS, name, self.path, (self.title, self.tools)).map_err(|error| match error {
            ConfigError::Invalid { name: "tools.name", value, .. } if self.name.is_none() => {
                ConfigError::Conflict(format!(
                    "the file {} gives no name for a server, which is of a-z, 0-9 and -: rename it, or write a [[tools]] \
                     with a name (its file name gives {value:?})",
                    self.file.display()
                ))
            }
            error => error,
        })?;
        let readable = File::open(&self.file).and_then(|file| file.metadata());
        let reason = match readable {
            Ok(metadata) if metadata.is_file() => None,
            Ok(_) => Some("it is no file".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = reason {
            return Err(ConfigError::ToolsFile { path: self.file, reason });
        }
        let limit = |name, given: Option<u32>, default, range| {
            let value = given.unwrap_or(default);
            within(name, &value, range).map(|()| value)
        };
        let bytes = |value: u32, unit: usize| usize::try_from(value).unwrap_or(usize::MAX).saturating_mul(unit);
        let memory = limit("tools.max-memory-mib", self.max_memory_mib, DEFAULT_MAX_MEMORY_MIB, &MEMORY_MIB)?;
        let seconds = limit("tools.max-seconds", self.max_seconds, DEFAULT_MAX_SECONDS, &SECONDS)?;
        let answer = limit("tools.max-answer-kib", self.max_answer_kib, DEFAULT_MAX_ANSWER_KIB, &ANSWER_KIB)?;
        let concurrent = limit("tools.max-concurrent", self.max_concurrent, DEFAULT_MAX_CONCURRENT, &CONCURRENT)?;
        Ok(ToolsConfig {
            egress: egress::checked(&place.name, &self.egress, context)?,
            place,
            file: self.file,
            variables: self.variables.checked("tools.variables", context.environment)?,
            reuse: self.reuse,
            max_memory_bytes: bytes(memory, MIB),
            max_time: Duration::from_secs(seconds.into()),
            max_answer_bytes: bytes(answer, KIB),
            max_concurrent: bytes(concurrent, 1),
            is_bare: self.is_bare,
        })
    }
}

impl ToolsConfig {
    /// What the component is told.
    pub(super) fn settings(&self) -> ServerSettings {
        let mut permissions: Vec<Vec<String>> = Vec::new();
        for egress in &self.egress {
            if !egress.permissions.is_empty() && !permissions.contains(&egress.permissions) {
                permissions.push(egress.permissions.clone());
            }
        }
        let ServerPlace { name, path, title, tools } = self.place.clone();
        let identity = ServerIdentity::None;
        ServerSettings { name, path, kind: ServerKind::Tools, title, tools, permissions, identity }
    }

    /// What to tell an operator that named only the file, and what to write into the configuration file instead.
    pub fn bare_advice(&self) -> Option<(String, String)> {
        let ServerPlace { name, .. } = &self.place;
        let line = format!(
            "the tools of {name} get no token and reach nothing, because {} is named without its destinations: add them, such \
             as --egress 'https://graph.microsoft.com=User.Read', or write into the configuration file",
            self.file.display()
        );
        // A TOML string in the form that Rust gives to strings, which is the same for what a name or a path may hold.
        let block = format!(
            "[[tools]]\nname = {name:?}\nfile = {:?}\negress = [{{ to = \"{}\", scopes = [\"User.Read\"] }}]",
            self.file.display().to_string(),
            "https://graph.microsoft.com"
        );
        (self.is_bare && self.egress.is_empty()).then_some((line, block))
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let canonical = |file: &Path| file.canonicalize().ok();
    canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

/// The name that a file gives: `Mail_Tools.wasm` is `mail-tools`. Not every file name gives one that is accepted.
pub fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    stem.replace(['_', '.', ' '], "-")
}

/// A list of files.
impl SettingValue for Vec<ToolsEntry> {
    fn argument(argument: Arg) -> Arg {
        Vec::<String>::argument(argument)
    }

    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(Vec::<String>::of_matches(matches, name)?.map(|files| files.into_iter().map(ToolsEntry::bare).collect()))
    }

    fn of_text(text: &str) -> Option<Self> {
        Vec::<String>::of_text(text).map(|files| files.into_iter().map(ToolsEntry::bare).collect())
    }

    fn expected(_: &str) -> String {
        "a list of files separated by commas is expected".to_owned()
    }

    fn text(&self) -> String {
        self.iter().map(|entry| entry.file.display().to_string()).collect::<Vec<_>>().join(",")
    }
}
