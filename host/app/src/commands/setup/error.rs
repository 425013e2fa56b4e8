//! Why `setup` stops, in sentences that say what to do.

use entra_mcp_plugin::client_credential::CertificateFault;
use http::StatusCode;

use super::{ASSIGNS_ROLES, GRANTS_CONSENT, PermissionKind, READS_APPLICATIONS, READS_CONSENT, WRITES_APPLICATIONS};
use crate::registration::graph::{GraphFault, GraphRefusal};

/// Why the registration was not made or repaired.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// No person signed in.
    #[error(
        "the sign-in for setup failed: {message} It asks for the permission {permissions}; name an account that may use it \
         with --account, or a public client of your own with --setup-client-id"
    )]
    SignIn {
        /// What the component says.
        message: String,
        /// What is asked for.
        permissions: String,
    },
    /// The account or the token lacks a right.
    #[error(
        "Microsoft Graph refuses to {action} (403 {code}): it takes the delegated permission {permission}, and {right}. Sign \
         in with another account (--account), or let an administrator run the command"
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// What Graph says.
        code: String,
        /// What the token has to carry.
        permission: &'static str,
        /// What the account has to have.
        right: &'static str,
    },
    /// Graph has too many requests.
    #[error(
        "Microsoft Graph has too many requests and refuses to {action} ({status}): run the command again {when}. What is done already is not done twice"
    )]
    Busy {
        /// What was tried.
        action: &'static str,
        /// 429 or 503.
        status: u16,
        /// When.
        when: String,
    },
    /// Graph refuses for another reason.
    #[error("Microsoft Graph refuses to {action}: {fault}{advice}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What Graph says.
        fault: String,
        /// What to do, if it is known.
        advice: &'static str,
    },
    /// Graph does not answer, or with something else.
    #[error("{fault}")]
    Failed {
        /// What happened.
        fault: String,
    },
    /// An answer of Graph cannot be read.
    #[error("Microsoft Graph answers with something unexpected: {0}")]
    Unexpected(String),
    /// Several registrations have the name.
    #[error("{count} app registrations are named {name:?}: choose one of them with --app-id, or another name with --name\n  {}", found.join("\n  "))]
    Ambiguous {
        /// The name.
        name: String,
        /// How many.
        count: usize,
        /// The first of them.
        found: Vec<String>,
    },
    /// There is no registration of that id.
    #[error(
        "{named}, {id}, is no app registration of the tenant {tenant}: correct it, sign in to its tenant (--tenant-id), or \
         register a new application with --name"
    )]
    NoRegistration {
        /// The id.
        id: String,
        /// Where it comes from.
        named: &'static str,
        /// Where it was looked for.
        tenant: String,
    },
    /// There is no managed identity of that id.
    #[error(
        "--managed-identity, {id}, is no managed identity of the tenant {tenant}: pass its object (principal) id, which the \
         portal shows on the identity's Overview, and not its client id"
    )]
    NoIdentity {
        /// The id.
        id: String,
        /// Where it was looked for.
        tenant: String,
    },
    /// Graph has no such permission.
    #[error(
        "Microsoft Graph has no {} permission {name:?}: correct {} (names are case-sensitive, such as User.Read.All)",
        if *kind == PermissionKind::Delegated { "delegated" } else { "application" },
        if *kind == PermissionKind::Delegated { "--graph-permission" } else { "--graph-app-permission" }
    )]
    NoPermission {
        /// Its name.
        name: String,
        /// What was asked for.
        kind: PermissionKind,
    },
    /// The configuration file cannot be changed by a program.
    #[error("{path} cannot be changed by this program ({reason}): write these lines into it\n  {}", lines.join("\n  "))]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
        /// What belongs into it.
        lines: Vec<String>,
    },
    /// A certificate cannot be registered.
    #[error(transparent)]
    Certificate(CertificateFault),
    /// There is no person to ask.
    #[error(
        "nothing was changed: there is no terminal to ask at. Pass --yes to do what is shown, or --dry-run to see the requests"
    )]
    NotAsked,
    /// The person said no.
    #[error("nothing was changed")]
    Declined,
    /// The operating system gives no randomness.
    #[error("no secure randomness is available")]
    NoRandomness,
}

impl SetupError {
    /// Whether the command line or the configuration has to be changed.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Ambiguous { .. }
                | Self::NoRegistration { .. }
                | Self::NoIdentity { .. }
                | Self::NoPermission { .. }
                | Self::File { .. }
                | Self::Certificate(_)
                | Self::NotAsked
        )
    }

    /// What a fault means during an action that takes a permission.
    pub(super) fn during(action: &'static str, permission: &'static str) -> impl Fn(GraphFault) -> Self {
        move |fault| match fault {
            GraphFault::Refused(refused) => Self::refused(action, permission, refused),
            fault => Self::Failed { fault: fault.to_string() },
        }
    }

    fn refused(action: &'static str, permission: &'static str, refused: GraphRefusal) -> Self {
        let when = match refused.retry_after {
            Some(1) => "in 1 second".to_owned(),
            Some(seconds) => format!("in {seconds} seconds"),
            None => "in a minute".to_owned(),
        };
        match refused.status {
            StatusCode::FORBIDDEN => {
                Self::Denied { action, code: refused.code, permission, right: right(action, permission) }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Self::Busy { action, status: refused.status.as_u16(), when }
            }
            _ => {
                let advice = advice(&refused);
                Self::Refused { action, fault: GraphFault::Refused(refused).to_string(), advice }
            }
        }
    }
}

/// What an account has to have besides the permission.
fn right(action: &str, permission: &str) -> &'static str {
    match (action, permission) {
        ("register the application", WRITES_APPLICATIONS) => {
            "an account with the role Application Developer, or that Users can register applications is set to Yes under \
             Entra ID > Users > User settings"
        }
        (_, READS_APPLICATIONS | READS_CONSENT) => {
            "an account that may read the directory, such as one with the role Directory Readers"
        }
        (_, GRANTS_CONSENT) => {
            "an account with the role Privileged Role Administrator or Cloud Application Administrator"
        }
        (_, ASSIGNS_ROLES) => "an account with the role Privileged Role Administrator",
        _ => "an account that owns the registration, or has the role Cloud Application Administrator",
    }
}

fn advice(refused: &GraphRefusal) -> &'static str {
    match (refused.code.as_str(), refused.detail.as_str()) {
        ("HostNameNotOnVerifiedDomain", _) => {
            ". Add the domain of --public-url under Entra ID > Custom domain names, or use a host name of a domain that is \
             there"
        }
        (_, "ObjectConflict") => {
            ". Another registration has this Application ID URI: name that one with --app-id, or remove the URI there under \
             Expose an API"
        }
        ("CannotDeleteOrUpdateEnabledEntitlement", _) => {
            ". The registration was changed meanwhile: run the command again"
        }
        ("InvalidFederatedIdentityCredentialValue", _) => {
            ". Another federated credential has the same issuer and subject: remove it under Certificates & secrets"
        }
        _ => "",
    }
}
