//! Names and URIs that a server behind may take for ones that have rules.

use super::*;

#[test]
fn a_name_that_may_be_taken_for_a_ruled_one_is_denied() {
    let open = ToolRule { rule: Rule::users(), ..of_crm(TargetKind::Tool, "*", &[]) };
    let rules = [of_crm(TargetKind::Tool, "delete_record", &["admin"]), open];
    let decide = |name: &str| about(&rules, false, ("crm", TargetKind::Tool, name), &Known::user().roles(&["admin"]));
    for name in [
        "Delete_Record",
        "DELETE_RECORD",
        "delete_record ",
        " delete_record",
        "delete\u{200b}_record",
        "delete_record\0",
        "delete_record\n",
        "ｄelete_record",
        "delete_recor\u{0501}",
        "\u{feff}delete_record",
        "delete_record\u{301}",
        "\u{202e}x",
        "",
        "résumé",
    ] {
        let expected = if name.is_empty() { None } else { Some("name-ambiguous") };
        assert_eq!(decide(name), expected, "{name:?}");
    }
    for name in ["delete_record", "delete_records", "delete-record", "list"] {
        assert_eq!(decide(name), None, "{name:?}");
    }
    // Where no name has a rule, there is none to be taken for.
    assert_eq!(about(&rules[1..], false, ("crm", TargetKind::Tool, "résumé"), &Known::user()), None);
    // A name of other letters can have a rule.
    let rules = [rules[0].clone(), of_crm(TargetKind::Tool, "résumé", &["reader"])];
    let reader = Known::user().roles(&["reader"]);
    assert_eq!(about(&rules, false, ("crm", TargetKind::Tool, "résumé"), &reader), None);
    assert_eq!(
        about(&rules, false, ("crm", TargetKind::Tool, "re\u{301}sume\u{301}"), &reader),
        Some("name-ambiguous")
    );
}

#[test]
fn a_uri_that_may_be_taken_for_a_ruled_one_is_denied() {
    let rules = [of_crm(TargetKind::Resource, "file:///secret/plan", &["admin"])];
    let decide = |uri: &str| about(&rules, false, ("crm", TargetKind::Resource, uri), &Known::user());
    for uri in [
        "FILE:///secret/plan",
        "file:///secret/Plan",
        "file:///secret/plan/",
        "file:///secret/%70lan",
        "file:///x/../secret/plan",
        "file:///secret/./plan",
        "file:///secret//plan",
        "file:///secret\\plan",
        "file:///secret/plan#a",
        "file:///secret/plan?a",
        "file:///secret/plan;a",
        "file://localhost/secret/plan",
        "file:/secret/plan",
        "file:///secret/plan\u{200b}",
    ] {
        assert_eq!(decide(uri), Some("name-ambiguous"), "{uri}");
    }
    assert_eq!(decide("file:///secret/plan"), Some("role-missing"));
    for uri in ["file:///secret/plans", "db://table/1", "file:///open"] {
        assert_eq!(decide(uri), None, "{uri}");
    }
}

#[test]
fn only_a_canonical_uri_is_another_one_than_a_ruled_one() {
    let rules = ["demo://res/x", "https://crm/secret", "https://10.0.0.1/secret", "file:///secret/plan"]
        .map(|uri| of_crm(TargetKind::Resource, uri, &["admin"]));
    let decide = |uri: &str| about(&rules, false, ("crm", TargetKind::Resource, uri), &Known::user());
    for uri in [
        "demo://res:/x",
        "demo://@res/x",
        "demo://user@res/x",
        "demo:res/x",
        "demo:/res/x",
        "demo:///res/x",
        "demo://Res/y",
        "Demo://res/y",
        "demo://res%2fx",
        "demo",
        "res/x",
        "https:/crm/secret",
        "https:crm/secret",
        "https:///crm/secret",
        "https://crm:443/secret",
        "https://crm:0443/secret",
        "https://crm:/secret",
        "https://crm:x/secret",
        "https://crm:99999/secret",
        "https://crm./secret",
        "https://.crm/secret",
        "https://CRM/other",
        "https://xn--crm-/secret",
        "https://167772161/secret",
        "https://0x0a000001/secret",
        "https://10.1/secret",
        "https://012.0.0.1/secret",
        "https://[::1]/secret",
        "https://crm\\secret",
        "http://crm:80/secret",
        "ws://crm:80/secret",
        "wss://crm:443/secret",
        "ftp://crm:21/secret",
        "file:secret",
        "file:/secret/other",
        "file://localhost/other",
        "file:///c:/secret",
        "file:///C|/secret",
        "file:///secret/%6Flan",
        "1demo://res/y",
        "://res/x",
        "demo://{@}res/x",
        "demo://res/{x",
        "",
    ] {
        assert_eq!(decide(uri), Some("name-ambiguous"), "{uri}");
    }
    for uri in [
        "demo://res",
        "demo://res/y",
        "demo://res:8080/x",
        "demo://other/x",
        "demo://my_table/1",
        "demo://{id}/x",
        "demo://other/{id}",
        "https://crm:8443/secret",
        "https://crm/other",
        "https://crm.example.com/secret",
        "https://10.0.0.2/secret",
        "ticket://4711/x",
        "file:///secret/other",
    ] {
        assert_eq!(decide(uri), None, "{uri}");
    }
    // Where no resource has a rule, there is none to be taken for.
    assert_eq!(about(&[], false, ("crm", TargetKind::Resource, "https:crm/secret"), &Known::user()), None);
}

#[test]
fn a_rule_for_a_uri_that_is_not_canonical_leaves_no_other_of_its_scheme_open() {
    let rules = [of_crm(TargetKind::Resource, "https://crm:443/secret", &["admin"])];
    let decide = |uri: &str| about(&rules, false, ("crm", TargetKind::Resource, uri), &Known::user());
    assert_eq!(decide("https://crm:443/secret"), Some("role-missing"));
    assert_eq!(decide("https://crm/secret"), Some("name-ambiguous"));
    assert_eq!(decide("demo://crm/secret"), None);
}

#[test]
fn what_a_ruled_template_may_stand_for_is_denied_unless_it_has_a_rule() {
    let open = ToolRule { rule: Rule::users(), ..of_crm(TargetKind::Resource, "crm://records/7", &[]) };
    let kinds = [TargetKind::Resource, TargetKind::Completion];
    for kind in kinds {
        let template = of_crm(kind, "crm://records/{id}", &["admin"]);
        let rules = [template, ToolRule { kind, ..open.clone() }];
        let decide = |uri: &str| about(&rules, false, ("crm", kind, uri), &Known::user());
        assert_eq!(decide("crm://records/{id}"), Some("role-missing"));
        assert_eq!(decide("crm://records/7"), None);
        for uri in ["crm://records/8", "crm://records/", "crm://records/8/notes", "crm://records/{other}"] {
            assert_eq!(decide(uri), Some("name-ambiguous"), "{uri}");
        }
        assert_eq!(decide("crm://contacts/8"), None);
    }
    let rules = [of_crm(TargetKind::Resource, "{+uri}", &["admin"])];
    assert_eq!(about(&rules, false, ("crm", TargetKind::Resource, "a://b"), &Known::user()), Some("name-ambiguous"));
}

#[test]
fn names_of_prompts_are_no_uris_for_rules_about_completion() {
    let rules = [of_crm(TargetKind::Completion, "plan", &["admin"])];
    let decide = |name: &str| about(&rules, false, ("crm", TargetKind::Completion, name), &Known::user());
    assert_eq!(decide("team:hello"), None);
    assert_eq!(decide("Plan"), Some("name-ambiguous"));
}
