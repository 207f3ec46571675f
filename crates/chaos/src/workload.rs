//! Traffic of a round: clients post records, versions of records, deletions and invalid ones; other producers write to the
//! topic; the ingester runs. A record counts as acknowledged only after its acknowledgement.

mod ack_log;
mod canary;
mod foreign;
mod posts;
mod records;
mod runs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::Contract;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Url};
use testkit::generator::Generator;
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::record_type::RecordType;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::records::RecordGenerator;
use crate::evidence::records::{AckedRecord, fingerprint};
use crate::evidence::topic_history::TopicHistory;

pub(crate) use self::ack_log::AckLog;

/// Concurrent clients, so that one request to a frozen publisher does not stop all traffic.
const CLIENTS: u64 = 3;
/// Records in a request.
const BATCH_SIZE: usize = 12;
/// Between two requests of a client, for each node of Cassandra: all share the machine. The few records of another producer
/// come at their own pace.
const REQUEST_INTERVAL: Duration = Duration::from_millis(60);
/// Longer than the publisher's own timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// Between two requested runs of the ingester.
const RUN_INTERVAL: Duration = Duration::from_secs(5);
/// Users of such a run.
const RUN_USERS: u64 = 300;

/// Whether the response to a request must have the positions of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Positions {
    Requested,
    Omitted,
}

/// The run of a client, and the number of its next record.
#[derive(Clone, Copy, Debug)]
struct ClientRun {
    id: Uuid,
    next: u64,
}

/// Where the workload sends its requests.
pub(crate) struct Endpoints<'a> {
    pub(crate) publisher: &'a str,
    pub(crate) ingester: &'a str,
    pub(crate) topic: &'a str,
    /// The oracle's Kafka client, which also plays other producers.
    pub(crate) kafka: KafkaClient,
}

/// What the workload sends.
pub(crate) struct Traffic {
    pub(crate) record: RecordType,
    /// The time to live of rows; none if no record is to be expired.
    pub(crate) row_ttl: Option<Duration>,
    /// Nodes of Cassandra.
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
}

/// The traffic of a round.
pub(crate) struct Workload {
    client: Client,
    record: RecordType,
    row_ttl: Option<Duration>,
    /// Between two requests of a client.
    interval: Duration,
    publisher: Url,
    ingester: String,
    topic: String,
    kafka: KafkaClient,
    seed: u64,
    history: Arc<TopicHistory>,
    ack_log: Mutex<AckLog>,
    /// Read-locked by each request in flight.
    gate: RwLock<()>,
    stop: CancellationToken,
}

impl Workload {
    /// Prepares the traffic without starting it.
    pub(crate) fn new(
        traffic: Traffic,
        endpoints: Endpoints<'_>,
        history: Arc<TopicHistory>,
    ) -> Result<Self> {
        let Traffic {
            record,
            row_ttl,
            nodes,
            seed,
        } = traffic;
        let client = Client::builder().timeout(REQUEST_TIMEOUT).build();
        let publisher = format!("{}{}", endpoints.publisher, record.route());
        Ok(Self {
            client: client.context("failed to build an HTTP client")?,
            record,
            row_ttl,
            interval: REQUEST_INTERVAL * u32::try_from(nodes).unwrap_or(1),
            publisher: publisher.parse().context("the publisher has no valid address")?,
            ingester: format!("{}/v1/runs", endpoints.ingester),
            topic: endpoints.topic.to_owned(),
            kafka: endpoints.kafka,
            seed,
            history,
            ack_log: Mutex::default(),
            gate: RwLock::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Runs until [`Workload::stop`] and the last response.
    pub(crate) async fn run(&self) {
        let clients = (0..CLIENTS).map(|client| self.run_client(client));
        tokio::join!(
            futures::future::join_all(clients),
            self.run_foreign_producer(),
            self.request_runs()
        );
    }

    /// Starts no more requests; those in flight continue.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the requests in flight and blocks new ones until the guard is dropped. Runs of the ingester continue.
    pub(crate) async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// What was sent and acknowledged, once the workload has stopped.
    pub(crate) fn into_ack_log(self) -> AckLog {
        self.ack_log.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn contract(&self) -> &Arc<Contract> {
        self.record.contract()
    }

    fn ack_log(&self) -> MutexGuard<'_, AckLog> {
        self.ack_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.ack_log().acked.len()
    }

    /// Waits for a pause to end; returns `None` if the workload has stopped meanwhile.
    async fn begin_request(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let guard = self.gate.read().await;
        (!self.stop.is_cancelled()).then_some(guard)
    }

    fn client_seed(&self, client: u64) -> u64 {
        self.seed.wrapping_mul(31).wrapping_add(client)
    }

    async fn run_client(&self, client: u64) {
        let mut records = RecordGenerator::new(self.contract().clone(), self.client_seed(client));
        // The records of the first client belong to no run.
        let (positions, mut run) = if client == 0 {
            (Positions::Omitted, None)
        } else {
            let id = Uuid::new_v4();
            (Positions::Requested, Some(ClientRun { id, next: 0 }))
        };
        while !self.stop.is_cancelled() {
            match records.one_in(25).then(|| records.known_key()).flatten() {
                Some(key) => self.delete(key).await,
                None => {
                    let batch: Vec<_> = (0..BATCH_SIZE).map(|_| records.draw()).collect();
                    self.post(&batch, positions, run).await;
                    if let Some(run) = &mut run {
                        run.next += BATCH_SIZE as u64;
                    }
                }
            }
            sleep(self.interval).await;
        }
    }

    /// Writes invalid and expired records to the topic as another producer. It waits while no other record is acknowledged, because a
    /// streamer stops a partition that contains only invalid records.
    async fn run_foreign_producer(&self) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        let generator = Generator::new(self.contract().clone(), self.seed);
        // Of rows that a client also writes.
        let known = Generator::new(self.contract().clone(), self.client_seed(1));
        let mut seen = 0;
        while !self.stop.is_cancelled() {
            if self.acknowledged() == seen {
                sleep(self.interval).await;
                continue;
            }
            let invalid = foreign::record(&generator, &mut rng);
            let expired = self.row_ttl.filter(|_| rng.random_ratio(1, 2));
            let expired = expired.map(|ttl| foreign::expired(&known, ttl, &mut rng));
            for record in [Some(invalid), expired].into_iter().flatten() {
                if !self.write_foreign(&record).await {
                    return;
                }
            }
            seen = self.acknowledged();
            sleep(REQUEST_INTERVAL * 3).await;
        }
    }

    /// Returns false if the workload has stopped.
    async fn write_foreign(&self, record: &ProducerRecord) -> bool {
        let Some(_request) = self.begin_request().await else {
            return false;
        };
        let value = record.value.clone();
        self.ack_log()
            .sent_fingerprints
            .insert(fingerprint(self.contract(), value.as_deref()));
        // A queued record will be written, so this wait is never cancelled.
        let written = self.kafka.write(&self.topic, std::slice::from_ref(record));
        if let Ok(positions) = written.await {
            let position = positions.first();
            let position = position.map(|position| self.history.continued(None, *position));
            let key = record.key.as_deref();
            let key = key.and_then(|key| self.contract().parse_key(key).ok());
            self.ack_log().acked.push(AckedRecord { key, value, position });
        }
        true
    }

    /// The ingester has users only.
    async fn request_runs(&self) {
        if !self.record.is_users() {
            return;
        }
        let mut number = 0;
        while !self.stop.is_cancelled() {
            let run = serde_json::json!({"users": RUN_USERS, "seed": format!("chaos{}x{number}", self.seed)});
            let Some(request) = self.begin_request().await else {
                return;
            };
            // The ingester may be down or busy.
            drop(self.client.post(&self.ingester).json(&run).send().await);
            drop(request);
            number += 1;
            if self.stop.run_until_cancelled(sleep(RUN_INTERVAL)).await.is_none() {
                return;
            }
        }
    }
}
