//! Which callers may call which tool of the remote server.
//!
//! Every tool states a rule of its own. Rules in the settings replace all of these: then a tool that they do not name
//! is denied to all callers. `base::decision`, which is pure, decides what the rules say of a caller; this module asks
//! for what the decision depends on.
//!
//! Of servers behind the component the rules in the settings are all there is: what no rule names is open to every admitted
//! caller but AI agents, unless the settings say otherwise.

use std::cell::OnceCell;

use base::audit::{AuditEvent, Outcome};
use base::decision::{self, Decision, Fact, Facts, decide_by};
use base::policy::{Denial, EVERYTHING, Target, TargetKind, Terms, ToolRule};
use base::settings::HttpSettings;
use caller::session::{Membership, Unconfirmed};
use caller::{Caller, CallerAuthentication};
use entra::graph::groups;
use serde_json::json;

use crate::server_world::ServerWorld;

/// Whether people may call a tool of a server behind the component, whatever else it takes.
pub fn lets_people(settings: &HttpSettings, server: &str, tool: &str) -> bool {
    let rules = settings.access.iter().flatten().filter(|rule| rule.is_about(server, TargetKind::Tool));
    let (mut is_ruled, mut lets) = (false, false);
    for name in [tool, EVERYTHING] {
        for rule in rules.clone().filter(|rule| rule.tool == name) {
            is_ruled = true;
            lets |= rule.rule.users;
        }
        if is_ruled {
            return lets;
        }
    }
    !settings.deny_unlisted
}

/// The claims by which a caller's sign-in satisfies the authentication context that a rule wants. `None`: something else is
/// missing.
///
/// A client with a token of Entra ID asks for them in an access token for this server. Of a session this server is the client:
/// it sees the ID token, and no access token.
pub(crate) fn context_claims(authentication: CallerAuthentication, denial: &Denial) -> Option<String> {
    let Denial::ContextMissing { any_of } = denial else { return None };
    let wanted = json!({ "acrs": { "essential": true, "value": any_of.first()? } });
    Some(match authentication {
        CallerAuthentication::Person => return None,
        CallerAuthentication::Session => json!({ "id_token": wanted }).to_string(),
        CallerAuthentication::Bearer => json!({ "access_token": wanted }).to_string(),
    })
}

/// Decides what one caller may do. Asks Microsoft Graph for groups, and Entra ID for roles and groups that are too old,
/// once at most, and only where a rule depends on them.
pub struct Access<'a> {
    env: &'a ServerWorld<'a>,
    caller: &'a dyn Caller,
    /// `None` for a caller that rules cannot describe: it may do nothing here.
    facts: Option<Facts<'a>>,
    /// What Entra ID says in place of what is too old.
    confirmed: OnceCell<Result<Membership, Denial>>,
    /// Groups that did not fit into the token.
    resolved: OnceCell<Result<Vec<String>, Denial>>,
}

impl<'a> Access<'a> {
    /// For this caller.
    pub fn new(env: &'a ServerWorld<'a>, caller: &'a dyn Caller) -> Self {
        let server_scope = Some(env.site.settings.required_scope.as_str());
        let facts = caller.facts().map(|facts| Facts { server_scope, ..facts });
        Self { env, caller, facts, confirmed: OnceCell::new(), resolved: OnceCell::new() }
    }

    /// Whether the caller may call a tool, whose own rule counts unless the settings have rules. Nothing is recorded.
    pub async fn decide(&self, terms: &Terms) -> Result<(), Denial> {
        match &self.env.site.settings.access {
            Some(rules) => self.decided(|facts| decide_by(rules, terms, facts)).await,
            None => {
                let own = [ToolRule::for_tool(terms.tool, (terms.rule)())];
                self.decided(|facts| decide_by(&own, terms, facts)).await
            }
        }
    }

    /// The same, and a denial is recorded. A record that cannot be written changes nothing: the call is denied anyway.
    pub async fn admit(&self, terms: &Terms) -> Result<(), Denial> {
        let decided = self.decide(terms).await;
        if let Err(denial) = &decided {
            let event = AuditEvent {
                reason: Some(denial.reason().to_owned()),
                tool: Some(terms.tool.to_owned()),
                ..AuditEvent::new("tool.denied", Outcome::Failure)
            };
            let event = self.facts.iter().fold(event, |event, facts| facts.identity.attribute(event));
            let _ = self.env.entra.trail.record(event).await;
            self.want(denial).await;
        }
        decided
    }

    /// Notes for the caller's next sign-in what a call was denied for, if that is an authentication context. The client of a
    /// session hears only that its person has to sign in once more; one with a token of Entra ID hears of the claims.
    async fn want(&self, denial: &Denial) {
        if let Some(claims) = context_claims(self.caller.kind(), denial) {
            self.caller.want(&claims).await;
        }
    }

    /// Whether the caller may use something of a server behind the component. Nothing is recorded.
    pub async fn decide_about(&self, target: &Target<'_>) -> Result<(), Denial> {
        let HttpSettings { access, deny_unlisted, .. } = self.env.site.settings;
        let rules = access.as_deref().unwrap_or_default();
        self.decided(|facts| decision::decide_about(target, rules, *deny_unlisted, facts)).await
    }

    /// The same, and a denial is recorded.
    pub async fn admit_to(&self, target: &Target<'_>) -> Result<(), Denial> {
        let decided = self.decide_about(target).await;
        if let Err(denial) = &decided {
            let event = AuditEvent::new("tool.denied", Outcome::Failure).because(denial.reason().to_owned());
            let event = self.facts.iter().fold(event.about(target), |event, facts| facts.identity.attribute(event));
            let _ = self.env.entra.trail.record(event).await;
            self.want(denial).await;
        }
        decided
    }

    /// Decides, and asks for what that depends on: twice at most, because an answer is kept.
    async fn decided(&self, decide: impl Fn(&Facts<'_>) -> Decision) -> Result<(), Denial> {
        let Some(facts) = self.facts else { return Err(Denial::NotListed) };
        loop {
            match decide(&self.known(facts)) {
                Decision::Allow => return Ok(()),
                Decision::Deny(denial) => return Err(denial),
                Decision::NeedsMembership => {
                    let _ = self.confirmed.set(self.confirm().await);
                }
                Decision::NeedsGroups => {
                    let _ = self.resolved.set(self.resolve(&facts).await);
                }
            }
        }
    }

    /// What is known by now: `facts`, and what was asked for.
    fn known<'f>(&'f self, mut facts: Facts<'f>) -> Facts<'f> {
        match self.confirmed.get() {
            None => {}
            Some(Ok(membership)) => {
                facts.roles = Fact::Known(&membership.roles);
                if facts.guest == Fact::Unknown {
                    facts.guest = Fact::Known(membership.is_guest());
                }
                // That groups do not fit may be old: what they are, Graph is asked for anew.
                if facts.groups == Fact::Unknown {
                    facts.groups = Fact::Known(&membership.groups);
                }
            }
            Some(Err(denial)) => {
                facts.roles = Fact::Unavailable(denial);
                if facts.guest == Fact::Unknown {
                    facts.guest = Fact::Unavailable(denial);
                }
                if facts.groups == Fact::Unknown {
                    facts.groups = Fact::Unavailable(denial);
                }
            }
        }
        match self.resolved.get() {
            None => {}
            Some(Ok(groups)) => facts.all_groups = Fact::Known(groups),
            Some(Err(denial)) => facts.all_groups = Fact::Unavailable(denial),
        }
        facts
    }

    /// Roles, groups as far as Entra ID tells them, and whether the caller is a guest.
    async fn confirm(&self) -> Result<Membership, Denial> {
        self.caller.confirm().await.map_err(|unconfirmed| match unconfirmed {
            Unconfirmed::Ended => Denial::SessionEnded,
            // A denial is a text in an answer to an MCP message, which has no place for the time.
            Unconfirmed::Unavailable { reason, retry_at: _ } => {
                self.note("the roles of a caller cannot be confirmed", &reason);
                Denial::MembershipUnconfirmed { reason }
            }
        })
    }

    /// Groups as Microsoft Graph lists them.
    async fn resolve(&self, facts: &Facts<'_>) -> Result<Vec<String>, Denial> {
        let groups = groups::of(&self.env.entra, facts.kind, facts.identity, Some(self.env.limiter));
        // As in `confirm`, no client sees when to ask again.
        Box::pin(groups).await.map_err(|error| {
            let reason = error.to_string();
            self.note("the groups of a caller are not known", &reason);
            Denial::GroupsUnavailable { reason }
        })
    }

    /// Tells the operator what the caller is not told. The reason is escaped: a part of it may come from a server.
    fn note(&self, what: &str, reason: &str) {
        let id = self.env.correlation_id();
        self.env.log.note(&format!("{what}: {reason:?} (correlation id {id})"));
    }
}

#[cfg(test)]
mod tests;
