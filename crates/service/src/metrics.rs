//! A service's Prometheus registry: prefixes every name with the service's name and requires a help text.
//!
//! Names and labels are the caller's. Labels must have a bounded set of values.

mod openmetrics;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::openmetrics::TracedHistogram;

use self::openmetrics::Exemplars;

/// Creates and registers the metrics of one service.
#[derive(Clone)]
pub struct Metrics {
    service: &'static str,
    registry: Registry,
    exemplars: Arc<RwLock<Vec<Arc<Exemplars>>>>,
    spans: SpanCounts,
}

/// Counts the spans of the process's traces.
#[derive(Clone)]
pub(crate) struct SpanCounts {
    pub(crate) exported: IntCounter,
    pub(crate) dropped: IntCounter,
}

impl SpanCounts {
    fn register(service: &str, registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("{service}_{name}"), help).expect(VALID);
            registry.register(Box::new(counter.clone())).expect(VALID);
            counter
        };
        Self {
            exported: counter("spans_exported_total", "Spans that the collector has accepted."),
            dropped: counter(
                "spans_dropped_total",
                "Spans that the collector has not accepted, or that did not fit into the queue.",
            ),
        }
    }
}

const VALID: &str = "a metric is registered once, with a literal name and literal labels";

impl Metrics {
    /// Creates a registry with the process metrics, the counts of exported spans and `<service>_build_info`.
    pub fn new(service: &'static str) -> Self {
        let registry = Registry::new();
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .expect(VALID);
        let spans = SpanCounts::register(service, &registry);
        let metrics = Self {
            service,
            registry,
            exemplars: Arc::default(),
            spans,
        };
        metrics
            .gauge_vec(
                "build_info",
                "The version of this binary; always 1.",
                &["version"],
            )
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        metrics
    }

    /// Registers a counter. `name` ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Registers a counter of fractional amounts, such as seconds. `name` ends in `_total`.
    pub fn float_counter(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Registers a counter for each set of `labels`.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// Registers a gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Registers a gauge of whole numbers for each set of `labels`.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// Registers a gauge of fractional numbers, such as seconds.
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Registers a gauge of fractional numbers for each set of `labels`.
    pub fn float_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// Registers a histogram. The upper bounds in `buckets` are in the unit that `name` ends with.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(self.histogram_opts(name, help, buckets)).expect(VALID))
    }

    /// Registers a histogram with exemplars.
    pub fn traced_histogram(&self, name: &str, help: &str, buckets: &[f64]) -> TracedHistogram {
        let full_name = format!("{}_{name}", self.service);
        let traced = TracedHistogram::new(full_name, self.histogram(name, help, buckets), buckets);
        let mut exemplars = self.exemplars.write().unwrap_or_else(PoisonError::into_inner);
        exemplars.push(traced.exemplars());
        traced
    }

    /// Registers a histogram for each set of `labels`.
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.add(HistogramVec::new(self.histogram_opts(name, help, buckets), labels).expect(VALID))
    }

    /// The counts of spans.
    pub(crate) fn spans(&self) -> SpanCounts {
        self.spans.clone()
    }

    /// Renders all metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and registered metrics are consistent");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    /// Renders all metrics in the OpenMetrics text format, with exemplars.
    pub fn render_openmetrics(&self) -> String {
        let exemplars = self.exemplars.read().unwrap_or_else(PoisonError::into_inner);
        openmetrics::render(&self.render(), &exemplars)
    }

    /// Renders all metrics in the format that the value of an `Accept` header prefers. Returns its media type and the text.
    pub fn negotiate(&self, accept: &str) -> (&'static str, String) {
        if openmetrics::is_preferred(accept) {
            (openmetrics::MEDIA_TYPE, self.render_openmetrics())
        } else {
            (prometheus::TEXT_FORMAT, self.render())
        }
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry.register(Box::new(collector.clone())).expect(VALID);
        collector
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.service), help)
    }

    fn histogram_opts(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts::new(format!("{}_{name}", self.service), help).buckets(buckets.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_has_the_service_prefix_and_a_help_text() {
        let metrics = Metrics::new("streamer");
        metrics.counter("rows_total", "Rows acknowledged.").inc_by(3);
        let text = metrics.render();
        assert!(text.contains("# HELP streamer_rows_total Rows acknowledged."));
        assert!(text.contains("streamer_rows_total 3"));
        assert!(text.contains("streamer_build_info{version="));
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
