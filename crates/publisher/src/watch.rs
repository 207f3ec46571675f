//! Asks Kafka, again and again, whether it is there and the topic can be written, and creates the topic when it is
//! absent. It is a question and an answer, not an event that may never come; no record is involved.

use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use service::Backoff;
use service::process::chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::link::{Broken, KafkaLink};
use crate::producer::Producer;
use crate::settings::KafkaSettings;
use crate::topic;

/// The watch over the cluster and its topic.
pub(crate) struct KafkaWatch {
    pub(crate) settings: Arc<KafkaSettings>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) link: KafkaLink,
}

/// What was seen.
enum Sight {
    Writable { partitions: usize },
    NoTopic,
    Obstacle(String),
}

/// What is known of the topic from before.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// It is there, what differs was told, and a record counts only when that many replicas have it.
    Topic {
        min_insync: usize,
    },
}

impl KafkaWatch {
    /// Watches until `stop`, or until Kafka is broken for good.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Broken> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            broken = self.link.broken() => Err(broken),
            never = self.look_again_and_again() => match never {},
        }
    }

    async fn look_again_and_again(&self) -> std::convert::Infallible {
        let backoff = Backoff {
            max: self.settings.probe_interval,
            ..Backoff::default()
        };
        let mut delays = backoff.delays();
        let mut known = Known::Nothing;
        loop {
            if let Some(broken) = self.broken_producer() {
                self.link.break_down(broken);
            }
            match self.look(known).await {
                Ok(partitions) => {
                    self.link.up();
                    if let Known::Nothing = known {
                        let min_insync = self.compare(partitions).await;
                        known = Known::Topic { min_insync };
                    }
                    delays = backoff.delays();
                    sleep(self.settings.probe_interval).await;
                }
                Err(reason) => {
                    self.link.down(&reason);
                    sleep(delays.next().unwrap_or(self.settings.probe_interval)).await;
                }
            }
        }
    }

    /// An idempotent producer that has met a fatal error takes nothing any more.
    fn broken_producer(&self) -> Option<Broken> {
        let (code, reason) = self.producer.fatal_error()?;
        Some(match code {
            // It may not number its records, because it may write to no topic at all.
            RDKafkaErrorCode::ClusterAuthorizationFailed => Broken::Credentials(reason),
            _ => Broken::Producer(reason),
        })
    }

    /// One look, which finds the topic with that many partitions; the error says what is waited for.
    async fn look(&self, known: Known) -> Result<usize, String> {
        match self.sight(known).await {
            Sight::Writable { partitions } => Ok(partitions),
            Sight::NoTopic => match topic::create(&self.settings).await {
                Ok(()) => Err("the topic is being created".to_owned()),
                Err(error) => Err(chain(&error)),
            },
            Sight::Obstacle(reason) => Err(reason),
        }
    }

    /// What can't be asked is not known to be in the way.
    async fn compare(&self, partitions: usize) -> usize {
        let compared = topic::compare(&self.settings, partitions).await;
        compared.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "the topic was not compared");
            1
        })
    }

    /// Asking for a topic by name may create it, with the broker's defaults. So all are listed until it is known.
    async fn sight(&self, known: Known) -> Sight {
        let producer = Arc::clone(&self.producer);
        let settings = Arc::clone(&self.settings);
        let asked = tokio::task::spawn_blocking(move || {
            let name = match known {
                Known::Nothing => None,
                Known::Topic { .. } => Some(settings.topic.as_str()),
            };
            producer.metadata(name, settings.probe_timeout)
        });
        match asked.await {
            Ok(Ok(metadata)) => self.judge(&metadata, known),
            Ok(Err(error)) => Sight::Obstacle(silence(&error)),
            Err(error) => Sight::Obstacle(error.to_string()),
        }
    }

    fn judge(&self, metadata: &Metadata, known: Known) -> Sight {
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.settings.topic);
        let Some(topic) = topic else { return Sight::NoTopic };
        let error = topic.error().map(RDKafkaErrorCode::from);
        if error == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            return Sight::NoTopic;
        }
        let min_insync = match known {
            Known::Nothing => 1,
            Known::Topic { min_insync } => min_insync,
        };
        match topic::obstacle(topic, min_insync) {
            Some(reason) => Sight::Obstacle(format!("{}: {reason}", self.settings.topic)),
            None => Sight::Writable {
                partitions: topic.partitions().len(),
            },
        }
    }
}

fn silence(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
            "no broker answers".to_owned()
        }
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
