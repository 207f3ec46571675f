//! What the round's users do: they post new people and new versions of people, delete some, and now and then send what is
//! no record at all, to the publisher and past it; the ingester makes its runs. An obligation is noted only where an
//! acknowledgement came.

mod bad;
mod fresh;
mod history;
mod mint;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::mint::{Mint, Minted};
use super::RoundError;
use super::chronicle::Chronicle;
use super::evidence::Obligation;
use super::laws::print;
use testkit::kafka_client::KafkaClient;

/// Posters side by side, so that one who waits for a frozen publisher does not end all traffic.
const POSTERS: u64 = 3;
/// Records in a request.
const BATCH: usize = 12;
/// Between two requests of a poster.
const BREATH: Duration = Duration::from_millis(60);
/// Above the publisher's own deadline.
const PATIENCE: Duration = Duration::from_secs(35);
/// Between two runs that are asked of the ingester.
const BETWEEN_RUNS: Duration = Duration::from_secs(5);
/// Users of such a run.
const RUN: u64 = 300;

/// Whether a poster wants to hear where its records lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Places {
    Told,
    Untold,
}

impl Places {
    /// Not everybody asks for them.
    fn of(poster: u64) -> Self {
        if poster == 0 { Self::Untold } else { Self::Told }
    }
}

/// All that was sent and acknowledged so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Acknowledged.
    pub obligations: Vec<Obligation>,
    /// Ever sent.
    pub minted: BTreeSet<Uuid>,
    /// The prints of all that was ever sent.
    pub sent: HashSet<u64>,
    /// Answers that were not true.
    pub untrue: Vec<String>,
}

/// The traffic of one round.
pub struct Workload {
    client: Client,
    publisher: String,
    ingester: String,
    topic: String,
    tap: KafkaClient,
    seed: u64,
    chronicle: Arc<Chronicle>,
    ledger: Mutex<Ledger>,
    /// Read by each request that is under way.
    gate: RwLock<()>,
    stop: CancellationToken,
}

impl Workload {
    /// Nothing flows yet.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(
        publisher: &str,
        ingester: &str,
        topic: &str,
        bootstrap: String,
        chronicle: Arc<Chronicle>,
        seed: u64,
    ) -> Result<Self, RoundError> {
        let client = Client::builder()
            .timeout(PATIENCE)
            .build()
            .map_err(RoundError::Client)?;
        Ok(Self {
            client,
            publisher: format!("{publisher}/v1/users"),
            ingester: format!("{ingester}/v1/runs"),
            topic: topic.to_owned(),
            tap: KafkaClient::new(bootstrap)?,
            seed,
            chronicle,
            ledger: Mutex::default(),
            gate: RwLock::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Runs until [`Workload::stop`]; ends once every request has its answer.
    pub async fn run(&self) {
        let posters = (0..POSTERS).map(|poster| self.post_on(poster));
        tokio::join!(
            futures::future::join_all(posters),
            self.strange(),
            self.order_runs()
        );
    }

    /// No request begins any more; those under way go on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Holds all requests back, once every one that is under way has its answer, until the guard is dropped. Runs of the
    /// ingester may go on.
    pub async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// What was sent and acknowledged, once it has stopped.
    #[must_use]
    pub fn into_ledger(self) -> Ledger {
        self.ledger.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger());
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records are acknowledged by now.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.ledger().obligations.len()
    }

    async fn post_on(&self, poster: u64) {
        let mut mint = Mint::new(self.seed.wrapping_mul(31).wrapping_add(poster));
        while !self.stop.is_cancelled() {
            match mint.once_in(25).then(|| mint.known()).flatten() {
                Some(id) => self.delete(id).await,
                None => {
                    let batch: Vec<_> = (0..BATCH).map(|_| mint.draw()).collect();
                    self.post(&batch, Places::of(poster)).await;
                }
            }
            sleep(BREATH).await;
        }
    }

    async fn post(&self, batch: &[Minted], places: Places) {
        let _under_way = self.gate.read().await;
        // It may have been held back until the end.
        if self.stop.is_cancelled() {
            return;
        }
        self.note(|ledger| {
            ledger.minted.extend(batch.iter().filter_map(|minted| minted.id));
            let good = batch.iter().filter(|minted| minted.id.is_some());
            ledger
                .sent
                .extend(good.map(|minted| print(Some(minted.json.as_bytes()))));
        });
        let bodies: Vec<_> = batch.iter().map(|minted| minted.json.as_str()).collect();
        let mut request = self
            .client
            .post(&self.publisher)
            .header("content-type", "application/x-ndjson")
            .body(bodies.join("\n"));
        if places == Places::Told {
            request = request.header("prefer", "return=representation");
        }
        // A refusal, a doubt or no answer at all: nothing is promised.
        let Ok(answer) = request.send().await else { return };
        let status = answer.status();
        if !matches!(
            status,
            StatusCode::OK | StatusCode::MULTI_STATUS | StatusCode::UNPROCESSABLE_ENTITY
        ) {
            return;
        }
        let Ok(told) = answer.json::<Value>().await else {
            return;
        };
        self.hear(batch, places, status, &told);
    }

    /// Takes the answer by its word, and holds it against what was sent.
    fn hear(&self, batch: &[Minted], places: Places, status: StatusCode, told: &Value) {
        let list = |name: &str| told[name].as_array().cloned().unwrap_or_default();
        let index = |entry: &Value| {
            entry["index"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
        };
        let refused: BTreeSet<_> = list("errors").iter().filter_map(index).collect();
        let bad: BTreeSet<_> = (0..batch.len())
            .filter(|place| batch[*place].id.is_none())
            .collect();
        let accepted = list("records");
        let counted = told["accepted"]
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0);
        let good = batch.len() - bad.len();
        let mut untrue = refused != bad || counted != good;
        let mut obligations = Vec::new();
        // Places that were asked for and did not come make the answer no less an acknowledgement.
        untrue |= places == Places::Told && accepted.len() != counted;
        let places = if accepted.is_empty() {
            Places::Untold
        } else {
            places
        };
        match places {
            // Each that was not refused is acknowledged.
            Places::Untold => {
                let good = (0..)
                    .zip(batch)
                    .filter(|(place, minted)| minted.id.is_some() && !refused.contains(place));
                obligations.extend(good.map(|(_, minted)| promised(minted, None)));
            }
            Places::Told => {
                for entry in &accepted {
                    let minted = index(entry).and_then(|place| batch.get(place));
                    let partition = entry["partition"]
                        .as_i64()
                        .and_then(|number| i32::try_from(number).ok());
                    if let (Some(minted), Some(partition), Some(offset)) =
                        (minted, partition, entry["offset"].as_i64())
                    {
                        let place = self.chronicle.place(None, (partition, offset));
                        obligations.push(promised(minted, Some(place)));
                    }
                }
            }
        }
        self.note(|ledger| {
            if untrue {
                ledger.untrue.push(format!(
                    "{status}: refused {refused:?} of the bad {bad:?}, accepted {counted}"
                ));
            }
            // What a wrong answer acknowledges is acknowledged.
            ledger.obligations.extend(obligations);
        });
    }

    async fn delete(&self, id: Uuid) {
        let _under_way = self.gate.read().await;
        if self.stop.is_cancelled() {
            return;
        }
        let answer = self
            .client
            .delete(format!("{}/{id}", self.publisher))
            .send()
            .await;
        if answer.is_ok_and(|answer| answer.status() == StatusCode::NO_CONTENT) {
            self.note(|ledger| {
                let (id, value, place) = (Some(id), None, None);
                ledger.obligations.push(Obligation { id, value, place });
            });
        }
    }

    /// Other producers of the topic, who are not as careful as ours. They pause while nobody else gets anything through:
    /// nothing but garbage is what a streamer stops a partition for, as it has to.
    async fn strange(&self) {
        let mut chance = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        let mut seen = 0;
        while !self.stop.is_cancelled() {
            if self.acknowledged() == seen {
                sleep(BREATH).await;
                continue;
            }
            let record = bad::record(&mut chance);
            let (value, key) = (record.value.clone(), record.key.clone());
            let under_way = self.gate.read().await;
            if self.stop.is_cancelled() {
                return;
            }
            self.note(|ledger| {
                ledger.sent.insert(print(value.as_deref()));
            });
            // A record that is queued will be written: nobody walks away from it.
            let written = self.tap.write(&self.topic, std::slice::from_ref(&record));
            if let Ok(places) = written.await {
                let id = key
                    .and_then(|key| Uuid::try_parse_ascii(&key).ok())
                    .filter(|_| value.is_none());
                let place = places.first().map(|place| self.chronicle.place(None, *place));
                self.note(|ledger| ledger.obligations.push(Obligation { id, value, place }));
            }
            seen = self.acknowledged();
            drop(under_way);
            sleep(BREATH * 3).await;
        }
    }

    async fn order_runs(&self) {
        let mut number = 0;
        while !self.stop.is_cancelled() {
            let order = serde_json::json!({"users": RUN, "seed": format!("chaos{}x{number}", self.seed)});
            let under_way = self.gate.read().await;
            if self.stop.is_cancelled() {
                return;
            }
            // It may be down, or still at the run before.
            drop(self.client.post(&self.ingester).json(&order).send().await);
            drop(under_way);
            number += 1;
            if self.stop.run_until_cancelled(sleep(BETWEEN_RUNS)).await.is_none() {
                return;
            }
        }
    }
}

fn promised(minted: &Minted, place: Option<(i32, i64)>) -> Obligation {
    Obligation {
        id: minted.id,
        value: Some(minted.json.clone().into_bytes()),
        place,
    }
}
