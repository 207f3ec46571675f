//! How far the partitions of a stream are apart. A partition that starves falls behind the others; on a slow machine all do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spread::Spread;

/// The streamer's metric, with a series for each partition.
pub const CHECKPOINT_OFFSET: &str = "streamer_checkpoint_offset";

/// The checkpoint of each partition at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoints(BTreeMap<u32, f64>);

impl Checkpoints {
    /// Reads them from a streamer's metrics.
    pub fn read(metrics: &str) -> Self {
        let series = metrics.lines().filter_map(|line| {
            let labels = line
                .strip_prefix(CHECKPOINT_OFFSET)?
                .strip_prefix("{partition=\"")?;
            let (partition, offset) = labels.split_once("\"} ")?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        });
        Self(series.collect())
    }

    fn of(&self, partition: u32) -> f64 {
        self.0.get(&partition).copied().unwrap_or(0.0)
    }
}

/// How many seconds the last partition was behind the median one, at worst. The samples begin before a stream of this length
/// and end with its last record. Each partition got its records evenly over the stream.
pub fn widest_gap(samples: &[Checkpoints], length: Duration) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return 0.0;
    };
    let gaps = samples.iter().filter_map(|sample| {
        // The time of the stream that each partition has reached.
        let reached = last.0.iter().filter_map(|(partition, end)| {
            let records = end - first.of(*partition);
            let written = sample.of(*partition) - first.of(*partition);
            (records > 0.0).then(|| written / records * length.as_secs_f64())
        });
        Spread::of(reached).map(|reached| reached.median - reached.min)
    });
    gaps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(offsets: [u32; 3]) -> Checkpoints {
        let lines = offsets.iter().enumerate().map(|(partition, offset)| {
            format!("streamer_checkpoint_offset{{partition=\"{partition}\"}} {offset}\n")
        });
        Checkpoints::read(&lines.collect::<String>())
    }

    #[test]
    fn partition_behind_the_others_is_a_gap_and_common_lag_is_none() {
        let second = Duration::from_secs(1);
        let together = [[100, 10, 0], [100, 10, 0], [150, 30, 50], [200, 50, 100]].map(sample);
        assert!((widest_gap(&together, second * 10)).abs() < 1e-9, "{together:?}");
        let starved = [[0, 0, 0], [50, 100, 10], [100, 200, 100]].map(sample);
        assert!(
            (widest_gap(&starved, second * 10) - 4.0).abs() < 1e-9,
            "{starved:?}"
        );
        assert!((widest_gap(&[], second)).abs() < 1e-9);
    }
}
