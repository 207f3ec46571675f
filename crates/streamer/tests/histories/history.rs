//! One history: what may happen next is drawn by chance, and after each step the laws are asked.

use std::collections::BTreeMap;

use streamer::checkpoint::start_offset_resolver::verify_read_back;
use streamer::checkpoint::{self, PartitionInfo, StartReason, admin};
use streamer::config::{CheckpointSettings, DeadLetterSettings};
use streamer::dead_letters::limits::DeadLetterLimits;

use crate::Chance;
use crate::member::Member;
use crate::servers::{Event, Kind, Record, Stored, Table, Topic};

const USERS: usize = 4;
const STEPS: usize = 80;
const SECOND: i64 = 1_000_000;
/// 2027, in microseconds since 1970.
const START: i64 = 1_800_000_000 * SECOND;

/// How often what happened, so that tame histories are found out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    records: usize,
    zombies: usize,
    returns: usize,
    crashes: usize,
    revocations: usize,
    replays: usize,
    topics: usize,
    tables: usize,
    stops: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.zombies += other.zombies;
        self.returns += other.returns;
        self.crashes += other.crashes;
        self.revocations += other.revocations;
        self.replays += other.replays;
        self.topics += other.topics;
        self.tables += other.tables;
        self.stops += other.stops;
    }

    pub(crate) fn is_rich(&self) -> bool {
        let Self {
            records,
            zombies,
            returns,
            crashes,
            revocations,
            replays,
            topics,
            tables,
            stops,
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
                stops,
            ]
            .iter()
            .all(|count| *count > 500)
    }
}

pub(crate) struct History {
    chance: Chance,
    now: i64,
    topic: Topic,
    table: Table,
    stored: Stored,
    owner: Option<Member>,
    /// Members that lost the partition and have not noticed.
    zombies: Vec<Member>,
    /// What topics before this one left in the table: each user's last event.
    before: BTreeMap<usize, (Event, Kind)>,
    /// Below it nobody wants the records in the present table.
    floor: i64,
    /// Up to where the checkpoint was seen, since it was last moved on purpose.
    reached: i64,
    limits: DeadLetterLimits,
    seen: Seen,
}

impl History {
    pub(crate) fn new(chance: Chance) -> Self {
        Self {
            chance,
            now: START,
            topic: Topic::new(0),
            table: Table::new(0),
            stored: Stored::default(),
            owner: None,
            zombies: Vec::new(),
            before: BTreeMap::new(),
            floor: 0,
            reached: 0,
            limits: DeadLetterLimits::new(&DeadLetterSettings {
                max_consecutive: 3,
                ..DeadLetterSettings::default()
            }),
            seen: Seen::default(),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// # Errors
    /// The law that was broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.now += SECOND * (1 + self.chance.number(600));
            self.step()?;
            self.obey_the_laws()?;
        }
        self.end()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.chance.below(100) {
            0..=19 => self.produce(),
            20..=22 => self.topic.end += 1 + self.chance.number(2),
            23..=30 => self.assign()?,
            31..=34 => self.revoke()?,
            35..=37 => self.crash(),
            38..=43 => self.replay(),
            44 => self.replace_table(),
            45 => self.replace_topic(),
            46..=50 => self.resume(),
            _ => self.work()?,
        }
        Ok(())
    }

    /// Some records, under timestamps that go forth, back and nowhere. None is more than an hour ahead: until the next
    /// checkpoint the reader's clock would decide there, and the clock has a law of its own for what comes after.
    fn produce(&mut self) {
        for _ in 0..=self.chance.below(8) {
            let kind = match self.chance.below(20) {
                0..=2 => Kind::Delete,
                3..=5 => Kind::Garbage,
                6 => Kind::Refused,
                _ => Kind::Row,
            };
            let timestamp = match self.chance.below(8) {
                0 => START,
                1..=4 => self.now - self.chance.number(3_600) * SECOND,
                _ => self.now + self.chance.number(3_000) * SECOND,
            };
            self.topic.records.push(Record {
                offset: self.topic.end,
                timestamp,
                user: self.chance.below(USERS),
                kind,
            });
            self.topic.end += 1;
            self.seen.records += 1;
        }
    }

    fn known(&self) -> PartitionInfo {
        PartitionInfo {
            partition: 0,
            checkpoint: self.stored.checkpoint,
            group_has_checkpoints: self.stored.checkpoint.is_some(),
            topic_id: self.topic.id,
            table_id: self.table.id,
            beginning: 0,
            end: self.topic.end,
            committed: None,
        }
    }

    /// A member takes the partition over; who had it becomes a zombie, or is given it again.
    fn assign(&mut self) -> Result<(), String> {
        let again = self.chance.once_in(2);
        let mut before = self.owner.take();
        if again
            && let Some(owner) = &mut before
            && self.chance.once_in(2)
        {
            owner.drain(&mut self.table, &mut self.stored, &mut self.chance, self.now)?;
        }
        let start = checkpoint::resolve_start(&self.known(), &CheckpointSettings::default(), self.now);
        let start = start.map_err(|error| error.to_string())?;
        if start.reason != StartReason::Checkpoint {
            self.reached = start.checkpoint.position.next_offset;
            self.stored.store(start.checkpoint)?;
            let read: Vec<_> = self.stored.checkpoint.into_iter().collect();
            verify_read_back(&[start.checkpoint], &read).map_err(|error| error.to_string())?;
        }
        if again && let Some(owner) = before.take_if(|owner| owner.writes_to(&self.topic, &self.table)) {
            self.seen.returns += 1;
            self.owner = Some(owner.again(&start, self.limits));
            return Ok(());
        }
        // Clocks of two members are up to an hour apart; none is so far behind that a record is in its future.
        let skew = (self.chance.number(4_000) - 400) * SECOND;
        self.owner = Some(Member::new(&start, &self.topic, self.limits, skew));
        if let Some(zombie) = before {
            self.seen.zombies += 1;
            self.zombies.push(zombie);
        }
        Ok(())
    }

    fn revoke(&mut self) -> Result<(), String> {
        if let Some(mut owner) = self.owner.take() {
            self.seen.revocations += 1;
            owner.drain(&mut self.table, &mut self.stored, &mut self.chance, self.now)?;
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.seen.crashes += 1;
        if self.zombies.is_empty() || self.chance.once_in(2) {
            self.owner = None;
        } else {
            let zombie = self.chance.below(self.zombies.len());
            self.zombies.swap_remove(zombie);
        }
    }

    /// The operator moves the checkpoint back. A zombie is no member, and may go on.
    fn replay(&mut self) {
        self.owner = None;
        let offset = self.chance.number(self.topic.end + 1);
        if let Some(moved) = admin::replay(&self.known(), offset, self.now) {
            self.seen.replays += 1;
            self.reached = moved.position.next_offset;
            self.floor = self.floor.min(self.reached);
            self.stored.checkpoint = Some(moved);
        }
    }

    /// The table is dropped, and filled again from some offset.
    fn replace_table(&mut self) {
        let known = self
            .stored
            .checkpoint
            .is_some_and(|found| found.topic_id == self.topic.id);
        if !known {
            return;
        }
        self.seen.tables += 1;
        self.owner = None;
        self.zombies.clear();
        self.table = Table::new(self.seen.tables);
        let offset = self.chance.number(self.topic.end + 1);
        let moved = admin::replay(&self.known(), offset, self.now).unwrap();
        self.reached = moved.position.next_offset;
        self.floor = self.reached;
        self.before.clear();
        self.stored.durable.clear();
        self.stored.checkpoint = Some(moved);
    }

    /// The topic is deleted and created again, once everything that was written of it is checkpointed and no replay is
    /// under way: what a killed member wrote beyond its checkpoint has stamps that nobody remembers.
    fn replace_topic(&mut self) {
        let Some(found) = self.stored.checkpoint else {
            return;
        };
        let max_seen = found.position.max_seen;
        let remembered = max_seen.write_timestamp.unwrap_or_default() >= self.table.highest
            && found.position.next_offset >= max_seen.offset;
        if found.topic_id != self.topic.id || !remembered {
            return;
        }
        self.seen.topics += 1;
        self.owner = None;
        self.zombies.clear();
        for record in &self.topic.records {
            let event = (self.topic.number, record.offset);
            let written =
                matches!(record.kind, Kind::Row | Kind::Delete) && self.stored.durable.contains(&event);
            if written {
                self.before.insert(record.user, (event, record.kind));
            }
        }
        self.topic = Topic::new(self.topic.number + 1);
        self.floor = 0;
        self.reached = 0;
    }

    fn resume(&mut self) {
        let stopped = self.owner.as_ref().is_some_and(Member::is_stopped);
        if stopped || self.owner.is_none() {
            self.owner = None;
            self.seen.stops += usize::from(stopped);
            let cleared = self
                .stored
                .checkpoint
                .and_then(|found| admin::reset_limits(&found, self.now));
            self.stored.checkpoint = cleared.or(self.stored.checkpoint);
        }
    }

    /// A member does a part of its work.
    fn work(&mut self) -> Result<(), String> {
        let zombie = !self.zombies.is_empty() && (self.owner.is_none() || self.chance.once_in(3));
        let member = if zombie {
            let zombie = self.chance.below(self.zombies.len());
            Some(&mut self.zombies[zombie])
        } else {
            self.owner.as_mut()
        };
        let Some(member) = member else { return Ok(()) };
        if !member.writes_to(&self.topic, &self.table) {
            return Ok(());
        }
        let (table, stored, chance) = (&mut self.table, &mut self.stored, &mut self.chance);
        match chance.below(15) {
            0..=2 => {
                let most = 1 + chance.below(6);
                member.read(&self.topic, most);
            }
            3..=5 => member.receive(stored, self.now)?,
            6..=7 => member.flush(),
            8..=9 => member.write_one(table, stored, chance),
            10..=11 => member.complete(table, stored, chance),
            12..=13 => member.save(),
            _ => {
                let lost = chance.once_in(4);
                member.land(stored, lost)?;
            }
        }
        Ok(())
    }

    fn obey_the_laws(&mut self) -> Result<(), String> {
        let Some(found) = self.stored.checkpoint else {
            return Ok(());
        };
        let next = found.position.next_offset;
        if found.topic_id != self.topic.id {
            return Ok(());
        }
        if next < self.reached {
            return Err(format!(
                "the checkpoint moved back from {} to {next}",
                self.reached
            ));
        }
        self.reached = next;
        let passed = self.topic.from(self.floor).iter();
        let mut passed = passed.take_while(|record| record.offset < next);
        let lost = passed.find(|record| !self.stored.durable.contains(&(self.topic.number, record.offset)));
        match lost {
            Some(record) => Err(format!(
                "the checkpoint {next} passed offset {}, which is not durable",
                record.offset
            )),
            None => Ok(()),
        }
    }

    /// Everybody dies, one member reads to the end: the table is the log.
    fn end(&mut self) -> Result<(), String> {
        self.owner = None;
        // Zombies finish in the middle of it, which must not matter.
        self.assign()?;
        for _ in 0..10_000 {
            let stopped = self.owner.as_ref().is_none_or(Member::is_stopped);
            let ended = self
                .stored
                .checkpoint
                .is_some_and(|found| found.position.next_offset >= self.topic.end);
            if ended {
                break;
            }
            if stopped {
                self.seen.stops += usize::from(self.owner.is_some());
                self.revoke()?;
                self.resume();
                self.assign()?;
            }
            self.now += SECOND;
            self.work()?;
            self.obey_the_laws()?;
        }
        for mut zombie in std::mem::take(&mut self.zombies) {
            if zombie.writes_to(&self.topic, &self.table) {
                zombie.drain(&mut self.table, &mut self.stored, &mut self.chance, self.now)?;
            }
        }
        self.obey_the_laws()?;
        self.compare()
    }

    fn compare(&self) -> Result<(), String> {
        let found = self.stored.checkpoint.map(|found| found.position.next_offset);
        if found.is_some_and(|next| next < self.topic.end) {
            return Err(format!(
                "at the end the checkpoint is {found:?} of {}",
                self.topic.end
            ));
        }
        let mut last = self.before.clone();
        for record in self.topic.from(self.floor) {
            if matches!(record.kind, Kind::Row | Kind::Delete) {
                last.insert(record.user, ((self.topic.number, record.offset), record.kind));
            }
        }
        for user in 0..USERS {
            let expected = last
                .get(&user)
                .filter(|(_, kind)| *kind == Kind::Row)
                .map(|(event, _)| *event);
            let found = self.table.row(user)?;
            if found != expected {
                return Err(format!(
                    "user {user} is {found:?}, and its last event is {expected:?}"
                ));
            }
        }
        Ok(())
    }
}
