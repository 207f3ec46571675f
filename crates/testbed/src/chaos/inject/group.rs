//! Faults of the group, and of what the streamers keep in Cassandra, done as an operator would do them.

use std::time::Duration;

use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::crew::{self, streamer};
use crate::chaos::evidence::Sign;
use crate::service::Service;
use crate::table::Table;
use crate::tap::Tap;

/// For an answer of an operator's tool, and for a service to notice that its table is gone.
const DEADLINE: Duration = Duration::from_secs(30);
/// Records that come in while nobody reads.
const ABSENCE: Duration = Duration::from_millis(1_500);

impl Scene<'_> {
    /// A consumer gets to know of them when it next asks for the topic, which it does every 30 s.
    pub(super) async fn partitions(&self, more: usize) -> Result<Effect, RoundError> {
        let began = self.now();
        let bootstrap = self.venue.stack.kafka.internal_bootstrap();
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()?;
        let before = Tap::new(&bootstrap)?.ends(&self.plot.name).await?.len();
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
        let wanted = NewPartitions::new(&self.plot.name, before + more);
        for result in admin.create_partitions([&wanted], &options).await? {
            result.map_err(|(_, code)| rdkafka::error::KafkaError::AdminOp(code))?;
        }
        Ok(self.effect(began))
    }

    pub(super) async fn storm(&self, times: u32, lasts: Duration) -> Result<Effect, RoundError> {
        let began = self.now();
        let mut fourth = Service::start(&streamer(self.venue, self.plot, crew::STREAMERS + 1))?;
        let mut joined = false;
        for time in 0..times {
            if time > 0 {
                fourth.spawn()?;
            }
            sleep(lasts / times.max(1)).await;
            // Where another fault keeps it from its servers, it does not come to join.
            joined |= fourth
                .ask("/readyz")
                .await
                .is_ok_and(|(status, _)| status.is_success());
            fourth.kill().await?;
        }
        let sign = Sign::Rose("streamer_rebalances_total");
        Ok(Effect {
            signs: joined.then_some(sign).into_iter().collect(),
            ..self.effect(began)
        })
    }

    /// Sets the group's own offsets to the end of the topic, as a tool for lag might.
    pub(super) async fn foreign_commit(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        self.while_nobody_reads(async {
            sleep(ABSENCE).await;
            let bootstrap = self.venue.stack.kafka.internal_bootstrap();
            let ends = Tap::new(&bootstrap)?.ends(&self.plot.name).await?;
            let mut list = TopicPartitionList::new();
            for (partition, end) in ends {
                list.add_partition_offset(&self.plot.name, partition, Offset::Offset(end))?;
            }
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &bootstrap)
                .set("group.id", &self.plot.name)
                .create()?;
            consumer.commit(&list, CommitMode::Sync)?;
            Ok(())
        })
        .await?;
        Ok(self.restarted(began, self.crew.streamers()))
    }

    /// The next start has none and reads from the beginning: every row is written again, and none changes.
    pub(super) async fn checkpoints_deleted(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        self.while_nobody_reads(async {
            self.pause.hold();
            let name = &self.plot.name;
            let delete = format!(
                "DELETE FROM {{ks}}.stream_checkpoints WHERE group_id = '{name}' AND topic = '{name}'"
            );
            self.table().await?.run(&delete).await?;
            self.pause.release();
            Ok(())
        })
        .await?;
        Ok(self.restarted(began, self.crew.streamers()))
    }

    /// Each streamer must notice and end with 78; the operator replays the topic into a new table.
    pub(super) async fn table_dropped(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        self.pause.hold();
        self.table().await?.run("DROP TABLE {ks}.created_users").await?;
        let streamers = self.crew.streamers();
        for who in &streamers {
            let mut service = self.crew.get(*who).await;
            match service.wait(DEADLINE).await {
                Ok(Some(78)) => service.forget(),
                ended => {
                    self.crew.note(format!(
                        "{who} was to end with 78 for the dropped table: {ended:?}"
                    ));
                    self.crew.kill(*who, &mut service).await?;
                    service.forget();
                }
            }
        }
        self.replay().await?;
        self.pause.release();
        for who in &streamers {
            self.crew.revive(*who, &mut *self.crew.get(*who).await).await?;
        }
        Ok(self.restarted(began, streamers))
    }

    /// `streamer replay`, once the group has no members any more.
    async fn replay(&self) -> Result<(), RoundError> {
        let until = Instant::now() + DEADLINE;
        loop {
            let command = streamer(self.venue, self.plot, 0)
                .arg("replay")
                .arg("--from-offset")
                .arg("0")
                .arg("--yes");
            let command = Service::start(&command)?;
            if command.wait(DEADLINE).await? == Some(0) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(RoundError::Refused {
                    what: "streamer replay",
                    log: command.last_lines(5),
                });
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Stops every streamer in good order, does it, and starts them again.
    async fn while_nobody_reads(
        &self,
        work: impl Future<Output = Result<(), RoundError>>,
    ) -> Result<(), RoundError> {
        let streamers = self.crew.streamers();
        let mut held = Vec::new();
        for who in &streamers {
            held.push((*who, self.crew.get(*who).await));
        }
        try_join_all(
            held.iter_mut()
                .map(|(who, service)| self.crew.terminate(*who, service)),
        )
        .await?;
        work.await?;
        try_join_all(
            held.iter_mut()
                .map(|(who, service)| self.crew.revive(*who, service)),
        )
        .await?;
        Ok(())
    }

    async fn table(&self) -> Result<Table, RoundError> {
        let points = self.venue.stack.cassandra.contact_points();
        Ok(Table::connect(&points, &self.plot.name).await?)
    }
}
