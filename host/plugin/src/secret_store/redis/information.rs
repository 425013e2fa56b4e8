//! What a server says of its version and its memory.

use super::{OLDEST, RedisError};

/// Refuses a server that is too old, and warns if it may throw records away. `told`: its answer to `INFO`.
pub(super) fn check(place: &str, told: &str) -> Result<(), RedisError> {
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = field("redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Err(RedisError::TooOld { place: place.to_owned(), found: version.to_owned() });
    }
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    if let Some(advice) = field("maxmemory").and_then(|bytes| advice_about_memory(bytes, policy)) {
        tracing::warn!(store = place, policy, "{advice}");
    }
    Ok(())
}

/// What to change about the memory of a server, if anything.
fn advice_about_memory(maxmemory: &str, policy: &str) -> Option<&'static str> {
    match (maxmemory, policy) {
        ("0", _) => Some(
            "nothing bounds what the server keeps, so callers who have not signed in can fill its machine: set maxmemory, and \
             maxmemory-policy to noeviction",
        ),
        (_, "noeviction") => None,
        _ => Some(
            "the server removes records when its memory is full, so people may have to sign in again: set maxmemory-policy to \
             noeviction",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_named() {
        let refused = check("10.0.0.1:6379", "# Server\r\nredis_version:6.2.14\r\n").unwrap_err();
        assert!(
            matches!(refused, RedisError::TooOld { place, found } if place == "10.0.0.1:6379" && found == "6.2.14")
        );
        for told in ["redis_version:7.0.15\r\nmaxmemory:1\r\n", "redis_version:10.0.0", "", "redis_version:?"] {
            assert!(check("10.0.0.1:6379", told).is_ok(), "{told}");
        }
    }

    #[test]
    fn a_server_without_a_bound_and_one_that_removes_records_are_told() {
        for (maxmemory, policy, begin) in [
            ("0", "noeviction", Some("nothing bounds")),
            ("0", "allkeys-lru", Some("nothing bounds")),
            ("268435456", "allkeys-lru", Some("the server removes records")),
            ("268435456", "volatile-ttl", Some("the server removes records")),
            ("268435456", "noeviction", None),
        ] {
            let advice = advice_about_memory(maxmemory, policy);
            assert_eq!(advice.is_some(), begin.is_some(), "{maxmemory} {policy}");
            assert!(advice.unwrap_or_default().starts_with(begin.unwrap_or_default()), "{maxmemory} {policy}");
        }
    }
}
