//! Environment variables.

use std::env;
use std::fmt;
use std::str::FromStr;

use super::ConfigError;

/// The environment variables, or in tests what stands for them. Empty variables count as not set.
pub struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String>;

impl Environment {
    /// The variables of this process.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads environment variables")]
    pub fn of_process() -> Self {
        Self(Box::new(|name| env::var(name).ok()))
    }

    /// The given variables.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self(Box::new(move |name| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())))
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn parse<T: FromStr>(&self, name: &'static str, expected: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ConfigError::Invalid { name, value, expected: expected.to_owned() })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}
