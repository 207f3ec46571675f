//! Which partitions are fetched while many have a backlog.
//!
//! Each partition has a queue, and a fetch fills it with a batch at least. So the memory of all grows with the partitions. Once
//! many queues hold records, a partition waits when its records are read, and is fetched again in its turn. Otherwise all are.
//!
//! Pure. The poll loop pauses and resumes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many queues hold records before partitions take turns, and how many partitions are fetched then.
const MAX_FETCHED: usize = 16;

/// How long a partition may keep its turn without a record. A leader responds after `fetch.wait.max.ms` at most.
const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// The partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Turns {
    fetched: BTreeMap<i32, Turn>,
    /// Those that are paused, the next one first.
    waiting: VecDeque<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// No record has arrived since.
    Begun(Instant),
    /// The queue holds records.
    Holds,
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

    /// Takes note of how many records the queue of a partition had.
    pub(super) fn read(&mut self, partition: i32, records: usize, now: Instant) {
        if let Some(turn) = self.fetched.get_mut(&partition) {
            *turn = match *turn {
                _ if records > 0 => Turn::Holds,
                Turn::Begun(since) if now.saturating_duration_since(since) < TURN_TIMEOUT => *turn,
                _ => Turn::Over,
            };
        }
    }

    /// Takes note that a partition is at its end.
    pub(super) fn ended(&mut self, partition: i32) {
        if let Some(turn) = self.fetched.get_mut(&partition) {
            *turn = Turn::Over;
        }
    }

    /// All partitions were resumed.
    pub(super) fn resumed(&mut self, now: Instant) {
        for partition in self.waiting.drain(..) {
            self.fetched.insert(partition, Turn::Begun(now));
        }
    }

    /// Ends turns that are over, and begins others.
    pub(super) fn changes(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let holding = self.fetched.values().filter(|turn| **turn == Turn::Holds).count();
        if holding == 0 {
            changes.resume = self.waiting.iter().copied().collect();
            self.resumed(now);
            return changes;
        }
        if self.waiting.is_empty() && holding <= MAX_FETCHED {
            return changes;
        }
        let over = self.fetched.extract_if(.., |_, turn| *turn == Turn::Over);
        changes.pause.extend(over.map(|(partition, _)| partition));
        self.waiting.extend(&changes.pause);
        while self.fetched.len() < MAX_FETCHED
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

    /// Turns of `MANY` partitions whose queues all hold records.
    fn full(now: Instant) -> Turns {
        let mut turns = Turns::default();
        for partition in 0..MANY {
            turns.start(partition, now);
            turns.read(partition, 1, now);
        }
        assert_eq!(turns.changes(now), Changes::default());
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
            turns.read(read, 0, now);
            let Changes { pause, resume } = turns.changes(now);
            assert_eq!(pause, vec![read]);
            for partition in resume {
                *fetched.get_mut(&partition).unwrap() += 1;
                turns.read(partition, 1, now);
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
            turns.read(partition, 0, now);
        }
        assert_eq!(turns.changes(now), Changes::default());
        turns.read(0, 0, now);
        assert_eq!(turns.changes(now), Changes::default());
    }

    #[test]
    fn waiting_partitions_are_resumed_once_no_queue_holds_records() {
        let now = Instant::now();
        let mut turns = full(now);
        turns.read(3, 0, now);
        assert_eq!(turns.changes(now).pause, vec![3]);
        for partition in 0..MANY {
            turns.read(partition, 0, now);
        }
        assert_eq!(turns.changes(now).resume, vec![3]);
    }

    #[test]
    fn turn_without_a_record_ends() {
        let now = Instant::now();
        let mut turns = full(now);
        for partition in 0..MANY {
            if partition > 14 {
                turns.read(partition, 0, now);
            }
        }
        turns.read(20, 1, now);
        turns.read(21, 1, now);
        assert_eq!(turns.changes(now).pause.len(), 23);
        turns.read(0, 0, now);
        turns.read(1, 0, now);
        let Changes { pause, resume } = turns.changes(now);
        assert_eq!((pause, resume), (vec![0, 1], vec![15]));
        turns.read(15, 0, now);
        assert_eq!(turns.changes(now), Changes::default());
        turns.read(15, 0, now + TURN_TIMEOUT);
        let Changes { pause, resume } = turns.changes(now);
        assert_eq!((pause, resume), (vec![15], vec![16]));
    }
}
