//! `entra-mcp validate`: judges access tokens as the server would, and says why one is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use entra_mcp_plugin::bindings::export::token_validator::{Principal, Requirements, TokenError};
use entra_mcp_plugin::bindings::types::{Groups, PrincipalKind};
use entra_mcp_plugin::environment::TokenSettings;
use entra_mcp_plugin::outbound_http::OutboundHttp;
use serde_json::{Map, Value, json};

use super::CommandError;
use crate::composition::public_client;
use crate::config::{Config, Layer};
use crate::console;

/// Tolerated difference between the clocks in seconds, unless set otherwise.
const CLOCK_TOLERANCE_SECONDS: u32 = 60;

/// The longest line that is read, in bytes. A token has at most 16 KiB; what is longer is no token.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Person or application.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A person, by way of an application.
    User,
    /// An application by itself.
    App,
}

/// What `entra-mcp validate` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// An audience to accept: the client id, or for version 1 tokens the App ID URI; may be repeated
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
    /// Whom every token must stand for
    #[arg(long)]
    require_kind: Option<Kind>,
    /// A tenant whose tokens are accepted, instead of the configured one; may be repeated
    #[arg(long, value_name = "GUID")]
    allow_tenant: Vec<String>,
    /// Tolerated difference between the clocks in seconds, at most 300
    #[arg(long, value_name = "SECONDS", default_value_t = CLOCK_TOLERANCE_SECONDS,
          value_parser = clap::value_parser!(u32).range(0..=300))]
    clock_tolerance: u32,
    /// Take the signing keys from this JSON Web Key Set, and ask nobody
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// Print a JSON object per token
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The settings of other commands that count here as well.
const SETTINGS: [&str; 6] = ["config", "tenant-id", "cloud", "authority", "ca-file", "log-format"];

/// These settings.
#[derive(Debug)]
struct Settings(Layer);

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Layer::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for Settings {
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
            clock_tolerance_seconds: self.clock_tolerance,
        }
    }

    fn requirements(&self) -> Requirements {
        Requirements {
            all_scopes: self.require_scope.clone(),
            any_role: self.require_role.clone(),
            any_group: self.require_group.clone(),
            any_client: self.require_client.clone(),
            kind: self.require_kind.map(|kind| match kind {
                Kind::User => PrincipalKind::User,
                Kind::App => PrincipalKind::App,
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
    let mut builder = public_client::builder(config)?;
    if let Some(file) = &arguments.jwks_file {
        builder = builder.outbound_http(OutboundHttp::offline(documents(config, file)?));
    }
    let plugin = builder.build()?;
    let needs = arguments.requirements();
    let (mut total, mut refused, mut undecided) = (0, 0, 0);
    let mut lines = open(&arguments.token_file)?;
    while let Some(token) = next_line(&mut lines, &arguments.token_file)? {
        if token.is_empty() {
            continue;
        }
        total += 1;
        let result = plugin.validate_token(&token, &needs).await?;
        match &result {
            Ok(_) => {}
            Err(error) if is_undecided(error) => undecided += 1,
            Err(_) => refused += 1,
        }
        console::result(&if arguments.json { in_json(&result) } else { in_words(&result) });
    }
    match (total, undecided, refused) {
        (0, _, _) => Err(CommandError::Usage("there is no token in the input".into())),
        (_, 0, 0) => Ok(()),
        (_, 0, _) => Err(CommandError::TokensRefused { refused, total }),
        _ => Err(CommandError::TokensUndecided { undecided, total }),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::File { path: path.display().to_string(), reason: error.to_string() }
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

/// What the authority would answer: its metadata, and the keys of the file.
fn documents(config: &Config, jwks_file: &Path) -> Result<HashMap<String, Vec<u8>>, CommandError> {
    let keys = std::fs::read(jwks_file).map_err(|error| unreadable(jwks_file, &error))?;
    let (authority, tenant) = (&config.settings.authority, &config.settings.tenant);
    let issuer = match tenant.as_str() {
        "common" | "organizations" => "{tenantid}",
        "consumers" => "9188040d-6c67-4c5b-b112-36a304b66dad",
        id if !id.contains('.') => id,
        _ => {
            let hint = "with --jwks-file nobody is asked which tenant a domain belongs to: pass the tenant id";
            return Err(CommandError::Usage(hint.into()));
        }
    };
    let jwks_uri = format!("{authority}/{tenant}/discovery/v2.0/keys");
    let metadata = json!({ "issuer": format!("{authority}/{issuer}/v2.0"), "jwks_uri": jwks_uri });
    let metadata_uri = format!("{authority}/{tenant}/v2.0/.well-known/openid-configuration");
    Ok(HashMap::from([(metadata_uri, metadata.to_string().into_bytes()), (jwks_uri, keys)]))
}

/// Neither good nor bad: the same token may be accepted later, or with other settings.
fn is_undecided(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::KeysUnavailable(_) | TokenError::GroupsUnavailable(_) | TokenError::ConfigurationInvalid(_)
    )
}

fn in_json(result: &Result<Principal, TokenError>) -> String {
    match result {
        Ok(principal) => json!({ "valid": true, "principal": principal_json(principal) }).to_string(),
        Err(error) => {
            let (name, evidence) = evidence(error);
            let mut object = Map::from_iter([("valid".to_owned(), json!(false)), ("error".to_owned(), json!(name))]);
            object.extend(evidence);
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
            let (name, evidence) = evidence(error);
            let verdict = if is_undecided(error) { "unknown" } else { "refused" };
            format!("{verdict}  {name}  {}", list(&evidence)).trim_end().to_owned()
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

fn principal_json(principal: &Principal) -> Value {
    json!({
        "tenantId": principal.tenant_id,
        "objectId": principal.object_id,
        "subject": principal.subject,
        "clientId": principal.client_id,
        "kind": kind(principal.kind),
        "scopes": principal.scopes,
        "roles": principal.roles,
        "groups": match &principal.groups {
            Groups::Absent => Value::Null,
            Groups::Listed(groups) => json!(groups),
            Groups::Overage => json!("overage"),
        },
        "issuedAt": principal.issued_at,
        "expiresAt": principal.expires_at,
        "guest": principal.guest,
        "tokenVersion": principal.token_version,
    })
}

/// The name of the case in `wit/token-validator.wit`, and what it carries.
fn evidence(error: &TokenError) -> (&'static str, Map<String, Value>) {
    use TokenError as E;
    let (name, evidence) = match error {
        E::TooLarge(size) => ("too-large", json!({ "length": size.length, "limit": size.limit })),
        E::NotCompact(parts) => ("not-compact", json!({ "parts": parts })),
        E::EncodingInvalid(part) => ("encoding-invalid", json!({ "part": part_name(*part) })),
        E::JsonInvalid(part) => ("json-invalid", json!({ "part": part_name(*part) })),
        E::NameDuplicate(at) => ("name-duplicate", json!({ "part": part_name(at.part), "name": at.name })),
        E::AlgorithmNotAllowed(algorithm) => ("algorithm-not-allowed", json!({ "actual": algorithm })),
        E::HeaderNotAllowed(name) => ("header-not-allowed", json!({ "name": name })),
        E::HeaderMissing(name) => ("header-missing", json!({ "name": name })),
        E::HeaderMalformed(name) => ("header-malformed", json!({ "name": name })),
        E::TypeNotAllowed(actual) => ("type-not-allowed", json!({ "actual": actual })),
        E::ClaimMissing(name) => ("claim-missing", json!({ "name": name })),
        E::ClaimMalformed(name) => ("claim-malformed", json!({ "name": name })),
        E::VersionNotSupported(actual) => ("version-not-supported", json!({ "actual": actual })),
        E::WrongTokenUse(used) => ("wrong-token-use", json!({ "expected": used.expected, "claim": used.claim })),
        E::IssuerMismatch(issuer) => {
            ("issuer-mismatch", json!({ "expected": issuer.expected, "actual": issuer.actual }))
        }
        E::TenantNotAllowed(tenant) => ("tenant-not-allowed", json!({ "tenantId": tenant })),
        E::KeyUnknown(key_id) => ("key-unknown", json!({ "keyId": key_id })),
        E::KeyNotAllowed(key) => ("key-not-allowed", json!({ "keyId": key.key_id, "fault": fault_name(key.fault) })),
        E::SignatureInvalid(key_id) => ("signature-invalid", json!({ "keyId": key_id })),
        E::AudienceMismatch(audience) => {
            ("audience-mismatch", json!({ "expected": audience.expected, "actual": audience.actual }))
        }
        E::Expired(seconds) => ("expired", json!({ "secondsAgo": seconds })),
        E::NotYetValid(seconds) => ("not-yet-valid", json!({ "secondsAhead": seconds })),
        E::IssuedInFuture(seconds) => ("issued-in-future", json!({ "secondsAhead": seconds })),
        E::NoPermissions => ("no-permissions", json!({})),
        E::NonceMismatch => ("nonce-mismatch", json!({})),
        E::PrincipalKindMismatch(mismatch) => {
            ("principal-kind-mismatch", json!({ "required": kind(mismatch.required), "actual": kind(mismatch.actual) }))
        }
        E::ClientNotAllowed(client) => {
            ("client-not-allowed", json!({ "expected": client.expected, "actual": client.actual }))
        }
        E::ScopesMissing(scopes) => {
            ("scopes-missing", json!({ "required": scopes.required, "missing": scopes.missing }))
        }
        E::RolesMissing(roles) => ("roles-missing", json!({ "anyOf": roles })),
        E::GroupsMissing(groups) => ("groups-missing", json!({ "anyOf": groups })),
        E::GroupsUnavailable(reason) => ("groups-unavailable", json!({ "reason": reason })),
        E::KeysUnavailable(outage) => {
            ("keys-unavailable", json!({ "reason": outage.reason, "retryAfter": outage.retry_after }))
        }
        E::ConfigurationInvalid(setting) => ("configuration-invalid", json!({ "setting": setting })),
    };
    match evidence {
        Value::Object(evidence) => (name, evidence),
        _ => (name, Map::new()),
    }
}

fn part_name(part: entra_mcp_plugin::bindings::export::token_validator::Part) -> &'static str {
    use entra_mcp_plugin::bindings::export::token_validator::Part;
    match part {
        Part::Header => "header",
        Part::Claims => "claims",
        Part::Signature => "signature",
    }
}

fn fault_name(fault: entra_mcp_plugin::bindings::export::token_validator::KeyFault) -> &'static str {
    use entra_mcp_plugin::bindings::export::token_validator::KeyFault;
    match fault {
        KeyFault::Type => "type",
        KeyFault::Use => "use",
        KeyFault::Algorithm => "algorithm",
        KeyFault::Size => "size",
        KeyFault::Exponent => "exponent",
        KeyFault::Malformed => "malformed",
        KeyFault::Issuer => "issuer",
        KeyFault::Private => "private",
        KeyFault::Ambiguous => "ambiguous",
    }
}
