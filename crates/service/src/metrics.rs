//! A service's own metrics registry: every name begins with the service's, every metric has a help text.
//!
//! It decides no names and no labels; labels must be bounded, and that is the caller's business.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Creates and registers the metrics of one service.
#[derive(Clone)]
pub struct Metrics {
    service: &'static str,
    registry: Registry,
}

const VALID: &str = "a metric is created once, with a literal name and literal labels";

impl Metrics {
    /// A registry of its own for `service`, holding the process's own figures and `<service>_build_info`.
    pub fn new(service: &'static str) -> Self {
        let metrics = Self {
            service,
            registry: Registry::new(),
        };
        metrics
            .registry
            .register(Box::new(ProcessCollector::for_self()))
            .expect(VALID);
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

    /// Counts events. `name` ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Registers a counter of fractional amounts, such as seconds. `name` ends in `_total`.
    pub fn float_counter(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// Counts events, told apart by `labels`.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// A whole number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// A whole number for each set of `labels`.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// A number with a fraction that goes up and down, such as seconds.
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(self.opts(name, help)).expect(VALID))
    }

    /// A number with a fraction for each set of `labels`.
    pub fn float_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(self.opts(name, help), labels).expect(VALID))
    }

    /// A distribution over `buckets`, whose upper bounds are in the unit that ends `name`.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(self.histogram_opts(name, help, buckets)).expect(VALID))
    }

    /// A distribution for each set of `labels`.
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.add(HistogramVec::new(self.histogram_opts(name, help, buckets), labels).expect(VALID))
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and a registered metric is consistent");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    /// The media type of [`render`](Self::render).
    pub fn content_type() -> &'static str {
        prometheus::TEXT_FORMAT
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
    fn every_metric_carries_the_service_name_and_its_help() {
        let metrics = Metrics::new("streamer");
        metrics.counter("rows_total", "Rows acknowledged.").inc_by(3);
        let text = metrics.render();
        assert!(text.contains("# HELP streamer_rows_total Rows acknowledged."));
        assert!(text.contains("streamer_rows_total 3"));
        assert!(text.contains("streamer_build_info{version="));
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
