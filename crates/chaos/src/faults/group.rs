//! Faults of the consumer group: members, committed offsets, partitions.

use std::time::Duration;

use anyhow::Result;
use rdkafka::admin::NewPartitions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use testkit::service::Service;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::cluster::kafka_admin;
use crate::evidence::incident::ExpectedSignal;
use crate::scenario::fault::{Fault, FaultClass, Release};
use crate::service_id::ServiceId;
use crate::services::{ADDITIONAL_STREAMER, SESSION_TIMEOUT, streamer};

/// For a member to start, to join and to get its partitions.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the consumers' metadata refresh interval of 10 s.
const METADATA_REFRESH: Duration = Duration::from_secs(12);
/// Records arrive while no streamer runs.
const DOWNTIME: Duration = Duration::from_millis(1_500);

impl FaultInjector<'_> {
    /// Lasts until every consumer has refreshed its metadata.
    pub(super) async fn add_partitions(&self, more: usize) -> Result<FaultEffect> {
        let started = self.now();
        let topic = &self.config.name;
        let before = self.cluster.kafka_client()?.end_offsets(topic).await?.len();
        let partitions = NewPartitions::new(topic, before + more);
        let admin = self.cluster.kafka_admin()?;
        let created = admin.create_partitions([&partitions], &kafka_admin::options());
        kafka_admin::check(created.await?)?;
        #[expect(clippy::cast_precision_loss, reason = "a topic has few partitions")]
        let all = (before + more) as f64;
        sleep(METADATA_REFRESH).await;
        Ok(FaultEffect {
            signals: vec![ExpectedSignal::FinalSum("streamer_assigned_partitions", all)],
            ..self.effect(started)
        })
    }

    /// Each time, waits until the additional streamer is ready and a little longer, so that the group rebalances.
    pub(super) async fn rebalance_storm(&self, times: u32, duration: Duration) -> Result<FaultEffect> {
        let started = self.now();
        let mut service = Service::start(&streamer(
            self.cluster,
            self.config,
            ADDITIONAL_STREAMER,
            Release::Present,
        ))?;
        let mut joined = false;
        for time in 0..times {
            if time > 0 {
                service.spawn()?;
            }
            // Another fault may keep it from joining.
            joined |= service.wait_until_ready(JOIN_TIMEOUT).await.is_ok();
            sleep(duration / times.max(1)).await;
            if let Err(error) = service.kill().await {
                let text = format!("the fourth streamer exited: {error}");
                self.services.unexpected_exit(text);
            }
        }
        // Until then the group waits for the killed member, and no rebalance ends.
        sleep(SESSION_TIMEOUT).await;
        if !joined && !self.plan.iter().any(|planned| prevents_join(&planned.fault)) {
            let text = format!("the fourth streamer joined in none of {times} starts");
            self.services.ineffective_fault(text);
        }
        let signal = ExpectedSignal::Rose("streamer_rebalances_total");
        Ok(FaultEffect {
            signals: joined.then_some(signal).into_iter().collect(),
            ..self.effect(started)
        })
    }

    /// Commits the topic's ends for the group, as an offset tool might.
    pub(super) async fn foreign_commit(&self) -> Result<FaultEffect> {
        let started = self.now();
        self.with_streamers_stopped(async {
            sleep(DOWNTIME).await;
            let ends = self
                .cluster
                .kafka_client()?
                .end_offsets(&self.config.name)
                .await?;
            let mut list = TopicPartitionList::new();
            for (partition, end) in ends {
                list.add_partition_offset(&self.config.name, partition, Offset::Offset(end))?;
            }
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", self.cluster.stack.kafka.internal_bootstrap())
                .set("group.id", &self.config.name)
                .create()?;
            consumer.commit(&list, CommitMode::Sync)?;
            Ok(())
        })
        .await?;
        Ok(self.restarted(started, ServiceId::streamers()))
    }

    /// The group fences the earlier process of the member, which exits. The operator restarts it after the later one has
    /// stopped.
    pub(super) async fn duplicate_member(&self, id: ServiceId, duration: Duration) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        let options =
            streamer(self.cluster, self.config, id, Release::Present).log_name(format!("{id}-duplicate"));
        let mut duplicate = Service::start(&options)?;
        self.expect_exit(id, &mut service, 1, "its duplicate").await?;
        self.expect_rows_from(&duplicate, duration).await;
        self.services.terminate(id, &mut duplicate).await?;
        self.services.restart(id, &mut service).await?;
        Ok(self.restarted(started, vec![id]))
    }

    /// The duplicate must take over the member's partitions and write rows.
    async fn expect_rows_from(&self, duplicate: &Service, duration: Duration) {
        if let Err(error) = duplicate.wait_until_ready(STEP_TIMEOUT).await {
            let text = format!("the duplicate did not join: {error}");
            return self.services.ineffective_fault(text);
        }
        let rows = async || duplicate.metric("streamer_rows_total", "").await.ok().flatten();
        let before = rows().await.unwrap_or(0.0);
        sleep(duration).await;
        let until = Instant::now() + STEP_TIMEOUT;
        while rows().await.is_none_or(|rows| rows <= before) {
            if Instant::now() >= until {
                let text = format!("the duplicate wrote no row in {} s", STEP_TIMEOUT.as_secs());
                return self.services.ineffective_fault(text);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether a fault may keep a new member from its servers, its topic or its table.
fn prevents_join(fault: &Fault) -> bool {
    use FaultClass::{Network, Resource, Server, Store};
    matches!(fault.class(), Server | Network | Resource | Store)
}
