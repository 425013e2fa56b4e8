//! Authorities that are not what the settings say, by their own metadata or by the settings themselves: no host takes their
//! keys, and all hosts say the same.

use entra_mcp_emulator::{Endpoint, Fault};
use entra_mcp_plugin::Plugin;
use serde_json::{Value, json};

use super::corpus::Corpus;
use super::hosts::verdict;
use crate::support::component::code_cache;
use crate::support::lab::{CONTOSO, FABRIKAM, Lab};

/// What every host says about a good token while the authority's own words are not to be trusted: that is no refusal.
const UNDECIDED: &str = "keys-unavailable";

/// Emulators: one that lies about itself, and one whose keys it names.
pub(super) struct Liar {
    pub(super) corpus: Corpus,
    elsewhere: Lab,
}

impl Liar {
    pub(super) async fn new() -> Self {
        Self { corpus: Corpus::new().await, elsewhere: Lab::new().await }
    }

    /// What its metadata says, with a name for messages.
    pub(super) fn lies(&self) -> Vec<(&'static str, Value)> {
        let own = &self.corpus.lab.endpoints().authority;
        let issuer = format!("{own}/{CONTOSO}/v2.0");
        let keys = format!("{own}/{CONTOSO}/discovery/v2.0/keys");
        let elsewhere = format!("{}/{CONTOSO}/discovery/v2.0/keys", self.elsewhere.endpoints().authority);
        vec![
            ("keys at another port", json!({ "issuer": issuer, "jwks_uri": elsewhere })),
            ("keys at another host", json!({ "issuer": issuer, "jwks_uri": "https://evil.example/keys" })),
            ("keys by another scheme", json!({ "issuer": issuer, "jwks_uri": keys.replacen("http:", "https:", 1) })),
            ("keys without a host", json!({ "issuer": issuer, "jwks_uri": "/keys" })),
            ("no keys", json!({ "issuer": issuer })),
            ("the issuer of another tenant", json!({ "issuer": format!("{own}/{FABRIKAM}/v2.0"), "jwks_uri": keys })),
            (
                "the issuer of another authority",
                json!({ "issuer": format!("https://evil.example/{CONTOSO}/v2.0"), "jwks_uri": keys }),
            ),
            ("an issuer with a slash at its end", json!({ "issuer": format!("{issuer}/"), "jwks_uri": keys })),
            ("no issuer", json!({ "jwks_uri": keys })),
        ]
    }

    /// Makes the authority say this, until it says something else.
    pub(super) fn says(&self, metadata: &Value) {
        let control = self.corpus.lab.control();
        control.clear_faults();
        let fault = Fault::on(Endpoint::OpenidConfiguration).always().body(metadata.to_string());
        control.inject(fault.content_type("application/json"));
    }

    /// A token that is valid while the authority says the truth.
    pub(super) fn token(&self) -> &str {
        &self.corpus.cases[0].token
    }

    /// Compares what a host said about that token, and looks for requests for keys.
    pub(super) fn compare(&self, host: &str, lie: &str, said: &[String]) {
        assert_eq!(said, [UNDECIDED], "{host}: {lie}");
        for lab in [&self.corpus.lab, &self.elsewhere] {
            assert_eq!(lab.control().request_count(Endpoint::Keys), 0, "{host}: {lie}: no keys are fetched");
        }
    }
}

/// Settings whose authority is none, because what it says could be replaced on the way or names no authority.
pub(super) fn no_authorities(corpus: &Corpus) -> Vec<String> {
    let own = &corpus.lab.endpoints().authority;
    ["http://login.example", "ftp://login.example", "login.example", ""]
        .map(|authority| corpus.settings().replace(own, authority))
        .into()
}

#[tokio::test]
async fn the_program_takes_no_keys_of_an_authority_that_is_another() {
    let liar = Liar::new().await;
    for (lie, metadata) in liar.lies() {
        liar.says(&metadata);
        let plugin = Plugin::builder(liar.corpus.own_settings()).code_cache(code_cache()).build().unwrap();
        liar.compare("the program", lie, &[verdict(&plugin, liar.token()).await]);
    }
    // The token was good all the time.
    liar.corpus.lab.control().clear_faults();
    let plugin = Plugin::builder(liar.corpus.own_settings()).code_cache(code_cache()).build().unwrap();
    assert_eq!(verdict(&plugin, liar.token()).await, liar.corpus.cases[0].expected);
}
