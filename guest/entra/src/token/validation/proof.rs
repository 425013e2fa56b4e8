//! The proof that an access token passed every step. Its fields can be set by `validation` and by nothing else.

use std::fmt;

use base::principal::{Agent, Groups, Principal};

use crate::token::jwks::Fingerprint;

/// Proof that an access token passed every step. Made here and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct ValidatedToken {
    pub(super) principal: Principal,
    pub(super) username: Option<String>,
    pub(super) agent: Option<Agent>,
    pub(super) not_before: u64,
    pub(super) key: Fingerprint,
    pub(super) first_seen: bool,
}

impl ValidatedToken {
    /// The principal of the token.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The principal of the token, without the proof.
    pub fn into_principal(self) -> Principal {
        self.principal
    }

    /// `preferred_username`, or `upn` in version 1. For audit records that have to name people: it can change hands.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The AI agent that the token was issued to, if it says so, with its blueprint. For audit records.
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Whether the token was judged just now, and not remembered by this instance.
    pub fn is_first_seen(&self) -> bool {
        self.first_seen
    }

    /// Bytes this takes in memory, about.
    pub(in crate::token) fn bytes(&self) -> usize {
        let Principal { tenant_id, object_id, subject, client_id, scopes, roles, groups, token_id, contexts, .. } =
            &self.principal;
        let blueprint = self.agent.as_ref().map_or(&None, |agent| &agent.blueprint);
        let list = |list: &[String]| list.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let groups = if let Groups::Listed(groups) = groups { list(groups) } else { 0 };
        size_of::<Self>()
            + [tenant_id, object_id, subject, client_id].map(String::len).iter().sum::<usize>()
            + [&self.username, token_id, blueprint].into_iter().flatten().map(String::len).sum::<usize>()
            + list(scopes)
            + list(roles)
            + list(contexts)
            + groups
    }
}

impl fmt::Debug for ValidatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatedToken").field("principal", &self.principal).finish_non_exhaustive()
    }
}
