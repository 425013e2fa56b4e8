//! Converts between `token-validator` and [`entra::token`].

use base::principal::{Groups, Principal, PrincipalKind};
use entra::token::{Requirements, TokenError};

use super::attributes::Attributes;
use super::exports::entra_mcp::plugin::token_validator as wit;
use super::generated::entra_mcp::plugin::types;

impl From<wit::Requirements> for Requirements {
    fn from(needs: wit::Requirements) -> Self {
        let wit::Requirements { all_scopes, any_role, any_group, kind, any_client } = needs;
        let kind = kind.map(|kind| match kind {
            types::PrincipalKind::User => PrincipalKind::User,
            types::PrincipalKind::App => PrincipalKind::App,
        });
        Self { all_scopes, any_role, any_group, kind, any_client }
    }
}

impl From<PrincipalKind> for types::PrincipalKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::User => Self::User,
            PrincipalKind::App => Self::App,
        }
    }
}

impl From<Principal> for types::Principal {
    fn from(principal: Principal) -> Self {
        Self {
            tenant_id: principal.tenant_id,
            object_id: principal.object_id,
            subject: principal.subject,
            client_id: principal.client_id,
            kind: principal.kind.into(),
            scopes: principal.scopes,
            roles: principal.roles,
            groups: match principal.groups {
                Groups::Absent => types::Groups::Absent,
                Groups::Listed(groups) => types::Groups::Listed(groups),
                Groups::Overage => types::Groups::Overage,
            },
            issued_at_unix_seconds: principal.issued_at,
            expires_at_unix_seconds: principal.expires_at,
            guest: principal.guest,
            token_version: principal.token_version,
            token_id: principal.token_id,
        }
    }
}

impl From<TokenError> for wit::TokenError {
    fn from(error: TokenError) -> Self {
        let retry_after_seconds = match &error {
            TokenError::KeysUnavailable { retry_after, .. } => Some(u32::try_from(*retry_after).unwrap_or(u32::MAX)),
            _ => None,
        };
        Self {
            category: category(&error),
            code: error.reason().to_owned(),
            message: error.public_text().to_owned(),
            challenge: error.challenge().map(|challenge| wit::Challenge {
                error: challenge.error.map(str::to_owned),
                scopes: challenge.scopes,
            }),
            retry_after_seconds,
            evidence: evidence(error).into(),
        }
    }
}

/// What to do about an error. The status of each category is that of [`TokenError::status`].
fn category(error: &TokenError) -> wit::TokenErrorCategory {
    use TokenError as Error;
    use wit::TokenErrorCategory as Category;
    match error {
        Error::TooLarge { .. }
        | Error::NotCompact { .. }
        | Error::EncodingInvalid { .. }
        | Error::JsonInvalid { .. }
        | Error::NameDuplicate { .. }
        | Error::HeaderMissing { .. }
        | Error::HeaderMalformed { .. }
        | Error::ClaimMissing { .. }
        | Error::ClaimMalformed { .. } => Category::Malformed,
        Error::AlgorithmNotAllowed { .. }
        | Error::HeaderNotAllowed { .. }
        | Error::TypeNotAllowed { .. }
        | Error::VersionNotSupported { .. }
        | Error::WrongTokenUse { .. }
        | Error::IssuerMismatch { .. }
        | Error::TenantNotAllowed { .. }
        | Error::KeyUnknown { .. }
        | Error::KeyNotAllowed { .. }
        | Error::SignatureInvalid { .. }
        | Error::AudienceMismatch { .. }
        | Error::NoPermissions
        | Error::KeyBound { .. }
        | Error::NonceMismatch => Category::Untrusted,
        Error::Expired { .. } | Error::NotYetValid { .. } | Error::IssuedInFuture { .. } => Category::NotCurrent,
        Error::PrincipalKindMismatch { .. }
        | Error::ClientNotAllowed { .. }
        | Error::ScopesMissing { .. }
        | Error::RolesMissing { .. }
        | Error::GroupsMissing { .. } => Category::Forbidden,
        Error::GroupsUnavailable { .. } | Error::KeysUnavailable { .. } => Category::Unavailable,
        Error::ConfigurationInvalid { .. } => Category::Misconfigured,
    }
}

/// The evidence of each code, as `wit/token-validator.wit` names it.
fn evidence(error: TokenError) -> Attributes {
    use TokenError as Error;
    let facts = Attributes::default();
    match error {
        Error::TooLarge { length, limit } => facts.with("length-bytes", length).with("limit-bytes", limit),
        Error::NotCompact { parts } => facts.with("parts", parts),
        Error::EncodingInvalid { part } | Error::JsonInvalid { part } => facts.with("part", part.name()),
        Error::NameDuplicate { part, name } => facts.with("part", part.name()).with("name", name),
        Error::AlgorithmNotAllowed { algorithm: actual }
        | Error::TypeNotAllowed { actual }
        | Error::VersionNotSupported { actual } => facts.with("actual", actual),
        Error::HeaderNotAllowed { name }
        | Error::HeaderMissing { name }
        | Error::HeaderMalformed { name }
        | Error::ClaimMissing { name }
        | Error::ClaimMalformed { name } => facts.with("name", name),
        Error::WrongTokenUse { expected, claim } => facts.with("expected", expected).with("claim", claim),
        Error::IssuerMismatch { expected, actual } => facts.with("expected", expected).with("actual", actual),
        Error::TenantNotAllowed { tenant_id } => facts.with("tenant-id", tenant_id),
        Error::KeyUnknown { key_id } | Error::SignatureInvalid { key_id } => facts.with("key-id", key_id),
        Error::KeyNotAllowed { key_id, fault } => facts.with("key-id", key_id).with("fault", fault.name()),
        Error::AudienceMismatch { expected, actual } | Error::ClientNotAllowed { expected, actual } => {
            facts.with("expected", expected).with("actual", actual)
        }
        Error::Expired { seconds_ago } => facts.with("ago-seconds", seconds_ago),
        Error::NotYetValid { seconds_ahead } | Error::IssuedInFuture { seconds_ahead } => {
            facts.with("ahead-seconds", seconds_ahead)
        }
        Error::NoPermissions | Error::NonceMismatch => facts,
        Error::KeyBound { methods } => facts.with("methods", methods),
        Error::PrincipalKindMismatch { required, actual } => {
            facts.with("required", kind(required)).with("actual", kind(actual))
        }
        Error::ScopesMissing { required, missing } => facts.with("required", required).with("missing", missing),
        Error::RolesMissing { any_of } | Error::GroupsMissing { any_of } => facts.with("any-of", any_of),
        Error::GroupsUnavailable { reason } | Error::KeysUnavailable { reason, .. } => facts.with("reason", reason),
        Error::ConfigurationInvalid { setting } => facts.with("setting", setting),
    }
}

fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::App => "app",
    }
}
