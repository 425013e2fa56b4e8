//! `entra-mcp validate`: judges access tokens as the server would, and says why one is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use entra_mcp_plugin::Error;
use entra_mcp_plugin::environment::TokenSettings;
use entra_mcp_plugin::outbound_http::OutboundHttp;
use entra_mcp_plugin::token_validator::{
    AgentRole, CallerKind, Groups, Principal, PrincipalKind, Requirements, TokenError,
};
use serde_json::{Map, Value, json};

use super::CommandError;
use crate::composition::public_client;
use crate::config::{Config, Layer};
use crate::console;

/// The longest input line in bytes. A token has at most 16 KiB; a longer line is no token.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Person, application or AI agent.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CallerKindName {
    /// A person, by way of an application.
    User,
    /// An application by itself.
    App,
    /// An AI agent, by itself, on behalf of a person, or as a user of its own.
    Agent,
}

/// The arguments of `entra-mcp validate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// An audience to accept: the client id. An App ID URI counts for tokens of version 1 only, whose audience it can be;
    /// may be repeated
    #[arg(long, value_name = "ID", required = true)]
    audience: Vec<String>,
    /// The file with the tokens, one per line; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    token_file: PathBuf,
    /// A scope that every token must have; may be repeated
    #[arg(long, value_name = "SCOPE")]
    require_scope: Vec<String>,
    /// A role; every token must have one of those named
    #[arg(long, value_name = "ROLE")]
    require_role: Vec<String>,
    /// A group (object id); every principal must be in one of those named
    #[arg(long, value_name = "GUID")]
    require_group: Vec<String>,
    /// An application (client id); one of those named must have obtained every token
    #[arg(long, value_name = "GUID")]
    require_client: Vec<String>,
    /// The caller that every token must be one of: the token of an AI agent is one of an agent alone
    #[arg(long)]
    require_kind: Option<CallerKindName>,
    /// A tenant whose tokens are accepted, instead of the configured one; may be repeated
    #[arg(long, value_name = "GUID")]
    allow_tenant: Vec<String>,
    /// Take the signing keys from this JSON Web Key Set, and send no requests
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// Print a JSON object per token
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: ValidateSettings,
}

/// The settings of other commands that count here as well.
pub const SETTINGS: [&str; 7] =
    ["config", "tenant-id", "cloud", "authority", "clock-tolerance", "ca-file", "log-format"];

/// These settings.
#[derive(Debug)]
struct ValidateSettings(Layer);

impl FromArgMatches for ValidateSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Layer::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for ValidateSettings {
    fn augment_args(command: Command) -> Command {
        let all = Layer::augment_args(Command::new("all"));
        command.args(all.get_arguments().filter(|setting| SETTINGS.contains(&setting.get_id().as_str())))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Arguments {
    /// The part that other commands have as well.
    pub fn layer(&self) -> Layer {
        self.settings.0.clone()
    }

    /// Which tokens are accepted at all.
    pub fn token_settings(&self) -> TokenSettings {
        TokenSettings {
            audiences: self.audience.clone(),
            allowed_tenants: self.allow_tenant.clone(),
            clock_tolerance_seconds: None,
        }
    }

    fn requirements(&self) -> Requirements {
        Requirements {
            all_scopes: self.require_scope.clone(),
            any_role: self.require_role.clone(),
            any_group: self.require_group.clone(),
            any_client: self.require_client.clone(),
            kind: self.require_kind.map(|kind| match kind {
                CallerKindName::User => CallerKind::User,
                CallerKindName::App => CallerKind::App,
                CallerKindName::Agent => CallerKind::Agent,
            }),
        }
    }
}

/// Judges every token. Fails if one is refused, or could not be judged.
pub async fn run(config: &Config, arguments: &Arguments) -> Result<(), CommandError> {
    judge(config, arguments).await.map_err(|error| match error {
        CommandError::TokensRefused { .. } => error,
        // Whatever else went wrong, nothing is known about the tokens that were not printed.
        error => CommandError::Undecided(Box::new(error)),
    })
}

async fn judge(config: &Config, arguments: &Arguments) -> Result<(), CommandError> {
    let mut builder = public_client::builder(config).await?;
    if let Some(file) = &arguments.jwks_file {
        builder = builder.outbound_http(OutboundHttp::offline(documents(config, file)?));
    }
    let plugin = builder.build()?;
    let needs = arguments.requirements();
    let (mut total, mut refused, mut undecided) = (0, 0, 0);
    let mut clock = None;
    let mut lines = open(&arguments.token_file)?;
    while let Some(token) = next_line(&mut lines, &arguments.token_file)? {
        if token.is_empty() {
            continue;
        }
        total += 1;
        let result = match plugin.validate_token(&token, &needs).await {
            Ok(principal) => Ok(principal),
            Err(Error::Token(error)) if error.code == "keys-unavailable" && arguments.jwks_file.is_some() => {
                return Err(unusable(arguments.jwks_file.as_deref().unwrap_or(Path::new("")), &error));
            }
            Err(Error::Token(error)) => Err(*error),
            Err(error) => return Err(error.into()),
        };
        clock = clock.or_else(|| result.as_ref().err().and_then(wrong_clock));
        match &result {
            Ok(_) => {}
            Err(error) if !error.is_refusal() => undecided += 1,
            Err(_) => refused += 1,
        }
        console::result(&if arguments.json { in_json(&result) } else { in_words(&result) });
    }
    if let Some(clock) = clock {
        tracing::warn!("{clock}: correct the date and time");
    }
    match (total, undecided, refused) {
        (0, _, _) => Err(CommandError::Usage("there is no token in the input".into())),
        (_, 0, 0) => Ok(()),
        (_, 0, _) => Err(CommandError::TokensRefused { refused, total }),
        _ => Err(CommandError::TokensUndecided { undecided, total }),
    }
}

/// What an answer of Entra ID has shown about this machine's clock, if a token seems to be out of date because of it.
fn wrong_clock(error: &TokenError) -> Option<String> {
    error.evidence.iter().find_map(|(name, seconds)| {
        let direction = match name.as_str() {
            "clock-behind-seconds" => "behind",
            "clock-ahead-seconds" => "ahead of",
            _ => return None,
        };
        Some(format!("this machine's clock is {} s {direction} that of Microsoft Entra ID", json!(seconds)))
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::File { path: path.display().to_string(), reason: error.to_string() }
}

/// The file with the keys is not one.
fn unusable(path: &Path, error: &TokenError) -> CommandError {
    let reason = error.evidence.iter().find(|(name, _)| name == "reason").map(|(_, value)| json!(value));
    // It begins with the URL that the file stands in for.
    let reason =
        reason.as_ref().and_then(Value::as_str).map(|text| text.rsplit(": ").next().unwrap_or(text).to_owned());
    let reason = reason.unwrap_or_else(|| "it is not a JSON Web Key Set".to_owned());
    CommandError::KeyFile { path: path.display().to_string(), reason }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, CommandError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next line without its line break; `None` at the end.
fn next_line(lines: &mut dyn BufRead, path: &Path) -> Result<Option<String>, CommandError> {
    let mut line = String::new();
    let read = lines.take(MAX_LINE_BYTES).read_line(&mut line).map_err(|error| unreadable(path, &error))?;
    if read as u64 == MAX_LINE_BYTES && !line.ends_with('\n') {
        return Err(CommandError::Usage(format!("a line of the input is longer than {MAX_LINE_BYTES} bytes")));
    }
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The answers that stand in for the authority: its metadata, and the keys of the file.
fn documents(config: &Config, jwks_file: &Path) -> Result<HashMap<String, Vec<u8>>, CommandError> {
    let keys = std::fs::read(jwks_file).map_err(|error| unreadable(jwks_file, &error))?;
    let (authority, tenant) = (&config.settings.authority, &config.settings.tenant);
    let issuer = match tenant.as_str() {
        "common" | "organizations" => "{tenantid}",
        "consumers" => "9188040d-6c67-4c5b-b112-36a304b66dad",
        id if !id.contains('.') => id,
        _ => {
            let hint = "with --jwks-file no request finds out which tenant a domain belongs to: pass the tenant id";
            return Err(CommandError::Usage(hint.into()));
        }
    };
    let jwks_uri = format!("{authority}/{tenant}/discovery/v2.0/keys");
    let metadata = json!({ "issuer": format!("{authority}/{issuer}/v2.0"), "jwks_uri": jwks_uri });
    let metadata_uri = format!("{authority}/{tenant}/v2.0/.well-known/openid-configuration");
    Ok(HashMap::from([(metadata_uri, metadata.to_string().into_bytes()), (jwks_uri, keys)]))
}

fn in_json(result: &Result<Principal, TokenError>) -> String {
    match result {
        Ok(principal) => json!({ "valid": true, "principal": principal_json(principal) }).to_string(),
        Err(error) => {
            let mut object =
                Map::from_iter([("valid".to_owned(), json!(false)), ("error".to_owned(), json!(error.code))]);
            object.extend(evidence(error));
            Value::Object(object).to_string()
        }
    }
}

fn in_words(result: &Result<Principal, TokenError>) -> String {
    match result {
        Ok(principal) => {
            let Value::Object(principal) = principal_json(principal) else { return String::new() };
            format!("valid    {}", list(&principal))
        }
        Err(error) => {
            let verdict = if error.is_refusal() { "refused" } else { "unknown" };
            format!("{verdict}  {}  {}", error.code, list(&evidence(error))).trim_end().to_owned()
        }
    }
}

fn list(object: &Map<String, Value>) -> String {
    object.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::App => "app",
    }
}

fn agent(role: AgentRole) -> &'static str {
    match role {
        AgentRole::OnBehalfOfUser => "on-behalf-of-user",
        AgentRole::Autonomous => "autonomous",
        AgentRole::AgentUser => "agent-user",
    }
}

fn principal_json(principal: &Principal) -> Value {
    let mut shown = json!({
        "tenantId": principal.tenant_id,
        "objectId": principal.object_id,
        "subject": principal.subject,
        "clientId": principal.client_id,
        "kind": principal.agent.map_or(kind(principal.kind), |_| "agent"),
        "scopes": principal.scopes,
        "roles": principal.roles,
        "groups": match &principal.groups {
            Groups::Absent => Value::Null,
            Groups::Listed(groups) => json!(groups),
            Groups::Overage => json!("overage"),
        },
        "issuedAt": principal.issued_at_unix_seconds,
        "expiresAt": principal.expires_at_unix_seconds,
        "guest": principal.guest,
        "tokenVersion": principal.token_version,
    });
    // What most tokens do not name is left out of their lines.
    if let Some(object) = shown.as_object_mut() {
        object.extend(principal.agent.map(|role| ("agent".to_owned(), json!(agent(role)))));
        let contexts = &principal.authentication_contexts;
        object.extend((!contexts.is_empty()).then(|| ("authenticationContexts".to_owned(), json!(contexts))));
    }
    shown
}

/// What there is to say about an error, under the names that this command has for it.
fn evidence(error: &TokenError) -> Map<String, Value> {
    let mut object: Map<_, _> = error.evidence.iter().map(|(name, value)| (json_name(name), json!(value))).collect();
    if let Some(after) = error.retry_after {
        object.insert("retryAfter".to_owned(), json!(after.as_secs()));
    }
    object
}

/// The name of an attribute as it has always been in the output of this command: in camel case.
fn json_name(attribute: &str) -> String {
    let renamed = match attribute {
        "length-bytes" => "length",
        "limit-bytes" => "limit",
        "ago-seconds" => "seconds-ago",
        "ahead-seconds" => "seconds-ahead",
        other => other,
    };
    let mut name = String::with_capacity(renamed.len());
    for (position, word) in renamed.split('-').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if position > 0 => name.push(first.to_ascii_uppercase()),
            Some(first) => name.push(first),
            None => {}
        }
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_keep_the_names_of_the_output() {
        for (attribute, name) in [
            ("length-bytes", "length"),
            ("limit-bytes", "limit"),
            ("ago-seconds", "secondsAgo"),
            ("ahead-seconds", "secondsAhead"),
            ("tenant-id", "tenantId"),
            ("key-id", "keyId"),
            ("any-of", "anyOf"),
            ("actual", "actual"),
            ("-", ""),
        ] {
            assert_eq!(json_name(attribute), name);
        }
    }
}
