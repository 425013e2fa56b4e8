//! Decides by a rule and by what is known of a caller. Pure: where a rule depends on something that is not known, the
//! decision says so, the server asks, and decides again.
//!
//! Everything is compared exactly. The checks are ordered by the party that can change the outcome. Scopes and, after them,
//! authentication contexts come last: they are named as missing only if nothing else is, so that a client never asks its
//! user for more in vain.

mod resemblance;

use crate::identity::Identity;
use crate::policy::{Denial, EVERYTHING, Name, Rule, Target, TargetKind, Terms, ToolRule, has};
use crate::principal::{Groups, PrincipalKind};

use resemblance::AskedName;

/// Something about a caller that may have to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact<'a, T> {
    /// It is this.
    Known(T),
    /// It was not asked for yet, or what was said is too old to count.
    Unknown,
    /// It was asked for in vain. A rule that depends on it denies for this reason.
    Unavailable(&'a Denial),
}

/// What is known of a caller, as far as rules look at it. All of it comes from a token that was validated.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Tenant, object and client.
    pub identity: Identity<'a>,
    /// Person or application.
    pub kind: PrincipalKind,
    /// Whether the caller is an AI agent, for itself or on behalf of a person.
    pub agent: bool,
    /// Whether the caller is a person whose home is another tenant or identity provider.
    pub guest: Fact<'a, bool>,
    /// Scopes in the short form.
    pub scopes: &'a [String],
    /// The scope that every caller of the server has: a token of Entra ID by its name, a session by its own.
    pub server_scope: Option<&'a str>,
    /// Authentication contexts that the person's sign-in has satisfied, as far as that still counts.
    pub contexts: &'a [String],
    /// Application roles.
    pub roles: Fact<'a, &'a [String]>,
    /// Groups, as far as the token told them.
    pub groups: Fact<'a, &'a Groups>,
    /// All groups, where they did not fit into the token.
    pub all_groups: Fact<'a, &'a [String]>,
}

/// What a rule says of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The caller may call.
    Allow,
    /// The caller may not.
    Deny(Denial),
    /// That depends on [`Facts::guest`], [`Facts::roles`] or [`Facts::groups`], which are not known.
    NeedsMembership,
    /// That depends on [`Facts::all_groups`], which are not known.
    NeedsGroups,
}

/// Decides by one rule. `guests` says whether the tool is open to guests at all.
pub fn decide(rule: &Rule, guests: bool, facts: &Facts<'_>) -> Decision {
    check(rule, guests, facts).map_or_else(|no| no, |()| Decision::Allow)
}

/// Decides by those of `rules` that are for the tool, of which one has to hold. A rule that names the caller's tenant
/// takes the place of those that name none. What the tool itself says of guests holds in any case.
///
/// Only of the component's own tools: a rule that names a server, or is not about tools, has no effect here.
pub fn decide_by(rules: &[ToolRule], terms: &Terms, facts: &Facts<'_>) -> Decision {
    let is_own = |rule: &&ToolRule| rule.server.is_none() && rule.kind == TargetKind::Tool && rule.tool == terms.tool;
    any_of(rules.iter().filter(is_own).map(|rule| &rule.rule), terms.guests, facts)
}

/// Decides about something of a server behind the component: by the rules that name it; if there are none, by those for
/// [`EVERYTHING`] of its kind; if there are none either, every admitted caller may but AI agents, which rules have to name,
/// unless `deny_unlisted`. Where tools have rules, tasks need some too. Guests of a tenant are callers like others: no rule of the settings is about them.
///
/// Names are compared exactly, but a server behind may compare them in another way. So a name that resembles one which has
/// rules is denied ([`Denial::NameAmbiguous`]), see `resemblance`.
pub fn decide_about(target: &Target<'_>, rules: &[ToolRule], deny_unlisted: bool, facts: &Facts<'_>) -> Decision {
    let Target { server, kind, name } = *target;
    let about = rules.iter().filter(|rule| rule.is_about(server, kind));
    // What is called like the sign for everything has no rule of its own.
    let own = about.clone().filter(|rule| rule.tool == name && name != EVERYTHING).map(|rule| &rule.rule);
    if own.clone().next().is_some() {
        return any_of(own, true, facts);
    }
    let mut named = about.clone().filter(|rule| rule.tool != EVERYTHING).peekable();
    if named.peek().is_some() {
        let asked = AskedName::new(kind, name);
        if named.any(|rule| asked.resembles(&rule.tool)) {
            return Decision::Deny(Denial::NameAmbiguous);
        }
    }
    let everything = about.filter(|rule| rule.tool == EVERYTHING).map(|rule| &rule.rule);
    if everything.clone().next().is_some() {
        return any_of(everything, true, facts);
    }
    // A task is the call of a tool, and no message says of which.
    let of_tools = kind == TargetKind::Task && rules.iter().any(|rule| rule.is_about(server, TargetKind::Tool));
    match deny_unlisted || of_tools {
        true => Decision::Deny(Denial::NotListed),
        false if facts.agent => Decision::Deny(Denial::AgentNotAllowed),
        false => Decision::Allow,
    }
}

/// Whether any of these rules, of which one has to hold, could deny a caller something of a server: without one, and
/// without `deny_unlisted`, every list is whole, except for an agent, which needs a rule.
pub fn is_restricted(
    server: &str,
    kind: TargetKind,
    rules: &[ToolRule],
    deny_unlisted: bool,
    facts: Option<&Facts<'_>>,
) -> bool {
    let is_agent = facts.is_some_and(|facts| facts.agent);
    deny_unlisted || is_agent || rules.iter().any(|rule| rule.is_about(server, kind))
}

/// Decides by rules of which one has to hold. A rule that names the caller's tenant takes the place of those that name
/// none.
fn any_of<'r>(rules: impl Iterator<Item = &'r Rule> + Clone, guests: bool, facts: &Facts<'_>) -> Decision {
    let tenant = facts.identity.tenant_id;
    let has_own = rules.clone().any(|rule| rule.is_for(tenant));
    let mut closest = Denial::NotListed;
    for rule in rules {
        let replaced = has_own && rule.tenants.is_none();
        let decision = if replaced { Decision::Deny(other_tenant(facts)) } else { decide(rule, guests, facts) };
        match decision {
            // There is no session any more that another rule could admit.
            Decision::Allow
            | Decision::NeedsMembership
            | Decision::NeedsGroups
            | Decision::Deny(Denial::SessionEnded) => return decision,
            Decision::Deny(denial) if denial.closeness() > closest.closeness() => closest = denial,
            Decision::Deny(_) => {}
        }
    }
    Decision::Deny(closest)
}

/// The checks of one rule, in their order. An error is what to answer in place of [`Decision::Allow`].
fn check(rule: &Rule, guests: bool, facts: &Facts<'_>) -> Result<(), Decision> {
    let Facts { identity, kind, .. } = *facts;
    if rule.tenants.is_some() && !rule.is_for(identity.tenant_id) {
        return Err(Decision::Deny(other_tenant(facts)));
    }
    if facts.agent && !rule.agents {
        return Err(Decision::Deny(Denial::AgentNotAllowed));
    }
    let kind_fits = match kind {
        PrincipalKind::User => rule.users || facts.agent,
        // Only a person can satisfy an authentication context.
        PrincipalKind::App => (rule.apps || facts.agent) && rule.contexts.is_none(),
    };
    if !kind_fits {
        return Err(Decision::Deny(Denial::KindNotAllowed { actual: kind }));
    }
    if rule.clients.as_ref().is_some_and(|clients| !has(clients, identity.client_id)) {
        return Err(Decision::Deny(Denial::ClientNotAllowed { client_id: identity.client_id.to_owned() }));
    }
    if !guests && kind == PrincipalKind::User && known(facts.guest, Decision::NeedsMembership)? {
        return Err(Decision::Deny(Denial::GuestNotAllowed));
    }
    if let Some(any_of) = &rule.roles
        && !has_any(any_of, known(facts.roles, Decision::NeedsMembership)?)
    {
        return Err(Decision::Deny(Denial::RoleMissing { any_of: any_of.clone() }));
    }
    if let Some(any_of) = &rule.groups {
        let groups = match known(facts.groups, Decision::NeedsMembership)? {
            Groups::Absent => &[],
            Groups::Listed(groups) => groups.as_slice(),
            Groups::Overage => known(facts.all_groups, Decision::NeedsGroups)?,
        };
        if !has_any(any_of, groups) {
            return Err(Decision::Deny(Denial::GroupMissing { any_of: any_of.clone() }));
        }
    }
    if kind == PrincipalKind::User && !rule.scopes.iter().all(|scope| has_scope(facts, scope)) {
        return Err(Decision::Deny(Denial::ScopesMissing { required: rule.scopes.clone() }));
    }
    if let Some(any_of) = &rule.contexts
        && !has_any(any_of, facts.contexts)
    {
        return Err(Decision::Deny(Denial::ContextMissing { any_of: any_of.clone() }));
    }
    Ok(())
}

/// The fact, or what to answer while it is not known.
fn known<T>(fact: Fact<'_, T>, needs: Decision) -> Result<T, Decision> {
    match fact {
        Fact::Known(known) => Ok(known),
        Fact::Unknown => Err(needs),
        Fact::Unavailable(denial) => Err(Decision::Deny(denial.clone())),
    }
}

fn other_tenant(facts: &Facts<'_>) -> Denial {
    Denial::TenantNotAllowed { tenant_id: facts.identity.tenant_id.to_owned() }
}

fn has_any(any_of: &[Name], names: &[String]) -> bool {
    names.iter().any(|name| has(any_of, name))
}

fn has_scope(facts: &Facts<'_>, scope: &str) -> bool {
    facts.server_scope == Some(scope) || facts.scopes.iter().any(|granted| granted == scope)
}

#[cfg(test)]
mod tests;
