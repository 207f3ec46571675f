//! Producer baseline: sends records from memory with the publisher's own producer settings and does nothing else.
//!
//! The first error ends it.

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

/// Pause while the producer's queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_micros(500);

/// Timeout for the last acknowledgements.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Distinct records; the loop repeats them.
const RECORDS: u64 = 50_000;

/// Options of the producer baseline.
#[derive(Debug, Clone, Args)]
pub struct ProducerBaseline {
    /// `host:port` of a broker
    #[arg(long)]
    pub brokers: String,
    /// An existing topic
    #[arg(long)]
    pub topic: String,
    /// Seconds to send
    #[arg(long)]
    pub seconds: u64,
    /// The producer's `linger.ms`
    #[arg(long, default_value_t = 1)]
    pub linger_ms: u64,
}

/// The producer baseline failed.
#[derive(Debug, Error)]
pub enum ProducerBaselineError {
    /// librdkafka returned an error.
    #[error("failed to produce records")]
    Kafka(#[from] KafkaError),
    /// Records without an acknowledgement.
    #[error("{0} records not acknowledged")]
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

/// A record ready to be sent.
struct Ready {
    key: String,
    value: Vec<u8>,
}

impl ProducerBaseline {
    /// Sends records, waits for the last acknowledgement and returns the cost.
    ///
    /// # Errors
    /// [`ProducerBaselineError`]; a run with errors has no cost.
    pub fn run(&self) -> Result<Cost, ProducerBaselineError> {
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
        producer.flush(FLUSH_TIMEOUT)?;
        let acknowledged = producer.context().count.load(Ordering::Relaxed);
        if acknowledged != sent {
            return Err(ProducerBaselineError::Lost(sent - acknowledged));
        }
        Ok(Cost {
            rows: sent,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - cpu,
            peak_mib: peak_mib(std::process::id()).unwrap_or(0.0),
        })
    }
}

/// The publisher's settings, except for the linger, which the benchmark varies.
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
                std::thread::sleep(QUEUE_FULL_PAUSE);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
