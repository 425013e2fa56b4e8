//! Conversions to the types of `token-validator` in `wit/types.wit`. Each component that exports it has generated types of
//! its own, with the same fields: hence a macro.

#[doc(hidden)]
pub use base::principal::{AgentRole, CallerKind, Groups, Principal, PrincipalKind};

/// Converts between the generated types in the module `$types` and those of [`token`](crate::token).
#[macro_export]
macro_rules! convert_token_validator_types {
    ($types:ident) => {
        const _: () = {
            use $crate::token::contract::{AgentRole, CallerKind, Groups, Principal, PrincipalKind};
            use $crate::token::{Category, EvidenceValue, Requirements, TokenError};

            impl From<$types::Requirements> for Requirements {
                fn from(needs: $types::Requirements) -> Self {
                    let $types::Requirements { all_scopes, any_role, any_group, kind, any_client } = needs;
                    let kind = kind.map(|kind| match kind {
                        $types::CallerKind::User => CallerKind::User,
                        $types::CallerKind::App => CallerKind::App,
                        $types::CallerKind::Agent => CallerKind::Agent,
                    });
                    Self { all_scopes, any_role, any_group, kind, any_client }
                }
            }

            impl From<PrincipalKind> for $types::PrincipalKind {
                fn from(kind: PrincipalKind) -> Self {
                    match kind {
                        PrincipalKind::User => Self::User,
                        PrincipalKind::App => Self::App,
                    }
                }
            }

            impl From<Principal> for $types::Principal {
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
                            Groups::Absent => $types::Groups::Absent,
                            Groups::Listed(groups) => $types::Groups::Listed(groups),
                            Groups::Overage => $types::Groups::Overage,
                        },
                        issued_at_unix_seconds: principal.issued_at,
                        expires_at_unix_seconds: principal.expires_at,
                        guest: principal.guest,
                        agent: principal.agent.and_then(|role| match role {
                            AgentRole::OnBehalfOfUser => Some($types::AgentRole::OnBehalfOfUser),
                            AgentRole::Autonomous => Some($types::AgentRole::Autonomous),
                            AgentRole::AgentUser => Some($types::AgentRole::AgentUser),
                            AgentRole::Unknown => None,
                        }),
                        authentication_contexts: principal.contexts,
                        token_version: principal.token_version,
                        token_id: principal.token_id,
                    }
                }
            }

            impl From<TokenError> for $types::TokenError {
                fn from(error: TokenError) -> Self {
                    Self {
                        category: match error.category() {
                            Category::Malformed => $types::TokenErrorCategory::Malformed,
                            Category::Untrusted => $types::TokenErrorCategory::Untrusted,
                            Category::NotCurrent => $types::TokenErrorCategory::NotCurrent,
                            Category::Forbidden => $types::TokenErrorCategory::Forbidden,
                            Category::Unavailable => $types::TokenErrorCategory::Unavailable,
                            Category::Misconfigured => $types::TokenErrorCategory::Misconfigured,
                        },
                        code: error.reason().to_owned(),
                        message: error.public_text().to_owned(),
                        challenge: error.challenge().map(|challenge| $types::Challenge {
                            error: challenge.error.map(str::to_owned),
                            scopes: challenge.scopes,
                        }),
                        retry_after_seconds: error.retry_after_seconds(),
                        evidence: error
                            .into_evidence()
                            .into_iter()
                            .map(|(name, fact)| (name.to_owned(), fact.into()))
                            .collect(),
                    }
                }
            }

            impl From<EvidenceValue> for $types::AttributeValue {
                fn from(fact: EvidenceValue) -> Self {
                    match fact {
                        EvidenceValue::Text(text) => Self::Text(text),
                        EvidenceValue::Number(number) => Self::Number(number),
                        EvidenceValue::Texts(texts) => Self::Texts(texts),
                    }
                }
            }
        };
    };
}
