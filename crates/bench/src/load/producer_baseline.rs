//! The producer baseline: writes records from memory with the publisher's producer settings and does nothing else. An
//! error ends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use testkit::people::people;
use testkit::process::usage::peak_mib;

use crate::measure::cost::{Cost, own_cpu_seconds};

/// The delay while the producer's queue is full.
const QUEUE_FULL_DELAY: Duration = Duration::from_micros(500);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// Distinct records, which are written repeatedly.
const RECORDS: u64 = 50_000;

/// Options of the loop.
#[derive(Debug, Clone, Args)]
pub struct ProducerBaseline {
    /// `host:port` of a broker
    #[arg(long)]
    pub brokers: String,
    /// An existing topic
    #[arg(long)]
    pub topic: String,
    /// Seconds to write
    #[arg(long)]
    pub seconds: u64,
    /// The producer's `linger.ms`
    #[arg(long, default_value_t = 1)]
    pub linger_ms: u64,
}

#[derive(Default)]
struct AckCounter(AtomicU64);

impl ClientContext for AckCounter {}

impl ProducerContext for AckCounter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct PreparedRecord {
    key: String,
    value: Vec<u8>,
}

impl ProducerBaseline {
    /// Writes, waits for the last acknowledgement and returns the cost.
    pub fn run(&self) -> Result<Cost> {
        let records = people(5, 0..RECORDS).map(|user| PreparedRecord {
            key: user.id.to_string(),
            value: user.json(),
        });
        let records: Vec<_> = records.collect();
        let producer: ThreadedProducer<AckCounter> = settings(&self.brokers, self.linger_ms)
            .create_with_context(AckCounter::default())
            .context("failed to create the producer")?;
        let headers = headers();
        let (started, cpu) = (Instant::now(), own_cpu_seconds());
        let until = started + Duration::from_secs(self.seconds);
        let mut sent = 0;
        for record in records.iter().cycle() {
            if sent % 1_000 == 0 && Instant::now() >= until {
                break;
            }
            send(&producer, &self.topic, record, &headers).context("failed to send a record")?;
            sent += 1;
        }
        producer
            .flush(FLUSH_TIMEOUT)
            .context("failed to flush the producer")?;
        let acknowledged = producer.context().0.load(Ordering::Relaxed);
        ensure!(
            acknowledged == sent,
            "{} records were not acknowledged",
            sent - acknowledged
        );
        Ok(Cost {
            rows: sent,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - cpu,
            peak_mib: peak_mib(std::process::id()).unwrap_or(0.0),
        })
    }
}

/// The publisher's settings, with a linger of the caller's choice.
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

fn send(
    producer: &ThreadedProducer<AckCounter>,
    topic: &str,
    prepared: &PreparedRecord,
    headers: &OwnedHeaders,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::to(topic)
        .key(&prepared.key)
        .payload(&prepared.value)
        .headers(headers.clone());
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), rejected)) => {
                record = rejected;
                std::thread::sleep(QUEUE_FULL_DELAY);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
