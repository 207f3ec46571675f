//! A bare member of a consumer group, as a process of its own so that it can be killed: it reads, and prints
//! `partition offset` for each record. It leaves the group when its input ends.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use thiserror::Error;

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(20);

/// A dead member's session, where the member itself may choose it; in ms.
const SESSION: &str = "6000";

/// How a group shares its partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// `range`: at a change everything is given back and taken anew.
    Eager,
    /// `cooperative-sticky`: only what moves is given back, in a second round.
    Cooperative,
    /// `group.protocol=consumer` (KIP-848): the broker decides, and moves partition by partition.
    Consumer,
}

impl Protocol {
    /// Its properties of librdkafka.
    fn properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Eager => &[
                ("partition.assignment.strategy", "range"),
                ("session.timeout.ms", SESSION),
                ("heartbeat.interval.ms", "500"),
            ],
            Self::Cooperative => &[
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("session.timeout.ms", SESSION),
                ("heartbeat.interval.ms", "500"),
            ],
            // Session and heartbeat are the broker's to say; the client refuses them.
            Self::Consumer => &[("group.protocol", "consumer")],
        }
    }
}

/// What the member reads.
#[derive(Debug, Clone, Args)]
pub struct Member {
    /// `host:port` of a broker
    #[arg(long)]
    pub brokers: String,
    /// An existing topic
    #[arg(long)]
    pub topic: String,
    /// The group
    #[arg(long)]
    pub group: String,
    /// How the group shares its partitions out
    #[arg(long)]
    pub protocol: Protocol,
}

/// The member could not go on.
#[derive(Debug, Error)]
pub enum MemberError {
    /// librdkafka's own error.
    #[error(transparent)]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Nobody listens.
    #[error("cannot tell what was read")]
    Told(#[from] std::io::Error),
}

impl Member {
    /// Reads until standard input ends.
    ///
    /// # Errors
    /// [`MemberError`]
    pub fn run(&self) -> Result<(), MemberError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("auto.offset.reset", "latest")
            // What a next owner reads again is not counted; commits are here so that it reads little again.
            .set("auto.commit.interval.ms", "200")
            .set("fetch.wait.max.ms", "50");
        for (name, value) in self.protocol.properties() {
            config.set(*name, *value);
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[self.topic.as_str()])?;
        let leaving = leave_when_input_ends();
        let mut told = std::io::stdout().lock();
        while !leaving.load(Ordering::Relaxed) {
            match consumer.poll(POLL) {
                Some(Ok(record)) => {
                    writeln!(told, "{} {}", record.partition(), record.offset())?;
                    told.flush()?;
                }
                Some(Err(error)) => eprintln!("{error}"),
                None => {}
            }
        }
        Ok(())
    }
}

fn leave_when_input_ends() -> Arc<AtomicBool> {
    let leaving = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&leaving);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An input that cannot be read has ended, too.
        if let Err(error) = std::io::stdin().read_to_end(&mut rest) {
            eprintln!("{error}");
        }
        flag.store(true, Ordering::Relaxed);
    });
    leaving
}
