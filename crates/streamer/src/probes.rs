//! Two watchmen: every few seconds they ask Kafka and Cassandra whether they are there and still hold the same topic and
//! the same table. They report readiness and lag; they change nothing.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use service::Dependency;
use tokio::time::sleep;

use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::session::{Sessions, Unusable};
use crate::kafka::broker::{Broker, Topic};
use crate::metrics::StreamerMetrics;
use crate::pipeline::Held;

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
    /// `/readyz`.
    pub dependency: Dependency,
    /// Lag and end offsets.
    pub metrics: Arc<StreamerMetrics>,
    /// Between two questions.
    pub interval: Duration,
}

impl KafkaProbe {
    /// Returns only when the topic is another one, or gone.
    pub async fn run(&self) -> &'static str {
        loop {
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
                .ask(move |broker| Ok((broker.topic()?, broker.watermarks(&asked)?)))
                .await
            {
                Ok((topic, _)) if topic.id != self.topic.id => return "topic_recreated",
                Ok((topic, ends)) => {
                    self.partitions.store(topic.partitions, Ordering::Relaxed);
                    self.report(&held, &ends);
                    self.dependency.ready();
                }
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) =>
                {
                    return "topic_gone";
                }
                Err(error) => self.dependency.unready(error.to_string()),
            }
            sleep(self.interval).await;
        }
    }

    fn report(&self, partitions: &[i32], ends: &[(i64, i64)]) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, (_, end)) in partitions.iter().zip(ends) {
            let Some(checkpointed) = held.get(partition) else {
                continue;
            };
            let label = partition.to_string();
            self.metrics.end_offset.with_label_values(&[&label]).set(*end);
            self.metrics
                .lag
                .with_label_values(&[&label])
                .set((end - checkpointed).max(0));
        }
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
                Ok(_) => self.sessions.dependency().ready(),
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
