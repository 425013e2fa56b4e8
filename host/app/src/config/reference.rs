//! Every setting there is, as data and as a page of the documentation.
//!
//! The settings say themselves what they are, and the program's command line says which commands have them, so nothing
//! here has to be kept up to date.

use std::fmt::Write as _;

use clap::Command;
use serde::Serialize;

use super::{BehindLayer, Layer, ServeLayer, Setting};

/// Marks the page as generated, for people that would edit it.
const NOTE: &str = "<!-- Made by `entra-mcp settings --markdown` from the declarations in the program. -->";

/// A setting, and the commands that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingEntry {
    /// Its name.
    pub name: String,
    /// The settings that it belongs to.
    pub group: &'static str,
    /// The flag, such as `--sign-in-timeout`.
    pub flag: Option<String>,
    /// What stands for the value of the flag, such as `SECONDS`; a switch needs none.
    pub value: Option<String>,
    /// The environment variables: the first that is set counts.
    pub variables: Vec<String>,
    /// The key in the configuration file.
    pub key: Option<String>,
    /// What applies if nothing is set.
    pub default: Option<String>,
    /// Which values are accepted, as far as the value does not say it.
    pub accepted: Option<String>,
    /// What it does.
    pub help: String,
    /// The commands that have it.
    pub commands: Vec<String>,
}

/// All settings, in the order of the help texts. `program` is the command line that has them.
pub fn settings(program: &Command) -> Vec<SettingEntry> {
    let mut settings = Layer::settings();
    settings.extend(ServeLayer::settings());
    settings.extend(BehindLayer::settings());
    let commands = commands(program, "");
    // Without a flag, a setting counts where others of its group do.
    let has = |command: &Command, setting: &Setting| {
        let is_sibling = |other: &&Setting| other.group == setting.group && other.has_flag && other.has_key;
        match setting.has_flag {
            true => has_flag(command, setting),
            false => settings.iter().copied().filter(is_sibling).any(|other| has_flag(command, other)),
        }
    };
    let entry = |setting: &&Setting| SettingEntry {
        name: setting.name.clone(),
        group: setting.group,
        flag: setting.has_flag.then(|| format!("--{}", setting.name)),
        value: setting.value_name.clone().filter(|_| setting.has_flag),
        variables: setting.variable.iter().cloned().chain(setting.also.map(str::to_owned)).collect(),
        key: setting.has_key.then(|| setting.name.clone()),
        default: setting.default.clone(),
        accepted: setting.accepted.clone(),
        help: setting.help.clone(),
        commands: commands.iter().filter(|(_, command)| has(command, setting)).map(|(name, _)| name.clone()).collect(),
    };
    settings.iter().map(entry).collect()
}

/// The commands that run something, with their names as they are typed.
fn commands<'a>(command: &'a Command, before: &str) -> Vec<(String, &'a Command)> {
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    visible
        .flat_map(|command| {
            let name = format!("{before}{}", command.get_name());
            match command.has_subcommands() {
                true => commands(command, &format!("{name} ")),
                false => vec![(name, command)],
            }
        })
        .collect()
}

/// Whether a command has this flag, and not another one of the same name.
fn has_flag(command: &Command, setting: &Setting) -> bool {
    let of_name = command.get_arguments().find(|argument| argument.get_long() == Some(&setting.name));
    let help = of_name.and_then(|argument| argument.get_help());
    help.is_some_and(|help| help.to_string() == setting.help_text())
}

/// The page that lists the settings.
pub fn markdown(settings: &[SettingEntry]) -> String {
    let mut page = format!(
        "{NOTE}\n\n# Settings\n\nA flag wins over an environment variable, and that over the configuration file. Empty \
         variables count as not set. The program refuses an unknown key in the configuration file. Lists are arrays \
         in the configuration file; in a variable or a flag, their elements are separated by commas.\n"
    );
    let mut group = "";
    for entry in settings {
        if entry.group != group {
            group = entry.group;
            // Writing to a string cannot fail.
            let _ = write!(page, "\n## {group}\n");
        }
        let _ = write!(page, "\n### `{}`\n\n{}.\n\n", entry.name, entry.help);
        for (title, text) in lines(entry) {
            let _ = writeln!(page, "- {title}: {text}");
        }
    }
    page.truncate(page.trim_end().len());
    page
}

/// What there is to say about a setting.
fn lines(entry: &SettingEntry) -> Vec<(&'static str, String)> {
    let code = |text: &str| format!("`{text}`");
    let all = |texts: &[String], between: &str| texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(between);
    let flag = entry.flag.as_ref().map(|flag| match &entry.value {
        Some(value) => code(&format!("{flag} <{value}>")),
        None => code(flag),
    });
    let variables = Some(all(&entry.variables, ", else ")).filter(|variables| !variables.is_empty());
    [
        ("Flag", flag),
        ("Variable", variables),
        ("Key in the configuration file", entry.key.as_deref().map(code)),
        ("Default", entry.default.clone()),
        ("Accepted", entry.accepted.clone()),
        ("Commands", Some(all(&entry.commands, ", "))),
    ]
    .into_iter()
    .filter_map(|(title, text)| Some((title, text?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::{Arg, Args as _};

    use super::*;

    /// A program with some of the commands, and one whose flag is another one of the same name.
    fn program() -> Command {
        let remote = ServeLayer::augment_args(Layer::augment_args(Command::new("serve")));
        let secret = Command::new("secret").subcommand(ServeLayer::augment_args(Command::new("set")));
        let other = Command::new("emulator").arg(Arg::new("listen").long("listen").help("Address of the emulator"));
        let hidden = Layer::augment_args(Command::new("hidden")).hide(true);
        let local = Layer::augment_args(Command::new("stdio"));
        Command::new("entra-mcp").subcommands([local, remote, secret, other, hidden])
    }

    fn entry(name: &str) -> SettingEntry {
        settings(&program()).into_iter().find(|entry| entry.name == name).unwrap()
    }

    #[test]
    fn a_setting_says_where_it_may_be_given_and_what_applies_otherwise() {
        let timeout = entry("sign-in-timeout");
        assert_eq!((timeout.flag.as_deref(), timeout.value.as_deref()), (Some("--sign-in-timeout"), Some("SECONDS")));
        assert_eq!(
            (timeout.variables.as_slice(), timeout.key.as_deref()),
            (&["ENTRA_MCP_SIGN_IN_TIMEOUT".to_owned()][..], Some("sign-in-timeout"))
        );
        assert_eq!((timeout.default.as_deref(), timeout.accepted.as_deref()), (Some("300"), Some("1 to 86400")));
        assert_eq!(entry("tenant-id").variables, ["ENTRA_MCP_TENANT_ID", "AZURE_TENANT_ID"]);
        assert_eq!(entry("cloud").accepted.as_deref(), Some("public, us-government, china"));
        let switch = entry("no-legacy-sse");
        assert_eq!((switch.value, switch.default.as_deref()), (None, Some("false")));
    }

    #[test]
    fn a_setting_has_the_commands_that_have_its_flag() {
        assert_eq!(entry("account").commands, ["stdio", "serve"]);
        assert_eq!(entry("listen").commands, ["serve", "secret set"]);
        assert_eq!(entry("clients").commands, ["serve", "secret set"]);
        assert_eq!(entry("RUST_LOG").commands, ["stdio", "serve"]);
    }

    #[test]
    fn a_secret_has_a_variable_and_neither_flag_nor_key() {
        let secret = entry("AZURE_CLIENT_SECRET");
        assert_eq!((secret.flag, secret.key, secret.variables), (None, None, vec!["AZURE_CLIENT_SECRET".to_owned()]));
        let config = entry("config");
        assert_eq!((config.flag.as_deref(), config.key), (Some("--config"), None));
    }

    #[test]
    fn no_name_and_no_variable_is_taken_twice() {
        let settings = settings(&program());
        let mut names = HashSet::new();
        let variables = settings.iter().flat_map(|entry| entry.variables.iter().cloned());
        for name in settings
            .iter()
            .map(|entry| entry.name.to_lowercase())
            .chain(variables.filter(|name| name.contains("_MCP_")))
        {
            assert!(names.insert(name.clone()), "{name}");
        }
    }

    #[test]
    fn the_page_has_a_section_for_every_setting() {
        let settings = settings(&program());
        let page = markdown(&settings);
        for entry in &settings {
            assert_eq!(page.matches(&format!("\n### `{}`\n", entry.name)).count(), 1, "{}", entry.name);
        }
        let section = "### `tenant-id`\n\nDirectory (tenant) id, or a domain, `common`, `organizations`, `consumers`.\n\n\
            - Flag: `--tenant-id <ID>`\n- Variable: `ENTRA_MCP_TENANT_ID`, else `AZURE_TENANT_ID`\n\
            - Key in the configuration file: `tenant-id`\n- Commands: `stdio`, `serve`\n";
        assert!(page.contains(section), "{page}");
        for group in ["Settings", "Settings of the remote server", "Audit and metrics", "MCP servers to protect"] {
            assert_eq!(page.matches(&format!("\n## {group}\n")).count(), 1, "{group}");
        }
    }
}
