//! The decisions, as a table: a name, a rule, what is known of the caller, and what is decided.

use super::*;
use crate::policy::names;

mod resemblance;

const TENANT: &str = "tenant";
const OTHER_TENANT: &str = "other-tenant";

/// Owns what [`Facts`] borrow. Everything of it can be changed.
#[derive(Clone)]
struct Known {
    tenant: &'static str,
    client: &'static str,
    kind: PrincipalKind,
    agent: bool,
    contexts: Vec<String>,
    guest: Asked<bool>,
    scopes: Vec<String>,
    roles: Asked<Vec<String>>,
    groups: Asked<Groups>,
    all_groups: Asked<Vec<String>>,
}

#[derive(Clone)]
enum Asked<T> {
    Known(T),
    Unknown,
    Unavailable(Denial),
}

impl<T> Asked<T> {
    fn fact<'a, U: ?Sized>(&'a self, known: impl FnOnce(&'a T) -> &'a U) -> Fact<'a, &'a U> {
        match self {
            Self::Known(value) => Fact::Known(known(value)),
            Self::Unknown => Fact::Unknown,
            Self::Unavailable(denial) => Fact::Unavailable(denial),
        }
    }
}

impl Known {
    fn user() -> Self {
        Self {
            tenant: TENANT,
            client: "client",
            kind: PrincipalKind::User,
            agent: false,
            contexts: Vec::new(),
            guest: Asked::Known(false),
            scopes: Vec::new(),
            roles: Asked::Known(Vec::new()),
            groups: Asked::Known(Groups::Absent),
            all_groups: Asked::Unknown,
        }
    }

    fn app() -> Self {
        Self { kind: PrincipalKind::App, ..Self::user() }
    }

    fn agent(self) -> Self {
        Self { agent: true, ..self }
    }

    fn contexts(self, contexts: &[&str]) -> Self {
        Self { contexts: texts(contexts), ..self }
    }

    fn roles(self, roles: &[&str]) -> Self {
        Self { roles: Asked::Known(texts(roles)), ..self }
    }

    fn groups(self, groups: Groups) -> Self {
        Self { groups: Asked::Known(groups), ..self }
    }

    fn scopes(self, scopes: &[&str]) -> Self {
        Self { scopes: texts(scopes), ..self }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            identity: Identity { tenant_id: self.tenant, object_id: "object", client_id: self.client },
            kind: self.kind,
            agent: self.agent,
            guest: match &self.guest {
                Asked::Known(guest) => Fact::Known(*guest),
                Asked::Unknown => Fact::Unknown,
                Asked::Unavailable(denial) => Fact::Unavailable(denial),
            },
            scopes: &self.scopes,
            server_scope: Some("server"),
            contexts: &self.contexts,
            roles: self.roles.fact(Vec::as_slice),
            groups: self.groups.fact(|groups| groups),
            all_groups: self.all_groups.fact(Vec::as_slice),
        }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn some(some: &[&'static str]) -> Option<Vec<Name>> {
    Some(names(some))
}

fn listed(groups: &[&str]) -> Groups {
    Groups::Listed(texts(groups))
}

#[test]
fn one_rule_decides_by_what_is_known_and_says_what_is_not() {
    let (user, app, all) = (Known::user, Known::app, Rule::users_and_apps);
    let role = || Rule { roles: some(&["role"]), ..all() };
    let group = || Rule { groups: some(&["group"]), ..all() };
    let scope = || Rule { scopes: names(&["scope"]), ..all() };
    let client = || Rule { clients: some(&["client"]), ..all() };
    let tenant = || Rule { tenants: some(&[TENANT]), ..all() };
    let unconfirmed = || Denial::MembershipUnconfirmed { reason: "outage".to_owned() };
    let unresolved = || Denial::GroupsUnavailable { reason: "throttled".to_owned() };
    let role_missing = || Decision::Deny(Denial::RoleMissing { any_of: names(&["role"]) });
    let group_missing = || Decision::Deny(Denial::GroupMissing { any_of: names(&["group"]) });
    let scope_missing = || Decision::Deny(Denial::ScopesMissing { required: names(&["scope"]) });
    let stale = || Known { roles: Asked::Unknown, groups: Asked::Unknown, ..user() };
    let unsaid =
        || Known { roles: Asked::Unavailable(unconfirmed()), groups: Asked::Unavailable(unconfirmed()), ..user() };
    let ended = || Known { roles: Asked::Unavailable(Denial::SessionEnded), ..user() };
    let table: Vec<(&str, Rule, Known, Decision)> = vec![
        ("a user where users may", Rule::users(), user(), Decision::Allow),
        (
            "an application where users may",
            Rule::users(),
            app(),
            Decision::Deny(Denial::KindNotAllowed { actual: PrincipalKind::App }),
        ),
        (
            "a user where applications may",
            Rule { users: false, ..all() },
            user(),
            Decision::Deny(Denial::KindNotAllowed { actual: PrincipalKind::User }),
        ),
        ("a caller of the tenant", tenant(), user(), Decision::Allow),
        (
            "a caller of another tenant, who fits in nothing else either",
            Rule { users: false, ..tenant() },
            Known { tenant: OTHER_TENANT, ..user() },
            Decision::Deny(Denial::TenantNotAllowed { tenant_id: OTHER_TENANT.to_owned() }),
        ),
        ("the client", client(), user(), Decision::Allow),
        (
            "another client, with the case of its letters changed",
            client(),
            Known { client: "Client", ..user() },
            Decision::Deny(Denial::ClientNotAllowed { client_id: "Client".to_owned() }),
        ),
        ("the role", role(), user().roles(&["other", "role"]), Decision::Allow),
        ("no role", role(), user(), role_missing()),
        ("roles that are not confirmed", role(), stale(), Decision::NeedsMembership),
        ("roles that cannot be confirmed", role(), unsaid(), Decision::Deny(unconfirmed())),
        ("roles of a session that has ended", role(), ended(), Decision::Deny(Denial::SessionEnded)),
        ("roles that do not matter are not asked for", Rule::users(), stale(), Decision::Allow),
        (
            "roles are not asked for where the client is another",
            Rule { clients: some(&["x"]), ..role() },
            stale(),
            Decision::Deny(Denial::ClientNotAllowed { client_id: "client".to_owned() }),
        ),
        ("the group", group(), user().groups(listed(&["other", "group"])), Decision::Allow),
        ("no group", group(), user(), group_missing()),
        ("other groups", group(), user().groups(listed(&["Group"])), group_missing()),
        ("groups that are not confirmed", group(), stale(), Decision::NeedsMembership),
        ("groups that cannot be confirmed", group(), unsaid(), Decision::Deny(unconfirmed())),
        ("groups in overage", group(), user().groups(Groups::Overage), Decision::NeedsGroups),
        (
            "groups in overage, which are not confirmed before",
            group(),
            Known { roles: Asked::Unknown, ..user().groups(Groups::Overage) },
            Decision::NeedsGroups,
        ),
        (
            "groups in overage that were resolved",
            group(),
            Known { all_groups: Asked::Known(texts(&["group"])), ..user().groups(Groups::Overage) },
            Decision::Allow,
        ),
        (
            "groups in overage that were resolved to others",
            group(),
            Known { all_groups: Asked::Known(Vec::new()), ..user().groups(Groups::Overage) },
            group_missing(),
        ),
        (
            "groups in overage that cannot be resolved",
            group(),
            Known { all_groups: Asked::Unavailable(unresolved()), ..user().groups(Groups::Overage) },
            Decision::Deny(unresolved()),
        ),
        (
            "groups are not asked for where the role is missing",
            Rule { roles: some(&["role"]), ..group() },
            user().groups(Groups::Overage),
            role_missing(),
        ),
        (
            "resolved groups do not replace those of the token",
            group(),
            { Known { all_groups: Asked::Known(texts(&["group"])), ..user() } },
            group_missing(),
        ),
        ("the scope", scope(), user().scopes(&["scope"]), Decision::Allow),
        ("no scope", scope(), user(), scope_missing()),
        ("a scope that only begins the same", scope(), user().scopes(&["scope.more"]), scope_missing()),
        ("an application needs no scope", scope(), app(), Decision::Allow),
        ("the scope of the server", Rule { scopes: names(&["server"]), ..all() }, user(), Decision::Allow),
        (
            "a scope is named as missing only if nothing else is",
            Rule { scopes: names(&["scope"]), ..group() },
            user().groups(Groups::Overage),
            Decision::NeedsGroups,
        ),
    ];
    for (name, rule, known, expected) in table {
        assert_eq!(decide(&rule, true, &known.facts()), expected, "{name}");
    }
}

#[test]
fn an_authentication_context_is_asked_for_only_if_nothing_else_is_missing_and_of_people_only() {
    let context = || Rule { contexts: some(&["c1", "c2"]), ..Rule::users_and_apps() };
    let missing = || Decision::Deny(Denial::ContextMissing { any_of: names(&["c1", "c2"]) });
    let agents = || Rule { agents: true, ..context() };
    let table: Vec<(&str, Rule, Known, Decision)> = vec![
        ("the context", context(), Known::user().contexts(&["c3", "c1"]), Decision::Allow),
        ("the other of two", context(), Known::user().contexts(&["c2"]), Decision::Allow),
        ("none", context(), Known::user(), missing()),
        ("others, one with another case of letters", context(), Known::user().contexts(&["C1", "c11", "c"]), missing()),
        ("one that does not matter", Rule::users(), Known::user(), Decision::Allow),
        ("an empty list", Rule { contexts: some(&[]), ..context() }, Known::user().contexts(&["c1"]), {
            Decision::Deny(Denial::ContextMissing { any_of: Vec::new() })
        }),
        (
            "a scope is asked for before",
            Rule { scopes: names(&["scope"]), ..context() },
            Known::user(),
            Decision::Deny(Denial::ScopesMissing { required: names(&["scope"]) }),
        ),
        (
            "an application can satisfy none",
            context(),
            Known::app().contexts(&["c1"]),
            Decision::Deny(Denial::KindNotAllowed { actual: PrincipalKind::App }),
        ),
        ("an agent on behalf of a person", agents(), Known::user().agent(), missing()),
        (
            "an agent on behalf of a person who has it",
            agents(),
            Known::user().agent().contexts(&["c1"]),
            Decision::Allow,
        ),
        (
            "an agent for itself",
            agents(),
            Known::app().agent(),
            Decision::Deny(Denial::KindNotAllowed { actual: PrincipalKind::App }),
        ),
    ];
    for (name, rule, known, expected) in table {
        assert_eq!(decide(&rule, true, &known.facts()), expected, "{name}");
    }
}

#[test]
fn an_agent_may_call_only_where_a_rule_names_agents() {
    let agents = || Rule { users: false, agents: true, ..Rule::users() };
    let denied = || Decision::Deny(Denial::AgentNotAllowed);
    let role = || Rule { roles: some(&["role"]), ..agents() };
    for (form, agent, other) in
        [("of a person", Known::user().agent(), Known::user()), ("for itself", Known::app().agent(), Known::app())]
    {
        for rule in [Rule::users(), Rule::users_and_apps(), Rule { users: false, ..Rule::users_and_apps() }] {
            assert_eq!(decide(&rule, true, &agent.facts()), denied(), "{form}: {rule:?}");
        }
        assert_eq!(decide(&agents(), true, &agent.facts()), Decision::Allow, "{form}");
        let role_missing = Decision::Deny(Denial::RoleMissing { any_of: names(&["role"]) });
        assert_eq!(decide(&role(), true, &agent.facts()), role_missing, "{form}: the rest of the rule holds as well");
        let not_allowed = Decision::Deny(Denial::KindNotAllowed { actual: other.kind });
        assert_eq!(decide(&agents(), true, &other.facts()), not_allowed, "{form}: and no other caller is let in");
        // Of a server behind, too.
        let target = Target { server: "crm", kind: TargetKind::Tool, name: "tool" };
        let about = |rules: &[ToolRule], known: &Known| decide_about(&target, rules, false, &known.facts());
        assert_eq!((about(&[], &agent), about(&[], &other)), (denied(), Decision::Allow), "{form}: without a rule");
        let rules = [ToolRule::for_tool("tool", agents())];
        assert_eq!(about(&rules, &agent), Decision::Allow, "{form}");
    }
    let scope = Rule { scopes: names(&["scope"]), ..agents() };
    let on_behalf = Known::user().agent();
    let missing = Decision::Deny(Denial::ScopesMissing { required: names(&["scope"]) });
    assert_eq!(decide(&scope, true, &on_behalf.facts()), missing, "an agent on behalf of a person needs the scopes");
}

#[test]
fn of_several_rules_one_is_enough_and_the_first_that_has_to_ask_asks() {
    let on = |tool: &'static str, rule| ToolRule::for_tool(tool, rule);
    let role = || Rule { roles: some(&["role"]), ..Rule::users() };
    let group = || Rule { groups: some(&["group"]), ..Rule::users() };
    let own = || Rule { tenants: some(&[TENANT]), ..role() };
    let stale = || Known { roles: Asked::Unknown, groups: Asked::Unknown, ..Known::user() };
    let overage = || Known::user().groups(Groups::Overage);
    let ended = || Known { roles: Asked::Unavailable(Denial::SessionEnded), ..Known::user() };
    let missing = |any_of: &[&'static str]| Decision::Deny(Denial::RoleMissing { any_of: names(any_of) });
    let table: Vec<(&str, Vec<ToolRule>, Known, Decision)> = vec![
        ("no rule", vec![], Known::user(), Decision::Deny(Denial::NotListed)),
        ("a rule for another tool", vec![on("other", Rule::users())], Known::user(), Decision::Deny(Denial::NotListed)),
        ("one of two", vec![on("tool", role()), on("tool", Rule::users())], Known::user(), Decision::Allow),
        (
            "what may be asked in vain",
            vec![on("tool", group()), on("tool", Rule::users())],
            overage(),
            Decision::NeedsGroups,
        ),
        ("nothing to ask any more", vec![on("tool", Rule::users()), on("tool", group())], overage(), Decision::Allow),
        ("not confirmed", vec![on("tool", role()), on("tool", group())], stale(), Decision::NeedsMembership),
        (
            "an ended session, which a further rule does not admit",
            vec![on("tool", role()), on("tool", Rule::users())],
            ended(),
            Decision::Deny(Denial::SessionEnded),
        ),
        (
            "the closest denial",
            vec![on("tool", role()), on("tool", Rule { users: false, ..Rule::users() })],
            Known::user(),
            missing(&["role"]),
        ),
        (
            "a rule of the tenant in place of the others",
            vec![on("tool", Rule::users()), on("tool", own())],
            Known::user(),
            missing(&["role"]),
        ),
        (
            "another tenant's caller by the others",
            vec![on("tool", Rule::users()), on("tool", own())],
            Known { tenant: OTHER_TENANT, ..Known::user() },
            Decision::Allow,
        ),
    ];
    for (name, rules, known, expected) in table {
        assert_eq!(decide_by(&rules, &terms(true), &known.facts()), expected, "{name}");
    }
}

fn terms(guests: bool) -> Terms {
    Terms { tool: "tool", guests, rule: Rule::users }
}

#[test]
fn a_tool_that_is_closed_to_guests_lets_none_in_by_any_rule_and_decides_about_others_as_ever() {
    let on = |rule| ToolRule::for_tool("tool", rule);
    let role = || Rule::users_and_apps().with_any_role(&["role"]);
    let unconfirmed = Denial::MembershipUnconfirmed { reason: "outage".to_owned() };
    let guest = || Known { guest: Asked::Known(true), ..Known::user().roles(&["role"]) };
    let unknown = || Known { guest: Asked::Unknown, ..Known::user().roles(&["role"]) };
    let unsaid = || Known { guest: Asked::Unavailable(unconfirmed.clone()), ..Known::user().roles(&["role"]) };
    let missing = Denial::RoleMissing { any_of: names(&["role"]) };
    let kind = Denial::KindNotAllowed { actual: PrincipalKind::User };
    let deny = Decision::Deny;
    let table: Vec<(&str, Vec<Rule>, Known, Decision)> = vec![
        ("a guest with the role", vec![role()], guest(), deny(Denial::GuestNotAllowed)),
        ("a guest by any of several rules", vec![role(), Rule::users()], guest(), deny(Denial::GuestNotAllowed)),
        ("a guest is not told of a role", vec![role()], guest().roles(&[]), deny(Denial::GuestNotAllowed)),
        ("a member with the role", vec![role()], Known::user().roles(&["role"]), Decision::Allow),
        ("a member without", vec![role()], Known::user(), deny(missing)),
        ("an application is no guest", vec![role()], Known { kind: PrincipalKind::App, ..guest() }, Decision::Allow),
        ("not known yet, without a role", vec![Rule::users()], unknown(), Decision::NeedsMembership),
        ("not to be found out", vec![Rule::users()], unsaid(), deny(unconfirmed.clone())),
        ("a rule for applications", vec![Rule { users: false, ..role() }], unknown(), deny(kind)),
        ("a tool without a rule", Vec::new(), guest(), deny(Denial::NotListed)),
    ];
    for (name, rules, known, expected) in table {
        let rules: Vec<_> = rules.into_iter().map(on).collect();
        assert_eq!(decide_by(&rules, &terms(false), &known.facts()), expected, "{name}");
    }
    for caller in [guest(), unknown(), unsaid()] {
        assert_eq!(decide_by(&[on(role())], &terms(true), &caller.facts()), Decision::Allow, "where guests may");
    }
}

/// A rule about something of the server `crm`.
fn of_crm(kind: TargetKind, name: &'static str, roles: &[&'static str]) -> ToolRule {
    let rule = Rule::users().with_any_role(roles);
    ToolRule { server: Some("crm".into()), kind, ..ToolRule::for_tool(name, rule) }
}

/// `None` for a caller that is let in.
fn about(
    rules: &[ToolRule],
    deny_unlisted: bool,
    target: (&str, TargetKind, &str),
    known: &Known,
) -> Option<&'static str> {
    let (server, kind, name) = target;
    match decide_about(&Target { server, kind, name }, rules, deny_unlisted, &known.facts()) {
        Decision::Allow => None,
        Decision::Deny(denial) => Some(denial.reason()),
        decision => panic!("{decision:?}"),
    }
}

#[test]
fn of_a_server_behind_a_rule_of_its_own_counts_else_that_for_everything_else_the_default() {
    use TargetKind::{Completion, Prompt, Resource, Task, Tool};
    let missing = Some("role-missing");
    let everyone = of_crm(Tool, "*", &["member"]);
    let delete = of_crm(Tool, "delete_record", &["admin"]);
    let any_server = ToolRule::for_tool("read", Rule::users().with_any_role(&["reader"]));
    let rules = [everyone, delete, any_server];
    let (plain, member) = (Known::user(), Known::user().roles(&["member"]));
    let (admin, reader) = (Known::user().roles(&["admin"]), Known::user().roles(&["reader"]));
    for (target, known, expected) in [
        (("crm", Tool, "delete_record"), &admin, None),
        (("crm", Tool, "delete_record"), &member, missing),
        (("crm", Tool, "list"), &member, None),
        (("crm", Tool, "list"), &admin, missing),
        (("crm", Tool, "*"), &member, None),
        (("crm", Tool, "*"), &plain, missing),
        (("crm", Tool, "read"), &reader, None),
        (("crm", Tool, "read"), &member, missing),
        (("mail", Tool, "read"), &member, missing),
        (("mail", Tool, "delete_record"), &plain, None),
        (("mail", Tool, "list"), &plain, None),
        (("crm", Prompt, "delete_record"), &plain, None),
        (("crm", Resource, "delete_record"), &plain, None),
        (("crm", Completion, "delete_record"), &plain, None),
        (("crm", Task, "delete_record"), &plain, Some("tool-not-listed")),
    ] {
        assert_eq!(about(&rules, false, target, known), expected, "{target:?}");
        let unlisted =
            expected.or((target.0 == "mail" && target.2 != "read" || target.1 != Tool).then_some("tool-not-listed"));
        assert_eq!(about(&rules, true, target, known), unlisted, "{target:?}");
    }
    // An application needs a rule only where there is one.
    assert_eq!(about(&[], false, ("crm", Tool, "a"), &Known::app()), None);
    assert_eq!(about(&rules, false, ("crm", Tool, "list"), &Known::app().roles(&["member"])), Some("kind-not-allowed"));
}

#[test]
fn each_kind_has_rules_of_its_own() {
    use TargetKind::{Completion, Prompt, Resource, Task, Tool};
    let kinds = [Tool, Resource, Prompt, Completion, Task];
    for ruled in kinds {
        let rules = [of_crm(ruled, "x", &["admin"])];
        for kind in kinds {
            // A task is the call of a tool.
            let of_tools = ((ruled, kind) == (Tool, Task)).then_some("tool-not-listed");
            let expected = (kind == ruled).then_some("role-missing").or(of_tools);
            assert_eq!(about(&rules, false, ("crm", kind, "x"), &Known::user()), expected, "{ruled:?} {kind:?}");
            assert_eq!(is_restricted("crm", kind, &rules, false, None), kind == ruled);
            assert!(
                is_restricted("crm", kind, &rules, true, None) && !is_restricted("mail", kind, &rules, false, None)
            );
            let (person, agent) = (Known::user(), Known::user().agent());
            assert!(is_restricted("mail", kind, &rules, false, Some(&agent.facts())));
            assert!(!is_restricted("mail", kind, &rules, false, Some(&person.facts())));
        }
    }
}

#[test]
fn guests_are_callers_like_others_behind_the_component() {
    let guest = Known { guest: Asked::Known(true), ..Known::user() }.roles(&["admin"]);
    assert_eq!(
        about(&[of_crm(TargetKind::Tool, "x", &["admin"])], false, ("crm", TargetKind::Tool, "x"), &guest),
        None
    );
    let unknown = Known { guest: Asked::Unknown, ..Known::user() };
    assert_eq!(about(&[], false, ("crm", TargetKind::Tool, "x"), &unknown), None);
}

#[test]
fn rules_of_a_tenant_replace_the_general_ones_behind_the_component_too() {
    let own = ToolRule {
        rule: Rule { tenants: Some(names(&[OTHER_TENANT])), ..Rule::users() },
        ..of_crm(TargetKind::Tool, "x", &[])
    };
    let general = of_crm(TargetKind::Tool, "x", &["admin"]);
    let target = ("crm", TargetKind::Tool, "x");
    let other = Known { tenant: OTHER_TENANT, ..Known::user() };
    assert_eq!(about(&[own.clone(), general.clone()], false, target, &other), None);
    assert_eq!(about(&[own.clone(), general], false, target, &Known::user()), Some("role-missing"));
    // It has a rule of its own, which is for another tenant: that for everything does not count.
    let everything = ToolRule { rule: Rule::users(), ..of_crm(TargetKind::Tool, "*", &[]) };
    assert_eq!(about(&[own, everything], false, target, &Known::user()), Some("tenant-not-allowed"));
}

#[test]
fn a_tool_of_the_component_looks_at_no_rule_about_a_server() {
    let terms = Terms { tool: "x", guests: true, rule: Rule::users };
    let denied = Decision::Deny(Denial::NotListed);
    for rule in [
        of_crm(TargetKind::Tool, "x", &[]),
        ToolRule::for_tool("*", Rule::users()),
        ToolRule { kind: TargetKind::Prompt, ..ToolRule::for_tool("x", Rule::users()) },
    ] {
        assert_eq!(decide_by(&[rule], &terms, &Known::user().facts()), denied);
    }
    assert_eq!(decide_by(&[ToolRule::for_tool("x", Rule::users())], &terms, &Known::user().facts()), Decision::Allow);
}

#[test]
fn the_page_about_audit_records_names_every_reason_of_a_denial() {
    let page = include_str!("../../../../docs/src/reference/audit.md");
    let row = page.lines().find(|line| line.starts_with("| `tool.denied`")).unwrap();
    let any_of = || names(&["a"]);
    let all = [
        Denial::NotListed,
        Denial::TenantNotAllowed { tenant_id: String::new() },
        Denial::KindNotAllowed { actual: PrincipalKind::App },
        Denial::AgentNotAllowed,
        Denial::ClientNotAllowed { client_id: String::new() },
        Denial::GuestNotAllowed,
        Denial::RoleMissing { any_of: any_of() },
        Denial::GroupMissing { any_of: any_of() },
        Denial::MembershipUnconfirmed { reason: String::new() },
        Denial::GroupsUnavailable { reason: String::new() },
        Denial::ScopesMissing { required: Vec::new() },
        Denial::ContextMissing { any_of: any_of() },
        Denial::NameAmbiguous,
        Denial::SessionEnded,
    ];
    for denial in all {
        let reason = denial.reason();
        assert!(row.contains(&format!("`{reason}`")), "{reason} is not in {row}");
    }
}
