//! Spans that end in memory.

use std::sync::{Arc, Mutex};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use super::{Observers, Providers, Telemetry};

/// The spans that are over.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl Spans {
    /// Traces that end here, and nothing else.
    pub(super) fn observe(&self) -> Telemetry {
        let traces = SdkTracerProvider::builder().with_simple_exporter(self.clone()).build();
        Telemetry(Some(Arc::new(Observers {
            metrics: None,
            tracer: Some(traces.tracer("test")),
            logger: None,
            registry: None,
            providers: Providers { traces: Some(traces), ..Providers::default() },
        })))
    }

    /// How many are over.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The one span that is over.
    pub(super) fn only(&self) -> SpanData {
        let mut spans = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }
}

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}
