//! The hybrid clock of a partition, which assigns the write timestamps of rows.
//!
//! `timestamp(o) = max(record timestamp, timestamp(o - 1) + 1)`. Write timestamps therefore increase with the
//! offsets, regardless of clock skew, and a restart from the same checkpoint computes the same ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A record timestamp further ahead of the wall clock is capped to this.
pub const MAX_AHEAD: Duration = Duration::from_secs(3600);

/// The largest values that any pass over the partition has reached.
///
/// A replay starts below them without a previous write timestamp, so it never computes a larger one than the first
/// pass. From `offset` on, write timestamps continue above `write_timestamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxSeen {
    /// The offset after the last stamped record.
    pub offset: i64,
    /// The largest write timestamp, in microseconds since 1970.
    pub write_timestamp: Option<i64>,
    /// The lowest cap that was ever applied to a record timestamp.
    ///
    /// Larger timestamps may have been capped, too, and the wall clock of that time is unknown.
    pub ceiling: Option<i64>,
}

/// The clock of one partition between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HybridClock {
    last: Option<i64>,
    max_seen: MaxSeen,
}

/// The write timestamp of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTimestamp {
    /// Microseconds since 1970.
    pub micros: i64,
    /// The record's own timestamp was more than [`MAX_AHEAD`] ahead.
    pub capped: bool,
}

impl HybridClock {
    /// Continues from a checkpoint. `last` is the previous write timestamp; `None` at the beginning and in a replay.
    pub fn resume(last: Option<i64>, max_seen: MaxSeen) -> Self {
        Self { last, max_seen }
    }

    /// Assigns the write timestamp of the record at `offset`, which must increase with each call. Times in
    /// microseconds since 1970.
    pub fn next(&mut self, offset: i64, timestamp: i64, now: i64) -> WriteTimestamp {
        let is_replay = offset < self.max_seen.offset;
        let latest = self.latest(is_replay, now);
        let capped = timestamp > latest;
        // A timestamp of -1 means that there is none.
        let mut micros = timestamp
            .clamp(0, latest)
            .max(self.last.map_or(0, |last| last + 1));
        if !is_replay {
            micros = micros.max(self.max_seen.write_timestamp.map_or(0, |max_seen| max_seen + 1));
            self.max_seen.offset = offset + 1;
            self.max_seen.write_timestamp = Some(micros);
        }
        if capped {
            let lowest = self
                .max_seen
                .ceiling
                .map_or(latest, |ceiling| ceiling.min(latest));
            self.max_seen.ceiling = Some(lowest);
        }
        self.last = Some(micros);
        WriteTimestamp { micros, capped }
    }

    /// Returns the largest timestamp that is not capped.
    ///
    /// A replay does not use the wall clock, which is later now and would not cap what was capped the first time.
    fn latest(&self, is_replay: bool, now: i64) -> i64 {
        let ahead = now.saturating_add(micros(MAX_AHEAD)).max(0);
        match self.max_seen {
            MaxSeen {
                ceiling,
                write_timestamp,
                ..
            } if is_replay => ceiling.or(write_timestamp).unwrap_or(ahead),
            _ => ahead,
        }
    }

    /// The previous write timestamp.
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// The largest values so far.
    pub fn max_seen(&self) -> MaxSeen {
        self.max_seen
    }
}

/// The wall clock in microseconds since 1970.
pub fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

/// The wall clock in milliseconds since 1970.
pub fn wall_millis() -> i64 {
    wall_micros() / 1_000
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;
    /// A few hours, so that timestamps and clocks are often more and often less than an hour apart.
    const FUTURE: i64 = 4 * 3_600_000_000;

    fn run(clock: &mut HybridClock, from: i64, timestamps: &[i64]) -> Vec<i64> {
        (from..)
            .zip(timestamps)
            .map(|(offset, timestamp)| clock.next(offset, *timestamp, NOW).micros)
            .collect()
    }

    #[test]
    fn timestamps_follow_the_records_and_break_ties_upwards() {
        let mut clock = HybridClock::resume(None, MaxSeen::default());
        assert_eq!(
            run(&mut clock, 0, &[5_000, 5_000, 4_000, 9_000]),
            [5_000, 5_001, 5_002, 9_000]
        );
    }

    #[test]
    fn timestamp_in_the_far_future_is_capped() {
        let mut clock = HybridClock::resume(None, MaxSeen::default());
        let first = clock.next(0, i64::MAX, NOW);
        assert_eq!(
            first,
            WriteTimestamp {
                micros: NOW + 3_600_000_000,
                capped: true
            }
        );
    }

    #[test]
    fn recreated_topic_continues_above_the_old_timestamps() {
        let mut clock = HybridClock::resume(
            None,
            MaxSeen {
                offset: 0,
                write_timestamp: Some(70_000),
                ceiling: None,
            },
        );
        assert_eq!(run(&mut clock, 0, &[5, 6, 80_000]), [70_001, 70_002, 80_000]);
    }

    #[test]
    fn capped_timestamp_is_capped_in_any_later_replay() {
        let mut clock = HybridClock::resume(None, MaxSeen::default());
        let future = NOW + 2 * 3_600_000_000;
        let first = clock.next(0, future, NOW);
        clock.next(1, future + 3_600_000_000, future);
        let mut replay = HybridClock::resume(None, clock.max_seen());
        let again = replay.next(0, future, future + 7_200_000_000);
        assert_eq!((first.capped, again), (true, first));
    }

    proptest! {
        #[test]
        fn replay_never_exceeds_the_first_pass_at_any_clock_skew(
            records in proptest::collection::vec((0..2 * FUTURE, 0..FUTURE), 2..100),
            from in any::<prop::sample::Index>(),
            clocks in proptest::collection::vec(0..3 * FUTURE, 100),
        ) {
            let mut clock = HybridClock::resume(None, MaxSeen::default());
            let first: Vec<_> = (0..)
                .zip(&records)
                .map(|(offset, (timestamp, now))| clock.next(offset, *timestamp, *now).micros)
                .collect();
            let from = from.index(records.len());
            let mut replay = HybridClock::resume(None, clock.max_seen());
            for (position, now) in (from..records.len()).zip(&clocks) {
                let offset = i64::try_from(position).unwrap();
                let again = replay.next(offset, records[position].0, *now).micros;
                prop_assert!(again <= first[position], "offset {}: {} > {}", offset, again, first[position]);
            }
            prop_assert_eq!(replay.max_seen(), clock.max_seen());
            let next = i64::try_from(records.len()).unwrap();
            let after = replay.next(next, 0, 0).micros;
            prop_assert!(after > *first.last().unwrap());
        }

        #[test]
        fn timestamps_increase_strictly(timestamps in proptest::collection::vec(-2..NOW * 2, 1..100)) {
            let stamps = run(&mut HybridClock::resume(None, MaxSeen::default()), 0, &timestamps);
            prop_assert!(stamps.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn restart_from_any_checkpoint_computes_the_same_timestamps(
            timestamps in proptest::collection::vec(0..NOW, 1..100),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(timestamps.len());
            let mut clock = HybridClock::resume(None, MaxSeen::default());
            let whole = run(&mut clock, 0, &timestamps);
            let mut before = HybridClock::resume(None, MaxSeen::default());
            run(&mut before, 0, &timestamps[..cut]);
            let mut resumed = HybridClock::resume(before.last(), before.max_seen());
            let from = i64::try_from(cut).unwrap();
            prop_assert_eq!(run(&mut resumed, from, &timestamps[cut..]), &whole[cut..]);
            prop_assert_eq!(resumed, clock);
        }

        #[test]
        fn replay_exceeds_the_first_pass_only_above_max_seen(
            timestamps in proptest::collection::vec(0..NOW, 2..100),
            from in any::<prop::sample::Index>(),
            more in proptest::collection::vec(0..NOW, 1..20),
        ) {
            let mut clock = HybridClock::resume(None, MaxSeen::default());
            let first = run(&mut clock, 0, &timestamps);
            let from = from.index(timestamps.len());
            let start = i64::try_from(from).unwrap();
            let mut replay = HybridClock::resume(None, clock.max_seen());
            let again = run(&mut replay, start, &timestamps[from..]);
            prop_assert!(again.iter().zip(&first[from..]).all(|(again, first)| again <= first));
            let end = i64::try_from(timestamps.len()).unwrap();
            let after = run(&mut replay, end, &more);
            prop_assert!(after[0] > *first.last().unwrap());
        }
    }
}
