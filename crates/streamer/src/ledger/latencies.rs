//! A compact histogram of latencies. A bucket is at most 1/16 of its value wide, so a quantile is at most 4 % off.
//!
//! Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::varint::{InvalidSegment, push_varint, take_varint};

/// The width of the smallest bucket, in microseconds.
const UNIT: u64 = 64;
/// The buckets of one power of two.
const STEPS: u64 = 16;

/// A range of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// Returns the bucket of a latency in microseconds. A negative one counts as 0: two clocks may differ.
    pub fn of(micros: i64) -> Self {
        let units = u64::try_from(micros).unwrap_or(0) / UNIT;
        if units < STEPS {
            return Self(u16::try_from(units).unwrap_or_default());
        }
        let exponent = u64::from(units.ilog2());
        let step = (units >> (exponent - 4)) % STEPS;
        Self(u16::try_from((exponent - 3) * STEPS + step).unwrap_or(u16::MAX))
    }

    /// The middle of the range, in milliseconds.
    #[allow(
        clippy::cast_precision_loss,
        reason = "a latency of 2^52 units is not measured"
    )]
    fn millis(self) -> f64 {
        let (exponent, step) = (u64::from(self.0) / STEPS, u64::from(self.0) % STEPS);
        let (lower, width) = match exponent {
            0 => (step as f64, 1.0),
            _ => {
                let width = 2_f64.powi(i32::from(self.0) / 16 - 1);
                ((STEPS + step) as f64 * width, width)
            }
        };
        (lower + width / 2.0) * UNIT as f64 / 1_000.0
    }
}

/// A histogram of latencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(BTreeMap<u16, u64>);

/// What a histogram says, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencySummary {
    /// The number of latencies.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

impl Latencies {
    /// Counts latencies. Neighbours are often in one bucket.
    pub fn extend(&mut self, buckets: impl IntoIterator<Item = Bucket>) {
        let mut buckets = buckets.into_iter().peekable();
        while let Some(bucket) = buckets.next() {
            let mut count = 1;
            while buckets.next_if_eq(&bucket).is_some() {
                count += 1;
            }
            *self.0.entry(bucket.0).or_default() += count;
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Returns count, median and 99th percentile; `None` if there is no latency.
    pub fn summary(&self) -> Option<LatencySummary> {
        let count = self
            .0
            .values()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        Some(LatencySummary {
            count,
            p50_ms: self.quantile(count.div_ceil(2))?,
            p99_ms: self.quantile(count - count / 100)?,
        })
    }

    /// The middle of the bucket of the latency with this rank, counted from 1.
    fn quantile(&self, rank: u64) -> Option<f64> {
        let mut below = 0_u64;
        let found = self.0.iter().find(|(_, count)| {
            below = below.saturating_add(**count);
            below >= rank
        });
        found.map(|(bucket, _)| Bucket(*bucket).millis())
    }

    /// Appends each bucket, as the difference to the one before, and its count.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut previous = 0;
        for (bucket, count) in &self.0 {
            push_varint(bytes, u64::from(bucket - previous));
            push_varint(bytes, *count);
            previous = *bucket;
        }
    }

    /// The most bytes that [`encode`](Self::encode) appends for counts below 2^28.
    pub fn max_encoded_len(&self) -> usize {
        self.0.len() * 6
    }

    /// Decodes a histogram.
    ///
    /// # Errors
    /// When the bytes are not of [`encode`](Self::encode).
    pub fn decode(mut bytes: &[u8]) -> Result<Self, InvalidSegment> {
        let mut found = BTreeMap::new();
        let mut bucket = 0_u16;
        while !bytes.is_empty() {
            let step = u16::try_from(take_varint(&mut bytes)?).map_err(|_| InvalidSegment)?;
            bucket = bucket.checked_add(step).ok_or(InvalidSegment)?;
            found.insert(bucket, take_varint(&mut bytes)?);
        }
        Ok(Self(found))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[i64]) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.extend(micros.iter().copied().map(Bucket::of));
        latencies
    }

    #[test]
    fn quantiles_are_those_of_the_latencies() {
        let latencies = of(&(1..=1_000).map(|millis| millis * 1_000).collect::<Vec<_>>());
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.count, 1_000);
        assert!((summary.p50_ms - 500.0).abs() < 20.0, "{summary:?}");
        assert!((summary.p99_ms - 990.0).abs() < 40.0, "{summary:?}");
        assert_eq!(Latencies::default().summary(), None);
    }

    #[test]
    fn latency_across_skewed_clocks_counts_as_none() {
        assert_eq!(Bucket::of(-1), Bucket::of(0));
        assert_eq!(Bucket::of(i64::MIN), Bucket::of(63));
    }

    proptest! {
        #[test]
        fn bucket_is_at_most_4_percent_off(micros in 0..i64::MAX) {
            let middle = Bucket::of(micros).millis() * 1_000.0;
            #[allow(clippy::cast_precision_loss, reason = "compared approximately")]
            let exact = micros as f64;
            prop_assert!((middle - exact).abs() <= (exact * 0.04).max(64.0), "{middle} for {exact}");
        }

        #[test]
        fn histogram_is_decoded_as_encoded_and_merges(
            some in proptest::collection::vec(0_i64..1 << 40, 0..50),
            others in proptest::collection::vec(0_i64..1 << 40, 0..50),
        ) {
            let (left, right) = (of(&some), of(&others));
            let mut bytes = Vec::new();
            left.encode(&mut bytes);
            let mut merged = Latencies::decode(&bytes).unwrap();
            prop_assert_eq!(&merged, &left);
            merged.merge(&right);
            prop_assert_eq!(merged, of(&[some, others].concat()));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Ok(latencies) = Latencies::decode(&bytes) {
                latencies.summary();
            }
        }
    }
}
