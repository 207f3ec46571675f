//! Two watchmen: every few seconds they ask Kafka and Cassandra whether they are there and still hold the same topic and
//! the same table. They report readiness, lag and a standstill; they change nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use service::Dependency;
use tokio::time::sleep;

use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::sessions::{Sessions, Unusable};
use crate::kafka::broker::{Broker, Topic};
use crate::kafka::last_poll::LastPoll;
use crate::metrics::StreamerMetrics;
use crate::pipeline::Held;
use crate::seldom::Seldom;
use crate::stall::{Sight, Stall};
use crate::stopped::Stopped;

/// Watches the topic.
pub struct KafkaProbe {
    /// Asks.
    pub broker: Arc<Broker>,
    /// The topic that the process works on.
    pub topic: Topic,
    /// Its partition count, kept up to date.
    pub partitions: Arc<AtomicI32>,
    /// Whose lag is reported.
    pub held: Held,
    /// When the consumer was polled.
    pub last_poll: Arc<LastPoll>,
    /// `/readyz`.
    pub dependency: Dependency,
    /// Lag and end offsets.
    pub metrics: Arc<StreamerMetrics>,
    /// Whether the work stands still.
    pub standstill: Standstill,
    /// Between two questions.
    pub interval: Duration,
}

/// What has to be known to tell a standstill from something in the way.
pub struct Standstill {
    /// Judges.
    pub stall: Arc<Stall>,
    /// Partitions that stand still on purpose.
    pub stopped: Arc<Stopped>,
    /// In the way while they are not ready.
    pub servers: [Dependency; 2],
    /// Likewise.
    pub dead_letter_topic: Arc<Seldom>,
}

impl Standstill {
    /// Failed attempts since the last look are in the way, too: servers that are there may refuse.
    fn look(&self, failures: &mut u64, metrics: &StreamerMetrics, sights: &[Sight]) {
        let before = std::mem::replace(failures, metrics.failures());
        let ready = self.servers.iter().all(Dependency::is_ready) && self.dead_letter_topic.is_ready();
        if ready && before == *failures {
            self.stall.look(Instant::now(), sights);
        } else {
            self.stall.excuse(Instant::now());
        }
    }
}

impl KafkaProbe {
    /// Returns only when the topic is another one, or gone.
    pub async fn run(&self) -> &'static str {
        let mut failures = self.metrics.failures();
        let mut moved = BTreeMap::new();
        loop {
            self.metrics
                .poll_gap
                .set(self.last_poll.longest_gap().as_secs_f64());
            let held: Vec<_> = self
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .keys()
                .copied()
                .collect();
            let asked = held.clone();
            match self
                .broker
                .ask(move |broker| {
                    let topic = broker.topic()?;
                    broker.coordinator()?;
                    Ok((topic, broker.watermarks(&asked)?))
                })
                .await
            {
                Ok((topic, _)) if topic.id != self.topic.id => return "topic_recreated",
                Ok((topic, ends)) => {
                    self.partitions.store(topic.partitions, Ordering::Relaxed);
                    let sights = self.report(&held, &ends);
                    self.dependency.ready();
                    self.standstill.look(&mut failures, &self.metrics, &sights);
                    self.report_ages(&mut moved, &sights);
                }
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) =>
                {
                    return "topic_gone";
                }
                Err(error) => {
                    self.dependency.unready(error.to_string());
                    self.standstill.stall.excuse(Instant::now());
                }
            }
            sleep(self.interval).await;
        }
    }

    /// `moved`: of each partition its checkpoint, and when it moved there or was the end of the log.
    fn report_ages(&self, moved: &mut BTreeMap<i32, (i64, Instant)>, sights: &[Sight]) {
        let now = Instant::now();
        moved.retain(|partition, _| sights.iter().any(|sight| sight.partition == *partition));
        for sight in sights {
            let known = moved.entry(sight.partition).or_insert((sight.checkpoint, now));
            if known.0 != sight.checkpoint || sight.checkpoint >= sight.end {
                *known = (sight.checkpoint, now);
            }
            self.metrics
                .checkpoint_age
                .with_label_values(&[&sight.partition.to_string()])
                .set((now - known.1).as_secs_f64());
        }
    }

    /// Reports what is seen of each partition that is still held, and returns it.
    fn report(&self, partitions: &[i32], ends: &[(i64, i64)]) -> Vec<Sight> {
        let mut sights = Vec::with_capacity(partitions.len());
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, (_, end)) in partitions.iter().zip(ends) {
            let Some(Some(checkpointed)) = held.get(partition) else {
                continue;
            };
            let label = partition.to_string();
            self.metrics.end_offset.with_label_values(&[&label]).set(*end);
            self.metrics
                .lag
                .with_label_values(&[&label])
                .set((end - checkpointed).max(0));
            sights.push(Sight {
                partition: *partition,
                checkpoint: *checkpointed,
                end: *end,
                stopped: self.standstill.stopped.contains(*partition),
            });
        }
        sights
    }
}

/// Watches the table.
pub struct CassandraProbe {
    /// Asks.
    pub sessions: Arc<Sessions>,
    /// The table that the process writes.
    pub verified: Verified,
    /// Between two questions.
    pub interval: Duration,
}

/// What the watchman of the table found.
#[derive(Debug)]
pub enum Found {
    /// Another table of that name, or none.
    OtherTable,
    /// No session can be had.
    Unusable(Unusable),
}

impl CassandraProbe {
    /// Returns only when the process can't go on.
    pub async fn run(&self) -> Found {
        loop {
            let live = match self.sessions.live().await {
                Ok(live) => live,
                Err(unusable) => return Found::Unusable(unusable),
            };
            match schema::table_id(&live, self.sessions.settings()).await {
                Ok(id) if id != Some(self.verified.table_id) => return Found::OtherTable,
                Ok(_) => self.sessions.tables_seen(),
                Err(SchemaError::Failed {
                    fault: Fault::Reconnect { error, .. },
                    ..
                }) => {
                    self.sessions.dependency().unready(error);
                }
                Err(error) => self.sessions.dependency().unready(error.to_string()),
            }
            sleep(self.interval).await;
        }
    }
}
