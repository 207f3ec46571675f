//! `scripts/bench assignment`: for how long a partition stands still when a member joins, leaves or is killed, under
//! each protocol by which a group can share its partitions out.
//!
//! The members are bare consumers, so what is seen is the protocol's own pause: the hand-over of what a streamer has
//! in flight comes on top, and is the same under each.

mod group;
mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use thiserror::Error;

use self::group::Group;
pub use self::member::{Member, MemberError, Protocol};
use super::figures::{median, spread};
use crate::servers::{KafkaCluster, KafkaOptions, ServerError};

/// Of the topic.
const PARTITIONS: i32 = 6;

/// One record for each partition, this often: 1,200 records a second.
const EVERY: Duration = Duration::from_millis(5);

/// A pause that is longer than the flow's own unevenness.
const NOTICED: Duration = Duration::from_millis(150);

/// What happens to the group, in this order.
const STEPS: [&str; 4] = ["second joins", "third joins", "third leaves", "second is killed"];

/// The comparison.
#[derive(Debug, Clone)]
pub struct AssignmentBench {
    /// Rounds of each protocol.
    pub rounds: usize,
}

/// The comparison could not be made.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum AssignmentError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("a member's process")]
    Process(#[from] std::io::Error),
    #[error("{what} within {} s", within.as_secs())]
    Late { what: &'static str, within: Duration },
}

/// What one step did.
#[derive(Debug, Default, Clone)]
struct Seen {
    seconds: Vec<f64>,
    partitions: Vec<f64>,
}

impl AssignmentBench {
    /// Measures, prints a table and then one line of JSON.
    ///
    /// # Errors
    /// [`AssignmentError`]
    pub async fn run(&self) -> Result<(), AssignmentError> {
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        let protocols = [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer];
        let mut seen = vec![vec![Seen::default(); STEPS.len()]; protocols.len()];
        for round in 0..self.rounds {
            for (protocol, seen) in protocols.iter().zip(&mut seen) {
                self.round(&kafka, round, *protocol, seen).await?;
            }
        }
        let mut lines = Vec::new();
        for (protocol, seen) in protocols.iter().zip(&seen) {
            for (step, seen) in STEPS.iter().zip(seen) {
                println!(
                    "{:<12} {step:<17} longest pause {} s, partitions that paused {}",
                    format!("{protocol:?}").to_lowercase(),
                    spread(&seen.seconds),
                    median(&seen.partitions)
                );
                lines.push(serde_json::json!({
                    "protocol": format!("{protocol:?}").to_lowercase(), "step": step,
                    "seconds": seen.seconds, "partitions": seen.partitions,
                }));
            }
        }
        println!("{}", serde_json::json!({ "pauses": lines }));
        Ok(())
    }

    async fn round(
        &self,
        kafka: &KafkaCluster,
        round: usize,
        protocol: Protocol,
        seen: &mut [Seen],
    ) -> Result<(), AssignmentError> {
        let topic = format!("assignment_{round}_{protocol:?}").to_lowercase();
        kafka.create_topic(&topic, PARTITIONS).await?;
        let feed = Feed::start(&kafka.bootstrap(), &topic)?;
        let plan = Member {
            brokers: kafka.bootstrap(),
            group: topic.clone(),
            topic,
            protocol,
        };
        let mut group = Group::new(plan, PARTITIONS.unsigned_abs() as usize);
        group.join()?;
        group.settled().await?;
        group.flow().pauses(NOTICED);
        for (step, seen) in seen.iter_mut().enumerate() {
            match step {
                0 | 1 => group.join()?,
                2 => group.leave().await?,
                _ => group.kill()?,
            }
            group.settled().await?;
            let (longest, partitions) = group.flow().pauses(NOTICED);
            println!(
                "{protocol:?}, {}: {longest:?}, {partitions} partitions",
                STEPS[step]
            );
            seen.seconds.push(longest.as_secs_f64());
            seen.partitions.push(partitions as f64);
        }
        drop(feed);
        Ok(())
    }
}

/// Records for every partition, steadily, until it is dropped.
struct Feed {
    ended: Arc<AtomicBool>,
}

impl Feed {
    fn start(brokers: &str, topic: &str) -> Result<Self, AssignmentError> {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "1")
            .create()?;
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, topic) = (Arc::clone(&ended), topic.to_owned());
        std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                for partition in 0..PARTITIONS {
                    let record = BaseRecord::<(), _>::to(&topic).partition(partition).payload("-");
                    if let Err((error, _)) = producer.send(record) {
                        eprintln!("{error}");
                    }
                }
                std::thread::sleep(EVERY);
            }
            producer.flush(Duration::from_secs(5))
        });
        Ok(Self { ended })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
