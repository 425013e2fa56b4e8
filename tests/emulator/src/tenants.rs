//! Authorities: what `{tenant}` in a path means, and which users may sign in there.

use super::config::{Application, Audience, CONSUMERS_TENANT, Config, Tenant, User};
use super::errors::{self, Refusal};
use super::random::derived_guid;

/// The first segment of an endpoint's path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Authority {
    /// Any account.
    Common,
    /// Any work or school account.
    Organizations,
    /// Personal accounts.
    Consumers,
    /// One directory.
    Tenant(String),
}

impl Authority {
    /// Reads the segment: an alias, a tenant id or a domain.
    pub(crate) fn parse(config: &Config, segment: &str) -> Result<Self, Refusal> {
        Ok(match segment {
            "common" => Self::Common,
            "organizations" => Self::Organizations,
            "consumers" => Self::Consumers,
            _ if segment.eq_ignore_ascii_case(CONSUMERS_TENANT) => Self::Consumers,
            _ => Self::Tenant(config.tenant(segment).ok_or_else(|| unknown_tenant(segment))?.id.clone()),
        })
    }

    /// The tenant's id in metadata; the aliases keep the template for the reader to fill in.
    pub(crate) fn issuer_segment(&self) -> &str {
        match self {
            Self::Common | Self::Organizations => "{tenantid}",
            Self::Consumers => CONSUMERS_TENANT,
            Self::Tenant(id) => id,
        }
    }

    /// The segment as Entra ID writes it into endpoint addresses.
    pub(crate) fn path_segment(&self) -> &str {
        match self {
            Self::Common => "common",
            Self::Organizations => "organizations",
            Self::Consumers => "consumers",
            Self::Tenant(id) => id,
        }
    }

    /// The one directory this authority stands for, if it is one.
    pub(crate) fn tenant<'a>(&self, config: &'a Config) -> Option<&'a Tenant> {
        match self {
            Self::Common | Self::Organizations => None,
            Self::Consumers => config.tenant(CONSUMERS_TENANT),
            Self::Tenant(id) => config.tenant(id),
        }
    }

    /// Whether this application can be used here at all.
    pub(crate) fn admits_application(&self, config: &Config, application: &Application) -> Result<(), Refusal> {
        let personal_only = application.audience == Audience::Personal;
        let personal_too = matches!(application.audience, Audience::Personal | Audience::OrgsAndPersonal);
        match self {
            Self::Common | Self::Organizations if application.audience == Audience::MyOrg => {
                Err(errors::NOT_MULTI_TENANT.because(format!(
                    "Application '{}'({}) is not configured as a multi-tenant application. Usage of the /{} endpoint is \
                     not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure \
                     the application to be multi-tenant.",
                    application.id,
                    application.name,
                    self.path_segment()
                )))
            }
            Self::Tenant(_) | Self::Organizations if personal_only => Err(errors::NOT_FOR_CONSUMERS.because(format!(
                "Application '{}'({}) is configured for use by Microsoft Account users only. Please use the /consumers \
                 endpoint to serve this request.",
                application.id, application.name
            ))),
            Self::Consumers if !personal_too => Err(unknown_application(application, "Microsoft Accounts")),
            Self::Tenant(id)
                if application.tenant != *id
                    && !application.provisioned_in.contains(id)
                    && application.audience == Audience::MyOrg =>
            {
                let name = config.tenant(id).map_or(id.as_str(), |tenant| tenant.name.as_str());
                Err(unknown_application(application, name))
            }
            _ => Ok(()),
        }
    }

    /// The tenant that issues tokens to this user here.
    pub(crate) fn issuing_tenant<'a>(
        &self,
        config: &'a Config,
        user: &User,
        application: &Application,
    ) -> Result<&'a Tenant, Refusal> {
        let home = config.tenant(&user.tenant).ok_or_else(|| unknown_tenant(&user.tenant))?;
        match self {
            Self::Tenant(id) => {
                let tenant = config.tenant(id).ok_or_else(|| unknown_tenant(id))?;
                match user.id_in(id) {
                    Some(_) => Ok(tenant),
                    None => Err(wrong_tenant(user, home, tenant, application)),
                }
            }
            Self::Organizations if user.is_personal() => Err(wrong_kind(user, "a work or school account")),
            Self::Consumers if !user.is_personal() => Err(wrong_kind(user, "a personal account")),
            Self::Common if user.is_personal() && application.audience == Audience::MultipleOrgs => {
                Err(wrong_kind(user, "a work or school account"))
            }
            Self::Common if !user.is_personal() && application.audience == Audience::Personal => {
                Err(wrong_kind(user, "a personal account"))
            }
            _ => Ok(home),
        }
    }
}

pub(crate) fn unknown_tenant(segment: &str) -> Refusal {
    errors::TENANT_NOT_FOUND.because(format!(
        "Tenant '{segment}' not found. Check to make sure you have the correct tenant ID and are signing into the correct \
         cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the \
         tenant."
    ))
}

fn unknown_application(application: &Application, tenant: &str) -> Refusal {
    application_not_found(&application.id, tenant)
}

pub(crate) fn application_not_found(id: &str, tenant: &str) -> Refusal {
    errors::APPLICATION_NOT_FOUND.because(format!(
        "Application with identifier '{id}' was not found in the directory '{tenant}'. This can happen if the application \
         has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have \
         sent your authentication request to the wrong tenant."
    ))
}

fn wrong_tenant(user: &User, home: &Tenant, tenant: &Tenant, application: &Application) -> Refusal {
    errors::USER_OF_OTHER_TENANT.because(format!(
        "User account '{}' from identity provider 'https://sts.windows.net/{}/' does not exist in tenant '{}' and cannot \
         access the application '{}'({}) in that tenant. The account needs to be added as an external user in the tenant \
         first. Sign out and sign in again with a different Azure Active Directory user account.",
        user.username, home.id, tenant.name, application.id, application.name
    ))
}

fn wrong_kind(user: &User, wanted: &str) -> Refusal {
    errors::WORK_ACCOUNTS_ONLY.because(format!(
        "User account '{}' does not exist in the tenant and cannot access the application in that tenant. You can't sign \
         in here with this account. Use {wanted} instead.",
        user.username
    ))
}

/// The text of Entra ID for an unknown user name.
pub(crate) fn no_such_user(username: &str, tenant: &str) -> Refusal {
    errors::NO_SUCH_USER.because(format!(
        "The user account {username} does not exist in the {tenant} directory. To sign into this application, the account \
         must be added to the directory."
    ))
}

/// The object id of an application's service principal in a tenant; derived, so that it is the same in every run.
pub(crate) fn service_principal(client: &str, tenant: &str) -> String {
    derived_guid(&format!("{client}|{tenant}"))
}
