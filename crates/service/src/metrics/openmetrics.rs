//! The OpenMetrics text format, with exemplars: the latest sampled trace of each bucket of a histogram.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::Histogram;

use crate::trace::TraceId;

/// The media type without its version.
const NAME: &str = "application/openmetrics-text";

/// The version of the format.
const VERSION: &str = "1.0.0";

/// The media type of [`render`].
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A histogram without labels, whose buckets have exemplars.
#[derive(Clone)]
pub struct TracedHistogram {
    histogram: Histogram,
    exemplars: Arc<Exemplars>,
}

/// The exemplars of one histogram.
pub(super) struct Exemplars {
    name: String,
    bounds: Box<[f64]>,
    /// One for each bound, and one above the last.
    latest: Mutex<Box<[Option<Exemplar>]>>,
}

#[derive(Clone, Copy)]
struct Exemplar {
    trace: TraceId,
    value: f64,
    /// Seconds since 1970.
    at: f64,
}

impl TracedHistogram {
    pub(super) fn new(name: String, histogram: Histogram, bounds: &[f64]) -> Self {
        let latest = vec![None; bounds.len() + 1].into_boxed_slice();
        let exemplars = Exemplars {
            name,
            bounds: bounds.into(),
            latest: Mutex::new(latest),
        };
        Self {
            histogram,
            exemplars: Arc::new(exemplars),
        }
    }

    pub(super) fn exemplars(&self) -> Arc<Exemplars> {
        Arc::clone(&self.exemplars)
    }

    /// Sets the exemplar of the bucket of `value`, which was observed in a sampled trace.
    pub fn set_exemplar(&self, value: f64, trace: TraceId) {
        let bucket = self.exemplars.bounds.partition_point(|bound| *bound < value);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = at.as_secs_f64();
        let mut latest = self
            .exemplars
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        latest[bucket] = Some(Exemplar { trace, value, at });
    }
}

impl Deref for TracedHistogram {
    type Target = Histogram;

    fn deref(&self) -> &Histogram {
        &self.histogram
    }
}

/// Whether a request with this `Accept` header prefers OpenMetrics to Prometheus' text format.
pub(super) fn is_preferred(accept: &str) -> bool {
    let quality = |accepts: fn(&str, Option<&str>) -> bool| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let value = |key| {
                parameters
                    .iter()
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| *value)
            };
            let quality = value("q").map_or(Some(1.0), |quality| quality.parse::<f64>().ok())?;
            accepts(&name, value("version")).then_some(quality)
        });
        ranges.fold(0.0, f64::max)
    };
    let openmetrics =
        quality(|name, version| name == NAME && version.is_none_or(|version| version == VERSION));
    let text = quality(|name, _| matches!(name, "text/plain" | "text/*" | "*/*"));
    openmetrics > 0.0 && openmetrics >= text
}

/// Rewrites Prometheus' text format. The formats differ in the names of counters, quotes in help texts and the end.
pub(super) fn render(text: &str, exemplars: &[Arc<Exemplars>]) -> String {
    let mut rendered = String::with_capacity(text.len() + 1_024);
    // The histogram whose buckets follow, and the next of them.
    let mut buckets = None;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            let help = help.replace('"', "\\\"");
            let _ = write!(rendered, "# HELP {} {help}", family(name));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            let _ = write!(rendered, "# TYPE {} {kind}", family(name));
            let histogram = exemplars.iter().find(|exemplars| exemplars.name == name);
            buckets = histogram.map(|histogram| (histogram, 0));
        } else {
            rendered.push_str(line);
            if let Some((histogram, bucket)) = &mut buckets {
                histogram.write(&mut rendered, *bucket);
                *bucket += 1;
            }
        }
        rendered.push('\n');
    }
    rendered.push_str("# EOF\n");
    rendered
}

/// The name of a metric family: a counter's has no suffix.
fn family(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

impl Exemplars {
    /// Writes the exemplar of a bucket, if there is one. The lines after the last bucket are sum and count.
    fn write(&self, line: &mut String, bucket: usize) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(Exemplar { trace, value, at })) = latest.get(bucket) {
            let _ = write!(line, " # {{trace_id=\"{trace}\"}} {value} {at:.3}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn exemplar_is_in_the_bucket_of_its_value() {
        let metrics = Metrics::new("test");
        metrics.counter("rows_total", "Rows that are \"durable\".").inc();
        let histogram = metrics.traced_histogram("write_seconds", "Time.", &[0.1, 1.0]);
        let trace = TraceId::of_run("0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071");
        for value in [0.05, 1.0, 7.5] {
            histogram.observe(value);
        }
        histogram.set_exemplar(1.0, trace);
        histogram.set_exemplar(7.5, trace);
        let text = metrics.render_openmetrics();
        let id = "0195d0b17a4c7f3e9b1a2c3d4e5f6071";
        let lines: Vec<_> = text.lines().collect();
        let line = |beginning: &str| *lines.iter().find(|line| line.starts_with(beginning)).unwrap();
        assert_eq!(
            line("test_write_seconds_bucket{le=\"0.1\"}"),
            "test_write_seconds_bucket{le=\"0.1\"} 1"
        );
        for (bucket, value) in [
            ("test_write_seconds_bucket{le=\"1\"} 2", "1"),
            ("test_write_seconds_bucket{le=\"+Inf\"} 3", "7.5"),
        ] {
            assert!(
                line(bucket).starts_with(&format!("{bucket} # {{trace_id=\"{id}\"}} {value} 1")),
                "{text}"
            );
        }
        assert_eq!(line("test_write_seconds_count"), "test_write_seconds_count 3");
        assert!(lines.contains(&"# HELP test_rows Rows that are \\\"durable\\\"."));
        assert!(lines.contains(&"# TYPE test_rows counter") && lines.contains(&"test_rows_total 1"));
        assert_eq!(lines.last(), Some(&"# EOF"));
        assert!(
            !metrics.render().contains("trace_id"),
            "the other format has no exemplars"
        );
    }

    #[test]
    fn format_is_negotiated() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, preferred) in [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text; version=1.0.0", true),
            ("text/plain, application/openmetrics-text", true),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;q=0.1, text/plain", false),
            ("application/openmetrics-text;q=0", false),
            ("text/plain;version=0.0.4", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(is_preferred(accept), preferred, "{accept}");
        }
    }
}
