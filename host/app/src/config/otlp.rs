//! What is sent to an OpenTelemetry collector: the standard variables, and no further settings.
//!
//! Only whether something is sent is decided here. The SDK reads the rest by itself (endpoints, headers, time limits,
//! batches, sampler, resource), as its specification has it.

use std::time::Duration;

use super::{ConfigError, Environment};

/// Time for one export, unless set otherwise (from the specification).
const DEFAULT_TIMEOUT_MILLISECONDS: u64 = 10_000;

/// What is sent to a collector. By default, nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Spans of requests.
    pub traces: bool,
    /// Metrics.
    pub metrics: bool,
    /// Audit records.
    pub logs: bool,
    /// Time for one export.
    pub timeout: Duration,
}

impl OtlpConfig {
    /// Whether anything is.
    pub fn any(self) -> bool {
        self.traces || self.metrics || self.logs
    }

    pub(super) fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let disabled = environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let all = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let signal = |endpoint: &str, exporter: &str| {
            let endpoint = all || environment.get(endpoint).is_some();
            endpoint && !disabled && environment.get(exporter).is_none_or(|exporter| exporter != "none")
        };
        let timeout = environment.parse("OTEL_EXPORTER_OTLP_TIMEOUT", "a number of milliseconds is expected")?;
        Ok(Self {
            traces: signal("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"),
            metrics: signal("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER"),
            logs: signal("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_LOGS_EXPORTER"),
            timeout: Duration::from_millis(timeout.unwrap_or(DEFAULT_TIMEOUT_MILLISECONDS)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> [bool; 3] {
        let config = OtlpConfig::from_environment(&Environment::of(variables)).unwrap();
        let OtlpConfig { traces, metrics, logs, .. } = config;
        [traces, metrics, logs]
    }

    #[test]
    fn only_a_named_collector_is_sent_anything() {
        const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert_eq!(of(&[]), [false; 3]);
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b")]), [false; 3]);
        assert_eq!(of(&[ALL]), [true; 3]);
        assert_eq!(of(&[ALL, ("OTEL_SDK_DISABLED", "true")]), [false; 3]);
        assert_eq!(of(&[ALL, ("OTEL_METRICS_EXPORTER", "none")]), [true, false, true]);
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://localhost:4318/v1/logs")]), [false, false, true]);
    }
}
