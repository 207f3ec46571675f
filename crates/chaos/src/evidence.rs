//! What a round leaves behind, as plain values: all that the laws may look at. Times are seconds since the round began.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::chronicle::Gone;
use super::crew::Noted;
use testkit::cassandra_client::StampedRow;
use testkit::kafka_client::TopicRecord;

/// A process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The ingester.
    Ingester,
    /// The publisher.
    Publisher,
    /// One of the streamers, from 1.
    Streamer(u8),
}

/// The streamer that an operator starts beside those of the round.
pub const OPERATORS: Who = Who::Streamer(0);

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingester => out.write_str("ingester"),
            Self::Publisher => out.write_str("publisher"),
            Self::Streamer(number) => write!(out, "streamer-{number}"),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A record that somebody was told he may forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obligation {
    /// Whose record it is, where it has an id.
    pub id: Option<Uuid>,
    /// What was sent; none is a deletion.
    pub value: Option<Vec<u8>>,
    /// Where the acknowledgement says that it lies.
    pub place: Option<(i32, i64)>,
}

/// What the ingester's history says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its id, as the records of it carry it.
    pub id: String,
    /// How it ended.
    pub state: String,
    /// How many of its records are acknowledged.
    pub accepted: u64,
}

/// The checkpoints as they were at one moment, and what was durable right after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointSample {
    /// When they were asked for, in milliseconds since the round began.
    pub at_ms: u64,
    /// When all of it had been read, in milliseconds since 1970: what was appended later is no part of it.
    pub read_by: i64,
    /// Whether an operator has set them anew since the sample before.
    pub anew: bool,
    /// Of each partition the next offset.
    pub next: BTreeMap<i32, i64>,
    /// The rows that were there afterwards, each with its write timestamp.
    pub stamps: BTreeMap<Uuid, i64>,
    /// The dead letters that were there afterwards, by the place of the record that each was; none, when nobody could
    /// be asked.
    pub letters: Option<BTreeSet<(i32, i64)>>,
}

/// One look at a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// When.
    pub at: f64,
    /// Whether it is ready; none, when it gives no answer.
    pub ready: Option<bool>,
    /// Which dependencies it misses.
    pub missing: Vec<String>,
    /// Whether it is alive; none, when it gives no answer.
    pub alive: Option<bool>,
    /// Its metrics, the sum of each name's series, and each series with labels by itself; empty, when it gives no
    /// answer.
    pub metrics: BTreeMap<String, f64>,
}

impl Look {
    /// Whether it gave an answer at all.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.ready.is_some()
    }
}

/// What a fault takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// A dependency by the name that `/readyz` has for it.
    pub dependency: &'static str,
    /// Whose dependency it is.
    pub of: Vec<Who>,
}

/// Where a fault shows in what a process tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// It is another process than before: its start time changed, or it gave no answer.
    Restarted(Who),
    /// It gave no answer.
    Silent(Who),
    /// This metric rose in a process.
    Rose(&'static str),
    /// This metric fell in a process that had not been started anew.
    Fell(&'static str),
    /// What this histogram measures took at least so many seconds longer, on the average between two looks, than it had
    /// taken before.
    Slower(&'static str, f64),
    /// In the end, all processes together have at least so much of this metric.
    InTheEnd(&'static str, f64),
    /// A service says in `/readyz` that it misses this dependency.
    Missed(&'static str),
}

/// A fault as it came to pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The fault, in one line.
    pub fault: String,
    /// The number of its class in the campaign's plan.
    pub class: u8,
    /// When it began.
    pub began: f64,
    /// When everything was there again.
    pub ended: f64,
    /// What it takes away for all of that time.
    pub loses: Option<Loss>,
    /// The processes that can't be held to their duties meanwhile, and until they are ready again.
    pub excuses: Vec<Who>,
    /// Any one of these shows it; none is known where this is empty.
    pub signs: Vec<Sign>,
    /// Whether it shows for certain only where nothing else is broken at the time: a late answer needs somebody who asks.
    pub faint: bool,
    /// Whether work has to go on meanwhile, as where one of three servers is away.
    pub goes_on: bool,
}

/// A process that was told to end and could not finish what it held within its grace.
#[derive(Clone, Debug, PartialEq)]
pub struct LateEnd {
    /// Which.
    pub who: Who,
    /// When it was told.
    pub from: f64,
    /// When it had ended.
    pub until: f64,
}

/// What the round had to do to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Demands {
    /// Acknowledged records.
    pub acknowledged: usize,
    /// Records that overtake an earlier one of the same user.
    pub versions: usize,
    /// Dead letters.
    pub letters: usize,
    /// Faults.
    pub faults: usize,
    /// Rebalances, beyond those of the start.
    pub rebalances: usize,
    /// Runs of the ingester of which something was accepted.
    pub runs: usize,
    /// Samples of the checkpoints.
    pub samples: usize,
    /// Those of them that knew the dead letters, too.
    pub lettered_samples: usize,
    /// Whether the streamers must have read every record of the topic at least once, by their own count: where one is
    /// killed, what it had read beyond its checkpoint is read again.
    pub all_read: bool,
    /// Answers of each process with metrics in them.
    pub looks: usize,
    /// Connections to proxies.
    pub connections: usize,
}

/// Everything that is known at the end.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Whether the streamers set deletions aside, and every one of them was redriven in the end.
    pub deletions_are_redriven: bool,
    /// What was acknowledged.
    pub obligations: Vec<Obligation>,
    /// Every id that was ever sent, acknowledged or not.
    pub minted: BTreeSet<Uuid>,
    /// The print of every value that was ever sent, but the ingester's; see `laws::print`.
    pub sent: HashSet<u64>,
    /// The ingester's history.
    pub runs: Vec<Run>,
    /// Answers of the publisher that were not true to what was posted.
    pub untrue_answers: Vec<String>,
    /// The topic's name.
    pub topic: String,
    /// Kafka's id of the topic, as the checkpoints have it.
    pub topic_id: Option<Uuid>,
    /// The topic, with what was read of it and is gone.
    pub log: Vec<TopicRecord>,
    /// What is gone.
    pub gone: Gone,
    /// The dead-letter topic.
    pub letters: Vec<TopicRecord>,
    /// The table.
    pub rows: BTreeMap<Uuid, StampedRow>,
    /// The checkpoints over time, those of the end last.
    pub checkpoints: Vec<CheckpointSample>,
    /// The topic's end of each partition.
    pub ends: BTreeMap<i32, i64>,
    /// The looks at each process.
    pub looks: BTreeMap<Who, Vec<Look>>,
    /// The faults, in the order in which they began.
    pub incidents: Vec<Incident>,
    /// Processes that ended although nobody told them to, or not as they should.
    pub odd_ends: Vec<String>,
    /// Faults that were to be done and had no effect where they were done.
    pub without_effect: Vec<String>,
    /// Processes that ended with 1 after their grace.
    pub late_ends: Vec<LateEnd>,
    /// Connections that went around a proxy.
    pub around: Vec<String>,
    /// How many went to one.
    pub connections: usize,
    /// How many seconds the first record after the last fault took to its row.
    pub fresh_seconds: Option<f64>,
    /// What had to be there.
    pub demands: Demands,
}

impl Evidence {
    /// Takes up what was noted of the processes; what one told of itself last is one more look at it.
    pub fn take(&mut self, noted: Noted) {
        self.odd_ends = noted.odd;
        self.late_ends = noted.late;
        self.without_effect = noted.without_effect;
        for (who, look) in noted.last {
            self.looks.entry(who).or_default().push(look);
        }
        for looks in self.looks.values_mut() {
            looks.sort_by(|one, other| one.at.total_cmp(&other.at));
        }
    }
}
