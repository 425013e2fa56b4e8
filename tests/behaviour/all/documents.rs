//! Pages of the documentation that are made from the code: each is compared with what it is made from. A page may go on by
//! hand after [`BY_HAND`]. Output on the other pages is compared with what the program prints.
//!
//! A page that is out of date fails its test, which writes the new one and says how to put it into its place.

use std::fs;
use std::path::Path;

use crate::support::{process, tests_dir};

#[cfg(unix)]
mod blocks;
#[cfg(unix)]
mod output;
mod wit;

/// The line after which a page is written by hand.
const BY_HAND: &str = "<!-- Written by hand from here on. -->\n";

/// Compares a page of `docs/src` with what it has to be.
pub(crate) fn compare(page: &str, generated: &str) {
    let is = tests_dir().join("../docs/src").join(page);
    let text = fs::read_to_string(&is).unwrap_or_default();
    let expected = match text.split_once(BY_HAND) {
        Some((_, rest)) => format!("{generated}\n{BY_HAND}{rest}"),
        None => generated.to_owned(),
    };
    if text == expected {
        return;
    }
    let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents").join(page);
    fs::create_dir_all(renewed.parent().expect("a file has a folder")).expect("the folder can be made");
    fs::write(&renewed, &expected).expect("the page can be written");
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

#[test]
fn the_reference_of_the_settings_is_what_the_program_says() {
    let program = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested")).args(["settings", "--markdown"]).output();
    let output = program.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    compare("reference/settings.md", &String::from_utf8(output.stdout).expect("a page is text"));
}
