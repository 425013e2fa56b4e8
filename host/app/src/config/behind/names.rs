//! Names and paths of the servers.

use std::collections::HashSet;

use crate::config::serve::OWN_PATHS;
use crate::config::{ConfigError, invalid};

/// Characters of the longest name: as many as the component takes.
const MAX_NAME: usize = 64;

/// Characters of the longest path. It is part of URLs that clients and gateways compare.
const MAX_PATH: usize = 128;

/// Characters of the longest title: it is one line of the consent page.
const MAX_TITLE: usize = 128;

/// Bytes of the name of a tool on the consent page, and how many one server names there: as the component takes them.
const MAX_TOOL: usize = 128;
const MAX_TOOLS: usize = 100;

/// The path of the only server.
const ONLY_PATH: &str = "/mcp";

/// What people expect metrics at, and what the forward authentication is below.
const METRICS: &str = "/metrics";
const BELOW_AUTH: &str = "/auth/";

/// Where a server is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPlace {
    /// In rules, records and the log.
    pub name: String,
    /// Below the public URL.
    pub path: String,
    /// For people.
    pub title: Option<String>,
    /// Tools that the consent page names, of a whole MCP server.
    pub tools: Vec<String>,
}

/// The settings that the checks are about.
pub(super) struct Keys {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    pub(super) tools: &'static str,
}

/// The names and paths that are given already. Paths are in lower case: a proxy in front may ignore their case, and would
/// then reach the server whose rules are laxer.
pub(super) struct GivenNames {
    servers: usize,
    names: HashSet<String>,
    paths: HashSet<String>,
}

impl GivenNames {
    /// For so many servers.
    pub(super) fn new(servers: usize) -> Self {
        Self { servers, names: HashSet::new(), paths: HashSet::new() }
    }

    /// The first of `name`, `name-2`, `name-3` … that no server has.
    pub(super) fn free(&self, name: &str) -> String {
        let numbered = (2..).map(|number: usize| format!("{name}-{number}"));
        let mut all = std::iter::once(name.to_owned()).chain(numbered);
        all.find(|name| !self.names.contains(name)).unwrap_or_default()
    }

    /// Gives a server its place.
    pub(super) fn place(
        &mut self,
        keys: &Keys,
        name: String,
        path: Option<String>,
        (title, tools): (Option<String>, Vec<String>),
    ) -> Result<ServerPlace, ConfigError> {
        if !is_name(&name) {
            return Err(invalid(
                keys.name,
                &name,
                format!("1 to {MAX_NAME} characters of a-z, 0-9 and - are expected"),
            ));
        }
        if !self.names.insert(name.clone()) {
            return Err(ConfigError::Conflict(format!(
                "two servers are called {name:?}: give each a name of its own in [[tools]] or [[upstream]]"
            )));
        }
        let path = match path {
            Some(path) => check_path(keys.path, path)?,
            None if self.servers == 1 => ONLY_PATH.to_owned(),
            None => format!("/{name}/mcp"),
        };
        if !self.paths.insert(path.to_ascii_lowercase()) {
            return Err(ConfigError::Conflict(format!(
                "two servers have the path {path:?}, in whatever case, and the second of them is {name:?}: give it another \
                 path"
            )));
        }
        if let Some(title) = &title
            && (title.trim().is_empty() || title.chars().count() > MAX_TITLE || title.chars().any(char::is_control))
        {
            let expected = format!("one line of 1 to {MAX_TITLE} characters is expected");
            return Err(invalid(keys.title, title, expected));
        }
        let is_tool =
            |tool: &String| (1..=MAX_TOOL).contains(&tool.len()) && tool.bytes().all(|byte| byte.is_ascii_graphic());
        if tools.len() > MAX_TOOLS || !tools.iter().all(is_tool) {
            let expected =
                format!("at most {MAX_TOOLS} names of 1 to {MAX_TOOL} visible ASCII characters are expected");
            return Err(invalid(keys.tools, &tools.join(", "), expected));
        }
        Ok(ServerPlace { name, path, title, tools })
    }
}

/// Whether a server may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain)
}

fn check_path(key: &'static str, path: String) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    // A segment that begins with a dot is either no segment (`..`) or one of this server's own (`.well-known`).
    let segment = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain);
    let is_path = path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment));
    if !is_path || path.len() > MAX_PATH {
        let expected = format!(
            "a path such as /crm/mcp is expected: at most {MAX_PATH} characters, without a slash at its end, and no \
             segment begins with a dot"
        );
        return Err(invalid(key, &path, expected));
    }
    // A proxy in front may ignore the case of paths.
    let lower = path.to_ascii_lowercase();
    if path != ONLY_PATH && (OWN_PATHS.contains(&lower.as_str()) || lower == METRICS || lower.starts_with(BELOW_AUTH)) {
        let expected = "the server serves that path itself: another one is expected, such as /crm/mcp";
        return Err(invalid(key, &path, expected));
    }
    Ok(path)
}
