//! Rules that cannot be kept behind a proxy: the program does not start with them.

use super::site::page;
use crate::host::behind::refusal;
use crate::host::commands::Home;

#[tokio::test]
async fn a_rule_that_needs_the_body_is_refused_at_the_start() {
    let home = Home::new().await;
    let configuration = page().section("Configure the server").block("toml");
    let configuration = configuration.lines().filter(|line| !line.starts_with("forward-auth-secret-hash"));
    let configuration = configuration.collect::<Vec<_>>().join("\n");
    let rule = |tool: &str, more: &str| {
        format!("{configuration}\n[[access]]\nserver = \"crm\"\ntool = \"{tool}\"\nroles = [\"Crm.Admin\"]\n{more}")
    };
    for (file, arguments, expected) in [
        (rule("delete_record", ""), vec![], "the rule for the tool \"delete_record\" cannot be kept"),
        (rule("notes", "kind = \"resource\"\n"), vec![], "the rule for the resource \"notes\" cannot be kept"),
        (
            rule("*", ""),
            vec!["--deny-unlisted"],
            "with the settings forward-auth and deny-unlisted every request to the server \"crm\" is denied",
        ),
    ] {
        let refusal = refusal(&home, "serve", &arguments, &file).await;
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[tokio::test]
async fn an_identity_that_a_client_could_fetch_for_itself_needs_a_secret() {
    let home = Home::new().await;
    let configuration = page().section("Configure the server").block("toml");
    let configuration = configuration.replace("\"easy-auth\"", "\"assertion\"");
    let without = configuration.lines().filter(|line| !line.starts_with("forward-auth-secret-hash"));
    let without = without.collect::<Vec<_>>().join("\n");
    let refusal = refusal(&home, "serve", &[], &without).await;
    assert!(refusal.starts_with("the setting forward-auth needs a secret"), "{refusal}");
}
