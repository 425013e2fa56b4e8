//! The program's own component, and the example for Rust.

use entra_mcp_plugin::{Error, Plugin};

use super::authorities::no_authorities;
use super::corpus::Corpus;
use super::{WITH_KEYS, artefact};
use crate::support::component::code_cache;
use crate::support::tests_dir;

/// The example of the page.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::restriction, reason = "an example of a page")]
#[path = "../../../../docs/src/how-to/validate-tokens/judge.rs"]
mod judge;

/// What the program says about a token.
pub(super) async fn verdict(plugin: &Plugin, token: &str) -> String {
    match plugin.validate_token(token, &Default::default()).await {
        Ok(principal) => format!("valid {}", principal.object_id),
        Err(Error::Token(error)) => error.code,
        Err(error) => panic!("no verdict: {error}"),
    }
}

/// What the program says: the measure of all others.
#[tokio::test]
async fn the_program_judges_the_corpus_as_it_says() {
    let corpus = Corpus::new().await;
    let plugin = Plugin::builder(corpus.own_settings()).code_cache(code_cache()).build().unwrap();
    let mut said = Vec::new();
    for case in &corpus.cases {
        said.push(verdict(&plugin, &case.token).await);
    }
    corpus.compare("the program", &said, |case| &case.expected);
}

#[tokio::test]
async fn plain_wasmtime_gives_the_same_verdicts() {
    let corpus = Corpus::new().await;
    let (jwks, settings) = (corpus.jwks().await, corpus.settings());
    let tokens: Vec<_> = corpus.cases.iter().map(|case| case.token.clone()).collect();
    // The component blocks, and so does the example.
    let judged = tokio::task::spawn_blocking(move || {
        let mut judge = judge::Judge::new(&std::fs::read(artefact(WITH_KEYS)).unwrap()).unwrap();
        let mut verdict = |token: &String| match judge.judge(token, &jwks, &settings).unwrap() {
            Ok(object_id) => format!("valid {object_id}"),
            Err(code) => code,
        };
        tokens.iter().map(&mut verdict).collect::<Vec<_>>()
    });
    corpus.compare("Rust", &judged.await.unwrap(), |case| &case.by_keys);
}

#[tokio::test]
async fn settings_that_are_none_are_no_verdict() {
    let corpus = Corpus::new().await;
    let (jwks, good, token) = (corpus.jwks().await, corpus.settings(), corpus.cases[0].token.clone());
    let no_authorities = no_authorities(&corpus);
    let judged = tokio::task::spawn_blocking(move || {
        let mut judge = judge::Judge::new(&std::fs::read(artefact(WITH_KEYS)).unwrap()).unwrap();
        let no_audience = good.replace("audiences", "audience");
        let wrong = ["", "{}", &no_audience].into_iter().chain(no_authorities.iter().map(String::as_str));
        for settings in wrong {
            let verdict = judge.judge(&token, &jwks, settings).unwrap();
            assert_eq!(verdict, Err("configuration-invalid".to_owned()), "{settings}");
        }
        judge.judge(&token, &jwks, &good).unwrap()
    });
    assert_eq!(judged.await.unwrap(), Ok("11111111-0000-4000-a000-000000000001".to_owned()));
}

#[test]
fn the_examples_of_the_page_are_short_and_the_page_has_them_all() {
    let folder = tests_dir().join("../docs/src/how-to/validate-tokens");
    let page = std::fs::read_to_string(folder.with_file_name("validate-tokens-anywhere.md")).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["judge.html", "judge.mjs", "judge.py", "judge.rs"]);
    for file in files {
        let name = file.to_str().unwrap();
        assert!(page.contains(&format!("\n{{{{#include validate-tokens/{name}}}}}\n")), "{name}");
        let lines = std::fs::read_to_string(folder.join(&file)).unwrap().lines().count();
        assert!(lines <= 40, "{name} has {lines} lines");
    }
}
