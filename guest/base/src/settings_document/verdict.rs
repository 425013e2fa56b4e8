//! The settings of a single verdict: the part of the document that judging a token takes.

use serde::Deserialize;

use super::{
    MAX_CLOCK_TOLERANCE_SECONDS, SettingsDocumentError, TokenDocument, fault, global_authority, token_settings,
};
use crate::settings::{Mode, Settings};

/// Hosts that are this machine: what is sent there crosses no network.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// See `token-verdict` in `wit/token-verdict.wit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "struct Document")]
struct VerdictDocument {
    tenant: String,
    #[serde(default = "global_authority")]
    authority: String,
    token: TokenDocument,
}

/// Reads the settings of a verdict. What they leave out would accept no token, and is an error.
pub fn read(json: &str) -> Result<Settings, SettingsDocumentError> {
    let VerdictDocument { tenant, authority, token } = serde_json::from_str(json).map_err(|error| {
        SettingsDocumentError::Mismatch { line: error.line(), column: error.column(), fault: fault(&error) }
    })?;
    if token.clock_tolerance_seconds.is_some_and(|seconds| seconds > MAX_CLOCK_TOLERANCE_SECONDS) {
        return Err(SettingsDocumentError::ClockTolerance);
    }
    if token.audiences.is_empty() {
        return Err(SettingsDocumentError::NoAudience);
    }
    if !is_protected(&authority) {
        return Err(SettingsDocumentError::AuthorityUnprotected);
    }
    Ok(Settings {
        tenant,
        // Of sign-in and of Microsoft Graph: a verdict has nothing to do with them.
        client_id: String::new(),
        graph: String::new(),
        graph_resource: String::new(),
        authority,
        token: token_settings(token),
        profile_cache: std::time::Duration::ZERO,
        audit_usernames: false,
        servers: Vec::new(),
        mode: Mode::Validator,
    })
}

/// Whether an attacker on the network cannot change what the authority says: its keys decide which tokens are genuine.
fn is_protected(authority: &str) -> bool {
    let is_port =
        |rest: &str| rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_loopback = |rest: &str| {
        let after = LOOPBACK.iter().find_map(|host| rest.strip_prefix(host));
        after.is_some_and(|after| after.is_empty() || is_port(after))
    };
    match authority.strip_prefix("http://") {
        Some(rest) => is_loopback(rest),
        None => authority.starts_with("https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(json: &str) -> String {
        read(json).expect_err("refused").to_string()
    }

    #[test]
    fn a_tenant_and_an_audience_are_enough() {
        let settings = read(r#"{"tenant":"contoso.com","token":{"audiences":["api"]}}"#).expect("settings");
        assert_eq!(
            (settings.tenant.as_str(), settings.authority.as_str()),
            ("contoso.com", "https://login.microsoftonline.com")
        );
        assert_eq!((settings.token.audiences, settings.token.allowed_tenants), (vec!["api".to_owned()], Vec::new()));
        assert_eq!(settings.token.clock_tolerance, None);
        assert!(matches!(settings.mode, Mode::Validator));
    }

    #[test]
    fn settings_that_would_accept_no_token_are_refused() {
        for (json, expected) in [
            (r#"{"tenant":"t","token":{"audiences":[]}}"#, SettingsDocumentError::NoAudience),
            (r#"{"tenant":"t","token":{}}"#, SettingsDocumentError::NoAudience),
            (
                r#"{"tenant":"t","token":{"audiences":["a"],"clock-tolerance-seconds":301}}"#,
                SettingsDocumentError::ClockTolerance,
            ),
        ] {
            assert_eq!(read(json).err(), Some(expected), "{json}");
        }
        assert!(fault_of(r#"{"token":{"audiences":["a"]}}"#).contains("missing field `tenant`"));
        assert!(fault_of(r#"{"tenant":"t"}"#).contains("missing field `token`"));
        assert!(fault_of(r#"{"tenant":"t","audience":"a","token":{"audiences":["a"]}}"#).contains("`audience`"));
        assert!(fault_of("{").contains("not JSON"));
    }

    #[test]
    fn keys_never_come_over_a_network_unprotected() {
        for (authority, accepted) in [
            ("https://login.microsoftonline.us", true),
            ("http://localhost:8080", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:1", true),
            ("http://login.microsoftonline.com", false),
            ("http://localhost.example.com", false),
            ("http://localhost:80@example.com", false),
            ("http://127.0.0.10", false),
            ("HTTP://localhost", false),
            ("ftp://localhost", false),
            ("", false),
        ] {
            let json = format!(r#"{{"tenant":"t","authority":"{authority}","token":{{"audiences":["a"]}}}}"#);
            let error = read(&json).err();
            assert_eq!(error, (!accepted).then_some(SettingsDocumentError::AuthorityUnprotected), "{authority}");
        }
    }
}
