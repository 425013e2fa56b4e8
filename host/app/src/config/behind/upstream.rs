//! Whole MCP servers: over HTTP, or a process for each caller.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::ValueParser;
use clap::parser::MatchesError;
use clap::{Arg, ArgAction, ArgMatches};
use entra_mcp_plugin::environment::{ServerIdentity, ServerKind, ServerSettings};
use serde::Deserialize;
use url::Url;

use super::Context;
use super::egress::{check_resource, qualified};
use super::names::{GivenNames, Keys, ServerPlace};
use super::variables::{VariableEntries, Variables};
use crate::config::endpoints::is_loopback;
use crate::config::setting::SettingValue;
use crate::config::{ConfigError, invalid, within};

/// The name of a server that a flag names by its URL or its command.
const FLAG_NAME: &str = "upstream";

/// Time without a request after which a process is ended, unless set otherwise, and bounds of it: a day.
const DEFAULT_IDLE_SECONDS: u32 = 300;
const IDLE_SECONDS: RangeInclusive<u32> = 1..=86_400;

/// Processes at the same time, unless set otherwise, and bounds of it. A process of Python or Node takes some 50 MiB.
const DEFAULT_MAX_PROCESSES: u32 = 64;
const PROCESSES: RangeInclusive<u32> = 1..=1024;

/// Processes of one caller, each for a session, unless set otherwise.
const DEFAULT_MAX_PROCESSES_PER_PERSON: u32 = 4;

/// Time until an answer begins, unless set otherwise, and bounds of it. The permission of a request ends ten minutes after it
/// was admitted, and its answer with it: a minute of that is for the answer itself.
const DEFAULT_MAX_SECONDS_TO_ANSWER: u32 = 60;
const SECONDS_TO_ANSWER: RangeInclusive<u32> = 1..=540;

/// Characters of the longest audience.
const MAX_AUDIENCE: usize = 512;

const KEYS: Keys =
    Keys { name: "upstream.name", path: "upstream.path", title: "upstream.title", tools: "upstream.tools" };

/// One `[[upstream]]`, one `--upstream` or one `--upstream-command`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamEntry {
    /// The name of the server; only a flag leaves it out.
    pub name: Option<String>,
    /// Its MCP endpoint.
    pub url: Option<String>,
    /// Its program and arguments.
    pub command: Option<Vec<String>>,
    /// Its path.
    pub path: Option<String>,
    /// For people.
    pub title: Option<String>,
    /// Tools that the consent page names.
    #[serde(default)]
    pub tools: Vec<String>,
    /// How it learns who calls.
    pub identity: Option<IdentityName>,
    /// Of an assertion.
    pub audience: Option<String>,
    /// Of a token.
    pub resource: Option<String>,
    /// Of a token.
    pub scopes: Option<Vec<String>>,
    /// Of a process.
    pub variables: Option<VariableEntries>,
    /// The working folder of processes.
    pub folder: Option<PathBuf>,
    /// Time without a request after which a process is ended.
    pub idle_seconds: Option<u32>,
    /// Processes at the same time.
    pub max_processes: Option<u32>,
    /// Processes of one caller.
    pub max_processes_per_person: Option<u32>,
    /// Time until an answer begins.
    pub max_seconds_to_answer: Option<u32>,
    /// Whether a flag or a variable names it, and nothing says more about it.
    #[serde(skip)]
    pub is_bare: bool,
}

/// How a server learns who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityName {
    /// Not at all.
    None,
    /// By the headers of Azure App Service.
    EasyAuth,
    /// By a token that this server signs.
    Assertion,
    /// By an access token of Entra ID in the caller's name.
    Token,
}

/// A server, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Name and path.
    pub place: ServerPlace,
    /// Where it is, or how it is started.
    pub target: UpstreamTarget,
    /// How it learns who calls.
    pub identity: ServerIdentity,
    /// Time until an answer begins.
    pub max_time_to_answer: Duration,
}

/// Where a server is, or how it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTarget {
    /// An MCP server over HTTP.
    Http {
        /// Its MCP endpoint.
        url: String,
    },
    /// A process for each caller.
    Process(ProcessConfig),
}

/// The one variable that every program on Windows gets.
const SYSTEM_FOLDER: &str = "SystemRoot";

/// How processes are started. `Debug` leaves out the arguments: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where the program is looked for: `PATH` of this process.
    pub search_path: Option<String>,
    /// Its variables, besides those that name the caller.
    pub variables: Variables,
    /// The working folder of every process, absolute. `None`: each has an empty one of its own.
    pub folder: Option<PathBuf>,
    /// Where folders for processes are made.
    pub private_folders: PathBuf,
    /// Time without a request after which a process is ended.
    pub idle: Duration,
    /// Processes at the same time.
    pub max_processes: usize,
    /// Processes of one caller.
    pub max_processes_per_person: usize,
}

impl fmt::Debug for ProcessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ProcessConfig");
        shown.field("program", &self.command.first()).field("variables", &self.variables).finish_non_exhaustive()
    }
}

impl UpstreamEntry {
    /// As `--upstream` names it.
    pub fn bare(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), is_bare: true, ..Self::default() }
    }

    pub(super) fn checked(self, names: &mut GivenNames, context: &Context<'_>) -> Result<UpstreamConfig, ConfigError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None if self.is_bare => names.free(FLAG_NAME),
            None => {
                return Err(ConfigError::Conflict(
                    "an [[upstream]] has no name, such as name = \"crm\": rules, records and its path name it".into(),
                ));
            }
        };
        let place = names.place(&KEYS, name, self.path.clone(), (self.title.clone(), self.tools.clone()))?;
        let target = self.target(&place.name, context)?;
        let identity = self.identity(&place.name, &target)?;
        let seconds = self.max_seconds_to_answer.unwrap_or(DEFAULT_MAX_SECONDS_TO_ANSWER);
        within("upstream.max-seconds-to-answer", &seconds, &SECONDS_TO_ANSWER)?;
        Ok(UpstreamConfig { place, target, identity, max_time_to_answer: Duration::from_secs(seconds.into()) })
    }

    fn target(&self, name: &str, context: &Context<'_>) -> Result<UpstreamTarget, ConfigError> {
        let conflict = |text: String| Err(ConfigError::Conflict(format!("the upstream {name:?} {text}")));
        match (&self.url, &self.command) {
            (Some(_), Some(_)) => conflict("has both url and command: keep one of them".into()),
            (None, None) => {
                conflict("has neither url nor command: write url = \"https://…/mcp\" or command = [\"program\"]".into())
            }
            (Some(url), None) => {
                let of_processes = [
                    ("variables", self.variables.is_some()),
                    ("folder", self.folder.is_some()),
                    ("idle-seconds", self.idle_seconds.is_some()),
                    ("max-processes", self.max_processes.is_some()),
                    ("max-processes-per-person", self.max_processes_per_person.is_some()),
                ];
                match of_processes.into_iter().find(|(_, is_set)| *is_set) {
                    Some((key, _)) => conflict(format!("has {key}, which is for a command, and a url: remove {key}")),
                    None => Ok(UpstreamTarget::Http { url: check_url(url)?.into() }),
                }
            }
            (None, Some(command)) => self.process(command, context),
        }
    }

    fn process(&self, command: &[String], context: &Context<'_>) -> Result<UpstreamTarget, ConfigError> {
        const KEY: &str = "upstream.command";
        if command.first().is_none_or(String::is_empty) {
            let expected = "a program and its arguments are expected, such as [\"python\", \"server.py\"]";
            return Err(invalid(KEY, &command.join(" "), expected));
        }
        if command.iter().any(|part| part.contains('\0')) {
            return Err(invalid(KEY, "…", "a program and arguments without a zero byte are expected"));
        }
        let limit = |name, given: Option<u32>, default, range: &RangeInclusive<u32>| {
            let value = given.unwrap_or(default);
            within(name, &value, range).map(|()| value)
        };
        let idle = limit("upstream.idle-seconds", self.idle_seconds, DEFAULT_IDLE_SECONDS, &IDLE_SECONDS)?;
        let processes = limit("upstream.max-processes", self.max_processes, DEFAULT_MAX_PROCESSES, &PROCESSES)?;
        let of_one = limit(
            "upstream.max-processes-per-person",
            self.max_processes_per_person,
            DEFAULT_MAX_PROCESSES_PER_PERSON.min(processes),
            &(1..=processes),
        )?;
        let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let variables = self.variables.clone().unwrap_or_default();
        let mut variables = variables.checked("upstream.variables", context.environment)?;
        // The libraries of Windows look for the folder of the system: without it, a program cannot open a connection.
        if cfg!(windows) && !variables.0.iter().any(|(name, _)| name.eq_ignore_ascii_case(SYSTEM_FOLDER)) {
            let value = context.environment.get(SYSTEM_FOLDER);
            variables.0.extend(value.map(|value| (SYSTEM_FOLDER.to_owned(), value)));
        }
        // A command of a flag is written as in a shell, whose folder is that of this process.
        let here = || self.is_bare.then(|| PathBuf::from("."));
        let folder = self.folder.clone().or_else(here).map(|folder| working_folder(&folder)).transpose()?;
        Ok(UpstreamTarget::Process(ProcessConfig {
            command: command.to_vec(),
            folder,
            search_path: context.environment.get("PATH"),
            private_folders: std::env::temp_dir(),
            variables,
            idle: Duration::from_secs(idle.into()),
            max_processes: number(processes),
            max_processes_per_person: number(of_one),
        }))
    }

    fn identity(&self, name: &str, target: &UpstreamTarget) -> Result<ServerIdentity, ConfigError> {
        let conflict = |text: &str| Err(ConfigError::Conflict(format!("the upstream {name:?} {text}")));
        let identity = self.identity.unwrap_or(IdentityName::None);
        if self.audience.is_some() && identity != IdentityName::Assertion {
            return conflict("has audience, which is for identity = \"assertion\": set that, or remove audience");
        }
        if (self.resource.is_some() || self.scopes.is_some()) && identity != IdentityName::Token {
            return conflict("has resource or scopes, which are for identity = \"token\": set that, or remove them");
        }
        let is_process = matches!(target, UpstreamTarget::Process(_));
        if is_process && matches!(identity, IdentityName::EasyAuth | IdentityName::Assertion) {
            return conflict(
                "is a command, which gets no headers: its variables name the caller, so remove identity, or use \
                 identity = \"token\"",
            );
        }
        let is_readable_on_the_way = match target {
            UpstreamTarget::Http { url } => {
                Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
            }
            UpstreamTarget::Process(_) => false,
        };
        if is_readable_on_the_way && identity == IdentityName::Token {
            return conflict("gets access tokens, which http would show to the network: its url has to be https");
        }
        match identity {
            IdentityName::None => Ok(ServerIdentity::None),
            IdentityName::EasyAuth => Ok(ServerIdentity::EasyAuth),
            IdentityName::Assertion => {
                let audience = self.audience.as_ref().or(self.url.as_ref()).cloned().unwrap_or_default();
                let plain = audience.bytes().all(|byte| byte.is_ascii_graphic());
                if audience.is_empty() || audience.len() > MAX_AUDIENCE || !plain {
                    let expected = format!("1 to {MAX_AUDIENCE} printable characters without spaces are expected");
                    return Err(invalid("upstream.audience", &audience, expected));
                }
                Ok(ServerIdentity::Assertion { audience })
            }
            IdentityName::Token => match (&self.resource, self.scopes.as_deref()) {
                (Some(resource), Some(scopes)) if !scopes.is_empty() => {
                    let resource = check_resource("upstream.resource", resource)?;
                    Ok(ServerIdentity::Token { permissions: qualified("upstream.scopes", resource, scopes)? })
                }
                _ => conflict(
                    "has identity = \"token\": write the API that the token is for and its permissions, such as \
                     resource = \"api://crm\" and scopes = [\"access_as_user\"]",
                ),
            },
        }
    }
}

impl UpstreamConfig {
    /// What the component is told.
    pub(super) fn settings(&self) -> ServerSettings {
        let ServerPlace { name, path, title, tools } = self.place.clone();
        let permissions = match &self.identity {
            ServerIdentity::Token { permissions } => vec![permissions.clone()],
            ServerIdentity::None | ServerIdentity::EasyAuth | ServerIdentity::Assertion { .. } => Vec::new(),
        };
        let identity = self.identity.clone();
        ServerSettings { name, path, kind: ServerKind::Upstream, title, tools, permissions, identity }
    }
}

/// The folder of processes, which has to be there.
fn working_folder(folder: &Path) -> Result<PathBuf, ConfigError> {
    let absolute = std::path::absolute(folder).ok().filter(|folder| folder.is_dir());
    let expected = "a folder that exists is expected, in which the processes are started";
    absolute.ok_or_else(|| invalid("upstream.folder", &folder.display().to_string(), expected))
}

/// Where a server may be: anywhere by https, and by http on this machine and in private networks, which the way out checks
/// when it connects.
fn check_url(text: &str) -> Result<Url, ConfigError> {
    const KEY: &str = "upstream.url";
    let expected = "an https URL is expected, or an http one on this machine or in a private network";
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let url = url.ok_or_else(|| invalid(KEY, text, expected))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not repeated: it may hold a password.
        return Err(invalid(KEY, "…", "a URL without user name and password is expected"));
    }
    match url.fragment() {
        Some(_) => Err(invalid(KEY, text, "a URL without fragment is expected")),
        None => Ok(url),
    }
}

/// A list of URLs.
impl SettingValue for Vec<UpstreamEntry> {
    fn argument(argument: Arg) -> Arg {
        Vec::<String>::argument(argument)
    }

    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(Vec::<String>::of_matches(matches, name)?.map(|urls| urls.into_iter().map(UpstreamEntry::bare).collect()))
    }

    fn of_text(text: &str) -> Option<Self> {
        Vec::<String>::of_text(text).map(|urls| urls.into_iter().map(UpstreamEntry::bare).collect())
    }

    fn expected(_: &str) -> String {
        "a list of URLs separated by commas is expected".to_owned()
    }

    fn text(&self) -> String {
        self.iter().filter_map(|entry| entry.url.as_deref()).collect::<Vec<_>>().join(",")
    }
}

/// Commands as a shell would read them: each flag is one, and each line of the variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct CommandLines(pub Vec<String>);

impl CommandLines {
    pub(super) fn entries(self) -> Result<Vec<UpstreamEntry>, ConfigError> {
        let entries = self.0.into_iter().map(|line| {
            let expected = "a command is expected whose quotation marks are closed";
            let command = shell_words::split(&line).map_err(|_| invalid("upstream-command", &line, expected))?;
            Ok(UpstreamEntry { command: Some(command), is_bare: true, ..UpstreamEntry::default() })
        });
        entries.collect()
    }
}

impl SettingValue for CommandLines {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(ValueParser::string()).action(ArgAction::Append)
    }

    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(matches.try_get_many::<String>(name)?.map(|lines| Self(lines.cloned().collect())))
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(Self(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()))
    }

    fn expected(_: &str) -> String {
        "one command a line is expected".to_owned()
    }

    fn text(&self) -> String {
        self.0.join("\n")
    }
}
