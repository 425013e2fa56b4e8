//! What a host is told of a [`TokenError`]: its category, and the facts behind it, as `wit/types.wit` names them.

use super::error::TokenError;
use crate::clock_offset::{self, ClockOffset};
use crate::entra_world::EntraWorld;

/// What to do about a token that is not accepted. The status of each is that of [`TokenError::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Not an access token of Entra ID.
    Malformed,
    /// Nothing proves that a trusted authority issued it for this server.
    Untrusted,
    /// Its dates exclude the present time.
    NotCurrent,
    /// The principal may not do this.
    Forbidden,
    /// It cannot be decided now.
    Unavailable,
    /// The settings accept no token.
    Misconfigured,
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceValue {
    /// A single text.
    Text(String),
    /// A count, or a quantity in the unit that ends the name.
    Number(u64),
    /// Several texts.
    Texts(Vec<String>),
}

impl From<String> for EvidenceValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for EvidenceValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for EvidenceValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Vec<String>> for EvidenceValue {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

/// A named fact.
type Named = (&'static str, EvidenceValue);

fn fact(name: &'static str, value: impl Into<EvidenceValue>) -> Named {
    (name, value.into())
}

impl TokenError {
    /// What to do about it.
    pub fn category(&self) -> Category {
        match self {
            Self::TooLarge { .. }
            | Self::NotCompact { .. }
            | Self::EncodingInvalid { .. }
            | Self::JsonInvalid { .. }
            | Self::NameDuplicate { .. }
            | Self::HeaderMissing { .. }
            | Self::HeaderMalformed { .. }
            | Self::ClaimMissing { .. }
            | Self::ClaimMalformed { .. } => Category::Malformed,
            Self::AlgorithmNotAllowed { .. }
            | Self::HeaderNotAllowed { .. }
            | Self::TypeNotAllowed { .. }
            | Self::VersionNotSupported { .. }
            | Self::WrongTokenUse { .. }
            | Self::IssuerMismatch { .. }
            | Self::TenantNotAllowed { .. }
            | Self::KeyUnknown { .. }
            | Self::KeyNotAllowed { .. }
            | Self::SignatureInvalid { .. }
            | Self::AudienceMismatch { .. }
            | Self::NoPermissions
            | Self::KeyBound { .. }
            | Self::NonceMismatch => Category::Untrusted,
            Self::Expired { .. } | Self::NotYetValid { .. } | Self::IssuedInFuture { .. } => Category::NotCurrent,
            Self::PrincipalKindMismatch { .. }
            | Self::ClientNotAllowed { .. }
            | Self::ScopesMissing { .. }
            | Self::RolesMissing { .. }
            | Self::GroupsMissing { .. } => Category::Forbidden,
            Self::GroupsUnavailable { .. } | Self::KeysUnavailable { .. } => Category::Unavailable,
            Self::ConfigurationInvalid { .. } => Category::Misconfigured,
        }
    }

    /// How wrong this machine's clock is, if answers of Entra ID show that it is, and a token then seems to be out of date
    /// in the way that this error says.
    pub fn clock_offset(&self, env: &EntraWorld<'_>) -> Option<ClockOffset> {
        let offset = clock_offset::current(env)?;
        match (offset, self) {
            (ClockOffset::Behind(_), Self::NotYetValid { .. } | Self::IssuedInFuture { .. })
            | (ClockOffset::Ahead(_), Self::Expired { .. }) => Some(offset),
            _ => None,
        }
    }

    /// The same as a fact.
    pub fn clock_evidence(&self, env: &EntraWorld<'_>) -> Option<Named> {
        self.clock_offset(env).map(|offset| match offset {
            ClockOffset::Behind(seconds) => fact("clock-behind-seconds", seconds),
            ClockOffset::Ahead(seconds) => fact("clock-ahead-seconds", seconds),
        })
    }

    /// Seconds after which the same token may be accepted, if that is known.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let seconds = match self {
            Self::KeysUnavailable { retry_after, .. } => Some(*retry_after),
            Self::GroupsUnavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// The facts behind it, for the log: a client must not see them.
    pub fn into_evidence(self) -> Vec<(&'static str, EvidenceValue)> {
        match self {
            Self::TooLarge { length, limit } => vec![fact("length-bytes", length), fact("limit-bytes", limit)],
            Self::NotCompact { parts } => vec![fact("parts", parts)],
            Self::EncodingInvalid { part } | Self::JsonInvalid { part } => vec![fact("part", part.name())],
            Self::NameDuplicate { part, name } => vec![fact("part", part.name()), fact("name", name)],
            Self::AlgorithmNotAllowed { algorithm: actual }
            | Self::TypeNotAllowed { actual }
            | Self::VersionNotSupported { actual } => vec![fact("actual", actual)],
            Self::HeaderNotAllowed { name }
            | Self::HeaderMissing { name }
            | Self::HeaderMalformed { name }
            | Self::ClaimMissing { name }
            | Self::ClaimMalformed { name } => vec![fact("name", name)],
            Self::WrongTokenUse { expected, claim } => vec![fact("expected", expected), fact("claim", claim)],
            Self::IssuerMismatch { expected, actual } => vec![fact("expected", expected), fact("actual", actual)],
            Self::TenantNotAllowed { tenant_id } => vec![fact("tenant-id", tenant_id)],
            Self::KeyUnknown { key_id } | Self::SignatureInvalid { key_id } => vec![fact("key-id", key_id)],
            Self::KeyNotAllowed { key_id, fault } => vec![fact("key-id", key_id), fact("fault", fault.name())],
            Self::AudienceMismatch { expected, actual } | Self::ClientNotAllowed { expected, actual } => {
                vec![fact("expected", expected), fact("actual", actual)]
            }
            Self::Expired { seconds_ago } => vec![fact("ago-seconds", seconds_ago)],
            Self::NotYetValid { seconds_ahead } | Self::IssuedInFuture { seconds_ahead } => {
                vec![fact("ahead-seconds", seconds_ahead)]
            }
            Self::NoPermissions | Self::NonceMismatch => Vec::new(),
            Self::KeyBound { methods } => vec![fact("methods", methods)],
            Self::PrincipalKindMismatch { required, actual } => {
                vec![fact("required", required.name()), fact("actual", actual.name())]
            }
            Self::ScopesMissing { required, missing } => vec![fact("required", required), fact("missing", missing)],
            Self::RolesMissing { any_of } | Self::GroupsMissing { any_of } => vec![fact("any-of", any_of)],
            Self::GroupsUnavailable { reason, .. } | Self::KeysUnavailable { reason, .. } => {
                vec![fact("reason", reason)]
            }
            Self::ConfigurationInvalid { setting } => vec![fact("setting", setting)],
        }
    }
}

#[cfg(test)]
mod tests {
    use world::testing::World;

    use super::*;
    use crate::testing::EntraWorlds as _;

    #[test]
    fn a_category_has_the_status_of_its_errors() {
        let name = || "name".to_owned();
        for (error, category, status) in [
            (TokenError::ClaimMissing { name: name() }, Category::Malformed, 401),
            (TokenError::NoPermissions, Category::Untrusted, 401),
            (TokenError::Expired { seconds_ago: 1 }, Category::NotCurrent, 401),
            (TokenError::RolesMissing { any_of: Vec::new() }, Category::Forbidden, 403),
            (TokenError::KeysUnavailable { reason: name(), retry_after: 5 }, Category::Unavailable, 503),
            (TokenError::ConfigurationInvalid { setting: name() }, Category::Misconfigured, 500),
        ] {
            assert_eq!((error.category(), error.status()), (category, status), "{error:?}");
        }
    }

    #[test]
    fn the_evidence_has_its_units_in_its_names() {
        let error = TokenError::TooLarge { length: 20_000, limit: 16_384 };
        assert_eq!(
            error.into_evidence(),
            [("length-bytes", EvidenceValue::Number(20_000)), ("limit-bytes", EvidenceValue::Number(16_384))]
        );
    }

    #[test]
    fn a_token_is_out_of_date_because_of_a_wrong_clock_in_one_direction_only() {
        let env = World::default().entra();
        let expired = TokenError::Expired { seconds_ago: 9 };
        let early = [TokenError::NotYetValid { seconds_ahead: 9 }, TokenError::IssuedInFuture { seconds_ahead: 9 }];
        clock_offset::forget();
        assert_eq!(expired.clock_evidence(&env), None, "nothing is known");
        clock_offset::is_behind(&env, 400);
        for error in &early {
            assert_eq!(error.clock_evidence(&env), Some(("clock-behind-seconds", EvidenceValue::Number(400))));
        }
        assert_eq!((expired.clock_evidence(&env), TokenError::NoPermissions.clock_evidence(&env)), (None, None));
        clock_offset::is_behind(&env, -400);
        assert_eq!(expired.clock_evidence(&env), Some(("clock-ahead-seconds", EvidenceValue::Number(400))));
        assert!(early.iter().all(|error| error.clock_evidence(&env).is_none()));
        clock_offset::is_behind(&env, 30);
        assert_eq!(expired.clock_evidence(&env), None, "that is not worth a word");
        clock_offset::forget();
    }
}
