//! Who may call which tool of the remote server.
//!
//! Every tool states a rule of its own. Rules in the settings replace all of these: then a tool that they do not name is
//! denied to everybody. What is compared is compared exactly, and comes from a token that was validated.
//!
//! The order of the checks is by who could change the outcome. Scopes come last: they are named as missing only if
//! nothing else is, so that a client never asks its user for more in vain.

use std::borrow::Cow;
use std::cell::OnceCell;

use base::Identity;
use base::audit::{AuditEvent, Outcome};
use base::policy::{Denial, Rule, ToolRule, has};
use base::principal::{Groups, PrincipalKind};
use caller::bearer::Bearer;
use caller::session::{self, Membership, Session, Unconfirmed};
use entra::graph::groups;

use crate::server_world::ServerWorld;

/// Who asks, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Tenant, object and client.
    pub who: Identity<'a>,
    /// Person or application.
    pub kind: PrincipalKind,
    /// Scopes in the short form.
    pub scopes: &'a [String],
    /// Application roles.
    pub roles: &'a [String],
    /// Groups, as far as the token told them.
    pub groups: &'a Groups,
    /// The session that roles and groups are from, if they are not from the token: they count for some hours.
    pub session: Option<&'a Session>,
}

impl<'a> From<&'a Session> for Subject<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            who: session.identity(),
            kind: PrincipalKind::User,
            scopes: &session.scopes,
            roles: &session.membership.roles,
            groups: &session.membership.groups,
            session: Some(session),
        }
    }
}

impl<'a> From<&'a Bearer> for Subject<'a> {
    fn from(bearer: &'a Bearer) -> Self {
        let principal = bearer.principal();
        Self {
            who: bearer.identity(),
            kind: principal.kind,
            scopes: &principal.scopes,
            roles: &principal.roles,
            groups: &principal.groups,
            session: None,
        }
    }
}

/// Decides what one caller may do. Asks Microsoft Graph for groups, and Entra ID for roles and groups that are too old,
/// once at most, and only where a rule depends on them.
pub struct Access<'a> {
    env: &'a ServerWorld<'a>,
    subject: Subject<'a>,
    /// What Entra ID says in place of what is too old.
    confirmed: OnceCell<Result<Membership, Unconfirmed>>,
    /// Groups that did not fit into the token; the error is for the log.
    resolved: OnceCell<Result<Vec<String>, String>>,
}

impl<'a> Access<'a> {
    /// For this caller.
    pub fn new(env: &'a ServerWorld<'a>, subject: impl Into<Subject<'a>>) -> Self {
        Self { env, subject: subject.into(), confirmed: OnceCell::new(), resolved: OnceCell::new() }
    }

    /// Whether the caller may call `tool`, whose own rule counts unless the settings have rules. Nothing is recorded.
    pub async fn decide(&self, tool: &'static str, own: impl FnOnce() -> Rule) -> Result<(), Denial> {
        match &self.env.site.settings.access {
            Some(rules) => self.any_holds(rules, tool).await,
            None => self.any_holds(&[ToolRule { tool: Cow::Borrowed(tool), rule: own() }], tool).await,
        }
    }

    /// The same, and a denial is recorded. A record that cannot be written changes nothing: the call is denied anyway.
    pub async fn admit(&self, tool: &'static str, own: impl FnOnce() -> Rule) -> Result<(), Denial> {
        let decided = self.decide(tool, own).await;
        if let Err(denial) = &decided {
            let event = AuditEvent {
                reason: Some(denial.reason().to_owned()),
                tool: Some(tool.to_owned()),
                ..AuditEvent::new("tool.denied", Outcome::Failure)
            };
            let _ = self.env.entra.trail.record(self.subject.who.attribute(event)).await;
        }
        decided
    }

    /// Whether one of the rules for `tool` holds.
    async fn any_holds(&self, rules: &[ToolRule], tool: &str) -> Result<(), Denial> {
        let rules = rules.iter().filter(|rule| rule.tool == tool).map(|rule| &rule.rule);
        let tenant = self.subject.who.tenant_id;
        let has_own = rules.clone().any(|rule| rule.is_for(tenant));
        let mut closest = Denial::NotListed;
        for rule in rules {
            let applies = if has_own { rule.is_for(tenant) } else { rule.tenants.is_none() };
            let held = if applies {
                self.holds(rule).await
            } else {
                Err(Denial::TenantNotAllowed { tenant_id: tenant.to_owned() })
            };
            match held {
                Ok(()) => return Ok(()),
                // There is nobody any more whom another rule could let in.
                Err(Denial::SessionEnded) => return Err(Denial::SessionEnded),
                Err(denial) if denial.closeness() > closest.closeness() => closest = denial,
                Err(_) => {}
            }
        }
        Err(closest)
    }

    /// Whether a rule for the caller's tenant holds.
    async fn holds(&self, rule: &Rule) -> Result<(), Denial> {
        let Subject { who, kind, .. } = self.subject;
        let kind_fits = match kind {
            PrincipalKind::User => rule.users,
            PrincipalKind::App => rule.apps,
        };
        if !kind_fits {
            return Err(Denial::KindNotAllowed { actual: kind });
        }
        if rule.clients.as_ref().is_some_and(|clients| !has(clients, who.client_id)) {
            return Err(Denial::ClientNotAllowed { client_id: who.client_id.to_owned() });
        }
        if let Some(any_of) = &rule.roles
            && !self.membership().await?.0.iter().any(|role| has(any_of, role))
        {
            return Err(Denial::RoleMissing { any_of: any_of.clone() });
        }
        if let Some(any_of) = &rule.groups {
            let groups = self.groups().await?;
            if !groups.iter().any(|group| has(any_of, group)) {
                return Err(Denial::GroupMissing { any_of: any_of.clone() });
            }
        }
        if kind == PrincipalKind::User && !rule.scopes.iter().all(|scope| self.has_scope(scope)) {
            return Err(Denial::ScopesMissing { required: rule.scopes.clone() });
        }
        Ok(())
    }

    /// Whoever was let in has the scope of the server: a token of Entra ID by its name, a session by its own.
    fn has_scope(&self, scope: &str) -> bool {
        self.env.site.settings.required_scope == scope || self.subject.scopes.iter().any(|granted| granted == scope)
    }

    /// Tells the operator what the caller is not told. The reason is escaped: a part of it may come from a server.
    fn note(&self, what: &str, reason: &str) {
        let id = self.env.correlation_id();
        self.env.log.note(&format!("{what}: {reason:?} (correlation id {id})"));
    }

    /// Roles, and groups as far as Entra ID tells them.
    async fn membership(&self) -> Result<(&[String], &Groups), Denial> {
        let Subject { session, roles, groups, .. } = self.subject;
        let outdated = session.filter(|session| !session.membership.counts(self.env.entra.clock.now()));
        let Some(session) = outdated else { return Ok((roles, groups)) };
        if self.confirmed.get().is_none() {
            let confirmed = Box::pin(session::confirm(&self.env.entra, session)).await;
            if let Err(Unconfirmed::Unavailable(reason)) = &confirmed {
                self.note("the roles of a caller cannot be confirmed", reason);
            }
            // Nobody else can have set it: an instance works on one call.
            let _ = self.confirmed.set(confirmed);
        }
        match self.confirmed.get() {
            Some(Ok(membership)) => Ok((&membership.roles, &membership.groups)),
            Some(Err(Unconfirmed::Ended)) => Err(Denial::SessionEnded),
            Some(Err(Unconfirmed::Unavailable(reason))) => {
                Err(Denial::MembershipUnconfirmed { reason: reason.clone() })
            }
            None => Err(Denial::MembershipUnconfirmed { reason: String::new() }),
        }
    }

    async fn groups(&self) -> Result<&[String], Denial> {
        let told = match self.subject.groups {
            // That they do not fit may be old: what they are, Graph is asked for anew.
            Groups::Overage => &Groups::Overage,
            Groups::Absent | Groups::Listed(_) => self.membership().await?.1,
        };
        match told {
            Groups::Absent => return Ok(&[]),
            Groups::Listed(groups) => return Ok(groups),
            Groups::Overage => {}
        }
        if self.resolved.get().is_none() {
            let Identity { tenant_id, object_id, .. } = self.subject.who;
            let resolved = Box::pin(groups::of(&self.env.entra, self.subject.kind, tenant_id, object_id)).await;
            let resolved = resolved.map_err(|error| error.to_string());
            if let Err(reason) = &resolved {
                self.note("the groups of a caller are not known", reason);
            }
            // As above.
            let _ = self.resolved.set(resolved);
        }
        match self.resolved.get() {
            Some(Ok(groups)) => Ok(groups),
            Some(Err(reason)) => Err(Denial::GroupsUnavailable { reason: reason.clone() }),
            None => Err(Denial::GroupsUnavailable { reason: String::new() }),
        }
    }
}

#[cfg(test)]
mod tests;
