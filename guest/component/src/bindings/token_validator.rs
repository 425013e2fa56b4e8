//! Converts between `token-validator` and [`entra::token`]: the types are one to one.

use base::principal::{Groups, Principal, PrincipalKind};
use entra::token::{KeyFault, Part, Requirements, TokenError};

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
            issued_at: principal.issued_at,
            expires_at: principal.expires_at,
            guest: principal.guest,
            token_version: principal.token_version,
            token_id: principal.token_id,
        }
    }
}

impl From<Part> for wit::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Header => Self::Header,
            Part::Claims => Self::Claims,
            Part::Signature => Self::Signature,
        }
    }
}

impl From<KeyFault> for wit::KeyFault {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::Type => Self::Type,
            KeyFault::Use => Self::Use,
            KeyFault::Algorithm => Self::Algorithm,
            KeyFault::Size => Self::Size,
            KeyFault::Exponent => Self::Exponent,
            KeyFault::Malformed => Self::Malformed,
            KeyFault::Issuer => Self::Issuer,
            KeyFault::Private => Self::Private,
            KeyFault::Ambiguous => Self::Ambiguous,
        }
    }
}

impl From<TokenError> for wit::TokenError {
    fn from(error: TokenError) -> Self {
        use TokenError as From;
        match error {
            From::TooLarge { length, limit } => Self::TooLarge(wit::SizeEvidence { length, limit }),
            From::NotCompact { parts } => Self::NotCompact(parts),
            From::EncodingInvalid { part } => Self::EncodingInvalid(part.into()),
            From::JsonInvalid { part } => Self::JsonInvalid(part.into()),
            From::NameDuplicate { part, name } => Self::NameDuplicate(wit::NameEvidence { part: part.into(), name }),
            From::AlgorithmNotAllowed { algorithm } => Self::AlgorithmNotAllowed(algorithm),
            From::HeaderNotAllowed { name } => Self::HeaderNotAllowed(name),
            From::HeaderMissing { name } => Self::HeaderMissing(name),
            From::HeaderMalformed { name } => Self::HeaderMalformed(name),
            From::TypeNotAllowed { actual } => Self::TypeNotAllowed(actual),
            From::ClaimMissing { name } => Self::ClaimMissing(name),
            From::ClaimMalformed { name } => Self::ClaimMalformed(name),
            From::VersionNotSupported { actual } => Self::VersionNotSupported(actual),
            From::WrongTokenUse { expected, claim } => Self::WrongTokenUse(wit::UseEvidence { expected, claim }),
            From::IssuerMismatch { expected, actual } => Self::IssuerMismatch(wit::Mismatch { expected, actual }),
            From::TenantNotAllowed { tenant_id } => Self::TenantNotAllowed(tenant_id),
            From::KeyUnknown { key_id } => Self::KeyUnknown(key_id),
            From::KeyNotAllowed { key_id, fault } => {
                Self::KeyNotAllowed(wit::KeyEvidence { key_id, fault: fault.into() })
            }
            From::SignatureInvalid { key_id } => Self::SignatureInvalid(key_id),
            From::AudienceMismatch { expected, actual } => {
                Self::AudienceMismatch(wit::ChoiceMismatch { expected, actual })
            }
            From::Expired { seconds_ago } => Self::Expired(seconds_ago),
            From::NotYetValid { seconds_ahead } => Self::NotYetValid(seconds_ahead),
            From::IssuedInFuture { seconds_ahead } => Self::IssuedInFuture(seconds_ahead),
            From::NoPermissions => Self::NoPermissions,
            From::NonceMismatch => Self::NonceMismatch,
            From::PrincipalKindMismatch { required, actual } => {
                Self::PrincipalKindMismatch(wit::KindMismatch { required: required.into(), actual: actual.into() })
            }
            From::ClientNotAllowed { expected, actual } => {
                Self::ClientNotAllowed(wit::ChoiceMismatch { expected, actual })
            }
            From::ScopesMissing { required, missing } => Self::ScopesMissing(wit::ScopeEvidence { required, missing }),
            From::RolesMissing { any_of } => Self::RolesMissing(any_of),
            From::GroupsMissing { any_of } => Self::GroupsMissing(any_of),
            From::GroupsUnavailable { reason } => Self::GroupsUnavailable(reason),
            From::KeysUnavailable { reason, retry_after } => Self::KeysUnavailable(wit::Outage { reason, retry_after }),
            From::ConfigurationInvalid { setting } => Self::ConfigurationInvalid(setting),
        }
    }
}
