//! The directories the emulator starts with: tenants, users and applications, read from TOML.
//!
//! [`Config::default`] is `default.toml` beside this file, in which every entry says what it is for. Unknown keys are
//! refused, so that a misspelt setting does not quietly change nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The tenant of personal Microsoft accounts; the same in every cloud.
pub const CONSUMERS_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// The directory in which Microsoft's own applications are at home. No person can consent to more for them.
pub(crate) const MICROSOFT_SERVICES: &str = "f8cdef31-a31e-4b4a-93e4-5f571e91255a";
/// Microsoft Graph's application id; the same in every tenant.
pub const GRAPH_APP_ID: &str = "00000003-0000-0000-c000-000000000000";

const DEFAULT: &str = include_str!("default.toml");

/// Everything the emulator is seeded with.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Lifetimes and other rules of the whole emulator.
    #[serde(default)]
    pub policy: Policy,
    /// The directories.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
    /// The accounts of all directories.
    #[serde(default)]
    pub users: Vec<User>,
    /// The application registrations of all directories.
    #[serde(default)]
    pub applications: Vec<Application>,
    /// What Graph can be asked for.
    #[serde(default)]
    pub graph: GraphPermissions,
    /// Identities of machines, without any secret.
    #[serde(default)]
    pub managed_identities: Vec<ManagedIdentity>,
    /// Where the agent of Azure Arc writes its files. There is no agent without it.
    #[serde(default)]
    pub arc_folder: Option<PathBuf>,
    /// What [`super::Endpoints`] names: ids of this configuration.
    pub announce: Announce,
}

/// Lifetimes, in seconds of the emulator's clock.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Shortest life of an access token.
    pub access_token_shortest: i64,
    /// Longest life of an access token; Entra ID draws one between 60 and 90 minutes.
    pub access_token_longest: i64,
    /// Life of an access token when the client can handle claims challenges.
    pub continuous_access_token: i64,
    /// Life of an ID token.
    pub id_token: i64,
    /// Life of an authorization code.
    pub authorization_code: i64,
    /// Idle time after which a refresh token is dead (700082).
    pub refresh_token_idle: i64,
    /// Fixed life of a refresh token of a single-page application (700084).
    pub refresh_token_spa: i64,
    /// Life of a device code.
    pub device_code: i64,
    /// Seconds a device-code client is told to wait between polls.
    pub device_code_interval: i64,
    /// Life of a browser's sign-in session.
    pub browser_session: i64,
    /// Longest accepted life of a client assertion.
    pub client_assertion_longest: i64,
    /// Tolerated clock difference when an assertion's times are checked.
    pub clock_skew: i64,
    /// Whether an old refresh token goes on working after it was used, as in Entra ID.
    pub refresh_token_reuse: bool,
    /// Whether the `jti` of a client assertion may be used once only. Entra ID accepts an assertion again, and MSAL
    /// keeps one for minutes, so this is off unless a test wants to see fresh ones.
    pub refuse_replayed_assertions: bool,
    /// Whether users that are no administrators may register applications, as in a new tenant.
    pub users_register_applications: bool,
    /// Groups above this number are left out of a token and replaced by the overage claims.
    pub groups_in_token: usize,
    /// The `iss` of v1 tokens; `{tenantid}` stands for the tenant.
    pub v1_issuer: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            access_token_shortest: 60 * 60,
            access_token_longest: 90 * 60,
            continuous_access_token: 28 * 60 * 60,
            id_token: 60 * 60,
            authorization_code: 10 * 60,
            refresh_token_idle: 90 * 24 * 60 * 60,
            refresh_token_spa: 24 * 60 * 60,
            device_code: 15 * 60,
            device_code_interval: 5,
            browser_session: 24 * 60 * 60,
            client_assertion_longest: 24 * 60 * 60,
            clock_skew: 5 * 60,
            refresh_token_reuse: true,
            refuse_replayed_assertions: false,
            users_register_applications: true,
            groups_in_token: 200,
            v1_issuer: "https://sts.windows.net/{tenantid}/".to_owned(),
        }
    }
}

/// A directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The tenant id.
    pub id: String,
    /// A verified domain, usable in place of the id.
    pub domain: String,
    /// What the consent page calls it.
    pub name: String,
}

/// An account.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The object id in the home tenant.
    pub id: String,
    /// The home tenant's id.
    pub tenant: String,
    /// What is typed into the sign-in page.
    pub username: String,
    /// The password; public, as everything here is.
    pub password: String,
    /// The Graph profile, property by property; `id`, `userPrincipalName` and `displayName` have defaults.
    #[serde(default)]
    pub profile: serde_json::Map<String, Value>,
    /// Tenants other than the home tenant in which the account is a guest.
    #[serde(default)]
    pub guest_in: Vec<Guest>,
    /// How many groups the account is in; their ids are derived from its own.
    #[serde(default)]
    pub groups: usize,
    /// Application roles: application id to role values.
    #[serde(default)]
    pub roles: std::collections::BTreeMap<String, Vec<String>>,
    /// The agent identity that the account belongs to, if it is no person's.
    #[serde(default)]
    pub agent: Option<String>,
    /// Conditional access and account state.
    #[serde(default)]
    pub must: Requirement,
    /// Asks this user for consent even where it is given for all other users.
    #[serde(default)]
    pub asks_consent: bool,
    /// May consent to permissions that need an administrator.
    #[serde(default)]
    pub administrator: bool,
    /// A tenant-wide session lifetime of this many seconds; after it a refresh is refused with 70043.
    #[serde(default)]
    pub session_lifetime: Option<i64>,
    /// A profile picture, or Graph's 404.
    #[serde(default)]
    pub photo: bool,
}

/// Where an account is a guest.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// The resource tenant's id.
    pub tenant: String,
    /// The guest's own object id there.
    pub id: String,
}

/// What stands between a correct password and a token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// Nothing.
    #[default]
    Nothing,
    /// A second factor at every interactive sign-in; the page accepts `123456`.
    UseMfa,
    /// A second factor only for the application marked `protected` (50076 when it is reached silently).
    StepUpForProtected,
    /// The authentication context `c1` at Microsoft Graph: a token that was not asked for with it, or whose user has shown
    /// no second factor, is challenged for it there.
    AuthenticationContext,
    /// Enrolment for a second factor, which the page does at once (50079 when met silently).
    EnrolMfa,
    /// A compliant device, which it never has (53003).
    UseCompliantDevice,
    /// A new password (50055).
    ChangePassword,
    /// An enabled account, which it is not (50057).
    BeEnabled,
}

/// The users that may sign in to an application.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Audience {
    /// Accounts of the home tenant.
    #[default]
    #[serde(rename = "AzureADMyOrg")]
    MyOrg,
    /// Accounts of any organization.
    #[serde(rename = "AzureADMultipleOrgs")]
    MultipleOrgs,
    /// Accounts of any organization, and personal accounts.
    #[serde(rename = "AzureADandPersonalMicrosoftAccount")]
    OrgsAndPersonal,
    /// Personal accounts only.
    #[serde(rename = "PersonalMicrosoftAccount")]
    Personal,
}

/// An application registration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The application (client) id.
    pub id: String,
    /// What pages call it.
    pub name: String,
    /// The home tenant's id.
    pub tenant: String,
    /// The users that may sign in.
    #[serde(default)]
    pub audience: Audience,
    /// Other tenants in which an administrator has already added the application.
    #[serde(default)]
    pub provisioned_in: Vec<String>,
    /// Redirect URIs of desktop and mobile clients: no secret needed at redemption.
    #[serde(default)]
    pub public_redirect_uris: Vec<String>,
    /// Redirect URIs of web applications: redemption needs a credential.
    #[serde(default)]
    pub web_redirect_uris: Vec<String>,
    /// Redirect URIs of single-page applications: redemption needs an `Origin`.
    #[serde(default)]
    pub spa_redirect_uris: Vec<String>,
    /// Allows flows without a redirect URI, such as device code, without a credential.
    #[serde(default)]
    pub allow_public_client: bool,
    /// Secrets.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Certificates, each one PEM text.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Trust in other issuers' tokens.
    #[serde(default)]
    pub federated_credentials: Vec<FederatedCredential>,
    /// The application that this agent identity was made from. An agent identity has no credential of its own.
    #[serde(default)]
    pub blueprint: Option<String>,
    /// App ID URIs: what tokens for this application may be asked by, besides its id.
    #[serde(default)]
    pub identifier_uris: Vec<String>,
    /// The form of access tokens issued *for* this application: 1 or 2.
    #[serde(default = "two")]
    pub access_token_version: u8,
    /// Delegated permissions it offers.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Application roles it defines (for users and for applications).
    #[serde(default)]
    pub roles: Vec<String>,
    /// Roles granted to this application itself: resource application id to role values.
    #[serde(default)]
    pub granted_roles: std::collections::BTreeMap<String, Vec<String>>,
    /// Leaves groups out of tokens (default) or writes them.
    #[serde(default)]
    pub group_claims: bool,
    /// Consent is already given for all users; false asks each user on the sign-in page.
    #[serde(default = "yes")]
    pub consent_given: bool,
    /// Delegated permissions configured on the registration, as full scopes; what `.default` means.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Permissions that count as consented to, also those that need an administrator, as full scopes: what Microsoft has
    /// given its own applications in advance.
    #[serde(default)]
    pub preauthorized: Vec<String>,
    /// Only users with a role may sign in (50105).
    #[serde(default)]
    pub assignment_required: bool,
    /// Conditional access demands a second factor for this resource of users who `must` step up.
    #[serde(default)]
    pub protected: bool,
    /// Disabled by the tenant's administrator (7000112).
    #[serde(default)]
    pub disabled: bool,
    /// Adds the optional `idtyp` claim to user tokens too.
    #[serde(default)]
    pub idtyp_for_users: bool,
    /// Has the optional `idtyp` claim in applications' tokens; without it, Entra ID leaves it to a resource to see that
    /// such a token has no scopes, and its own object as the subject.
    #[serde(default = "yes")]
    pub idtyp_for_applications: bool,
    /// There is no service principal in the home tenant yet, as after a registration through Graph: the application gets
    /// no token for itself (7000229).
    #[serde(default)]
    pub without_service_principal: bool,
    /// Object ids of the users that may change the registration without being an administrator.
    #[serde(default)]
    pub owners: Vec<String>,
    /// What Graph was told of the registration besides all that.
    #[serde(default)]
    pub registration: Registration,
}

/// What Graph shows of a registration and no sign-in depends on: ids, texts, and what is disabled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// `createdDateTime`, in seconds since 1970.
    pub created: i64,
    /// `api.oauth2PermissionScopes`, as they were written.
    pub scopes: Vec<Value>,
    /// `appRoles`, as they were written.
    pub roles: Vec<Value>,
    /// `groupMembershipClaims`, as it was written.
    pub group_membership_claims: Option<String>,
    /// `optionalClaims`, as it was written.
    pub optional_claims: Option<Value>,
    /// `requiredResourceAccess`, as it was written.
    pub required_resource_access: Option<Vec<Value>>,
}

fn two() -> u8 {
    2
}

fn yes() -> bool {
    true
}

/// A client secret.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The value.
    pub value: String,
    /// Already expired (7000222).
    #[serde(default)]
    pub expired: bool,
}

/// Trust in tokens of another issuer, exchanged for the application's own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    /// Its name at Graph; without one, a number.
    #[serde(default)]
    pub name: String,
    /// The issuer, compared exactly. `{base}` stands for the emulator's own address, to trust its managed identities.
    pub issuer: String,
    /// The subject, compared exactly.
    pub subject: String,
    /// The audience.
    #[serde(default = "exchange")]
    pub audience: String,
}

fn exchange() -> String {
    "api://AzureADTokenExchange".to_owned()
}

/// A delegated permission.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The short name that appears in `scp`.
    pub name: String,
    /// What the consent page says.
    pub title: String,
    /// Only an administrator may consent (90094).
    #[serde(default)]
    pub administrator: bool,
}

/// Graph's permissions.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GraphPermissions {
    /// Delegated permissions.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Application permissions.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// An identity of a machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentity {
    /// The service principal's object id.
    pub id: String,
    /// Its application id.
    pub client_id: String,
    /// The tenant's id.
    pub tenant: String,
    /// The Azure resource id that user-assigned identities may be named by.
    pub resource_id: String,
    /// Answers when a request names no identity.
    #[serde(default)]
    pub system_assigned: bool,
    /// Roles granted: resource application id to role values.
    #[serde(default)]
    pub granted_roles: std::collections::BTreeMap<String, Vec<String>>,
}

/// Which entries the announced endpoints name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// `tenant_id`.
    pub tenant: String,
    /// `public_client_id`.
    pub public_client: String,
    /// `confidential_client_id`; its first valid secret becomes `client_secret`.
    pub confidential_client: String,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not TOML, or has keys or types this emulator does not know.
    #[error("the emulator's configuration cannot be read: {0}")]
    Unreadable(String),
    /// An id refers to nothing.
    #[error("the emulator's configuration names the {kind} {id}, which it does not define")]
    Dangling {
        /// What sort of entry is missing.
        kind: &'static str,
        /// Its id.
        id: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        // The built-in text is read by a test; an empty configuration is never used in its place.
        Self::from_toml(DEFAULT).unwrap_or_else(|_| Self {
            policy: Policy::default(),
            tenants: Vec::new(),
            users: Vec::new(),
            applications: Vec::new(),
            graph: GraphPermissions::default(),
            managed_identities: Vec::new(),
            arc_folder: None,
            announce: Announce {
                tenant: String::new(),
                public_client: String::new(),
                confidential_client: String::new(),
            },
        })
    }
}

impl Config {
    /// The text of the built-in configuration, to copy and change.
    pub const fn default_toml() -> &'static str {
        DEFAULT
    }

    /// Reads and checks a configuration.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Unreadable(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let tenant =
            |id: &str| self.tenant(id).map(drop).ok_or(ConfigError::Dangling { kind: "tenant", id: id.to_owned() });
        let application = |id: &str| {
            self.application(id).map(drop).ok_or(ConfigError::Dangling { kind: "application", id: id.to_owned() })
        };
        for user in &self.users {
            tenant(&user.tenant)?;
            for guest in &user.guest_in {
                tenant(&guest.tenant)?;
            }
        }
        for one in &self.applications {
            tenant(&one.tenant)?;
            one.blueprint.as_deref().map_or(Ok(()), application)?;
        }
        for agent in self.users.iter().filter_map(|user| user.agent.as_deref()) {
            application(agent)?;
        }
        for identity in &self.managed_identities {
            tenant(&identity.tenant)?;
        }
        tenant(&self.announce.tenant)?;
        application(&self.announce.public_client)?;
        application(&self.announce.confidential_client)
    }

    /// A tenant by id or domain.
    pub(crate) fn tenant(&self, id_or_domain: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| {
            tenant.id.eq_ignore_ascii_case(id_or_domain) || tenant.domain.eq_ignore_ascii_case(id_or_domain)
        })
    }

    /// An application by its client id.
    pub(crate) fn application(&self, id: &str) -> Option<&Application> {
        self.applications.iter().find(|application| application.id.eq_ignore_ascii_case(id))
    }

    /// A user by what is typed into the sign-in page, in any case of letters.
    pub(crate) fn user_named(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username.eq_ignore_ascii_case(username.trim()))
    }

    /// A user by object id, in the home tenant or as a guest.
    pub(crate) fn user(&self, id: &str) -> Option<&User> {
        self.users.iter().find(|user| user.id == id || user.guest_in.iter().any(|guest| guest.id == id))
    }
}

impl User {
    /// The object id in this tenant: home, guest, or none.
    pub(crate) fn id_in(&self, tenant: &str) -> Option<&str> {
        if self.tenant == tenant {
            return Some(&self.id);
        }
        self.guest_in.iter().find(|guest| guest.tenant == tenant).map(|guest| guest.id.as_str())
    }

    /// A profile property as text.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.profile.get(name).and_then(Value::as_str)
    }

    /// The name pages and tokens show.
    pub(crate) fn display_name(&self) -> &str {
        self.property("displayName").unwrap_or(&self.username)
    }

    /// Whether it is a personal account.
    pub(crate) fn is_personal(&self) -> bool {
        self.tenant == CONSUMERS_TENANT
    }

    /// The ids of the groups the account is in.
    pub fn group_ids(&self) -> impl Iterator<Item = String> + '_ {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.id.as_bytes());
        let seed = digest.as_ref().iter().take(12).fold(0_u128, |seed, byte| seed << 8 | u128::from(*byte));
        // Version and variant bits make them look like ids of Entra ID; the low bits number them.
        let base = seed << 32 & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
        (0..self.groups)
            .map(move |index| super::random::guid_text(base & !0xffff_ffff | u128::try_from(index).unwrap_or_default()))
    }
}

impl Application {
    /// Whether it has any credential of its own, or its blueprint vouches for it.
    pub(crate) fn is_confidential(&self) -> bool {
        self.blueprint.is_some()
            || !(self.secrets.is_empty() && self.certificates.is_empty() && self.federated_credentials.is_empty())
    }

    /// Whether Graph was told that tokens of this kind have this optional claim.
    pub(crate) fn asks_for(&self, kind: &str, claim: &str) -> bool {
        let claims = self.registration.optional_claims.as_ref().and_then(|claims| claims.get(kind)?.as_array());
        claims.is_some_and(|claims| claims.iter().any(|one| one["name"] == claim))
    }
}
