//! A histogram of a service's metrics.

/// A Prometheus histogram: upper bounds with the number of observations at or below each.
pub struct PrometheusHistogram(Vec<(f64, f64)>);

impl PrometheusHistogram {
    /// Reads the histogram `name`, without labels, from the text format.
    pub fn read(text: &str, name: &str) -> Self {
        let bucket = format!("{name}_bucket{{le=\"");
        let buckets = text.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix(&bucket)?.split_once("\"} ")?;
            // Rust parses Prometheus' `+Inf` too.
            Some((bound.parse().ok()?, count.parse().ok()?))
        });
        Self(buckets.collect())
    }

    /// The observations since `before` was read.
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |index: usize| before.0.get(index).map_or(0.0, |(_, count)| *count);
        let buckets = self.0.iter().enumerate();
        Self(
            buckets
                .map(|(index, (bound, count))| (*bound, count - earlier(index)))
                .collect(),
        )
    }

    /// The number of observations above `bound`, which is one of the histogram's.
    pub fn count_above(&self, bound: f64) -> f64 {
        let within = self.0.iter().find(|(upper, _)| *upper >= bound);
        self.count() - within.map_or(0.0, |(_, count)| *count)
    }

    /// The share of the observations above `bound`, which is one of the histogram's.
    pub fn share_above(&self, bound: f64) -> f64 {
        self.count_above(bound) / self.count().max(1.0)
    }

    /// The number of observations.
    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, all)| *all)
    }

    /// The quantile `share` of the observations, interpolated within its bucket, or else the last finite bound.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count() * share;
        let mut below = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted && wanted > 0.0 {
                if bound.is_infinite() {
                    return below.0;
                }
                let within = (wanted - below.1) / (count - below.1).max(f64::MIN_POSITIVE);
                return below.0 + (bound - below.0) * within;
            }
            below = (*bound, *count);
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x_bucket{le=\"0.1\"} 0\nx_bucket{le=\"0.2\"} 50\nx_bucket{le=\"0.4\"} 100\nx_bucket{le=\"+Inf\"} 100\n";

    #[test]
    fn quantiles_and_shares_follow_the_buckets() {
        let histogram = PrometheusHistogram::read(TEXT, "x");
        assert!((histogram.quantile(0.5) - 0.2).abs() < 1e-9);
        assert!((histogram.quantile(0.75) - 0.3).abs() < 1e-9);
        assert!((histogram.share_above(0.2) - 0.5).abs() < 1e-9);
        assert!((histogram.count_above(0.1) - 100.0).abs() < 1e-9);
        assert!((PrometheusHistogram::read("", "x").quantile(0.5)).abs() < 1e-9);
    }
}
