//! A log that loses acknowledged records and grows again: of a partition's two replicas one acknowledges records alone and
//! is killed, and the other, which lacks them, becomes the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use testkit::kafka_client::KafkaClient;
use testkit::service::Service;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::evidence::topic_history::{LostRecords, NewLog, PreviousLog};
use crate::observe::settle::wait_until_settled;
use crate::scenario::fault::Release;
use crate::service_id::{OPERATOR_STREAMER, ServiceId};
use crate::services::{is_running, streamer};

/// The broker that acknowledges alone.
const ALONE: usize = 0;
/// The broker that lacks records. The third one is a majority of the controllers with it.
const BEHIND: usize = 1;
/// How long one replica acknowledges alone.
const ALONE_FOR: Duration = Duration::from_secs(2);
/// After an election.
const SETTLED_FOR: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The end of each partition.
type EndOffsets = BTreeMap<i32, i64>;

impl FaultInjector<'_> {
    /// The streamers are stopped meanwhile, so that the log is longer than before when they read it again.
    pub(super) async fn regrow_topic(&self) -> Result<FaultEffect> {
        let started = self.now();
        let brokers = &self.cluster.stack.kafka;
        let (alone, behind) = (brokers.node(ALONE)?, brokers.node(BEHIND)?);
        behind.stop().await?;
        sleep(ALONE_FOR).await;
        let paused = self.workload.pause().await;
        drop(self.workload.finished_runs(STEP_TIMEOUT).await);
        let kafka = self.cluster.kafka_client()?;
        let (ends, _) = self.wait_until_processed(&kafka).await?;
        self.gate.close();
        let mut locked = self.stop_streamers().await?;
        let read = kafka.read(&self.config.name).await?;
        let dead_letters = kafka.end_offsets(&self.config.dead_letter_topic()).await?;

        alone.kill().await?;
        behind.start().await?;
        let ends = self.wait_for_losses(&kafka, ends).await?;
        self.history.add(LostRecords {
            read,
            unread: Vec::new(),
            previous: Some(PreviousLog {
                cause: NewLog::Regrown { dead_letters },
                ends: ends.clone(),
            }),
        });
        drop(paused);
        self.wait_until_longer(&kafka, &ends).await?;
        alone.start().await?;

        let (id, service) = &mut locked[0];
        service.spawn()?;
        self.expect_exit(*id, service, 78, "the lost records").await?;
        let paused = self.workload.pause().await;
        drop(self.workload.finished_runs(STEP_TIMEOUT).await);
        self.read_again().await?;
        self.start_streamers(locked).await?;
        self.gate.open();
        drop(paused);
        let restarted = [ServiceId::streamers(), vec![ServiceId::Publisher]].concat();
        Ok(self.restarted(started, restarted))
    }

    /// Returns the previous ends of the partitions that have lost records, once each partition has a leader.
    async fn wait_for_losses(&self, kafka: &KafkaClient, ends: EndOffsets) -> Result<EndOffsets> {
        let until = Instant::now() + STEP_TIMEOUT;
        let mut last = EndOffsets::new();
        loop {
            let present = kafka.end_offsets(&self.config.name).await.unwrap_or_default();
            // A new leader learns a moment later how much of its log is committed.
            let before = std::mem::replace(&mut last, present.clone());
            if present.len() == ends.len() && present == before {
                let lost =
                    |(partition, end): &(i32, i64)| present.get(partition).is_some_and(|now| now < end);
                let lost: EndOffsets = ends.into_iter().filter(lost).collect();
                if lost.is_empty() {
                    bail!("failed to lose records: {present:?}");
                }
                return Ok(lost);
            }
            if Instant::now() >= until {
                bail!("failed to elect leaders: {present:?}");
            }
            sleep(SETTLED_FOR).await;
        }
    }

    /// Waits until each of these partitions has more records than before.
    async fn wait_until_longer(&self, kafka: &KafkaClient, ends: &EndOffsets) -> Result<()> {
        let until = Instant::now() + STEP_TIMEOUT;
        loop {
            self.restart_ended_publisher().await?;
            let present = kafka.end_offsets(&self.config.name).await.unwrap_or_default();
            let is_longer =
                |(partition, end): (&i32, &i64)| present.get(partition).is_some_and(|now| now > end);
            if ends.iter().all(is_longer) {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("failed to append more records than were lost: {present:?}");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The publisher ends with 1 when a leader lacks records that it has acknowledged, and is started again.
    async fn restart_ended_publisher(&self) -> Result<()> {
        let id = ServiceId::Publisher;
        let mut publisher = self.services.get(id).await;
        if is_running(&publisher) {
            return Ok(());
        }
        self.expect_exit(id, &mut publisher, 1, "the lost records")
            .await?;
        self.services.restart(id, &mut publisher).await
    }

    /// The operator permits one streamer to read the changed partitions from their beginning.
    async fn read_again(&self) -> Result<()> {
        let options = streamer(self.cluster, self.config, OPERATOR_STREAMER, Release::Present);
        let options = options.set("checkpoint.on_out_of_range", "earliest");
        let mut permitted = Service::start(&options)?;
        wait_until_settled(self.cluster, self.config, self.history).await;
        self.services.terminate(OPERATOR_STREAMER, &mut permitted).await
    }
}
