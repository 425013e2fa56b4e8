//! The person's own browser, and the output for prompts.
//!
//! `BROWSER` wins, as everywhere on Unix: a colon-separated list of commands, tried in order, in which `%s` stands for
//! the URL (else it is the last argument). Without it, the program uses the platform's opener. The started command gets
//! none of the server's standard streams: a browser that writes to standard output would break the MCP connection.
//!
//! Why this is not `webbrowser` or `opener`: the first runs the text browsers of `BROWSER` on the server's own standard
//! streams, and does not handle quotes in it; the second does not know `BROWSER`. Both leave the browser in the
//! server's process group, where Ctrl-C ends it, and do not notice that a command fails, so they would not try the next
//! one. Beyond that, they only know the name of each platform's opener ([`platform_opener`]).

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::{UserAgent, UserAgentError};

/// How long a started command may take to fail. `xdg-open` notices within this time that there is no browser. A command
/// that still runs afterwards is considered to be the browser itself.
const EARLY_FAILURE: Duration = Duration::from_millis(300);

/// Opens the system browser.
#[derive(Debug, Clone)]
pub struct SystemBrowser {
    /// Commands in the order in which they are tried: program and arguments, with `%s` for the URL.
    commands: Vec<Vec<OsString>>,
    prompts: Prompts,
    early_failure: Duration,
}

/// The output for prompts.
#[derive(Debug, Clone, Copy)]
pub enum Prompts {
    /// A function that shows a line on the terminal. It gets the prompts as they are.
    Terminal(fn(&str)),
    /// The log, line by line, if a program reads standard error.
    Log,
}

impl SystemBrowser {
    /// `browser` is the value of `BROWSER`; `display` says whether there is a graphical desktop (read only on systems
    /// that may lack one).
    pub fn new(browser: Option<&str>, display: bool, prompts: Prompts) -> Self {
        let commands = match browser {
            Some(list) if !list.trim().is_empty() => split_list(list).map(command_line).collect(),
            _ => platform_opener(display).into_iter().collect(),
        };
        Self { commands, prompts, early_failure: EARLY_FAILURE }
    }
}

#[cfg(windows)]
fn split_list(list: &str) -> impl Iterator<Item = &str> {
    // Windows paths contain a colon.
    list.split(';').filter(|entry| !entry.trim().is_empty())
}

#[cfg(not(windows))]
fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(':').filter(|entry| !entry.trim().is_empty())
}

/// Splits an entry into program and arguments, unless the whole entry names an existing file.
fn command_line(entry: &str) -> Vec<OsString> {
    let entry = entry.trim();
    let mut words: Vec<String> = if Path::new(entry).is_file() { vec![entry.to_owned()] } else { split_words(entry) };
    if !words.iter().any(|word| word.contains("%s")) {
        words.push("%s".to_owned());
    }
    words.into_iter().map(Into::into).collect()
}

/// Words separated by blanks; quotes keep blanks together.
fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Part of a prompt comes from a server: it must not control the terminal.
fn harmless(message: &str) -> String {
    message.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn platform_opener(display: bool) -> Option<Vec<OsString>> {
    let words: &[&str] = if cfg!(target_os = "windows") {
        &["rundll32.exe", "url.dll,FileProtocolHandler", "%s"]
    } else if cfg!(target_os = "macos") {
        &["/usr/bin/open", "%s"]
    } else if display {
        &["xdg-open", "%s"]
    } else {
        return None;
    };
    Some(words.iter().map(Into::into).collect())
}

#[allow(clippy::disallowed_methods, reason = "the browser is what may be started")]
/// Starts one command. Succeeds if it still runs after a moment, or ended well.
async fn start(words: &[OsString], url: &str, early_failure: Duration) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("an empty command".into());
    };
    let arguments = arguments.iter().map(|word| match word.to_str() {
        // Replaced inside one argument: no shell ever sees the URL.
        Some(word) => word.replace("%s", url).into(),
        None => word.clone(),
    });
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A signal that ends this process and its children, such as Ctrl-C or one of a client, is not meant for the
    // person's browser.
    #[cfg(unix)]
    command.process_group(0);
    // `CREATE_NEW_PROCESS_GROUP`: Ctrl-C is for the others.
    #[cfg(windows)]
    command.creation_flags(0x200);
    let name = program.to_string_lossy();
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    match tokio::time::timeout(early_failure, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{name}: {status}")),
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        // The browser runs on; the runtime reaps it when it ends.
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl UserAgent for SystemBrowser {
    async fn open_browser(&self, url: &str) -> Result<(), UserAgentError> {
        let mut reasons = Vec::new();
        for words in &self.commands {
            match start(words, url, self.early_failure).await {
                Ok(()) => return Ok(()),
                Err(reason) => reasons.push(reason),
            }
        }
        let reason = if reasons.is_empty() {
            "there is no graphical desktop and BROWSER is not set".to_owned()
        } else {
            format!("no browser could be started ({})", reasons.join("; "))
        };
        tracing::info!(%reason, "no browser");
        Err(UserAgentError::Unavailable(reason))
    }

    async fn prompt(&self, message: &str) {
        let message = harmless(message);
        match self.prompts {
            Prompts::Terminal(show) => show(&message),
            Prompts::Log => tracing::info!(target: "prompt", "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for the end of each command, however slow the machine is.
    #[cfg(unix)]
    fn patient(list: &str) -> SystemBrowser {
        let early_failure = Duration::from_secs(60);
        SystemBrowser { early_failure, ..SystemBrowser::new(Some(list), false, Prompts::Log) }
    }

    fn words(list: &str) -> Vec<Vec<String>> {
        let commands = SystemBrowser::new(Some(list), false, Prompts::Log).commands;
        let text = |word: OsString| word.into_string().unwrap();
        commands.into_iter().map(|words| words.into_iter().map(text).collect()).collect()
    }

    #[cfg(unix)]
    #[test]
    fn browser_is_a_list_of_commands_with_a_place_for_the_url() {
        assert_eq!(
            words("firefox:chromium --app=%s --new-window: :w3m"),
            [vec!["firefox", "%s"], vec!["chromium", "--app=%s", "--new-window"], vec!["w3m", "%s"]]
        );
    }

    #[test]
    fn quotes_keep_blanks_together() {
        assert_eq!(words(r#""my browser" 'a b' c"#), [["my browser", "a b", "c", "%s"]]);
    }

    #[cfg(unix)]
    #[test]
    fn an_existing_file_with_blanks_in_its_name_is_one_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my browser");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(words(path), [[path, "%s"]]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn without_desktop_and_browser_there_is_none() {
        let error = SystemBrowser::new(None, false, Prompts::Log).open_browser("https://host/").await.unwrap_err();
        let expected = "there is no graphical desktop and BROWSER is not set";
        assert_eq!(error, UserAgentError::Unavailable(expected.into()));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_url_reaches_the_command_as_one_argument() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let list = format!(r#"false:sh -c 'printf "%%s" "$0" > {}' %s"#, out.display()).replace("%%s", "%b");
        let url = "https://host/?a=1&b=$(touch x);'\"";

        patient(&list).open_browser(url).await.unwrap();

        assert_eq!(std::fs::read_to_string(out).unwrap(), url);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_signal_to_our_process_group_does_not_reach_the_browser() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let list = format!("sh -c 'cat /proc/self/stat > {}' %s", out.display());

        patient(&list).open_browser("https://host/").await.unwrap();

        let group = |stat: &str| stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap().to_owned();
        let ours = group(&std::fs::read_to_string("/proc/self/stat").unwrap());
        assert_ne!(group(&std::fs::read_to_string(out).unwrap()), ours);
    }

    #[test]
    fn a_prompt_cannot_steer_the_terminal() {
        assert_eq!(harmless("enter\nABC \u{1b}[2J\u{9b}1m\r"), "enter\nABC  [2J 1m ");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn commands_that_fail_are_named() {
        let error = patient("false:/does/not/exist").open_browser("https://host/").await;
        let UserAgentError::Unavailable(reason) = error.unwrap_err() else { panic!() };
        assert!(reason.contains("false: exit status: 1") && reason.contains("/does/not/exist"), "{reason}");
    }
}
