//! Who may call which tool of the remote server.
//!
//! Every tool states a rule of its own. Rules in the settings replace all of these: then a tool that they do not name is
//! denied to everybody. What is compared is compared exactly, and comes from a token that was validated.
//!
//! The order of the checks is by who could change the outcome. Scopes come last: they are named as missing only if
//! nothing else is, so that a client never asks its user for more in vain.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::audit;
use crate::bearer::Bearer;
use crate::environment::{AuditEvent, Environment, HttpSettings, Outcome};
use crate::graph::groups;
use crate::identity::Identity;
use crate::session::{self, Membership, Session, Unconfirmed};
use crate::token::{Groups, PrincipalKind};
use crate::tools::{self, RemoteTool};

/// A name in a rule: a tool states it, or the settings do.
pub type Name = Cow<'static, str>;

/// What a caller of a tool has to be. All of it has to hold; of a list one entry is enough, except for `scopes`. `None`
/// means that it does not matter, an empty list that nobody fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The tenants that the rule is for. A rule that names the caller's tenant takes the place of those that name none.
    pub tenants: Option<Vec<Name>>,
    /// Lets people call, with whatever client.
    pub users: bool,
    /// Lets applications call for themselves (app-only tokens).
    pub apps: bool,
    /// Client ids.
    pub clients: Option<Vec<Name>>,
    /// Application roles.
    pub roles: Option<Vec<Name>>,
    /// Object ids of groups.
    pub groups: Option<Vec<Name>>,
    /// Scopes in the short form, all of which a user's client needs. An application has none, and needs none: what it
    /// may do follows from its roles.
    pub scopes: Vec<Name>,
}

impl Rule {
    /// Lets every user call, and no application.
    pub fn users() -> Self {
        Self { tenants: None, users: true, apps: false, clients: None, roles: None, groups: None, scopes: Vec::new() }
    }

    /// Lets users and applications call.
    pub fn users_and_apps() -> Self {
        Self { apps: true, ..Self::users() }
    }

    /// One of these application roles is needed as well.
    #[must_use]
    pub fn with_any_role(self, roles: &[&'static str]) -> Self {
        Self { roles: Some(names(roles)), ..self }
    }

    /// All of these scopes are needed as well, if a user calls.
    #[must_use]
    pub fn with_scopes(self, scopes: &[&'static str]) -> Self {
        Self { scopes: names(scopes), ..self }
    }

    fn is_for(&self, tenant_id: &str) -> bool {
        self.tenants.as_ref().is_some_and(|tenants| has(tenants, tenant_id))
    }
}

fn names(names: &[&'static str]) -> Vec<Name> {
    names.iter().copied().map(Cow::Borrowed).collect()
}

fn has(names: &[Name], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

/// A rule of the settings. Of several for one tool one has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRule {
    /// The tool. One that does not exist permits nothing.
    pub tool: Name,
    /// What its callers have to be.
    pub rule: Rule,
}

/// Why somebody may not call a tool. The texts are for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The settings have rules, and none for this tool.
    #[error("this tool is not offered")]
    NotListed,
    /// All rules are for other tenants.
    #[error("this tool is not open to your organisation (tenant {tenant_id})")]
    TenantNotAllowed {
        /// The caller's.
        tenant_id: String,
    },
    /// Only people may call, or only applications.
    #[error("{}", kind_text(*.actual))]
    KindNotAllowed {
        /// The caller's.
        actual: PrincipalKind,
    },
    /// Another client has to be used.
    #[error("this tool is not open to the client {client_id:?}")]
    ClientNotAllowed {
        /// The caller's.
        client_id: String,
    },
    /// No role fits.
    #[error("this tool needs one of the application roles {}: ask an administrator to assign it", list(.any_of))]
    RoleMissing {
        /// Those of which one is needed.
        any_of: Vec<Name>,
    },
    /// No group fits.
    #[error("this tool is for members of one of the groups {}: ask an administrator to add you", list(.any_of))]
    GroupMissing {
        /// Object ids of those of which one is needed.
        any_of: Vec<Name>,
    },
    /// What the session knows of roles and groups is too old, and Entra ID does not say now what they are.
    #[error(
        "your roles and groups cannot be confirmed by Microsoft Entra ID now, and this tool needs certain ones: try \
         again later"
    )]
    MembershipUnconfirmed {
        /// For the log.
        reason: String,
    },
    /// The token does not list the groups, and Microsoft Graph does not say now which they are.
    #[error(
        "your groups cannot be read from Microsoft Graph now, and this tool is for members of certain groups: try again \
         later"
    )]
    GroupsUnavailable {
        /// For the log, which has it.
        reason: String,
    },
    /// Only scopes are missing: the client can ask for them.
    #[error("this tool needs the scopes {}", list(.required))]
    ScopesMissing {
        /// All that are needed, in the short form.
        required: Vec<Name>,
    },
    /// Entra ID was asked for roles and groups, and wants the person again.
    #[error("the session has ended: sign in again")]
    SessionEnded,
}

fn kind_text(actual: PrincipalKind) -> &'static str {
    match actual {
        PrincipalKind::User => "this tool is for applications that act for themselves, and the caller is a user",
        PrincipalKind::App => {
            "this tool is for users, and the access token stands for an application (app-only): call it with a token \
             that the application got on behalf of a user"
        }
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

impl Denial {
    /// A stable reason code for the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotListed => "tool-not-listed",
            Self::TenantNotAllowed { .. } => "tenant-not-allowed",
            Self::KindNotAllowed { .. } => "kind-not-allowed",
            Self::ClientNotAllowed { .. } => "client-not-allowed",
            Self::RoleMissing { .. } => "role-missing",
            Self::GroupMissing { .. } => "group-missing",
            Self::MembershipUnconfirmed { .. } => "membership-unconfirmed",
            Self::GroupsUnavailable { .. } => "groups-unavailable",
            Self::ScopesMissing { .. } => "scope-missing",
            Self::SessionEnded => "session-ended",
        }
    }

    /// How close the caller came. Of several rules the closest is what the caller hears of.
    fn closeness(&self) -> u8 {
        match self {
            Self::NotListed => 0,
            Self::TenantNotAllowed { .. } => 1,
            Self::KindNotAllowed { .. } => 2,
            Self::ClientNotAllowed { .. } => 3,
            Self::RoleMissing { .. } => 4,
            Self::GroupMissing { .. } => 5,
            Self::MembershipUnconfirmed { .. } => 6,
            Self::GroupsUnavailable { .. } => 7,
            Self::ScopesMissing { .. } => 8,
            Self::SessionEnded => 9,
        }
    }

    /// Whether it says nothing of what the caller is: that is not known now, or the session that knew it is gone.
    pub fn is_undecided(&self) -> bool {
        match self {
            Self::MembershipUnconfirmed { .. } | Self::GroupsUnavailable { .. } | Self::SessionEnded => true,
            Self::NotListed
            | Self::TenantNotAllowed { .. }
            | Self::KindNotAllowed { .. }
            | Self::ClientNotAllowed { .. }
            | Self::RoleMissing { .. }
            | Self::GroupMissing { .. }
            | Self::ScopesMissing { .. } => false,
        }
    }
}

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
    env: &'a Environment,
    subject: Subject<'a>,
    /// What Entra ID says in place of what is too old.
    confirmed: OnceCell<Result<Membership, Unconfirmed>>,
    /// Groups that did not fit into the token; the error is for the log.
    resolved: OnceCell<Result<Vec<String>, String>>,
}

impl<'a> Access<'a> {
    /// For this caller.
    pub fn new(env: &'a Environment, subject: impl Into<Subject<'a>>) -> Self {
        Self { env, subject: subject.into(), confirmed: OnceCell::new(), resolved: OnceCell::new() }
    }

    /// Whether the caller may call `tool`. Nothing is recorded.
    pub async fn decide(&self, tool: &dyn RemoteTool) -> Result<(), Denial> {
        let name = tool.name();
        match rules_of_settings(self.env) {
            Some(rules) => self.any_holds(rules, name).await,
            None => self.any_holds(&[ToolRule { tool: Cow::Borrowed(name), rule: tool.rule() }], name).await,
        }
    }

    /// The same, and a denial is recorded. A record that cannot be written changes nothing: the call is denied anyway.
    pub async fn admit(&self, tool: &dyn RemoteTool, correlation_id: &str) -> Result<(), Denial> {
        let decided = self.decide(tool).await;
        if let Err(denial) = &decided {
            let event = AuditEvent {
                reason: Some(denial.reason().to_owned()),
                tool: Some(tool.name().to_owned()),
                ..AuditEvent::new("tool.denied", Outcome::Failure, correlation_id)
            };
            let _ = audit::record(self.env, self.subject.who.attribute(event));
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
        let of_server = self.env.settings.http.as_ref().map(|http| http.required_scope.as_str());
        of_server == Some(scope) || self.subject.scopes.iter().any(|granted| granted == scope)
    }

    /// Tells the operator what the caller is not told. The reason is escaped: a part of it may come from a server.
    fn note(&self, what: &str, reason: &str) {
        let correlation_id = self.env.call.name(self.env);
        self.env.log.note(&format!("{what}: {reason:?} (correlation id {correlation_id})"));
    }

    /// Roles, and groups as far as Entra ID tells them.
    async fn membership(&self) -> Result<(&[String], &Groups), Denial> {
        let Subject { session, roles, groups, .. } = self.subject;
        let outdated = session.filter(|session| !session.membership.counts(self.env.clock.now()));
        let Some(session) = outdated else { return Ok((roles, groups)) };
        if self.confirmed.get().is_none() {
            let confirmed = session::confirm(self.env, session).await;
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
            let resolved = groups::of(self.env, self.subject.kind, tenant_id, object_id).await;
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

fn rules_of_settings(env: &Environment) -> Option<&[ToolRule]> {
    env.settings.http.as_ref().and_then(|http| http.access.as_deref())
}

/// The tools that people may be let call, whatever else it takes: what a client that acts in somebody's name may use.
pub fn of_users(settings: &HttpSettings) -> Vec<&'static dyn RemoteTool> {
    let lets_people = |tool: &&dyn RemoteTool| match &settings.access {
        Some(rules) => rules.iter().any(|rule| rule.tool == tool.name() && rule.rule.users),
        None => tool.rule().users,
    };
    tools::remote().into_iter().filter(lets_people).collect()
}

/// All scopes that a rule asks for besides that of the server, in the short form: what a client may ask our
/// authorization server for. In the order of the rules.
pub fn scopes(settings: &HttpSettings) -> Vec<Name> {
    let mut scopes = Vec::new();
    let mut add = |rule: &Rule| {
        for scope in rule.scopes.iter().filter(|scope| **scope != settings.required_scope) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
    };
    match &settings.access {
        Some(rules) => rules.iter().for_each(|rule| add(&rule.rule)),
        None => tools::remote().iter().for_each(|tool| add(&tool.rule())),
    }
    scopes
}

#[cfg(test)]
mod tests;
