//! What is sent to an OpenTelemetry collector: the standard variables, and no settings of our own.
//!
//! Only whether something is sent is decided here. The SDK reads the rest by itself (endpoints, headers, time limits,
//! batches, sampler, resource), as its specification has it.

use super::Environment;

/// What is sent to a collector. By default, nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Spans of requests.
    pub traces: bool,
    /// Metrics.
    pub metrics: bool,
    /// Audit records.
    pub logs: bool,
}

impl OtlpConfig {
    /// Whether anything is.
    pub fn any(self) -> bool {
        self.traces || self.metrics || self.logs
    }

    pub(super) fn from_environment(environment: &Environment) -> Self {
        let disabled = environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let all = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let signal = |endpoint: &str, exporter: &str| {
            let endpoint = all || environment.get(endpoint).is_some();
            endpoint && !disabled && environment.get(exporter).is_none_or(|exporter| exporter != "none")
        };
        Self {
            traces: signal("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"),
            metrics: signal("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER"),
            logs: signal("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_LOGS_EXPORTER"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> [bool; 3] {
        let OtlpConfig { traces, metrics, logs } = OtlpConfig::from_environment(&Environment::of(variables));
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
