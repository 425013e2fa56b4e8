//! What the unit tests of the crates above run with.

use base::settings_document;
use serde_json::json;
use world::testing::{CLIENT, TENANT, settings};

#[test]
fn the_settings_of_other_tests_are_within_the_contract() {
    let document = json!({
        "client-type": "public-client",
        "tenant": TENANT,
        "client-id": CLIENT,
        "token": { "audiences": [CLIENT] },
        "profile-cache-seconds": 60,
    });
    let read = settings_document::read(&document.to_string()).expect("the document is accepted");
    assert_eq!(format!("{read:?}"), format!("{:?}", settings()));
}
