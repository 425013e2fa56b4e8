//! `entra-mcp setup`: makes or repairs the app registration through Microsoft Graph, after showing what it will do, and
//! writes the configuration file.
//!
//! It reads what is there, compares it with what the server needs (`crate::registration::needs`), and writes the
//! difference: a second run finds none. It removes nothing, and it makes no secret: a certificate or a federated
//! credential proves the application just as well, and cannot be copied out of a file by mistake.

use std::io::BufRead as _;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use entra_mcp_plugin::client_credential::ClientCertificates;
use entra_mcp_plugin::clock::{Clock as _, SystemClock};
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::random::{Random as _, SystemRandomness};
use entra_mcp_plugin::secret_store::MemoryStore;
use entra_mcp_plugin::user_agent::{Prompts, SystemBrowser};
use entra_mcp_plugin::{AccessToken, Error, Plugin};
use serde_json::Value;

use self::error::SetupError;
use self::file::FileChange;
use self::identity::IdentityToServe;
use self::plan::{Federated, Plan};
use super::CommandError;
use crate::config::{Layer, ServeLayer, SetupConfig, Sources};
use crate::console;
use crate::probe::Probe;
use crate::prompt;
use crate::registration::document::{RegistrationDocument, SELECTED};
use crate::registration::graph::{GRAPH_APP_ID, Graph, filter};
use crate::registration::needs::{Local, Needs, Remote};

mod clients;
pub(crate) mod error;
mod file;
mod identity;
mod plan;
mod steps;

/// The Azure CLI as an application: a public client that every tenant knows, with the permissions that writing takes.
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

/// Microsoft Graph Command Line Tools: a public client to which any permission of Graph can be consented. Entra ID gives the
/// Azure CLI none that only reads app registrations (AADSTS65002).
const GRAPH_COMMAND_LINE: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// The name of the registration, unless another one is given.
const DEFAULT_NAME: &str = "entra-mcp";

/// What the documentation's rules name as roles.
const DEFAULT_ROLES: [&str; 2] = ["Mcp.Reader", "Mcp.Admin"];

/// What the tools for a person's own profile ask Graph with.
const DEFAULT_PERMISSION: &str = "User.Read";

/// Reads app registrations and service principals.
pub(crate) const READS_APPLICATIONS: &str = "Application.Read.All";

/// Writes app registrations.
pub(crate) const WRITES_APPLICATIONS: &str = "Application.ReadWrite.All";

/// Reads consent for the organisation.
pub(crate) const READS_CONSENT: &str = "DelegatedPermissionGrant.Read.All";

/// Consents for the organisation.
pub(crate) const GRANTS_CONSENT: &str = "DelegatedPermissionGrant.ReadWrite.All";

/// Gives applications permissions of their own.
pub(crate) const ASSIGNS_ROLES: &str = "AppRoleAssignment.ReadWrite.All";

/// Registrations of one name that are listed.
const LISTED_AT_MOST: usize = 10;

/// The arguments of `entra-mcp setup`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask nothing: do what is shown
    #[arg(long)]
    yes: bool,
    /// Show the requests that would change something, and send none of them. This takes permissions to read only
    #[arg(long)]
    dry_run: bool,
    /// Name of the registration [default: entra-mcp]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Application (client) id of the registration to repair [default: the configured client id, else the one of that name]
    #[arg(long, value_name = "GUID", conflicts_with = "name")]
    app_id: Option<String>,
    /// With --public-url: register the application for `entra-mcp stdio` as well
    #[arg(long)]
    local: bool,
    /// A role that rules may name; may be repeated [default: Mcp.Reader and Mcp.Admin, with --public-url]
    #[arg(long, value_name = "VALUE")]
    app_role: Vec<String>,
    /// Leave groups out of tokens
    #[arg(long)]
    no_groups_claim: bool,
    /// A delegated permission of Microsoft Graph that tools need; may be repeated
    #[arg(long, value_name = "NAME", default_value = DEFAULT_PERMISSION)]
    graph_permission: Vec<String>,
    /// An application permission of Microsoft Graph that the server needs for itself, such as GroupMember.Read.All for people in
    /// more groups than a token holds; may be repeated
    #[arg(long, value_name = "NAME")]
    graph_app_permission: Vec<String>,
    /// Consent to these permissions for the whole organisation. This takes an administrator
    #[arg(long)]
    grant_admin_consent: bool,
    /// Trust a managed identity, instead of a secret: the object id of the identity
    #[arg(long, value_name = "GUID", conflicts_with = "federated_issuer")]
    managed_identity: Option<String>,
    /// Trust tokens of another issuer, such as a Kubernetes cluster or GitHub, instead of a secret
    #[arg(long, value_name = "URL", requires = "federated_subject")]
    federated_issuer: Option<String>,
    /// The subject of these tokens
    #[arg(long, value_name = "TEXT", requires = "federated_issuer")]
    federated_subject: Option<String>,
    /// Public client to sign in to for this command [default: the Azure CLI; with --dry-run, Microsoft Graph Command Line
    /// Tools]
    #[arg(long, value_name = "GUID")]
    setup_client_id: Option<String>,
    #[command(flatten)]
    settings: SetupSettings,
}

/// The settings of other commands that count here as well.
const SETTINGS: [&str; 14] = [
    "config",
    "tenant-id",
    "cloud",
    "authority",
    "graph-url",
    "graph-resource",
    "sign-in",
    "sign-in-timeout",
    "account",
    "ca-file",
    "log-format",
    "public-url",
    "required-scope",
    "certificate-file",
];

/// These settings.
#[derive(Debug)]
struct SetupSettings(Layer, ServeLayer);

impl FromArgMatches for SetupSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Layer::from_arg_matches(matches)?, ServeLayer::from_arg_matches(matches)?))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)?;
        self.1.update_from_arg_matches(matches)
    }
}

impl Args for SetupSettings {
    fn augment_args(command: Command) -> Command {
        let all = ServeLayer::augment_args(Layer::augment_args(Command::new("all")));
        command.args(all.get_arguments().filter(|setting| SETTINGS.contains(&setting.get_id().as_str())))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Arguments {
    /// The part that other commands have as well.
    pub fn layers(&self) -> (Layer, ServeLayer) {
        (self.settings.0.clone(), self.settings.1.clone())
    }

    /// The client to sign in to.
    fn client(&self) -> &str {
        let default = if self.dry_run { GRAPH_COMMAND_LINE } else { AZURE_CLI };
        self.setup_client_id.as_deref().unwrap_or(default)
    }

    /// The permissions of Graph that this run takes, and no more.
    fn permissions(&self) -> Vec<&'static str> {
        let (applications, consent) = match self.dry_run {
            true => (READS_APPLICATIONS, READS_CONSENT),
            false => (WRITES_APPLICATIONS, GRANTS_CONSENT),
        };
        let assigns = self.grant_admin_consent && !self.graph_app_permission.is_empty() && !self.dry_run;
        let mut names = vec![applications];
        names.extend(self.grant_admin_consent.then_some(consent));
        names.extend(assigns.then_some(ASSIGNS_ROLES));
        names
    }
}

/// Makes or repairs the registration.
pub async fn run(arguments: &Arguments, sources: &Sources) -> Result<(), CommandError> {
    let mut config = sources.setup(arguments.client())?;
    crate::logging::start(&config.sign_in.host);
    let probe = Probe::new(config.sign_in.ca_file.as_deref()).map_err(CommandError::Usage)?;
    let certificates = certificates(&config)?;
    let token = sign_in(arguments, &config).await?;
    let base = config.sign_in.settings.graph.clone();
    let graph = Graph::new(&probe, &base, &token.token);
    let (username, tenant) = (&token.account.username, &token.account.tenant_id);
    console::result(&format!("Signed in as {username} in the tenant {tenant}."));

    let api = graph_api(&graph).await?;
    let needs = Needs {
        permissions: permissions(&api, PermissionKind::Delegated, &arguments.graph_permission)?,
        app_permissions: permissions(&api, PermissionKind::Application, &arguments.graph_app_permission)?,
        ..needs(arguments, &config, certificates)
    };
    let found = registration(&graph, arguments, &config, tenant).await?;
    let identity = match &arguments.managed_identity {
        Some(id) => Some(IdentityToServe::find(&graph, id, tenant).await?),
        None => None,
    };
    let federated = federated(arguments, identity.as_ref(), &config, tenant);
    if let Some(identity) = &identity {
        identity.configure(&mut config);
    }
    let name = arguments.name.as_deref().unwrap_or(DEFAULT_NAME);
    let consent = arguments.grant_admin_consent.then(|| text(&api, "id"));
    // Personal accounts would need more of the registration than servers of organisations do.
    let audience = if config.several_tenants.is_some() { "AzureADMultipleOrgs" } else { "AzureADMyOrg" };
    let mut plan = Plan::new(&needs, (name, audience), found, &mut new_id()?);
    plan.complete(&graph, &needs, federated, consent).await?;
    let file = FileChange::new(&config, plan.app_id(), tenant)?;

    console::result(&plan.shown());
    if let Some(shown) = file.shown() {
        console::result(&shown);
    }
    if arguments.dry_run {
        console::result(&plan.requests(&graph));
        console::result("Nothing was changed (--dry-run).");
        return Ok(());
    }
    if !plan.is_empty() || file.shown().is_some() {
        agree(arguments)?;
    }
    let app_id = plan.carry_out(&graph).await?;
    let file = FileChange::new(&config, Some(&app_id), tenant)?;
    file.write()?;
    if plan.is_empty() && file.shown().is_none() {
        console::result("Nothing had to be changed.");
    }
    console::result(&clients::configuration(&config, &needs, &app_id, tenant, plan.has_credential()));
    Ok(())
}

/// Asks whether to go on.
fn agree(arguments: &Arguments) -> Result<(), SetupError> {
    if arguments.yes {
        return Ok(());
    }
    console::notice("Go on? [y/N]");
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(0) | Err(_) => Err(SetupError::NotAsked),
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) => Ok(()),
        Ok(_) => Err(SetupError::Declined),
    }
}

/// A token of a person. The component signs in, as for the local server; nothing of it is kept.
async fn sign_in(arguments: &Arguments, config: &SetupConfig) -> Result<AccessToken, CommandError> {
    let sign_in = &config.sign_in;
    let settings = sign_in.settings.clone();
    let names = arguments.permissions();
    let scopes: Vec<_> = names.iter().map(|name| format!("{}/{name}", settings.graph_resource)).collect();
    let clock = std::sync::Arc::new(SystemClock::new());
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()]).map_err(Error::from)?;
    let browser = SystemBrowser::new(sign_in.browser.as_deref(), sign_in.display, Prompts::Terminal(prompt::show));
    let account = settings.sign_in.account.clone();
    let plugin = Plugin::builder(settings)
        .secret_store(std::sync::Arc::new(MemoryStore::new(clock.clone())))
        .clock(clock)
        .outbound_http(OutboundHttp::new(policy, sign_in.ca_file.as_deref())?)
        .user_agent(std::sync::Arc::new(browser))
        .code_cache(sign_in.host.code_cache.clone())
        .build()?;
    let permissions = names.join(" and ");
    let may = if arguments.dry_run { "read app registrations" } else { "register applications" };
    console::notice(&format!("Sign in with an account that may {may} (permission {permissions})."));
    let refused = |error: Error| match error {
        Error::SignIn(error) => {
            CommandError::Setup(SetupError::SignIn { message: error.message, permissions: permissions.clone() })
        }
        error => error.into(),
    };
    plugin.sign_in_interactive(&scopes, account.as_deref()).await.map_err(refused)?;
    plugin.acquire_token_silent(&scopes, None).await.map_err(refused)
}

/// Graph's own service principal, with its permissions.
async fn graph_api(graph: &Graph<'_>) -> Result<Value, SetupError> {
    let path = format!("/servicePrincipals(appId='{GRAPH_APP_ID}')?$select=id,appId,oauth2PermissionScopes,appRoles");
    let principal = graph.get(&path).await;
    principal.map_err(SetupError::during("read the permissions of Microsoft Graph", READS_APPLICATIONS))
}

/// Which permissions are meant: those on behalf of a person, or those of an application for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionKind {
    /// On behalf of a person.
    Delegated,
    /// For the application itself.
    Application,
}

/// The ids of permissions of these names.
fn permissions(api: &Value, kind: PermissionKind, names: &[String]) -> Result<Vec<(String, String)>, SetupError> {
    let property = if kind == PermissionKind::Delegated { "oauth2PermissionScopes" } else { "appRoles" };
    let all = api.get(property).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = |name: &String| {
        let found = all.iter().find(|permission| text(permission, "value") == *name);
        let found = found.ok_or_else(|| SetupError::NoPermission { name: name.clone(), kind })?;
        Ok((name.clone(), text(found, "id")))
    };
    names.iter().map(one).collect()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What the servers of this configuration need.
fn needs(arguments: &Arguments, config: &SetupConfig, certificates: Vec<Vec<u8>>) -> Needs {
    let remote = config.remote.as_ref().map(|remote| {
        // Entra ID takes the URL of a domain as an App ID URI, and `localhost` is none.
        let is_of_domain = |url: &&String| url.starts_with("https://");
        let roles = match arguments.app_role.as_slice() {
            [] => DEFAULT_ROLES.map(str::to_owned).to_vec(),
            roles => roles.to_vec(),
        };
        Remote {
            redirect_uri: Remote::redirect_uri(&remote.public_url),
            app_id_uris: remote.endpoints.iter().filter(is_of_domain).cloned().collect(),
            scope: remote.scope.clone(),
            roles,
            groups_claim: !arguments.no_groups_claim,
            certificates,
        }
    });
    let is_local = arguments.local || remote.is_none();
    let local = is_local.then(|| Local::of(&config.sign_in.settings.authority));
    Needs { local, remote, ..Needs::default() }
}

/// The certificates in the configured files, DER. Of those that the command line does not name, what cannot be used is
/// said, and stands in the way of no other repair.
fn certificates(config: &SetupConfig) -> Result<Vec<Vec<u8>>, SetupError> {
    let Some(remote) = &config.remote else { return Ok(Vec::new()) };
    let now = SystemClock::new().now_seconds();
    let mut certificates = Vec::new();
    for path in &remote.certificates {
        match ClientCertificates::of_key(path, remote.certificate_password.as_ref(), now) {
            Ok(certificate) => certificates.push(certificate),
            Err(fault) if remote.are_certificates_given => return Err(SetupError::Certificate(fault)),
            Err(fault) => console::notice(&format!("Not registered: {fault}.")),
        }
    }
    Ok(certificates)
}

/// The registration to repair, if there is one.
async fn registration(
    graph: &Graph<'_>,
    arguments: &Arguments,
    config: &SetupConfig,
    tenant: &str,
) -> Result<Option<RegistrationDocument>, SetupError> {
    let during = || SetupError::during("read app registrations", READS_APPLICATIONS);
    let configured = config.client_id.as_ref().filter(|_| arguments.name.is_none()).map(|(id, _)| id);
    if let Some(id) = arguments.app_id.as_ref().or(configured) {
        let path = format!("/applications(appId='{id}'){SELECTED}");
        let found = graph.find(&path).await.map_err(during())?;
        let named = if arguments.app_id.is_some() { "--app-id" } else { "the configured client id" };
        let missing = || SetupError::NoRegistration { id: id.clone(), named, tenant: tenant.to_owned() };
        return document(found.ok_or_else(missing)?).map(Some);
    }
    let name = arguments.name.as_deref().unwrap_or(DEFAULT_NAME);
    let list = format!("/applications{}&$select=id,appId,displayName,createdDateTime", filter("displayName", name));
    let found = graph.list(&list).await.map_err(during())?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => {
            let one = document(one.clone())?;
            let whole = graph.get(&format!("/applications/{}{SELECTED}", one.id)).await.map_err(during())?;
            document(whole).map(Some)
        }
        several => {
            let mut shown: Vec<_> = several.iter().cloned().map(document).collect::<Result<_, _>>()?;
            shown.sort_by(|one, other| {
                (&one.created_date_time, &one.app_id).cmp(&(&other.created_date_time, &other.app_id))
            });
            let line = |one: &RegistrationDocument| format!("{}  created {}", one.app_id, one.created_date_time);
            let found = shown.iter().take(LISTED_AT_MOST).map(line).collect();
            Err(SetupError::Ambiguous { name: name.to_owned(), count: several.len(), found })
        }
    }
}

fn document(value: Value) -> Result<RegistrationDocument, SetupError> {
    serde_json::from_value(value).map_err(|error| SetupError::Unexpected(error.to_string()))
}

/// The federated credential that is asked for.
fn federated(
    arguments: &Arguments,
    identity: Option<&IdentityToServe>,
    config: &SetupConfig,
    tenant: &str,
) -> Option<Federated> {
    let of = |name: &str, issuer: String, subject: &String| Federated {
        name: name.to_owned(),
        issuer,
        subject: subject.clone(),
        audience: config.exchange_audience.to_owned(),
    };
    if let Some(identity) = identity {
        let issuer = format!("{}/{tenant}/v2.0", config.sign_in.settings.authority);
        return Some(of("entra-mcp-managed-identity", issuer, &identity.object_id));
    }
    let (issuer, subject) = (arguments.federated_issuer.clone()?, arguments.federated_subject.as_ref()?);
    Some(of("entra-mcp", issuer, subject))
}

/// Makes GUIDs of version 4 (RFC 9562). They are drawn here and not at each use, so that a lack of randomness is an error.
fn new_id() -> Result<impl FnMut() -> String, SetupError> {
    /// More than scopes and roles are added at once; beyond, ids would repeat, and Graph refuses that.
    const DRAWN: usize = 64;
    let random = SystemRandomness::default();
    let mut drawn = Vec::with_capacity(DRAWN);
    for _ in 0..DRAWN {
        let mut bytes = [0; 16];
        random.fill(&mut bytes).map_err(|_| SetupError::NoRandomness)?;
        let value = u128::from_be_bytes(bytes) & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
        drawn.push(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            value >> 96,
            value >> 80 & 0xffff,
            value >> 64 & 0xffff,
            value >> 48 & 0xffff,
            value & 0xffff_ffff_ffff
        ));
    }
    Ok(move || drawn.pop().unwrap_or_default())
}
