//! Pages of the documentation that are made from the code: each is compared with what it is made from.
//!
//! A page that is out of date fails its test, which writes the new one and says how to put it into its place.

use std::fs;
use std::path::Path;

use crate::support::tests_dir;

mod wit;

/// Compares a page of `docs/src` with what it has to be.
fn compare(page: &str, expected: &str) {
    let is = tests_dir().join("../docs/src").join(page);
    if fs::read_to_string(&is).is_ok_and(|text| text == expected) {
        return;
    }
    let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents").join(page);
    fs::create_dir_all(renewed.parent().expect("a file has a folder")).expect("the folder can be made");
    fs::write(&renewed, expected).expect("the page can be written");
    panic!("docs/src/{page} is out of date: cp {} {}", renewed.display(), is.display());
}

#[test]
fn the_reference_of_the_wit_interfaces_is_what_they_say() {
    compare("reference/wit.md", &wit::Contract::read().reference());
}

#[test]
fn the_reference_of_audit_events_is_what_the_contract_says() {
    compare("reference/audit-events.md", &wit::Contract::read().audit_events());
}
