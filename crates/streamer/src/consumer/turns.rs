//! Which partitions are fetched while many have a backlog.
//!
//! Each partition has a queue, and a fetch fills it with a batch at least. So the memory of all grows with the partitions and
//! with their batches. Once many queues hold records, a partition waits when its records are read, and is fetched again in its
//! turn. Otherwise all are.
//!
//! Pure. The poll loop pauses and resumes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many queues hold records before partitions take turns, and how many partitions are fetched then.
const MAX_FETCHED: usize = 16;

/// How many bytes the queues hold before no other partition is fetched: a batch of Kafka's default for each.
const MAX_HELD_BYTES: usize = MAX_FETCHED << 20;

/// How long a partition may keep its turn without a record. A leader responds after `fetch.wait.max.ms` at most.
const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// The partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Turns {
    fetched: BTreeMap<i32, Turn>,
    /// Those that are paused, the next one first.
    waiting: VecDeque<i32>,
    /// The size of the records that were last read from each partition.
    sizes: BTreeMap<i32, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// No record has arrived since.
    Begun(Instant),
    /// The queue holds records of this size.
    Holds(usize),
    /// The records are read.
    Over,
}

/// The partitions to pause and to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) pause: Vec<i32>,
    pub(super) resume: Vec<i32>,
}

impl Turns {
    /// Adds a partition that is not paused.
    pub(super) fn start(&mut self, partition: i32, now: Instant) {
        self.remove(partition);
        self.fetched.insert(partition, Turn::Begun(now));
    }

    /// Forgets a partition that is not read any more.
    pub(super) fn remove(&mut self, partition: i32) {
        self.fetched.remove(&partition);
        self.waiting.retain(|waiting| *waiting != partition);
    }

    /// Takes note of the size of records from the queue of a partition; `None` if it was empty.
    pub(super) fn read(&mut self, partition: i32, size: Option<usize>, now: Instant) {
        if let Some(size) = size {
            self.sizes.insert(partition, size);
        }
        if let Some(turn) = self.fetched.get_mut(&partition) {
            *turn = match (*turn, size) {
                (_, Some(size)) => Turn::Holds(size),
                (Turn::Begun(since), None) if now.saturating_duration_since(since) < TURN_TIMEOUT => *turn,
                (_, None) => Turn::Over,
            };
        }
    }

    /// Takes note that a partition is at its end.
    pub(super) fn ended(&mut self, partition: i32) {
        if let Some(turn) = self.fetched.get_mut(&partition) {
            *turn = Turn::Over;
        }
    }

    /// Takes note of queues that were filled while none was read. Their records are taken to be as large as those that were last
    /// read from the partition, or as the largest of all. `events` are those in the queue of a partition: records, and at most
    /// one end.
    pub(super) fn filled(&mut self, events: impl Fn(i32) -> usize) {
        let largest = self.sizes.values().copied().max().unwrap_or(1);
        for (partition, turn) in &mut self.fetched {
            if !matches!(turn, Turn::Holds(_)) && events(*partition) > 1 {
                *turn = Turn::Holds(self.sizes.get(partition).copied().unwrap_or(largest));
            }
        }
    }

    fn resume_all(&mut self, now: Instant) {
        for partition in self.waiting.drain(..) {
            self.fetched.insert(partition, Turn::Begun(now));
        }
    }

    /// Ends turns that are over, and begins others. `records` are those in the queue of a partition.
    pub(super) fn changes(&mut self, records: impl Fn(i32) -> usize, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let held: Vec<_> = self
            .fetched
            .iter()
            .filter_map(|(&partition, turn)| match turn {
                Turn::Holds(size) => Some(size * records(partition)),
                Turn::Begun(_) | Turn::Over => None,
            })
            .collect();
        if held.is_empty() {
            changes.resume = self.waiting.iter().copied().collect();
            self.resume_all(now);
            return changes;
        }
        let is_full = held.iter().sum::<usize>() > MAX_HELD_BYTES;
        if self.waiting.is_empty() && held.len() <= MAX_FETCHED && !is_full {
            return changes;
        }
        self.fetched.retain(|partition, turn| {
            let stays = match turn {
                Turn::Holds(_) => true,
                Turn::Begun(_) => !is_full && held.len() < MAX_FETCHED,
                Turn::Over => false,
            };
            if !stays {
                changes.pause.push(*partition);
            }
            stays
        });
        self.waiting.extend(&changes.pause);
        while !is_full
            && self.fetched.len() < MAX_FETCHED
            && let Some(partition) = self.waiting.pop_front()
        {
            self.fetched.insert(partition, Turn::Begun(now));
            match changes.pause.iter().position(|paused| *paused == partition) {
                Some(place) => drop(changes.pause.remove(place)),
                None => changes.resume.push(partition),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: i32 = 40;

    fn few(_partition: i32) -> usize {
        10
    }

    /// Turns of `MANY` partitions whose queues all hold records.
    fn full(now: Instant) -> Turns {
        let mut turns = Turns::default();
        for partition in 0..MANY {
            turns.start(partition, now);
            turns.read(partition, Some(1), now);
        }
        assert_eq!(turns.changes(few, now), Changes::default());
        turns
    }

    #[test]
    fn every_partition_has_its_turn_while_all_have_a_backlog() {
        let now = Instant::now();
        let mut turns = full(now);
        let mut fetched = BTreeMap::from_iter((0..MANY).map(|partition| (partition, 0)));
        let mut open: Vec<_> = (0..MANY).collect();
        for _ in 0..1_000 {
            // The batch of one partition is read to its end, and the fetches of the others arrive.
            let read = open.remove(0);
            turns.read(read, None, now);
            let Changes { pause, resume } = turns.changes(few, now);
            assert_eq!(pause, vec![read]);
            for partition in resume {
                *fetched.get_mut(&partition).unwrap() += 1;
                turns.read(partition, Some(1), now);
                open.push(partition);
            }
            assert!(open.len() >= MAX_FETCHED);
        }
        assert_eq!(open.len(), MAX_FETCHED);
        let (least, most) = (fetched.values().min().unwrap(), fetched.values().max().unwrap());
        assert!(*least > 0 && most - least <= 1, "{fetched:?}");
    }

    #[test]
    fn all_partitions_are_fetched_while_few_queues_hold_records() {
        let now = Instant::now();
        let mut turns = full(now);
        for partition in 1..MANY {
            turns.read(partition, None, now);
        }
        assert_eq!(turns.changes(few, now), Changes::default());
        turns.read(0, None, now);
        assert_eq!(turns.changes(few, now), Changes::default());
    }

    #[test]
    fn waiting_partitions_are_resumed_once_no_queue_holds_records() {
        let now = Instant::now();
        let mut turns = full(now);
        turns.read(3, None, now);
        assert_eq!(turns.changes(few, now).pause, vec![3]);
        for partition in 0..MANY {
            turns.read(partition, None, now);
        }
        assert_eq!(turns.changes(few, now).resume, vec![3]);
    }

    #[test]
    fn turn_without_a_record_ends() {
        let now = Instant::now();
        let mut turns = full(now);
        for partition in 0..MANY {
            if partition > 14 {
                turns.read(partition, None, now);
            }
        }
        turns.read(20, Some(1), now);
        turns.read(21, Some(1), now);
        assert_eq!(turns.changes(few, now).pause.len(), 23);
        turns.read(0, None, now);
        turns.read(1, None, now);
        let Changes { pause, resume } = turns.changes(few, now);
        assert_eq!((pause, resume), (vec![0, 1], vec![15]));
        turns.read(15, None, now);
        assert_eq!(turns.changes(few, now), Changes::default());
        turns.read(15, None, now + TURN_TIMEOUT);
        let Changes { pause, resume } = turns.changes(few, now);
        assert_eq!((pause, resume), (vec![15], vec![16]));
    }

    #[test]
    fn queues_that_fill_while_none_is_read_are_counted() {
        let now = Instant::now();
        let mut turns = Turns::default();
        for partition in 0..4 {
            turns.start(partition, now);
        }
        turns.read(0, Some(1 << 20), now);
        turns.read(0, None, now);
        // Its size says nothing about the others.
        turns.read(3, Some(1), now);
        turns.read(3, None, now);
        let events = |partition| if partition < 2 { 9 } else { 1 };
        turns.filled(events);
        assert_eq!(turns.changes(events, now).pause, vec![2, 3], "18 MiB wait");
        assert_eq!(turns.changes(|_| 1, now).resume, vec![2, 3]);
    }

    #[test]
    fn at_most_16_queues_fill_while_none_is_read() {
        let now = Instant::now();
        let mut turns = Turns::default();
        for partition in 0..MANY {
            turns.start(partition, now);
        }
        turns.read(0, Some(1), now);
        let events = |partition| if partition < 17 { 10 } else { 0 };
        turns.filled(events);
        let Changes { pause, resume } = turns.changes(events, now);
        assert_eq!((pause, resume), ((17..MANY).collect(), vec![]));
    }

    #[test]
    fn nothing_else_is_fetched_beside_a_huge_batch() {
        let now = Instant::now();
        let mut turns = Turns::default();
        for partition in 0..3 {
            turns.start(partition, now);
        }
        turns.read(1, Some(1_000), now);
        let Changes { pause, resume } = turns.changes(|_| 40_000, now);
        assert_eq!((pause, resume), (vec![0, 2], vec![]));
        assert_eq!(turns.changes(|_| 39_000, now), Changes::default());
        assert_eq!(turns.changes(|_| 10_000, now).resume, vec![0, 2]);
    }
}
