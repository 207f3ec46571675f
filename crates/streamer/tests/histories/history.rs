//! One history: random steps, and a check of the invariants after each.

use std::collections::BTreeMap;

use streamer::checkpoint::start_offset_resolver::verify_read_back;
use streamer::checkpoint::{self, PartitionInfo, StartReason, admin};
use streamer::config::{CheckpointSettings, DeadLetterSettings};
use streamer::dead_letters::limits::DeadLetterLimits;
use testkit::seeded_random::SeededRandom;

use crate::member::Member;
use crate::server_model::{DurableState, Kind, Record, RecordId, Table, Topic};

const USERS: usize = 4;
const STEPS: usize = 80;
const SECOND: i64 = 1_000_000;
/// 2027, in microseconds since 1970.
const START: i64 = 1_800_000_000 * SECOND;

/// Counts the steps of each kind, so that histories with too few of one fail.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    records: usize,
    zombies: usize,
    returns: usize,
    crashes: usize,
    revocations: usize,
    replays: usize,
    topics: usize,
    tables: usize,
    halts: usize,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.zombies += other.zombies;
        self.returns += other.returns;
        self.crashes += other.crashes;
        self.revocations += other.revocations;
        self.replays += other.replays;
        self.topics += other.topics;
        self.tables += other.tables;
        self.halts += other.halts;
    }

    pub(crate) fn is_sufficient(&self) -> bool {
        let Self {
            records,
            zombies,
            returns,
            crashes,
            revocations,
            replays,
            topics,
            tables,
            halts,
        } = *self;
        records > 100_000
            && [
                zombies,
                returns,
                crashes,
                revocations,
                replays,
                topics,
                tables,
                halts,
            ]
            .iter()
            .all(|count| *count > 500)
    }
}

pub(crate) struct History {
    random: SeededRandom,
    now: i64,
    topic: Topic,
    table: Table,
    durable_state: DurableState,
    owner: Option<Member>,
    /// Members that lost the partition and do not know it.
    zombies: Vec<Member>,
    /// The last record of each user in earlier topics.
    previous_topics: BTreeMap<usize, (RecordId, Kind)>,
    /// The first offset that the present table must contain.
    first_offset: i64,
    /// The highest checkpoint since a start or a command last set it.
    last_checkpoint: i64,
    limits: DeadLetterLimits,
    coverage: Coverage,
}

impl History {
    pub(crate) fn new(random: SeededRandom) -> Self {
        Self {
            random,
            now: START,
            topic: Topic::new(0),
            table: Table::new(0),
            durable_state: DurableState::default(),
            owner: None,
            zombies: Vec::new(),
            previous_topics: BTreeMap::new(),
            first_offset: 0,
            last_checkpoint: 0,
            limits: DeadLetterLimits::new(&DeadLetterSettings {
                max_consecutive: 3,
                ..DeadLetterSettings::default()
            }),
            coverage: Coverage::default(),
        }
    }

    pub(crate) fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// Runs all steps.
    ///
    /// # Errors
    /// The violated invariant.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.now += SECOND * (1 + self.random.number(0..600));
            self.step()?;
            self.check_invariants()?;
        }
        self.end()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=19 => self.produce(),
            20..=22 => self.topic.end += 1 + self.random.number(0..2),
            23..=30 => self.assign()?,
            31..=34 => self.revoke()?,
            35..=37 => self.crash(),
            38..=43 => self.replay(),
            44 => self.replace_table(),
            45 => self.replace_topic(),
            46..=50 => self.reset_limits(),
            _ => self.work()?,
        }
        Ok(())
    }

    /// Produces records with timestamps that jump forth and back, or repeat. None is more than an hour ahead, because the
    /// reader's clock would cap it. Unit tests cover the cap.
    fn produce(&mut self) {
        for _ in 0..=self.random.below(8) {
            let kind = match self.random.below(20) {
                0..=2 => Kind::Delete,
                3..=5 => Kind::Invalid,
                6 => Kind::Rejected,
                _ => Kind::Row,
            };
            let timestamp = match self.random.below(8) {
                0 => START,
                1..=4 => self.now - self.random.number(0..3_600) * SECOND,
                _ => self.now + self.random.number(0..3_000) * SECOND,
            };
            self.topic.records.push(Record {
                offset: self.topic.end,
                timestamp,
                user: self.random.below(USERS),
                kind,
            });
            self.topic.end += 1;
            self.coverage.records += 1;
        }
    }

    fn partition_info(&self) -> PartitionInfo {
        PartitionInfo {
            partition: 0,
            checkpoint: self.durable_state.checkpoint,
            group_has_checkpoints: self.durable_state.checkpoint.is_some(),
            earlier_write_timestamp: None,
            topic_id: self.topic.id,
            table_id: self.table.id,
            beginning: 0,
            end: self.topic.end,
            truncated: false,
            committed: None,
        }
    }

    /// Assigns the partition to a new member. The previous owner becomes a zombie, or is assigned it again.
    fn assign(&mut self) -> Result<(), String> {
        let same_member = self.random.one_in(2);
        let mut previous = self.owner.take();
        if same_member
            && let Some(owner) = &mut previous
            && self.random.one_in(2)
        {
            owner.drain(
                &mut self.table,
                &mut self.durable_state,
                &mut self.random,
                self.now,
            )?;
        }
        let start =
            checkpoint::resolve_start(&self.partition_info(), &CheckpointSettings::default(), self.now);
        let start = start.map_err(|error| error.to_string())?;
        if start.reason != StartReason::Checkpoint {
            self.last_checkpoint = start.checkpoint.position.next_offset;
            self.durable_state.write_checkpoint(start.checkpoint)?;
            let read: Vec<_> = self.durable_state.checkpoint.into_iter().collect();
            verify_read_back(&[start.checkpoint], &read).map_err(|error| error.to_string())?;
        }
        if same_member
            && let Some(owner) = previous.take_if(|owner| owner.writes_to(&self.topic, &self.table))
        {
            self.coverage.returns += 1;
            self.owner = Some(owner.reassign(&start, self.limits));
            return Ok(());
        }
        // Two members' clocks differ by up to an hour. None is so slow that a record's timestamp is capped.
        let skew = (self.random.number(0..4_000) - 400) * SECOND;
        self.owner = Some(Member::new(&start, &self.topic, self.limits, skew));
        if let Some(zombie) = previous {
            self.coverage.zombies += 1;
            self.zombies.push(zombie);
        }
        Ok(())
    }

    fn revoke(&mut self) -> Result<(), String> {
        if let Some(mut owner) = self.owner.take() {
            self.coverage.revocations += 1;
            owner.drain(
                &mut self.table,
                &mut self.durable_state,
                &mut self.random,
                self.now,
            )?;
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.coverage.crashes += 1;
        if self.zombies.is_empty() || self.random.one_in(2) {
            self.owner = None;
        } else {
            let zombie = self.random.below(self.zombies.len());
            self.zombies.swap_remove(zombie);
        }
    }

    /// The operator moves the checkpoint back. The group has no members, but zombies may continue.
    fn replay(&mut self) {
        self.owner = None;
        let offset = self.random.number(0..self.topic.end + 1);
        if let Some(moved) = admin::replay(&self.partition_info(), offset, self.now) {
            self.coverage.replays += 1;
            self.last_checkpoint = moved.position.next_offset;
            self.first_offset = self.first_offset.min(self.last_checkpoint);
            self.durable_state.checkpoint = Some(moved);
        }
    }

    /// The table is dropped, and filled again from a random offset.
    fn replace_table(&mut self) {
        let known = self
            .durable_state
            .checkpoint
            .is_some_and(|found| found.topic_id == self.topic.id);
        if !known {
            return;
        }
        self.coverage.tables += 1;
        self.owner = None;
        self.zombies.clear();
        self.table = Table::new(self.coverage.tables);
        let offset = self.random.number(0..self.topic.end + 1);
        let moved = admin::replay(&self.partition_info(), offset, self.now).unwrap();
        self.last_checkpoint = moved.position.next_offset;
        self.first_offset = self.last_checkpoint;
        self.previous_topics.clear();
        self.durable_state.durable.clear();
        self.durable_state.checkpoint = Some(moved);
    }

    /// The topic is deleted and created again when all its writes are checkpointed and no replay runs. The write
    /// timestamps of a killed member after its checkpoint are in no checkpoint.
    fn replace_topic(&mut self) {
        let Some(found) = self.durable_state.checkpoint else {
            return;
        };
        let max_seen = found.position.max_seen;
        let all_checkpointed = max_seen.write_timestamp.unwrap_or_default() >= self.table.highest
            && found.position.next_offset >= max_seen.offset;
        if found.topic_id != self.topic.id || !all_checkpointed {
            return;
        }
        self.coverage.topics += 1;
        self.owner = None;
        self.zombies.clear();
        for record in &self.topic.records {
            let record_id = (self.topic.number, record.offset);
            let written = matches!(record.kind, Kind::Row | Kind::Delete)
                && self.durable_state.durable.contains(&record_id);
            if written {
                self.previous_topics.insert(record.user, (record_id, record.kind));
            }
        }
        self.topic = Topic::new(self.topic.number + 1);
        self.first_offset = 0;
        self.last_checkpoint = 0;
    }

    fn reset_limits(&mut self) {
        let halted = self.owner.as_ref().is_some_and(Member::is_halted);
        if halted || self.owner.is_none() {
            self.owner = None;
            self.coverage.halts += usize::from(halted);
            let cleared = self
                .durable_state
                .checkpoint
                .and_then(|found| admin::reset_limits(&found, self.now));
            self.durable_state.checkpoint = cleared.or(self.durable_state.checkpoint);
        }
    }

    /// A member does one step of its work.
    fn work(&mut self) -> Result<(), String> {
        let zombie = !self.zombies.is_empty() && (self.owner.is_none() || self.random.one_in(3));
        let member = if zombie {
            let zombie = self.random.below(self.zombies.len());
            Some(&mut self.zombies[zombie])
        } else {
            self.owner.as_mut()
        };
        let Some(member) = member else { return Ok(()) };
        if !member.writes_to(&self.topic, &self.table) {
            return Ok(());
        }
        let (table, durable_state, random) = (&mut self.table, &mut self.durable_state, &mut self.random);
        match random.below(15) {
            0..=2 => {
                let max = 1 + random.below(6);
                member.read(&self.topic, max);
            }
            3..=5 => member.receive(durable_state, self.now)?,
            6..=7 => member.flush(),
            8..=9 => member.write_one(table, durable_state, random),
            10..=11 => member.complete(table, durable_state, random),
            12..=13 => member.save(),
            _ => {
                let lost = random.one_in(4);
                member.finish_save(durable_state, lost)?;
            }
        }
        Ok(())
    }

    fn check_invariants(&mut self) -> Result<(), String> {
        let Some(found) = self.durable_state.checkpoint else {
            return Ok(());
        };
        let next = found.position.next_offset;
        if found.topic_id != self.topic.id {
            return Ok(());
        }
        if next < self.last_checkpoint {
            return Err(format!(
                "the checkpoint moved back from {} to {next}",
                self.last_checkpoint
            ));
        }
        self.last_checkpoint = next;
        let passed = self.topic.from(self.first_offset).iter();
        let mut passed = passed.take_while(|record| record.offset < next);
        let lost = passed.find(|record| {
            !self
                .durable_state
                .durable
                .contains(&(self.topic.number, record.offset))
        });
        match lost {
            Some(record) => Err(format!(
                "the checkpoint {next} passed offset {}, which is not durable",
                record.offset
            )),
            None => Ok(()),
        }
    }

    /// The owner crashes, and a new member reads to the end. Then the table must match the log.
    fn end(&mut self) -> Result<(), String> {
        self.owner = None;
        // Zombies continue meanwhile, and finish at the end.
        self.assign()?;
        for _ in 0..10_000 {
            let halted = self.owner.as_ref().is_none_or(Member::is_halted);
            let ended = self
                .durable_state
                .checkpoint
                .is_some_and(|found| found.position.next_offset >= self.topic.end);
            if ended {
                break;
            }
            if halted {
                self.coverage.halts += usize::from(self.owner.is_some());
                self.revoke()?;
                self.reset_limits();
                self.assign()?;
            }
            self.now += SECOND;
            self.work()?;
            self.check_invariants()?;
        }
        for mut zombie in std::mem::take(&mut self.zombies) {
            if zombie.writes_to(&self.topic, &self.table) {
                zombie.drain(
                    &mut self.table,
                    &mut self.durable_state,
                    &mut self.random,
                    self.now,
                )?;
            }
        }
        self.check_invariants()?;
        self.compare()
    }

    fn compare(&self) -> Result<(), String> {
        let found = self
            .durable_state
            .checkpoint
            .map(|found| found.position.next_offset);
        if found.is_some_and(|next| next < self.topic.end) {
            return Err(format!(
                "the last checkpoint is {found:?}, the end offset {}",
                self.topic.end
            ));
        }
        let mut last = self.previous_topics.clone();
        for record in self.topic.from(self.first_offset) {
            if matches!(record.kind, Kind::Row | Kind::Delete) {
                last.insert(record.user, ((self.topic.number, record.offset), record.kind));
            }
        }
        for user in 0..USERS {
            let expected = last
                .get(&user)
                .filter(|(_, kind)| *kind == Kind::Row)
                .map(|(record_id, _)| *record_id);
            let found = self.table.row(user)?;
            if found != expected {
                return Err(format!(
                    "the row of user {user} is of {found:?}, its last record is {expected:?}"
                ));
            }
        }
        Ok(())
    }
}
