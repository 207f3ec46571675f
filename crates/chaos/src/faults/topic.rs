//! Deletes and recreates the topic, or truncates it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use testkit::cassandra_client::CheckpointRow;
use testkit::kafka_client::{KafkaClient, TopicRecord};
use testkit::service::Service;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::cluster::kafka_admin;
use crate::evidence::incident::ExpectedSignal;
use crate::evidence::topic_history::{LostRecords, NewLog, PreviousLog};
use crate::observe::settle::wait_until_settled;
use crate::scenario::fault::{Release, Truncation};
use crate::service_id::{OPERATOR_STREAMER, ServiceId};
use crate::services::streamer;

/// Records arrive while no streamer runs.
const DOWNTIME: Duration = Duration::from_secs(2);

impl FaultInjector<'_> {
    /// Pauses all traffic meanwhile: the oracle cannot read what is acknowledged into a topic that is being deleted.
    pub(super) async fn recreate_topic(&self) -> Result<FaultEffect> {
        let paused = self.workload.pause().await;
        drop(self.workload.finished_runs(STEP_TIMEOUT).await);
        let kafka = self.cluster.kafka_client()?;
        let (ends, topic) = self.wait_until_processed(&kafka).await?;
        let started = self.now();
        self.gate.close();
        let read = kafka.read(&self.config.name).await?;
        self.history.add(LostRecords {
            read,
            unread: Vec::new(),
            previous: Some(PreviousLog {
                cause: NewLog::Recreated(topic),
                ends: ends.clone(),
            }),
        });
        self.delete_and_create(&kafka, ends.len()).await?;
        self.gate.open();
        drop(paused);
        Ok(FaultEffect {
            signals: vec![ExpectedSignal::Rose("streamer_restarts_total")],
            ..self.effect(started)
        })
    }

    /// Returns the ends of the topic, which the checkpoints have reached, and its id.
    pub(super) async fn wait_until_processed(
        &self,
        kafka: &KafkaClient,
    ) -> Result<(BTreeMap<i32, i64>, Uuid)> {
        wait_until_settled(self.cluster, self.config, self.history).await;
        let ends = kafka.end_offsets(&self.config.name).await?;
        let checkpoints = self.checkpoints().await?;
        let topic = checkpoints.values().next().map(|checkpoint| checkpoint.topic_id);
        let reached = |(partition, end): (&i32, &i64)| {
            checkpoints
                .get(partition)
                .is_some_and(|checkpoint| checkpoint.next_offset == *end)
        };
        match topic {
            Some(topic) if ends.iter().all(reached) => Ok((ends, topic)),
            _ => bail!("failed to process the topic before its change: {ends:?}"),
        }
    }

    /// Kafka deletes asynchronously, and a streamer may create the missing topic first.
    async fn delete_and_create(&self, kafka: &KafkaClient, partitions: usize) -> Result<()> {
        let (name, admin) = (&self.config.name, self.cluster.kafka_admin()?);
        let options = kafka_admin::options();
        kafka_admin::check(admin.delete_topics(&[name.as_str()], &options).await?)?;
        let until = Instant::now() + STEP_TIMEOUT;
        loop {
            match self.cluster.create_topic(name, partitions).await {
                Ok(()) => return Ok(()),
                Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < until => {}
                Err(error) => return Err(error.into()),
            }
            let ends = kafka.end_offsets(name).await.unwrap_or_default();
            if ends.len() == partitions && ends.values().all(|end| *end == 0) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn truncate_topic(&self, truncation: Truncation) -> Result<FaultEffect> {
        let started = self.now();
        if truncation == Truncation::Processed {
            self.delete_records(truncation).await?;
            return Ok(self.effect(started));
        }
        let mut locked = self.stop_streamers().await?;
        sleep(DOWNTIME).await;
        let starts = self.delete_records(truncation).await?;
        // Data is lost, so a streamer refuses to start.
        let (id, service) = &mut locked[0];
        service.spawn()?;
        self.expect_exit(*id, service, 78, "the lost records").await?;
        self.start_behind_gap(&starts).await?;
        self.start_streamers(locked).await?;
        Ok(self.restarted(started, ServiceId::streamers()))
    }

    /// Deletes the records below the checkpoints, or all; returns the new start of each partition.
    async fn delete_records(&self, truncation: Truncation) -> Result<BTreeMap<i32, i64>> {
        let (name, kafka) = (&self.config.name, self.cluster.kafka_client()?);
        let (checkpoints, log) = (self.checkpoints().await?, kafka.read(name).await?);
        let next = |record: &TopicRecord| checkpoints.get(&record.partition).map_or(0, |it| it.next_offset);
        let (read, mut unread): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|record| record.offset < next(record));
        if truncation == Truncation::Processed {
            unread.clear();
        } else if unread.is_empty() {
            let log = format!("{checkpoints:?}");
            bail!("failed to find unread records: {log}");
        }
        let mut starts = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for record in read.iter().chain(&unread) {
            let start = starts.entry(record.partition).or_insert(0);
            *start = (*start).max(record.offset + 1);
        }
        for (partition, start) in &starts {
            list.add_partition_offset(name, *partition, Offset::Offset(*start))?;
        }
        let previous = None;
        self.history.add(LostRecords {
            read,
            unread,
            previous,
        });
        let admin = self.cluster.kafka_admin()?;
        let deleted = admin.delete_records(&list, &kafka_admin::options()).await?;
        deleted
            .elements()
            .iter()
            .try_for_each(|element| element.error())?;
        Ok(starts)
    }

    /// The operator permits one streamer to start behind the gap, until all partitions have a checkpoint there.
    async fn start_behind_gap(&self, starts: &BTreeMap<i32, i64>) -> Result<()> {
        let options = streamer(self.cluster, self.config, OPERATOR_STREAMER, Release::Present);
        let options = options.set("checkpoint.on_out_of_range", "earliest");
        let mut permitted = Service::start(&options)?;
        let until = Instant::now() + STEP_TIMEOUT;
        loop {
            let checkpoints = self.checkpoints().await?;
            let is_behind = |(partition, start): (&i32, &i64)| {
                checkpoints
                    .get(partition)
                    .is_some_and(|it| it.next_offset >= *start)
            };
            if starts.iter().all(is_behind) {
                break;
            }
            if Instant::now() >= until {
                bail!("failed to start behind the gap: {}", permitted.last_lines(5));
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.services.terminate(OPERATOR_STREAMER, &mut permitted).await
    }

    async fn checkpoints(&self) -> Result<BTreeMap<i32, CheckpointRow>> {
        let name = &self.config.name;
        Ok(self.cassandra().await?.checkpoints(name, name).await?)
    }
}
