//! Detects that no checkpoint moves although records are waiting, all servers are ready and nothing fails. Only a
//! restart helps then.
//!
//! Pure: it receives the progress of the partitions every few seconds. A halted partition or an outage is not a
//! stall.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The progress of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub partition: i32,
    /// The checkpointed offset.
    pub checkpoint: i64,
    /// The end offset of the log.
    pub end: i64,
    /// The partition is halted because of its dead letters.
    pub halted: bool,
}

/// Detects stalls of the process.
#[derive(Debug)]
pub struct StallDetector {
    timeout: Duration,
    state: Mutex<StallState>,
}

#[derive(Debug, Default)]
struct StallState {
    partitions: BTreeMap<i32, LastMove>,
    /// When any checkpoint last moved, or an outage was last observed.
    moved: Option<Instant>,
    stalled: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct LastMove {
    checkpoint: i64,
    /// When the checkpoint last moved, or was at the end of the log.
    moved: Instant,
}

/// The factor of the timeout for one partition while others move: its records may wait in the buffer behind theirs.
const FACTOR_WHILE_OTHERS_MOVE: u32 = 10;

impl StallDetector {
    /// Creates a detector that reports a stall after `timeout` without progress.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            state: Mutex::default(),
        }
    }

    /// Restarts all timers, because of an outage since the last observation.
    pub fn reset(&self, now: Instant) {
        let mut state = self.state();
        for last_move in state.partitions.values_mut() {
            last_move.moved = now;
        }
        state.moved = Some(now);
        state.stalled = None;
    }

    /// Records the progress of all assigned partitions, without an outage.
    pub fn observe(&self, now: Instant, progress: &[PartitionProgress]) {
        let mut state = self.state();
        let mut partitions = BTreeMap::new();
        for progress in progress {
            let previous = state.partitions.get(&progress.partition).copied();
            let moved = previous.is_some_and(|previous| previous.checkpoint != progress.checkpoint);
            let idle = progress.halted || progress.checkpoint >= progress.end;
            if moved {
                state.moved = Some(now);
            }
            let last_move = LastMove {
                checkpoint: progress.checkpoint,
                moved: match previous {
                    Some(previous) if !moved && !idle => previous.moved,
                    _ => now,
                },
            };
            partitions.insert(progress.partition, last_move);
        }
        state.partitions = partitions;
        state.stalled = self.find_stalled(now, &state);
    }

    fn find_stalled(&self, now: Instant, state: &StallState) -> Option<String> {
        let (partition, longest) = state
            .partitions
            .iter()
            .map(|(partition, last_move)| (*partition, now - last_move.moved))
            .max_by_key(|(_, quiet)| *quiet)?;
        let others_move = state.moved.is_some_and(|moved| now - moved < self.timeout);
        let max = if others_move {
            self.timeout * FACTOR_WHILE_OTHERS_MOVE
        } else {
            self.timeout
        };
        (longest >= max).then(|| {
            format!(
                "partition {partition} has unread records and no new checkpoint for {} s, although all dependencies are ready",
                longest.as_secs()
            )
        })
    }

    /// The check of `/healthz`.
    ///
    /// # Errors
    /// The stalled partition and the time since its last progress.
    pub fn check(&self) -> Result<(), String> {
        self.state().stalled.clone().map_or(Ok(()), Err)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, StallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn progress(partition: i32, checkpoint: i64) -> PartitionProgress {
        PartitionProgress {
            partition,
            checkpoint,
            end: 1_000,
            halted: false,
        }
    }

    /// Observes the progress of each moment every two seconds for `seconds`.
    fn watch(
        detector: &StallDetector,
        from: Instant,
        seconds: u64,
        progress: impl Fn(u64) -> Vec<PartitionProgress>,
    ) -> Instant {
        for second in (0..=seconds).step_by(2) {
            detector.observe(from + Duration::from_secs(second), &progress(second));
        }
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn stall_is_reported_with_partition_and_time() {
        let (detector, start) = (StallDetector::new(TIMEOUT), Instant::now());
        let now = watch(&detector, start, 58, |_| vec![progress(3, 5)]);
        assert_eq!(detector.check(), Ok(()));
        watch(&detector, now, 2, |_| vec![progress(3, 5)]);
        let reason = detector.check().unwrap_err();
        assert!(
            reason.contains("partition 3") && reason.contains("60 s"),
            "{reason}"
        );
        detector.observe(now + TIMEOUT, &[progress(3, 6)]);
        assert_eq!(detector.check(), Ok(()), "it moves again");
    }

    #[test]
    fn moving_idle_and_halted_partitions_are_no_stall() {
        let detector = StallDetector::new(TIMEOUT);
        let at_end = PartitionProgress {
            checkpoint: 1_000,
            ..progress(1, 0)
        };
        let halted = PartitionProgress {
            halted: true,
            ..progress(2, 5)
        };
        watch(&detector, Instant::now(), 10_000, |second| {
            vec![progress(0, i64::try_from(second / 50).unwrap()), at_end, halted]
        });
        assert_eq!(detector.check(), Ok(()));
    }

    #[test]
    fn partition_waits_ten_times_longer_while_others_move() {
        let (detector, start) = (StallDetector::new(TIMEOUT), Instant::now());
        let progress_of = |second: u64| vec![progress(0, i64::try_from(second).unwrap()), progress(1, 5)];
        let now = watch(&detector, start, 598, progress_of);
        assert_eq!(detector.check(), Ok(()));
        detector.observe(now + Duration::from_secs(2), &[progress(0, 900), progress(1, 5)]);
        assert!(detector.check().unwrap_err().contains("partition 1"));
    }

    #[test]
    fn outage_resets_the_timer() {
        let (detector, start) = (StallDetector::new(TIMEOUT), Instant::now());
        let mut now = watch(&detector, start, 50, |_| vec![progress(0, 5)]);
        for _ in 0..100 {
            now += Duration::from_secs(10);
            detector.reset(now);
        }
        let now = watch(&detector, now, 58, |_| vec![progress(0, 5)]);
        assert_eq!(detector.check(), Ok(()));
        watch(&detector, now, 2, |_| vec![progress(0, 5)]);
        assert!(detector.check().is_err());
        detector.observe(now + TIMEOUT, &[]);
        assert_eq!(detector.check(), Ok(()), "assigned to another member");
    }

    proptest! {
        #[test]
        fn single_partition_stalls_exactly_after_the_timeout(
            observations in proptest::collection::vec((1_u64..40, 0_u8..6), 1..60),
        ) {
            let (detector, start) = (StallDetector::new(TIMEOUT), Instant::now());
            let (mut now, mut checkpoint, mut quiet) = (start, 0, 0);
            detector.observe(now, &[progress(0, checkpoint)]);
            for (seconds, event) in observations {
                now += Duration::from_secs(seconds);
                quiet += seconds;
                match event {
                    0 => {
                        detector.reset(now);
                        quiet = 0;
                    }
                    1 => {
                        checkpoint += 1;
                        quiet = 0;
                        detector.observe(now, &[progress(0, checkpoint)]);
                    }
                    _ => detector.observe(now, &[progress(0, checkpoint)]),
                }
                prop_assert_eq!(detector.check().is_err(), quiet >= TIMEOUT.as_secs());
            }
        }
    }
}
