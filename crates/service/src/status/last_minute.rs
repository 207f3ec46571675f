//! What a counter or a histogram counted in the last minute: rates and quantiles for a status document.
//!
//! Metrics only grow, and Prometheus derives rates from two scrapes. A process that reports a rate itself has to keep
//! samples. [`Status::sample`](crate::Status::sample) takes them, so a request for the document only reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Histogram;
use prometheus::core::Collector as _;

/// The period that rates and quantiles cover. In the first minute of a process it is the time since its start.
const PERIOD: Duration = Duration::from_secs(60);
/// The time between two samples. A rate covers at most this much more than a minute.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// A rate over a shorter time would be noise.
const MIN_PERIOD: Duration = Duration::from_secs(1);

/// What a metric has counted since the process started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    count: u64,
    /// Upper bound of each bucket of a histogram, and the number of values up to it.
    buckets: Vec<(f64, u64)>,
}

impl From<u64> for Totals {
    fn from(count: u64) -> Self {
        let buckets = Vec::new();
        Self { count, buckets }
    }
}

impl From<&Histogram> for Totals {
    fn from(histogram: &Histogram) -> Self {
        let families = histogram.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        let mut totals = Self::default();
        for metric in metrics {
            let histogram = metric.get_histogram();
            totals.count += histogram.get_sample_count();
            let buckets = histogram.get_bucket().iter();
            totals
                .buckets
                .extend(buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())));
        }
        totals
    }
}

/// The last minute of one metric. Clones share it.
#[derive(Clone)]
pub struct LastMinute {
    read: Arc<dyn Fn() -> Totals + Send + Sync>,
    /// Oldest first; the first is a minute old, or of the start.
    samples: Arc<Mutex<VecDeque<(Instant, Totals)>>>,
}

impl LastMinute {
    pub(crate) fn new(read: impl Fn() -> Totals + Send + Sync + 'static, now: Instant) -> Self {
        let samples = VecDeque::from([(now, read())]);
        Self {
            read: Arc::new(read),
            samples: Arc::new(Mutex::new(samples)),
        }
    }

    /// Keeps a sample. `now` must not decrease between calls.
    pub(crate) fn sample(&self, now: Instant) {
        let totals = (self.read)();
        let mut samples = self.samples();
        samples.push_back((now, totals));
        while samples.get(1).is_some_and(|(at, _)| now - *at >= PERIOD) {
            samples.pop_front();
        }
    }

    /// Returns how much was counted per second.
    pub fn per_second(&self) -> f64 {
        self.per_second_at(Instant::now())
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn per_second_at(&self, now: Instant) -> f64 {
        let totals = (self.read)();
        let (since, before) = self.first();
        let period = now.saturating_duration_since(since).max(MIN_PERIOD);
        totals.count.saturating_sub(before.count) as f64 / period.as_secs_f64()
    }

    /// Returns the value below which the share `quantile` (0 to 1) of a histogram's values lies, interpolated within its
    /// bucket; for a value above the last bound, that bound. `None` if there was no value.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let totals = (self.read)();
        let (_, before) = self.first();
        let count = totals.count.saturating_sub(before.count);
        let counts = totals.buckets.iter().enumerate().map(|(index, (bound, count))| {
            let before = before.buckets.get(index).map_or(0, |(_, before)| *before);
            (*bound, count.saturating_sub(before))
        });
        interpolate(counts, count, quantile)
    }

    fn first(&self) -> (Instant, Totals) {
        let samples = self.samples();
        samples
            .front()
            .cloned()
            .expect("there is a sample from the start")
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<(Instant, Totals)>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a quantile needs no more than 52 bits")]
fn interpolate(buckets: impl Iterator<Item = (f64, u64)>, count: u64, quantile: f64) -> Option<f64> {
    if count == 0 {
        return None;
    }
    let rank = quantile * count as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, up_to) in buckets {
        if up_to > below && up_to as f64 >= rank {
            let share = (rank - below as f64) / (up_to - below) as f64;
            return Some(lower + (bound - lower) * share.clamp(0.0, 1.0));
        }
        (lower, below) = (bound, up_to);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, IntCounter};

    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
    }

    #[test]
    fn rate_covers_the_last_minute_alone() {
        let counter = IntCounter::new("n", "n").unwrap();
        let (start, read) = (Instant::now(), counter.clone());
        counter.inc_by(1_000);
        let minute = LastMinute::new(move || read.get().into(), start);
        close(minute.per_second_at(start), 0.0);
        counter.inc_by(30);
        close(minute.per_second_at(start + Duration::from_secs(10)), 3.0);
        close(minute.per_second_at(start), 30.0);
        for step in 1..=30 {
            minute.sample(start + step * SAMPLE_INTERVAL);
        }
        let now = start + 30 * SAMPLE_INTERVAL;
        close(minute.per_second_at(now), 0.0);
        counter.inc_by(120);
        close(minute.per_second_at(now), 2.0);
        assert_eq!(minute.samples().len(), 13, "old samples are dropped");
    }

    #[test]
    fn quantile_is_interpolated_and_forgets_old_values() {
        let options = HistogramOpts::new("s", "s").buckets(vec![0.1, 0.2, 1.0]);
        let histogram = Histogram::with_opts(options).unwrap();
        let (start, read) = (Instant::now(), histogram.clone());
        let minute = LastMinute::new(move || (&read).into(), start);
        assert_eq!(minute.quantile(0.5), None);
        (0..10).for_each(|_| histogram.observe(0.15));
        close(minute.quantile(0.5).unwrap(), 0.15);
        close(minute.quantile(1.0).unwrap(), 0.2);
        histogram.observe(7.0);
        close(minute.quantile(1.0).unwrap(), 1.0);
        minute.sample(start + PERIOD);
        minute.sample(start + 2 * PERIOD);
        assert_eq!(minute.quantile(0.99), None);
        histogram.observe(0.05);
        close(minute.quantile(0.99).unwrap(), 0.099);
    }
}
