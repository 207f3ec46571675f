//! The hybrid clock of a partition: it gives every record the write timestamp of its row.
//!
//! The log decides, not a writer's clock: `stamp(o) = max(record timestamp, stamp of the record before + 1)`, so the
//! stamps of a partition rise with its offsets whatever clocks were wrong, and a restart from the same checkpoint
//! computes the same ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A record timestamp further ahead of the wall clock than this counts as this far ahead.
pub const MOST_AHEAD: Duration = Duration::from_secs(3600);

/// The highest point that a partition's reading ever reached.
///
/// A deliberate replay starts below it, without a stamp before: what it computes there is never larger than what
/// was computed the first time. From `offset` on, stamps continue above `stamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighMark {
    /// The offset after the last record ever stamped.
    pub offset: i64,
    /// The largest stamp ever given, in microseconds since 1970.
    pub stamp: Option<i64>,
    /// The lowest bound that ever held a record timestamp down. Whatever lay above it may have been held down too, and
    /// the wall clock of then is not known any more.
    pub ceiling: Option<i64>,
}

/// The clock of one partition, as it stands between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HybridClock {
    last: Option<i64>,
    high: HighMark,
}

/// The write timestamp of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 1970.
    pub micros: i64,
    /// The record's own timestamp lay more than [`MOST_AHEAD`] ahead.
    pub capped: bool,
}

impl HybridClock {
    /// Goes on where a checkpoint says: `last` is the stamp of the record before, none at a beginning and in a replay.
    pub fn resume(last: Option<i64>, high: HighMark) -> Self {
        Self { last, high }
    }

    /// Stamps the record at `offset`; each next call must have a larger one. Times in microseconds since 1970.
    pub fn stamp(&mut self, offset: i64, timestamp: i64, now: i64) -> Stamp {
        let again = offset < self.high.offset;
        let latest = self.latest(again, now);
        let capped = timestamp > latest;
        // Before 1970 there was no Kafka: a timestamp of -1 says that there is none.
        let mut micros = timestamp
            .clamp(0, latest)
            .max(self.last.map_or(0, |last| last + 1));
        if !again {
            micros = micros.max(self.high.stamp.map_or(0, |high| high + 1));
            self.high.offset = offset + 1;
            self.high.stamp = Some(micros);
        }
        if capped {
            let lowest = self.high.ceiling.map_or(latest, |ceiling| ceiling.min(latest));
            self.high.ceiling = Some(lowest);
        }
        self.last = Some(micros);
        Stamp { micros, capped }
    }

    /// The latest timestamp that counts as it is. Where a record was stamped before, the wall clock has no say: it
    /// stands later now, and would let pass what it held down then.
    fn latest(&self, again: bool, now: i64) -> i64 {
        let ahead = now.saturating_add(micros(MOST_AHEAD)).max(0);
        match self.high {
            HighMark { ceiling, stamp, .. } if again => ceiling.or(stamp).unwrap_or(ahead),
            _ => ahead,
        }
    }

    /// The stamp of the record before.
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// The highest point so far.
    pub fn high(&self) -> HighMark {
        self.high
    }
}

/// The wall clock in microseconds since 1970.
pub fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;
    /// A few hours, so that timestamps and clocks are often more than an hour apart, and often less.
    const FUTURE: i64 = 4 * 3_600_000_000;

    fn run(clock: &mut HybridClock, from: i64, timestamps: &[i64]) -> Vec<i64> {
        (from..)
            .zip(timestamps)
            .map(|(offset, timestamp)| clock.stamp(offset, *timestamp, NOW).micros)
            .collect()
    }

    #[test]
    fn stamps_follow_the_records_timestamps_and_break_ties_upwards() {
        let mut clock = HybridClock::resume(None, HighMark::default());
        assert_eq!(
            run(&mut clock, 0, &[5_000, 5_000, 4_000, 9_000]),
            [5_000, 5_001, 5_002, 9_000]
        );
    }

    #[test]
    fn a_timestamp_from_the_far_future_counts_as_an_hour_ahead() {
        let mut clock = HybridClock::resume(None, HighMark::default());
        let stamp = clock.stamp(0, i64::MAX, NOW);
        assert_eq!(
            stamp,
            Stamp {
                micros: NOW + 3_600_000_000,
                capped: true
            }
        );
    }

    #[test]
    fn a_recreated_topic_continues_above_the_old_ones_stamps() {
        let mut clock = HybridClock::resume(
            None,
            HighMark {
                offset: 0,
                stamp: Some(70_000),
                ceiling: None,
            },
        );
        assert_eq!(run(&mut clock, 0, &[5, 6, 80_000]), [70_001, 70_002, 80_000]);
    }

    #[test]
    fn what_was_held_down_once_is_held_down_in_a_replay_however_late_that_is() {
        let mut clock = HybridClock::resume(None, HighMark::default());
        let future = NOW + 2 * 3_600_000_000;
        let first = clock.stamp(0, future, NOW);
        clock.stamp(1, future + 3_600_000_000, future);
        let mut replay = HybridClock::resume(None, clock.high());
        let again = replay.stamp(0, future, future + 7_200_000_000);
        assert_eq!((first.capped, again), (true, first));
    }

    proptest! {
        #[test]
        fn a_replay_stamps_no_record_higher_than_the_first_time_whatever_the_wall_clocks_say(
            records in proptest::collection::vec((0..2 * FUTURE, 0..FUTURE), 2..100),
            from in any::<prop::sample::Index>(),
            clocks in proptest::collection::vec(0..3 * FUTURE, 100),
        ) {
            let mut clock = HybridClock::resume(None, HighMark::default());
            let first: Vec<_> = (0..)
                .zip(&records)
                .map(|(offset, (timestamp, now))| clock.stamp(offset, *timestamp, *now).micros)
                .collect();
            let from = from.index(records.len());
            let mut replay = HybridClock::resume(None, clock.high());
            for (place, now) in (from..records.len()).zip(&clocks) {
                let offset = i64::try_from(place).unwrap();
                let again = replay.stamp(offset, records[place].0, *now).micros;
                prop_assert!(again <= first[place], "offset {}: {} > {}", offset, again, first[place]);
            }
            prop_assert_eq!(replay.high(), clock.high());
            let next = i64::try_from(records.len()).unwrap();
            let after = replay.stamp(next, 0, 0).micros;
            prop_assert!(after > *first.last().unwrap());
        }

        #[test]
        fn stamps_rise_strictly(timestamps in proptest::collection::vec(-2..NOW * 2, 1..100)) {
            let stamps = run(&mut HybridClock::resume(None, HighMark::default()), 0, &timestamps);
            prop_assert!(stamps.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn a_restart_from_any_checkpoint_computes_the_same_stamps(
            timestamps in proptest::collection::vec(0..NOW, 1..100),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(timestamps.len());
            let mut clock = HybridClock::resume(None, HighMark::default());
            let whole = run(&mut clock, 0, &timestamps);
            let mut before = HybridClock::resume(None, HighMark::default());
            run(&mut before, 0, &timestamps[..cut]);
            let mut resumed = HybridClock::resume(before.last(), before.high());
            let from = i64::try_from(cut).unwrap();
            prop_assert_eq!(run(&mut resumed, from, &timestamps[cut..]), &whole[cut..]);
            prop_assert_eq!(resumed, clock);
        }

        #[test]
        fn a_replay_never_stamps_higher_below_the_high_mark_and_always_higher_above(
            timestamps in proptest::collection::vec(0..NOW, 2..100),
            from in any::<prop::sample::Index>(),
            more in proptest::collection::vec(0..NOW, 1..20),
        ) {
            let mut clock = HybridClock::resume(None, HighMark::default());
            let first = run(&mut clock, 0, &timestamps);
            let from = from.index(timestamps.len());
            let start = i64::try_from(from).unwrap();
            let mut replay = HybridClock::resume(None, clock.high());
            let again = run(&mut replay, start, &timestamps[from..]);
            prop_assert!(again.iter().zip(&first[from..]).all(|(again, first)| again <= first));
            let end = i64::try_from(timestamps.len()).unwrap();
            let after = run(&mut replay, end, &more);
            prop_assert!(after[0] > *first.last().unwrap());
        }
    }
}
