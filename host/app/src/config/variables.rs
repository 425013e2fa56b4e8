//! Environment variables.

use std::env;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::{ConfigError, ServeLayer, StoreLayer};

/// The variables that are, or may have in them, a secret.
const SECRETS: [&str; 4] =
    [ServeLayer::CLIENT_SECRET, ServeLayer::CERTIFICATE_PASSWORD, StoreLayer::DATA_KEY, StoreLayer::STORE];

/// The environment variables, or in tests what stands for them. Empty variables count as not set.
#[derive(Clone)]
pub struct Environment(Rc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String>;

impl Environment {
    /// The variables of this process. The secrets among them are kept here and taken out of the process: programs that
    /// this one starts do not get them, and where the operating system shows a process's environment, they are not there.
    ///
    /// The program calls this once, before it starts a thread.
    pub(crate) fn take_from_process() -> Self {
        let secrets = SECRETS.map(|name| (name, take(name)));
        Self(Rc::new(move |name| match secrets.iter().find(|(secret, _)| *secret == name) {
            Some((_, value)) => value.as_ref().map(|value| value.to_string()),
            #[allow(clippy::disallowed_methods, reason = "the one place that reads environment variables")]
            None => env::var(name).ok(),
        }))
    }

    /// The given variables.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self(Rc::new(move |name| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())))
    }

    /// The same variables, but for one.
    pub(super) fn without(&self, left_out: &'static str) -> Self {
        let others = Rc::clone(&self.0);
        Self(Rc::new(move |name| if name == left_out { None } else { others(name) }))
    }

    /// Whether the terminal's characters are those of Unicode, as POSIX says it: the first of the variables of the locale that
    /// is set and not empty counts.
    fn shows_unicode(&self) -> bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| self.get(name));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let is_dumb = self.get("TERM").is_some_and(|terminal| terminal == "dumb");
        !is_dumb && (cfg!(windows) || locale.contains("utf-8") || locale.contains("utf8"))
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

/// Whether the terminal of this process can show Unicode: it is said by variables, and by no setting.
#[allow(clippy::disallowed_methods, reason = "the one module that reads environment variables")]
pub(crate) fn terminal_shows_unicode() -> bool {
    Environment(Rc::new(|name| env::var(name).ok())).shows_unicode()
}

/// Takes a variable out of the environment of this process.
#[allow(clippy::disallowed_methods, reason = "the one place that reads environment variables")]
#[allow(unsafe_code, reason = "no other thread may look at the environment meanwhile")]
fn take(name: &str) -> Option<Zeroizing<String>> {
    let value = env::var(name).ok().map(Zeroizing::new);
    wipe(name);
    // SAFETY: the only caller promises that there is no other thread yet.
    unsafe { env::remove_var(name) };
    value
}

/// Overwrites the value where the process was given it. Removing a variable removes only the pointer to it.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the standard library has no way to change the block that a process starts with")]
fn wipe(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: `getenv` returns a null pointer or a string that ends with a zero byte, in the environment block or in
    // memory of the C library; both can be written. There is no other thread yet that could look at it (see `take`).
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            std::ptr::write_bytes(value, 0, libc::strlen(value));
        }
    }
}

#[cfg(not(unix))]
fn wipe(_: &str) {}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_of_the_locale_that_is_set_says_whether_the_terminal_shows_unicode() {
        for (variables, shows) in [
            (&[("LANG", "de_DE.UTF-8")][..], true),
            (&[("LC_ALL", "C.utf8"), ("LANG", "C")], true),
            (&[("LC_ALL", ""), ("LC_CTYPE", "en_GB.UTF-8")], true),
            (&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")], false),
            (&[("LANG", "de_DE.UTF-8"), ("TERM", "dumb")], false),
            (&[], false),
        ] {
            assert_eq!(Environment::of(variables).shows_unicode(), shows, "{variables:?}");
        }
    }
}
