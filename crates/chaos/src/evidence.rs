//! What a round leaves behind, as plain values: the input of the invariants. Times are seconds since the round started.

pub(crate) mod health;
pub(crate) mod incident;
pub(crate) mod json;
pub(crate) mod records;
pub(crate) mod run_ledger;
pub(crate) mod topic_history;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Contract, Key};
use testkit::kafka_client::TopicRecord;
use testkit::rows::{RowId, StampedRow};
use uuid::Uuid;

use self::health::{HealthSample, ServiceEvents};
use self::incident::Incident;
use self::records::{AckedRecord, IngesterRun, Position};
use self::run_ledger::LedgerRanges;
use self::topic_history::LostRecords;
use crate::service_id::ServiceId;

/// The checkpoints at one time, and what was durable right after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckpointSample {
    /// When the checkpoints were read, in milliseconds since the round started.
    pub(crate) at_ms: u64,
    /// When the sample was complete, in milliseconds since 1970. Later records are not part of it.
    pub(crate) read_at_ms: i64,
    /// Whether an operator has changed the checkpoints since the sample before.
    pub(crate) reset: bool,
    /// The next offset of each partition.
    pub(crate) next_offsets: BTreeMap<i32, i64>,
    /// The write timestamp of each row.
    pub(crate) write_timestamps: BTreeMap<RowId, i64>,
    /// The positions of the dead letters' original records, if they could be read.
    pub(crate) dead_letters: Option<BTreeSet<Position>>,
}

/// What a round must have done at least to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct RequiredCoverage {
    pub(crate) acked: usize,
    /// Records that replace an earlier one of the same row.
    pub(crate) versions: usize,
    pub(crate) dead_letters: usize,
    /// Records that have expired before they are read.
    pub(crate) expired: usize,
    pub(crate) faults: usize,
    /// After the start.
    pub(crate) rebalances: usize,
    /// Ingester runs with accepted records.
    pub(crate) runs: usize,
    /// Records of a run.
    pub(crate) numbered: usize,
    pub(crate) checkpoint_samples: usize,
    /// Checkpoint samples that include the dead letters.
    pub(crate) dead_letter_samples: usize,
    /// Whether the streamers' own counters must cover every record of the topic. A killed streamer reads again what it
    /// had read beyond its checkpoint.
    pub(crate) all_read: bool,
    /// Samples with metrics, of each process.
    pub(crate) health_samples: usize,
    /// Connections to proxies.
    pub(crate) proxy_connections: usize,
}

/// The contract of a round's records; by default that of users.
#[derive(Clone, Debug)]
pub(crate) struct RoundContract(pub(crate) Arc<Contract>);

impl Default for RoundContract {
    fn default() -> Self {
        Self(Contract::user())
    }
}

/// Everything known at the end of a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) contract: RoundContract,
    /// The time to live of rows; none if they do not expire.
    pub(crate) row_ttl: Option<Duration>,
    /// Whether services of the previous release ran.
    pub(crate) is_mixed: bool,
    /// Whether the streamers dead-lettered tombstones, all of which were redriven in the end.
    pub(crate) tombstones_redriven: bool,
    pub(crate) acked: Vec<AckedRecord>,
    /// Every key that was sent, acknowledged or not.
    pub(crate) sent_keys: BTreeSet<Key>,
    /// The fingerprint of every value that was sent, except by the ingester; see [`records::fingerprint`].
    pub(crate) sent_fingerprints: HashSet<u64>,
    /// The ingester's run history.
    pub(crate) runs: Vec<IngesterRun>,
    /// The ledger of each run in the topic, as a streamer reports it.
    pub(crate) run_ledgers: BTreeMap<Uuid, LedgerRanges>,
    /// Publisher responses that contradict the request.
    pub(crate) wrong_responses: Vec<String>,
    pub(crate) topic: String,
    /// Kafka's topic id, as the checkpoints contain it.
    pub(crate) topic_id: Option<Uuid>,
    /// The topic, including lost records that the streamers had read.
    pub(crate) log: Vec<TopicRecord>,
    pub(crate) lost: LostRecords,
    /// The dead-letter topic.
    pub(crate) dead_letters: Vec<TopicRecord>,
    /// The table.
    pub(crate) rows: BTreeMap<RowId, StampedRow>,
    /// The checkpoints over time; the last sample is from the end.
    pub(crate) checkpoints: Vec<CheckpointSample>,
    /// The end offset of each partition.
    pub(crate) ends: BTreeMap<i32, i64>,
    pub(crate) health: BTreeMap<ServiceId, Vec<HealthSample>>,
    /// The faults, ordered by start.
    pub(crate) incidents: Vec<Incident>,
    pub(crate) events: ServiceEvents,
    /// Connections that bypass a proxy.
    pub(crate) proxy_bypasses: Vec<String>,
    pub(crate) proxy_connections: usize,
    /// Seconds from the last fault until a record posted after it is a row.
    pub(crate) recovery_seconds: Option<f64>,
    pub(crate) required: RequiredCoverage,
}

impl Evidence {
    /// Adds the events; the last sample of each process joins its health samples.
    pub(crate) fn add_events(&mut self, mut events: ServiceEvents) {
        for (id, sample) in events.last_samples.drain(..) {
            self.health.entry(id).or_default().push(sample);
        }
        self.events = events;
        for samples in self.health.values_mut() {
            samples.sort_by(|one, other| one.at.total_cmp(&other.at));
        }
    }
}
