//! What Spark and its connector are told, and what its sweep tries.

/// What its sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::peers) struct Settings {
    /// How the connector is reached: `streaming`, its sink, or `batch`, `foreachBatch` and a plain write.
    pub(super) sink: &'static str,
    /// `spark.cassandra.output.batch.grouping.key`: which rows may share a batch.
    pub(super) grouping: &'static str,
    /// `spark.cassandra.output.batch.size.bytes`, in KiB: how large a batch may grow.
    pub(super) batch_kib: u32,
    /// `spark.cassandra.output.concurrent.writes`: batches under way for each of Spark's tasks.
    pub(super) concurrent_writes: u32,
    /// `maxOffsetsPerTrigger`; none: all that there is.
    pub(super) max_offsets: Option<u32>,
}

impl Settings {
    /// As the connector comes.
    pub(super) const DEFAULT: Self = Self {
        sink: "streaming",
        grouping: "partition",
        batch_kib: 1,
        concurrent_writes: 5,
        max_offsets: None,
    };

    /// The best of the sweep.
    pub(super) const BEST: Self = Self {
        grouping: "replica_set",
        batch_kib: 16,
        concurrent_writes: 8,
        ..Self::DEFAULT
    };

    pub(super) fn candidates() -> Vec<Self> {
        let (plain, best) = (Self::DEFAULT, Self::BEST);
        let wide = |concurrent_writes| Self {
            concurrent_writes,
            ..plain
        };
        let grouped = |batch_kib, concurrent_writes| Self {
            batch_kib,
            concurrent_writes,
            ..best
        };
        let paced = Self {
            max_offsets: Some(50_000),
            ..best
        };
        let batch = Self {
            sink: "batch",
            ..best
        };
        vec![
            plain,
            wide(32),
            grouped(4, 32),
            grouped(16, 8),
            grouped(16, 32),
            grouped(16, 16),
            paced,
            batch,
        ]
    }

    pub(super) fn label(&self) -> String {
        let most = self
            .max_offsets
            .map_or_else(|| "all".to_owned(), |most| most.to_string());
        format!(
            "{} sink, batches of {} KiB by {}, {} writes, {most} a trigger",
            self.sink, self.batch_kib, self.grouping, self.concurrent_writes
        )
    }

    pub(super) fn properties(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "spark.cassandra.output.batch.grouping.key",
                self.grouping.to_owned(),
            ),
            (
                "spark.cassandra.output.batch.size.bytes",
                (self.batch_kib * 1_024).to_string(),
            ),
            (
                "spark.cassandra.output.concurrent.writes",
                self.concurrent_writes.to_string(),
            ),
            (
                "spark.cassandra.output.consistency.level",
                "LOCAL_QUORUM".to_owned(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_tells_its_settings_apart_and_holds_the_best_of_them() {
        let candidates = Settings::candidates();
        let labels: std::collections::BTreeSet<_> = candidates.iter().map(Settings::label).collect();
        assert_eq!(labels.len(), candidates.len());
        assert!(candidates.contains(&Settings::BEST));
    }
}
