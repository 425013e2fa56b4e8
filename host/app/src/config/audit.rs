//! The settings of audit records and metrics, for the remote server.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

use super::setting::{choices, settings};
use super::{ConfigError, invalid, within};
use crate::audit::{JournalPlace, OnFailure, Rotation};

/// Size of an audit file, unless set otherwise: some 150,000 events.
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Audit files that are kept besides the one that is written, unless set otherwise.
const DEFAULT_KEEP: u32 = 10;

/// Days for which rotation deletes no record, unless set otherwise: a week, in which an operator looks at alarms.
const DEFAULT_KEEP_DAYS: u32 = 7;

/// Bounds of the days: up to ten years; 0 stands for none.
const KEEP_DAYS: RangeInclusive<u32> = 0..=3_650;

/// Bounds of the size; besides, 0 stands for no rotation. Below, every other event would begin a file.
const MAX_BYTES: RangeInclusive<u64> = 4 * 1024..=1024 * 1024 * 1024 * 1024;

/// Bounds of the number of files. Every rotation renames all of them.
const KEEP: RangeInclusive<u32> = 1..=1_000;

/// Where audit records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditDestination {
    /// Standard error, besides the log.
    Stderr,
    /// The file that --audit-file names.
    File,
}

/// Action if the server cannot record an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditFailure {
    /// The action that the event records is refused.
    FailClosed,
    /// The event is counted as lost, and the action goes on.
    DropAndCount,
}

choices!(AuditDestination, AuditFailure);

settings! {
    /// What one source says about audit records and metrics.
    pub struct AuditLayer checked as AuditValues, under "Audit and metrics" {
        /// Where audit records go, as lines of JSON
        audit: AuditDestination, value("WHERE"), otherwise("file with --audit-file, else stderr");
        /// File to which the server appends audit records; it opens the file anew after a move, and at SIGHUP
        audit_file: PathBuf, value("FILE");
        /// Size at which the server rotates the audit file; 0: never
        audit_max_bytes: u64 = DEFAULT_MAX_BYTES, value("BYTES"), check(check_max_bytes);
        /// Number of rotated audit files to keep
        audit_keep: u32 = DEFAULT_KEEP, value("NUMBER"), range(KEEP);
        /// Days for which rotation deletes no record: if the files are full earlier, the server cannot record events;
        /// 0: none
        audit_keep_days: u32 = DEFAULT_KEEP_DAYS, value("DAYS"), range(KEEP_DAYS);
        /// Action if the server cannot record an event
        audit_failure: AuditFailure = AuditFailure::FailClosed, value("WHAT");
        /// Put user principal names into audit records: personal data
        audit_usernames: bool = false;
        /// Address and port for Prometheus, plain http: GET /metrics; loopback or a private network
        metrics_listen: SocketAddr, value("ADDRESS"), otherwise("none");
        /// A host name, without a port, under which Prometheus may ask for the metrics, besides addresses and localhost;
        /// may be repeated
        metrics_host: Vec<String> = Vec::new(), value("HOST"), each(check_name);
    }
}

fn check_name(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if !text.is_empty() && text.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(invalid(name, text, "a host name without a port is expected in lower case, such as metrics.example.com"))
}

fn check_max_bytes(name: &'static str, value: &u64) -> Result<(), ConfigError> {
    if *value == 0 { Ok(()) } else { within(name, value, &MAX_BYTES) }
}

/// Where audit records and metrics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where audit records go.
    pub destination: JournalPlace,
    /// Action if the server cannot record an event.
    pub on_failure: OnFailure,
    /// Whether records name user principal names.
    pub usernames: bool,
    /// Where Prometheus finds the metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Names under which it may be asked for them.
    pub metrics_host: Vec<String>,
}

impl AuditLayer {
    /// Checks the settings.
    pub(super) fn checked(&self) -> Result<AuditConfig, ConfigError> {
        let values = self.values()?;
        let rotation =
            Rotation { max_bytes: values.audit_max_bytes, keep: values.audit_keep, keep_days: values.audit_keep_days };
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
        let destination = match (values.audit, values.audit_file) {
            (_, Some(path)) if path.as_os_str().is_empty() => return conflict("audit-file is empty: name a file"),
            (None | Some(AuditDestination::File), Some(path)) => JournalPlace::File { path, rotation },
            (None | Some(AuditDestination::Stderr), None) => JournalPlace::StandardError,
            (Some(AuditDestination::File), None) => {
                return conflict("audit records are to go to a file: name it with --audit-file");
            }
            (Some(AuditDestination::Stderr), Some(_)) => {
                return conflict(
                    "audit records are to go to stderr, but --audit-file names a file: leave one of them out",
                );
            }
        };
        let on_failure = match values.audit_failure {
            AuditFailure::FailClosed => OnFailure::FailClosed,
            AuditFailure::DropAndCount => OnFailure::DropAndCount,
        };
        let AuditValues { audit_usernames: usernames, metrics_listen, metrics_host, .. } = values;
        Ok(AuditConfig { destination, on_failure, usernames, metrics_listen, metrics_host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, HostLayer, Layer, ServeLayer, Sources};

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";
    const CLIENT: &str = "22222222-2222-2222-2222-22222222aaaa";

    fn load(audit: AuditLayer, variables: &[(&str, &str)], file: &str) -> Result<AuditConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        let (tenant_id, client_id) = (Some(TENANT.into()), Some(CLIENT.into()));
        let flags = Layer {
            host: HostLayer { config: Some(path), ..HostLayer::default() },
            tenant_id,
            client_id,
            ..Layer::default()
        };
        let serve = ServeLayer { audit, ..ServeLayer::default() };
        let variables = [variables, &[("HOME", "/home/u")]].concat();
        Ok(Sources::read_serve(flags, serve, crate::config::BehindLayer::default(), Environment::of(&variables))?
            .serve()?
            .audit)
    }

    fn file(path: &str, max_bytes: u64, keep: u32, keep_days: u32) -> JournalPlace {
        JournalPlace::File { path: path.into(), rotation: Rotation { max_bytes, keep, keep_days } }
    }

    #[test]
    fn by_default_records_go_to_standard_error_and_nothing_happens_unrecorded() {
        let config = load(AuditLayer::default(), &[], "").unwrap();
        assert_eq!(config.destination, JournalPlace::StandardError);
        assert_eq!((config.on_failure, config.metrics_listen), (OnFailure::FailClosed, None));
        assert!(!config.usernames);
        let named = AuditLayer { audit_file: Some("/a".into()), ..AuditLayer::default() };
        assert_eq!(load(named, &[], "").unwrap().destination, file("/a", 64 * 1024 * 1024, 10, 7));
    }

    #[test]
    fn every_setting_comes_from_a_flag_else_a_variable_else_the_file() {
        let all = "audit = 'file'\naudit-file = '/f'\naudit-max-bytes = 5000\naudit-keep = 3\naudit-keep-days = 30\n\
            audit-failure = 'drop-and-count'\naudit-usernames = true\nmetrics-listen = '127.0.0.1:9464'";
        let from_file = load(AuditLayer::default(), &[], all).unwrap();
        assert_eq!(from_file.destination, file("/f", 5_000, 3, 30));
        assert_eq!((from_file.on_failure, from_file.usernames), (OnFailure::DropAndCount, true));
        assert_eq!(from_file.metrics_listen, Some("127.0.0.1:9464".parse().unwrap()));
        let variables = [
            ("ENTRA_MCP_AUDIT_FILE", "/v"),
            ("ENTRA_MCP_AUDIT_MAX_BYTES", "0"),
            ("ENTRA_MCP_AUDIT_KEEP", "4"),
            ("ENTRA_MCP_AUDIT_KEEP_DAYS", "0"),
            ("ENTRA_MCP_AUDIT_FAILURE", "fail-closed"),
            ("ENTRA_MCP_AUDIT_USERNAMES", "false"),
            ("ENTRA_MCP_METRICS_LISTEN", "[::1]:1"),
        ];
        let from_variables = load(AuditLayer::default(), &variables, all).unwrap();
        assert_eq!(from_variables.destination, file("/v", 0, 4, 0));
        assert_eq!((from_variables.on_failure, from_variables.usernames), (OnFailure::FailClosed, false));
        assert_eq!(from_variables.metrics_listen, Some("[::1]:1".parse().unwrap()));
        let flags = AuditLayer { audit_file: Some("/a".into()), audit_keep: Some(5), ..AuditLayer::default() };
        assert_eq!(load(flags, &variables, all).unwrap().destination, file("/a", 0, 5, 0));
    }

    #[test]
    fn settings_that_contradict_each_other_or_go_too_far_are_refused() {
        let layer = AuditLayer::default;
        let conflicts = [
            AuditLayer { audit: Some(AuditDestination::File), ..layer() },
            AuditLayer { audit: Some(AuditDestination::Stderr), audit_file: Some("/f".into()), ..layer() },
            AuditLayer { audit_file: Some("".into()), ..layer() },
        ];
        for layer in conflicts {
            assert!(matches!(load(layer, &[], ""), Err(ConfigError::Conflict(_))));
        }
        for (layer, expected) in [
            (AuditLayer { audit_max_bytes: Some(4_095), ..layer() }, "audit-max-bytes"),
            (AuditLayer { audit_keep: Some(0), ..layer() }, "audit-keep"),
            (AuditLayer { audit_keep: Some(1_001), ..layer() }, "audit-keep"),
            (AuditLayer { audit_keep_days: Some(3_651), ..layer() }, "audit-keep-days"),
            (AuditLayer { metrics_host: Some(vec!["a.example:80".to_owned()]), ..layer() }, "metrics-host"),
            (AuditLayer { metrics_host: Some(vec![String::new()]), ..layer() }, "metrics-host"),
        ] {
            assert!(matches!(load(layer, &[], ""), Err(ConfigError::Invalid { name, .. }) if name == expected));
        }
    }
}
