//! What can go wrong between this program and the token endpoint of Entra ID.

use std::time::Duration;

use base::settings::Settings;
use serde::{Deserialize, Serialize};
use world::once::Failure;
use world::{CredentialError, HttpError, StoreError};

use crate::error_codes;

/// A failed exchange with Entra ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// Entra ID answered with an OAuth error.
    #[error("{}", .0.advice())]
    Refused(EntraRefusal),
    /// Entra ID asked to wait; nothing is sent until then.
    #[error("Microsoft Entra ID asks to wait {} seconds before the next attempt", .0.as_secs())]
    Throttled(Duration),
    /// Entra ID answered with a server error, after the retry.
    #[error("Microsoft Entra ID is not available now (HTTP status {0}); try again later")]
    ServerError(u16),
    /// No answer arrived.
    #[error("Microsoft Entra ID cannot be reached: {0}")]
    Unreachable(HttpError),
    /// The answer was not what the specification says.
    #[error("Microsoft Entra ID answered with something unexpected: {0}")]
    Malformed(&'static str),
    /// A URL could not be built from the settings.
    #[error("the setting {0} does not give a valid URL")]
    Misconfigured(&'static str),
    /// The person did not finish in time.
    #[error("the code expired before the sign-in was finished")]
    Expired,
    /// There is no credential for a confidential client.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// This call has not asked. Most often another one has, and failed like this.
    #[error("{}", .0.reason)]
    NotAsked(Failure),
    /// The secret store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OAuthError {
    /// A stable code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Credential(_) => "client-credential".to_owned(),
            Self::Misconfigured(_) => "misconfigured".to_owned(),
            Self::Malformed(_) => "entra-malformed".to_owned(),
            Self::Store(_) => "store".to_owned(),
            _ => "entra-unavailable".to_owned(),
        }
    }

    /// When Entra ID may be asked again, if it has said so. Unix time in seconds.
    pub fn retry_at(&self, now: u64) -> Option<u64> {
        match self {
            Self::Throttled(pause) => Some(now.saturating_add(pause.as_secs())),
            Self::NotAsked(failure) => failure.retry_at,
            _ => None,
        }
    }

    /// The same error for a call that goes on at this Unix time in seconds: what another call was told to wait for, this
    /// one is.
    #[must_use]
    pub fn at(self, now: u64) -> Self {
        match self.retry_at(now) {
            Some(retry_at) => Self::Throttled(Duration::from_secs(retry_at.saturating_sub(now))),
            None => self,
        }
    }

    /// What the clients of a server may learn: what the error of Entra ID means, not how the server is configured or
    /// why it cannot reach Entra ID.
    pub fn public(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.public_advice(),
            Self::Throttled(_) | Self::ServerError(_) => self.to_string(),
            Self::Unreachable(_) | Self::NotAsked(_) => {
                "Microsoft Entra ID cannot be reached now. Try again later.".to_owned()
            }
            Self::Malformed(_) => "Microsoft Entra ID answered with something unexpected.".to_owned(),
            Self::Credential(_) | Self::Misconfigured(_) => {
                "The server is not configured correctly: its operator finds the reason in the log.".to_owned()
            }
            Self::Expired | Self::Store(_) => "The sign-in could not be finished. Try again later.".to_owned(),
        }
    }
}

/// An OAuth error response (RFC 6749 section 5.2) with the additions of Entra ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntraRefusal {
    /// `invalid_grant`, `interaction_required` …
    pub error: String,
    /// The AADSTS number; 0 if there is none.
    pub code: u32,
    /// Narrows `error` down: `bad_token`, `consent_required` …
    pub suberror: Option<String>,
    /// A claims challenge to repeat the sign-in with.
    pub claims: Option<String>,
    /// The id that Entra ID gives the exchange, for a support case.
    pub trace_id: Option<String>,
}

impl EntraRefusal {
    /// Reads the AADSTS number from where Entra ID puts it: the list of codes, else the start of the description.
    pub fn new(error: &str, codes: &[u32], description: Option<&str>) -> Self {
        let from_text = || description.and_then(error_codes::number_in);
        Self {
            error: error.to_owned(),
            code: codes.first().copied().or_else(from_text).unwrap_or(0),
            ..Self::default()
        }
    }

    /// Whether the person has declined. The code of Entra ID decides before the OAuth error does: `access_denied` is
    /// also what a browser brings when conditional access has blocked the sign-in.
    pub fn is_declined(&self) -> bool {
        match self.code {
            0 => matches!(self.error.as_str(), "access_denied" | "authorization_declined"),
            error_codes::DECLINED => true,
            error_codes::NOT_APPROVED => self.error == "authorization_declined",
            code => self.error == "authorization_declined" && !error_codes::is_known(code),
        }
    }

    /// Whether a new interactive sign-in is the way out.
    pub fn needs_interaction(&self) -> bool {
        matches!(self.error.as_str(), "invalid_grant" | "interaction_required" | "consent_required" | "login_required")
    }

    /// Whether it is what the policies of one resource want of the person (a second factor, a device, a place), rather than
    /// that the sign-in itself is over.
    pub fn is_of_resource(&self) -> bool {
        self.needs_interaction()
            && (self.claims.is_some()
                || self.error == "interaction_required"
                || matches!(self.code, 50072 | 50074 | 50076 | 50079 | 50131 | 50158 | 53000..=53004 | 530_032))
    }

    /// Whether the credential is the reason, and another one may be accepted: a secret or a certificate that the
    /// application does not have, or an assertion or a secret whose time is over.
    pub fn is_of_credential(&self) -> bool {
        matches!(self.code, 700_024 | 700_027 | 7_000_215 | 7_000_222)
    }

    /// Whether the account may not use the resource at all: an administrator assigns it.
    pub fn is_unassigned(&self) -> bool {
        self.code == 50105
    }

    /// Whether the missing thing is a consent to a permission: 65001 says that of a user or an administrator, 90094 and
    /// 90095 of an administrator.
    pub fn needs_consent(&self) -> bool {
        matches!(self.code, 65001 | 90094 | 90095)
            || self.error == "consent_required"
            || self.suberror.as_deref() == Some("consent_required")
    }

    /// One sentence that says what to do.
    pub fn advice(&self) -> String {
        error_codes::advice(&self.error, self.code)
    }

    /// Whether what is configured, here or in the app registration, has to be changed.
    pub fn is_configuration(&self) -> bool {
        error_codes::is_configuration(&self.error, self.code)
    }

    /// The same as [`EntraRefusal::advice`]; names the ids that are configured, if one of them may be wrong.
    pub fn advice_for(&self, settings: &Settings) -> String {
        let Settings { tenant, client_id, .. } = settings;
        match self.advice() {
            advice if self.is_configuration() => {
                format!("{advice} The tenant id is {tenant}, the client id is {client_id}.")
            }
            advice => advice,
        }
    }

    /// The same for the clients of a server, who can do nothing about its configuration.
    pub fn public_advice(&self) -> String {
        error_codes::public_advice(&self.error, self.code)
    }

    /// A stable code for the audit record: `aadsts-65001`, else the OAuth error if it is a known one. The error may
    /// have come by way of a person's browser, so its text is not believed.
    pub fn reason(&self) -> String {
        match self.code {
            0 => error_codes::known(&self.error).unwrap_or("unknown-error").to_owned(),
            code => format!("aadsts-{code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resource_wants_is_told_from_a_sign_in_that_is_over() {
        let claims = Some(r#"{"access_token":{}}"#.to_owned());
        for (error, code, claims, is_of_resource) in [
            ("interaction_required", 50076, claims.clone(), true),
            ("interaction_required", 0, None, true),
            ("invalid_grant", 50076, None, true),
            ("invalid_grant", 53003, None, true),
            ("invalid_grant", 530_032, None, true),
            ("invalid_grant", 0, claims, true),
            ("invalid_grant", 0, None, false),
            ("invalid_grant", 50173, None, false),
            ("invalid_grant", 700_082, None, false),
            ("invalid_grant", 70043, None, false),
            ("invalid_grant", 50057, None, false),
            ("invalid_client", 53003, None, false),
        ] {
            let refusal = EntraRefusal { claims, ..EntraRefusal::new(error, &[code], None) };
            assert_eq!(refusal.is_of_resource(), is_of_resource, "{error} {code}");
        }
    }

    /// What a browser brings back from Entra ID, and what a poll for a device code is answered with.
    #[test]
    fn only_a_person_declines() {
        for (error, code, declined) in [
            ("access_denied", 0, true),
            ("authorization_declined", 0, true),
            ("access_denied", 65004, true),
            ("consent_required", 65004, true),
            ("authorization_declined", 70_000, true),
            ("access_denied", 53003, false),
            ("authorization_declined", 70_018, true),
            ("bad_verification_code", 70_018, false),
            ("authorization_declined", 53003, false),
            ("access_denied", 50105, false),
            ("access_denied", 90094, false),
            ("access_denied", 12345, false),
            ("invalid_grant", 0, false),
        ] {
            assert_eq!(EntraRefusal::new(error, &[code], None).is_declined(), declined, "{error} {code}");
        }
    }
}
