//! The bare loop: a producer with the publisher's own settings that writes records from memory and does nothing else.
//! An error ends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use thiserror::Error;

use crate::usage::{Cost, own_cpu_seconds, peak_mib};
use testkit::people::{Person, people};

/// How long the loop waits for room in the producer's queue.
const NO_ROOM: Duration = Duration::from_micros(500);

/// How long the last records may take.
const FLUSH: Duration = Duration::from_secs(30);

/// Different records; they are written again and again.
const RECORDS: u64 = 50_000;

/// What the loop writes.
#[derive(Debug, Clone, Args)]
pub struct BareLoop {
    /// `host:port` of a broker
    #[arg(long)]
    pub brokers: String,
    /// An existing topic
    #[arg(long)]
    pub topic: String,
    /// How long it writes
    #[arg(long)]
    pub seconds: u64,
    /// Milliseconds for which the producer waits for company
    #[arg(long, default_value_t = 1)]
    pub linger_ms: u64,
}

/// The loop ended early.
#[derive(Debug, Error)]
pub enum BareError {
    /// librdkafka's own error.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Records without an acknowledgement.
    #[error("{0} records were not acknowledged")]
    Lost(u64),
}

/// Counts acknowledgements.
#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A record as it will be sent.
struct Ready {
    key: String,
    value: Vec<u8>,
}

impl BareLoop {
    /// Writes, waits for the last acknowledgement and tells what it cost.
    ///
    /// # Errors
    /// [`BareError`]; a figure of a run with errors would be none.
    pub fn run(&self) -> Result<Cost, BareError> {
        let memory: Vec<Ready> = people(5, 0..RECORDS).map(|person| ready(&person)).collect();
        let producer: ThreadedProducer<Acknowledged> =
            settings(&self.brokers, self.linger_ms).create_with_context(Acknowledged::default())?;
        let headers = headers();
        let (started, cpu) = (Instant::now(), own_cpu_seconds());
        let until = started + Duration::from_secs(self.seconds);
        let mut sent = 0;
        for record in memory.iter().cycle() {
            if sent % 1_000 == 0 && Instant::now() >= until {
                break;
            }
            send(&producer, &self.topic, record, &headers)?;
            sent += 1;
        }
        producer.flush(FLUSH)?;
        let acknowledged = producer.context().count.load(Ordering::Relaxed);
        if acknowledged != sent {
            return Err(BareError::Lost(sent - acknowledged));
        }
        Ok(Cost {
            rows: sent,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - cpu,
            peak_mib: peak_mib(std::process::id()).unwrap_or(0.0),
        })
    }
}

/// Those of the publisher, but for the linger, which the bench tries.
fn settings(brokers: &str, linger_ms: u64) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger_ms.to_string())
        .set("queue.buffering.max.messages", "50000");
    config
}

fn headers() -> OwnedHeaders {
    let header = |key, value| Header {
        key,
        value: Some(value),
    };
    OwnedHeaders::new_with_capacity(3)
        .insert(header("content-type", "application/json"))
        .insert(header("schema", "affluent.users.v1.User"))
        .insert(header("accepted-at-us", "1700000000000000"))
}

fn ready(person: &Person) -> Ready {
    Ready {
        key: person.id.to_string(),
        value: person.json(),
    }
}

fn send(
    producer: &ThreadedProducer<Acknowledged>,
    topic: &str,
    ready: &Ready,
    headers: &OwnedHeaders,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::to(topic)
        .key(&ready.key)
        .payload(&ready.value)
        .headers(headers.clone());
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(NO_ROOM);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
