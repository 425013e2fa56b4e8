//! Checks of tenants and ids.

use super::{ConfigError, WHERE_TO_FIND, invalid};

pub(super) fn is_guid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn check_guid(name: &'static str, value: &str) -> Result<(), ConfigError> {
    let invalid = |expected: &str| invalid(name, value, expected);
    if !is_guid(value) {
        let expected = format!("a GUID such as 00001111-aaaa-2222-bbbb-3333cccc4444 is expected. {WHERE_TO_FIND}");
        return Err(invalid(&expected));
    }
    // Ids are compared exactly with those in tokens, which are in lower case.
    if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("it is expected in lower case, as Entra ID writes it"));
    }
    Ok(())
}

pub(super) fn check_tenant(name: &'static str, value: &str) -> Result<(), ConfigError> {
    if is_guid(value) {
        return check_guid(name, value);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let domain = value.len() <= 253 && value.contains('.') && value.split('.').all(label);
    if domain || matches!(value, "common" | "organizations" | "consumers") {
        return Ok(());
    }
    let expected = format!(
        "a GUID, a domain in lower case, `common`, `organizations` or `consumers` is expected. {WHERE_TO_FIND}"
    );
    Err(invalid(name, value, expected))
}
