//! The variables of a server behind the program: those that the configuration names, and no others.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;

use crate::config::{ConfigError, Environment, ServeLayer, invalid};

/// What the names of the program's own variables begin with. Some tell a server who calls it.
const OWN: &str = "ENTRA_MCP_";

/// `NAME=value`, or `NAME` for that of this process. `Debug` shows the names: a value may be a secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct VariableEntries(pub Vec<String>);

impl fmt::Debug for VariableEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| name_of(entry))).finish()
    }
}

/// Names and values. `Debug` shows the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(pub Vec<(String, String)>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

impl VariableEntries {
    /// `key` is the setting that they stand in.
    pub(super) fn checked(&self, key: &'static str, environment: &Environment) -> Result<Variables, ConfigError> {
        let mut names = HashSet::new();
        let variables = self.0.iter().map(|entry| {
            let name = name_of(entry);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.bytes().all(plain) {
                return Err(invalid(key, name, "NAME=value is expected, or NAME for the variable of this process"));
            }
            if name.starts_with(OWN) {
                return Err(invalid(key, name, format!("names that begin with {OWN} are this program's own")));
            }
            if name == ServeLayer::CLIENT_SECRET {
                return Err(invalid(key, name, "the client secret is for Entra ID only: no server behind gets it"));
            }
            if name == ServeLayer::CERTIFICATE_PASSWORD {
                return Err(invalid(key, name, "it is the password of a key for Entra ID: no server behind gets it"));
            }
            if !names.insert(name) {
                return Err(invalid(key, name, "each variable is expected once"));
            }
            let value = match entry.split_once('=') {
                Some((_, value)) => value.to_owned(),
                None => environment.get(name).ok_or_else(|| {
                    invalid(key, name, format!("that variable is not set: set it, or write {name}=value"))
                })?,
            };
            if value.contains('\0') {
                return Err(invalid(key, name, "a value without a zero byte is expected"));
            }
            Ok((name.to_owned(), value))
        });
        variables.collect::<Result<_, _>>().map(Variables)
    }
}
