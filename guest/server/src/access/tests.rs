//! Rules against callers. How a denial reaches a client is tested in `tests/behaviour/all/remote/access.rs`.

mod sessions;

use base::policy::{Name, Rule, names};
use base::principal::{Groups, PrincipalKind};
use base::settings::HttpSettings;
use caller::PersonCaller;
use caller::local::interactive::NoClient;
use caller::testing::PersonWorlds as _;
use serde_json::json;
use world::testing::{TENANT, World, http_settings, json as response, run};

use super::*;
use crate::testing::{OBJECT, ServerWorlds as _, TestCaller as Caller, configure, texts};
use crate::tools;

const OTHER_TENANT: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
const GROUP: &str = "22222222-aaaa-2222-bbbb-3333cccc4444";

/// A tool whose own rule admits one role only.
const VAULT: Terms = Terms { tool: "vault", guests: true, rule: own };

fn own() -> Rule {
    Rule::users().with_any_role(&["Vault.Open"])
}

fn some(some: &[&'static str]) -> Option<Vec<Name>> {
    Some(names(some))
}

fn of_vault(rule: Rule) -> ToolRule {
    ToolRule::for_tool("vault", rule)
}

fn env_with(rules: Option<Vec<ToolRule>>) -> (World, ServerWorld<'static>) {
    let world = World::default();
    let mut env = world.remote();
    configure(&mut env, |http| http.access = rules);
    (world, env)
}

fn decide(rules: Vec<Rule>, caller: &Caller) -> Result<(), Denial> {
    let (_, env) = env_with(Some(rules.into_iter().map(of_vault).collect()));
    run(Access::new(&env, caller).decide(&VAULT))
}

/// The reason code; `None` for a caller that is admitted.
fn reason(rules: Vec<Rule>, caller: &Caller) -> &'static str {
    decide(rules, caller).map_or_else(|denial| denial.reason(), |()| "")
}

#[test]
fn every_part_of_a_rule_admits_callers_that_fit_and_no_others() {
    let (user, app) = (Caller::user, Caller::app);
    let all = Rule::users_and_apps;
    let roles = |roles: &[&'static str]| Rule { roles: some(roles), ..all() };
    let groups = |groups: &[&'static str]| Rule { groups: some(groups), ..all() };
    let clients = |clients: &[&'static str]| Rule { clients: some(clients), ..all() };
    let tenants = |tenants: &[&'static str]| Rule { tenants: some(tenants), ..all() };
    let scopes = |scopes: &[&'static str]| Rule { scopes: names(scopes), ..all() };
    let table: Vec<(Rule, Caller, &str)> = vec![
        (Rule::users(), user(), ""),
        (Rule::users(), app(), "kind-not-allowed"),
        (all(), app(), ""),
        (Rule { users: false, ..all() }, app(), ""),
        (Rule { users: false, ..all() }, user(), "kind-not-allowed"),
        (Rule { users: false, ..Rule::users() }, user(), "kind-not-allowed"),
        (Rule { users: false, ..Rule::users() }, app(), "kind-not-allowed"),
        (roles(&["a", "b"]), user(), "role-missing"),
        (roles(&["a", "b"]), user().roles(&["c", "A", "a "]), "role-missing"),
        (roles(&["a", "b"]), user().roles(&["c", "b"]), ""),
        (roles(&["a", "b"]), app().roles(&["a"]), ""),
        (roles(&["a", "b"]), app().roles(&["c"]), "role-missing"),
        (roles(&[]), user().roles(&["a"]), "role-missing"),
        (roles(&["a"]), user().scopes(&["a"]).groups(&["a"]), "role-missing"),
        (groups(&["a", "b"]), user(), "group-missing"),
        (groups(&["a", "b"]), user().groups(&[]), "group-missing"),
        (groups(&["a", "b"]), user().groups(&["c"]), "group-missing"),
        (groups(&["a", "b"]), user().groups(&["c", "b"]), ""),
        (groups(&["a", "b"]), app().groups(&["a"]), ""),
        (groups(&[]), user().groups(&["a"]), "group-missing"),
        (groups(&["a"]), user().roles(&["a"]).scopes(&["a"]), "group-missing"),
        (clients(&["client", "other"]), user(), ""),
        (clients(&["client", "other"]), app().client("other"), ""),
        (clients(&["client"]), user().client("clients"), "client-not-allowed"),
        (clients(&["client"]), app().client("Client"), "client-not-allowed"),
        (clients(&[]), user(), "client-not-allowed"),
        (tenants(&[TENANT]), user(), ""),
        (tenants(&[OTHER_TENANT, TENANT]), app(), ""),
        (tenants(&[OTHER_TENANT]), user(), "tenant-not-allowed"),
        (tenants(&[OTHER_TENANT]), app(), "tenant-not-allowed"),
        (tenants(&[]), user(), "tenant-not-allowed"),
        (scopes(&["a", "b"]), user(), "scope-missing"),
        (scopes(&["a", "b"]), user().scopes(&["a"]), "scope-missing"),
        (scopes(&["a", "b"]), user().scopes(&["b", "c", "a"]), ""),
        (scopes(&["a"]), user().scopes(&["A", "a.b"]), "scope-missing"),
        (scopes(&["a"]), user().roles(&["a"]), "scope-missing"),
        (scopes(&["a"]), app(), ""),
        (scopes(&["access_as_user"]), user().scopes(&["User.Read"]), ""),
    ];
    for (index, (rule, caller, expected)) in table.into_iter().enumerate() {
        assert_eq!(reason(vec![rule.clone()], &caller), expected, "row {index}: {rule:?}");
    }
}

#[test]
fn agents_may_call_the_components_own_tools_only_by_a_rule_that_names_them() {
    let agents = || Rule { users: false, agents: true, ..Rule::users() };
    for agent in [Caller::user().agent(), Caller::app().agent()] {
        assert_eq!(reason(vec![Rule::users_and_apps()], &agent), "agent-not-allowed");
        assert_eq!(reason(vec![agents()], &agent), "");
        assert_eq!(reason(vec![agents().with_any_role(&["a"])], &agent), "role-missing");
        let (_, env) = env_with(None);
        let opener = agent.roles(&["Vault.Open"]);
        assert_eq!(run(Access::new(&env, &opener).decide(&VAULT)), Err(Denial::AgentNotAllowed), "the tool's own rule");
    }
    assert_eq!(reason(vec![agents()], &Caller::user()), "kind-not-allowed");
    assert_eq!(reason(vec![agents()], &Caller::app()), "kind-not-allowed");
}

#[test]
fn all_parts_of_a_rule_have_to_hold_and_scopes_are_named_last() {
    let rule = Rule {
        tenants: some(&[TENANT]),
        clients: some(&["client"]),
        roles: some(&["role"]),
        groups: some(&["group"]),
        scopes: names(&["one", "two"]),
        ..Rule::users()
    };
    let fitting = Caller::user().roles(&["role"]).groups(&["group"]).scopes(&["one", "two"]);
    assert_eq!(decide(vec![rule.clone()], &fitting), Ok(()));
    // Each row lacks one thing more than the one before it.
    let fewer: [(&dyn Fn(Caller) -> Caller, Denial); 6] = [
        (&|caller| caller.scopes(&["two"]), Denial::ScopesMissing { required: names(&["one", "two"]) }),
        (&|caller| caller.groups(&["x"]), Denial::GroupMissing { any_of: names(&["group"]) }),
        (&|caller| caller.roles(&["x"]), Denial::RoleMissing { any_of: names(&["role"]) }),
        (&|caller| caller.client("x"), Denial::ClientNotAllowed { client_id: "x".to_owned() }),
        (
            &|caller| Caller { kind: PrincipalKind::App, ..caller },
            Denial::KindNotAllowed { actual: PrincipalKind::App },
        ),
        (&|caller| caller.tenant(OTHER_TENANT), Denial::TenantNotAllowed { tenant_id: OTHER_TENANT.to_owned() }),
    ];
    let mut caller = fitting;
    for (change, denial) in fewer {
        caller = change(caller);
        assert_eq!(decide(vec![rule.clone()], &caller), Err(denial));
    }
}

#[test]
fn of_several_rules_one_is_enough_and_the_closest_is_what_the_caller_hears_of() {
    let role = || Rule::users().with_any_role(&["role"]);
    let scope = || Rule { clients: some(&["client"]), ..Rule::users() }.with_scopes(&["scope"]);
    for rules in [vec![role(), scope()], vec![scope(), role()]] {
        assert_eq!(reason(rules.clone(), &Caller::user().roles(&["role"])), "");
        assert_eq!(reason(rules.clone(), &Caller::user().scopes(&["scope"])), "");
        assert_eq!(reason(rules.clone(), &Caller::user()), "scope-missing");
        assert_eq!(reason(rules, &Caller::user().client("x")), "role-missing", "a scope would not help");
    }
}

#[test]
fn the_rules_that_name_a_tenant_take_the_place_of_the_others_there() {
    let general = || Rule::users().with_any_role(&["general"]);
    let own = || Rule { tenants: some(&[TENANT]), ..Rule::users().with_any_role(&["own"]) };
    for rules in [vec![general(), own()], vec![own(), general()]] {
        assert_eq!(reason(rules.clone(), &Caller::user().roles(&["own"])), "");
        assert_eq!(
            decide(rules.clone(), &Caller::user().roles(&["general"])),
            Err(Denial::RoleMissing { any_of: names(&["own"]) })
        );
        let elsewhere = Caller::user().tenant(OTHER_TENANT);
        assert_eq!(reason(rules.clone(), &elsewhere.clone().roles(&["general"])), "");
        assert_eq!(
            decide(rules, &elsewhere.roles(&["own"])),
            Err(Denial::RoleMissing { any_of: names(&["general"]) }),
            "no caller learns the rules of another tenant"
        );
    }
}

#[test]
fn the_rule_of_a_tool_holds_until_the_settings_have_rules_and_then_what_they_do_not_list_is_denied() {
    let admitted = |rules: Option<Vec<ToolRule>>, caller: &Caller| {
        let (_, env) = env_with(rules);
        run(Access::new(&env, caller).decide(&VAULT))
    };
    let opener = Caller::user().roles(&["Vault.Open"]);
    assert_eq!(admitted(None, &opener), Ok(()));
    assert_eq!(admitted(None, &Caller::user()), Err(Denial::RoleMissing { any_of: names(&["Vault.Open"]) }));
    assert_eq!(admitted(Some(vec![of_vault(Rule::users())]), &Caller::user()), Ok(()), "the settings replace it");
    let for_another = ToolRule::for_tool("vaults", Rule::users_and_apps());
    for rules in [vec![], vec![for_another]] {
        assert_eq!(admitted(Some(rules), &opener), Err(Denial::NotListed));
    }
}

#[test]
fn groups_in_overage_are_asked_for_once_and_only_if_a_rule_depends_on_them() {
    let groups = || Rule { groups: some(&[GROUP]), ..Rule::users() };
    let olga = Caller { groups: Groups::Overage, ..Caller::user() };
    let (world, env) = env_with(Some(vec![of_vault(groups().with_any_role(&["role"])), of_vault(groups())]));
    world.always(|request| {
        let body = if request.uri().path().ends_with("/token") {
            json!({ "token_type": "Bearer", "access_token": "app-token", "expires_in": 3600 })
        } else {
            json!({ "value": [GROUP] })
        };
        Ok(response(200, &body))
    });
    assert_eq!(run(Access::new(&env, &olga).decide(&VAULT)), Ok(()));
    assert_eq!(world.sent().len(), 2, "a token, and the question");
    assert_eq!(run(Access::new(&env, &olga).decide(&VAULT)), Ok(()));
    assert_eq!(world.sent().len(), 2, "the answer is remembered");
    let (world, env) = env_with(Some(vec![of_vault(groups().with_any_role(&["role"]))]));
    assert!(run(Access::new(&env, &olga).decide(&VAULT)).is_err());
    assert_eq!((world.sent().len(), world.store_operations()), (0, 0), "the role is missing anyway");
}

#[test]
fn groups_that_cannot_be_found_out_admit_no_caller() {
    let rules = || Some(vec![of_vault(Rule { groups: some(&[GROUP]), ..Rule::users_and_apps() })]);
    let (world, env) = env_with(rules());
    world.always(|_| Ok(response(500, &json!({}))));
    let olga = Caller { groups: Groups::Overage, ..Caller::user() };
    let denial = run(Access::new(&env, &olga).decide(&VAULT)).unwrap_err();
    assert!(matches!(denial, Denial::GroupsUnavailable { .. }), "{denial:?}");
    assert_eq!(world.notes().len(), 1);
    let (world, env) = env_with(rules());
    let app = Caller { groups: Groups::Overage, ..Caller::app() };
    let denial = run(Access::new(&env, &app).decide(&VAULT)).unwrap_err();
    assert!(matches!(denial, Denial::GroupsUnavailable { .. }), "{denial:?}");
    assert_eq!(world.sent().len(), 0);
}

#[test]
fn why_groups_cannot_be_found_out_is_noted_once_in_a_call_under_its_correlation_id() {
    let rule =
        |scope: &'static str| of_vault(Rule { groups: some(&[GROUP]), ..Rule::users_and_apps().with_scopes(&[scope]) });
    let (world, env) = env_with(Some(vec![rule("a"), rule("b")]));
    let app = Caller { groups: Groups::Overage, ..Caller::app() };
    let access = Access::new(&env, &app);
    let reason = "the groups of an application are not resolved".to_owned();
    let unavailable = Err(Denial::GroupsUnavailable { reason: reason.clone() });
    assert_eq!(run(access.admit(&VAULT)), unavailable);
    assert_eq!(run(access.decide(&VAULT)), unavailable);
    let note = format!("the groups of a caller are not known: {reason:?} (correlation id c-1)");
    assert_eq!(world.notes(), [note.as_str()]);
    let audited = world.audited();
    assert_eq!(audited.iter().map(|event| event.reason.as_deref()).collect::<Vec<_>>(), [Some("groups-unavailable")]);
    // A denial that was decided without groups is no matter for the operator.
    let (world, env) = env_with(Some(vec![of_vault(Rule { groups: some(&[GROUP]), ..Rule::users() })]));
    assert!(run(Access::new(&env, &app).decide(&VAULT)).is_err());
    assert_eq!(world.notes(), [""; 0]);
}

#[test]
fn a_denial_is_recorded_once_with_caller_and_tool_and_a_record_that_fails_admits_no_caller() {
    let (world, env) = env_with(None);
    let caller = Caller::user();
    let access = Access::new(&env, &caller);
    assert!(run(access.admit(&VAULT)).is_err());
    let audited = world.audited();
    let [event] = audited.as_slice() else { panic!("{audited:?}") };
    assert_eq!(
        (event.name, event.outcome, event.reason.as_deref()),
        ("tool.denied", Outcome::Failure, Some("role-missing"))
    );
    assert_eq!((event.tenant_id.as_deref(), event.object_id.as_deref()), (Some(TENANT), Some(OBJECT)));
    assert_eq!((event.client_id.as_deref(), event.tool.as_deref()), (Some("client"), Some("vault")));
    assert_eq!(event.correlation_id, "c-1");
    world.refuse_audit(true);
    assert!(run(access.admit(&VAULT)).is_err());
    world.refuse_audit(false);
    let opener = Caller::user().roles(&["Vault.Open"]);
    assert_eq!(run(Access::new(&env, &opener).admit(&VAULT)), Ok(()));
    assert_eq!(world.audited().len(), 1, "a call that is allowed is recorded by the call");
}

#[test]
fn the_directory_is_closed_to_guests_whatever_their_role_and_whatever_the_settings_say() {
    let terms = tools::remote().into_iter().find(|tool| tool.name() == "findUser").unwrap().terms();
    let open = ToolRule::for_tool(terms.tool, Rule::users_and_apps());
    for rules in [None, Some(vec![open])] {
        let (world, env) = env_with(rules);
        let member = Caller::user().roles(&["Directory.Reader"]);
        let guest = Caller { guest: true, ..member.clone() };
        assert_eq!(run(Access::new(&env, &member).admit(&terms)), Ok(()));
        assert_eq!(run(Access::new(&env, &guest).admit(&terms)), Err(Denial::GuestNotAllowed));
        let event = world.audited().pop().unwrap();
        assert_eq!((event.name, event.reason.as_deref()), ("tool.denied", Some("guest-not-allowed")));
    }
    // The other tools show a caller what is their own.
    let closed: Vec<_> = tools::remote().iter().map(|tool| tool.terms()).filter(|terms| !terms.guests).collect();
    assert_eq!(closed.iter().map(|terms| terms.tool).collect::<Vec<_>>(), ["findUser"]);
}

#[test]
fn an_ordinary_decision_touches_neither_the_store_nor_the_network() {
    let (world, env) = env_with(Some(vec![of_vault(Rule::users().with_scopes(&["a"]))]));
    let caller = Caller::user().scopes(&["a"]);
    assert_eq!(run(Access::new(&env, &caller).admit(&VAULT)), Ok(()));
    assert_eq!((world.store_operations(), world.sent().len()), (0, 0));
}

#[test]
fn a_caller_of_whom_rules_know_nothing_may_call_nothing() {
    let (world, env) = env_with(Some(vec![of_vault(Rule::users_and_apps())]));
    let person = world.person();
    let caller = PersonCaller::new(&person, &NoClient, None);
    assert_eq!(run(Access::new(&env, &caller).admit(&VAULT)), Err(Denial::NotListed));
    assert_eq!(run(Access::new(&env, &Caller::user()).admit(&VAULT)), Ok(()));
}

#[test]
fn a_denial_says_what_is_missing() {
    let text = |denial: Denial| denial.to_string();
    let any_of = names(&["Mcp.Admin", "Mcp.\"x"]);
    assert!(text(Denial::RoleMissing { any_of: any_of.clone() }).contains(r#""Mcp.Admin", "Mcp.\"x""#));
    assert!(text(Denial::GroupMissing { any_of }).contains(r#"one of the groups "Mcp.Admin""#));
    assert!(text(Denial::KindNotAllowed { actual: PrincipalKind::App }).contains("an application (app-only)"));
    assert!(text(Denial::AgentNotAllowed).contains("not open to AI agents"));
    let context = Denial::ContextMissing { any_of: names(&["c1", "c2"]) };
    assert!(text(context).contains(r#"the authentication context "c1": sign in once more"#));
    let unavailable = text(Denial::GroupsUnavailable { reason: "connect 10.0.0.1".to_owned() });
    assert!(!unavailable.contains("10.0.0.1"), "{unavailable}");
}

/// What a person is told before they let a client act in their name.
#[test]
fn a_client_may_use_in_a_persons_name_what_some_rule_lets_people_call() {
    let mut http = http_settings();
    let names = |http: &HttpSettings| tools::of_users(http).into_iter().map(|tool| tool.name()).collect::<Vec<_>>();
    assert_eq!(names(&http), ["getUserDetails", "GetUserDetailsFromGraph", "listMyGroups", "findUser"]);
    let rule = |tool: &'static str, rule| ToolRule::for_tool(tool, rule);
    let apps = Rule { users: false, ..Rule::users_and_apps() };
    http.access =
        Some(vec![rule("findUser", apps.clone()), rule("listMyGroups", Rule::users()), rule("x", Rule::users())]);
    assert_eq!(names(&http), ["listMyGroups"]);
    http.access = Some(vec![rule("findUser", apps), rule("findUser", Rule::users())]);
    assert_eq!(names(&http), ["findUser"]);
}
