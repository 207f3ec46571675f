//! Samples the checkpoints, and what is durable below them, periodically.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use testkit::cassandra_client::{CassandraClient, CassandraClientError};
use testkit::kafka_client::{KafkaClient, TopicRecord};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::sampling_gate::SamplingGate;
use crate::cluster::Cluster;
use crate::evidence::CheckpointSample;
use crate::evidence::topic_history::TopicHistory;
use crate::services::config::RoundConfig;

const INTERVAL: Duration = Duration::from_millis(250);
/// One in this many samples reads the dead letters, which costs as much as several other samples.
const DEAD_LETTER_RATIO: u64 = 5;
/// For a sample; exceeded while a server is down.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the dead letters; without them the sample still counts.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct CheckpointSampler<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) config: &'a RoundConfig,
    pub(crate) kafka: KafkaClient,
    /// Start of the round.
    pub(crate) started: Instant,
    /// Closed while an operator changes the checkpoints.
    pub(crate) gate: &'a SamplingGate,
    pub(crate) history: &'a TopicHistory,
    pub(crate) stop: CancellationToken,
}

impl CheckpointSampler<'_> {
    /// Runs until stopped, and returns the samples.
    pub(crate) async fn run(&self) -> Vec<CheckpointSample> {
        let mut samples = Vec::new();
        let (mut session, mut sampled) = (None, 0);
        for number in 0_u64.. {
            if self.stop.is_cancelled() {
                break;
            }
            let dead_letters = number % DEAD_LETTER_RATIO == 0;
            let before = self.gate.generation();
            match timeout(SAMPLE_TIMEOUT, self.sample(&mut session, dead_letters)).await {
                // A sample taken during an operator's change may be inconsistent.
                Ok(Ok(mut sample)) if !self.gate.is_closed() && before == self.gate.generation() => {
                    sample.reset = std::mem::replace(&mut sampled, before) != before;
                    samples.push(sample);
                }
                Ok(Ok(_)) => {}
                // A session that has lost its server may take a minute to reconnect.
                Ok(Err(_)) | Err(_) => session = None,
            }
            sleep(INTERVAL).await;
        }
        samples
    }

    /// Reads the checkpoints first and the rest later: durable data can only have grown meanwhile.
    pub(crate) async fn sample(
        &self,
        session: &mut Option<CassandraClient>,
        dead_letters: bool,
    ) -> Result<CheckpointSample, CassandraClientError> {
        let name = &self.config.name;
        let session = match session {
            Some(session) => session,
            None => session.insert(self.config.cassandra_client(self.cluster).await?.by_quorum()),
        };
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let checkpoints = session.checkpoints(name, name).await?;
        let letters = if dead_letters {
            let topic = self.config.dead_letter_topic();
            let letters = timeout(DEAD_LETTER_TIMEOUT, self.kafka.read(&topic)).await;
            letters.ok().and_then(Result::ok)
        } else {
            None
        };
        let write_timestamps = session.stamps().await?;
        let next_offsets = checkpoints.iter().map(|(partition, checkpoint)| {
            let position = (*partition, checkpoint.next_offset);
            self.history.continued(Some(checkpoint.topic_id), position)
        });
        let source = |letter: &TopicRecord| self.history.source(letter);
        Ok(CheckpointSample {
            at_ms,
            read_at_ms: Timestamp::now().as_millisecond(),
            reset: false,
            next_offsets: next_offsets.collect(),
            write_timestamps,
            dead_letters: letters.map(|letters| letters.iter().filter_map(source).collect()),
        })
    }
}
