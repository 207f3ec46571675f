//! Sees that the work stands still although nothing is in its way: records wait, every server is there, nothing fails,
//! and no checkpoint moves. Only a restart cures that.
//!
//! Pure: it is told what is seen, every few seconds, and judges. A partition that was stopped for its dead letters, and
//! a server that is away, are in the way.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is seen of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which.
    pub partition: i32,
    /// Up to where it is checkpointed.
    pub checkpoint: i64,
    /// The end of its log.
    pub end: i64,
    /// It stands still on purpose.
    pub stopped: bool,
}

/// The judge of one process.
#[derive(Debug)]
pub struct Stall {
    after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<i32, Seen>,
    /// When any checkpoint moved last, or something was in the way.
    moved: Option<Instant>,
    verdict: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    checkpoint: i64,
    /// When it moved last, or had no reason to.
    moved: Instant,
}

/// While others move, one partition may wait so much longer: what was fetched of it comes after what was fetched of them.
const WHILE_OTHERS_MOVE: u32 = 10;

impl Stall {
    /// Judges after `after` without a movement.
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            state: Mutex::default(),
        }
    }

    /// Something is in the way, or was since the last look: time counts from now.
    pub fn excuse(&self, now: Instant) {
        let mut state = self.state();
        for seen in state.partitions.values_mut() {
            seen.moved = now;
        }
        state.moved = Some(now);
        state.verdict = None;
    }

    /// Nothing is in the way; these are all partitions that are held.
    pub fn look(&self, now: Instant, sights: &[Sight]) {
        let mut state = self.state();
        let mut partitions = BTreeMap::new();
        for sight in sights {
            let known = state.partitions.get(&sight.partition).copied();
            let moved = known.is_some_and(|known| known.checkpoint != sight.checkpoint);
            let idle = sight.stopped || sight.checkpoint >= sight.end;
            if moved {
                state.moved = Some(now);
            }
            let seen = Seen {
                checkpoint: sight.checkpoint,
                moved: match known {
                    Some(known) if !moved && !idle => known.moved,
                    _ => now,
                },
            };
            partitions.insert(sight.partition, seen);
        }
        state.partitions = partitions;
        state.verdict = self.judge(now, &state);
    }

    fn judge(&self, now: Instant, state: &State) -> Option<String> {
        let (partition, longest) = state
            .partitions
            .iter()
            .map(|(partition, seen)| (*partition, now - seen.moved))
            .max_by_key(|(_, quiet)| *quiet)?;
        let others_move = state.moved.is_some_and(|moved| now - moved < self.after);
        let most = if others_move {
            self.after * WHILE_OTHERS_MOVE
        } else {
            self.after
        };
        (longest >= most).then(|| {
            format!(
                "partition {partition} has records and no checkpoint for {} s, and nothing is in the way",
                longest.as_secs()
            )
        })
    }

    /// For `/healthz`.
    ///
    /// # Errors
    /// What stands still, and for how long.
    pub fn check(&self) -> Result<(), String> {
        self.state().verdict.clone().map_or(Ok(()), Err)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AFTER: Duration = Duration::from_secs(60);

    fn sight(partition: i32, checkpoint: i64) -> Sight {
        Sight {
            partition,
            checkpoint,
            end: 1_000,
            stopped: false,
        }
    }

    /// Looks every two seconds for `seconds`, at what `sights` gives for the moment.
    fn watch(stall: &Stall, from: Instant, seconds: u64, sights: impl Fn(u64) -> Vec<Sight>) -> Instant {
        for second in (0..=seconds).step_by(2) {
            stall.look(from + Duration::from_secs(second), &sights(second));
        }
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn records_that_wait_without_a_checkpoint_are_told_with_partition_and_time() {
        let (stall, start) = (Stall::new(AFTER), Instant::now());
        let now = watch(&stall, start, 58, |_| vec![sight(3, 5)]);
        assert_eq!(stall.check(), Ok(()));
        watch(&stall, now, 2, |_| vec![sight(3, 5)]);
        let reason = stall.check().unwrap_err();
        assert!(
            reason.contains("partition 3") && reason.contains("60 s"),
            "{reason}"
        );
        stall.look(now + AFTER, &[sight(3, 6)]);
        assert_eq!(stall.check(), Ok(()), "it moves again");
    }

    #[test]
    fn what_moves_is_at_its_end_or_stopped_on_purpose_is_no_stall() {
        let stall = Stall::new(AFTER);
        let at_end = Sight {
            checkpoint: 1_000,
            ..sight(1, 0)
        };
        let stopped = Sight {
            stopped: true,
            ..sight(2, 5)
        };
        watch(&stall, Instant::now(), 10_000, |second| {
            vec![sight(0, i64::try_from(second / 50).unwrap()), at_end, stopped]
        });
        assert_eq!(stall.check(), Ok(()));
    }

    #[test]
    fn a_partition_that_waits_while_others_move_gets_ten_times_as_long() {
        let (stall, start) = (Stall::new(AFTER), Instant::now());
        let beside = |second: u64| vec![sight(0, i64::try_from(second).unwrap()), sight(1, 5)];
        let now = watch(&stall, start, 598, beside);
        assert_eq!(stall.check(), Ok(()));
        stall.look(now + Duration::from_secs(2), &[sight(0, 900), sight(1, 5)]);
        assert!(stall.check().unwrap_err().contains("partition 1"));
    }

    #[test]
    fn an_outage_is_no_stall_and_time_counts_anew_after_it() {
        let (stall, start) = (Stall::new(AFTER), Instant::now());
        let mut now = watch(&stall, start, 50, |_| vec![sight(0, 5)]);
        for _ in 0..100 {
            now += Duration::from_secs(10);
            stall.excuse(now);
        }
        let now = watch(&stall, now, 58, |_| vec![sight(0, 5)]);
        assert_eq!(stall.check(), Ok(()));
        watch(&stall, now, 2, |_| vec![sight(0, 5)]);
        assert!(stall.check().is_err());
        stall.look(now + AFTER, &[]);
        assert_eq!(stall.check(), Ok(()), "another member's now");
    }

    proptest! {
        #[test]
        fn it_is_told_when_and_only_when_the_last_checkpoint_of_a_lone_partition_is_old_enough(
            looks in proptest::collection::vec((1_u64..40, 0_u8..6), 1..60),
        ) {
            let (stall, start) = (Stall::new(AFTER), Instant::now());
            let (mut now, mut checkpoint, mut quiet) = (start, 0, 0);
            stall.look(now, &[sight(0, checkpoint)]);
            for (seconds, event) in looks {
                now += Duration::from_secs(seconds);
                quiet += seconds;
                match event {
                    0 => {
                        stall.excuse(now);
                        quiet = 0;
                    }
                    1 => {
                        checkpoint += 1;
                        quiet = 0;
                        stall.look(now, &[sight(0, checkpoint)]);
                    }
                    _ => stall.look(now, &[sight(0, checkpoint)]),
                }
                prop_assert_eq!(stall.check().is_err(), quiet >= AFTER.as_secs());
            }
        }
    }
}
