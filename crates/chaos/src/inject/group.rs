//! Faults of the group: who is in it, what it has committed, what it shares.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::crew::{self, streamer};
use crate::evidence::{Sign, Who};
use crate::fault::Fault;
use testkit::kafka_client::KafkaClient;
use testkit::service::Service;

/// For an answer of an operator's tool, and for a member to notice that it is none.
const DEADLINE: Duration = Duration::from_secs(30);
/// For a member to start, to join and to have its part.
const JOINS: Duration = Duration::from_secs(10);
/// For a consumer to ask for the topic again, which it does every 10 s.
const NOTICES: Duration = Duration::from_secs(12);
/// Records that come in while nobody reads.
const ABSENCE: Duration = Duration::from_millis(1_500);

impl Scene<'_> {
    /// It lasts until everybody may know of them.
    pub(super) async fn partitions(&self, more: usize) -> Result<Effect, RoundError> {
        let began = self.now();
        let bootstrap = self.venue.stack.kafka.internal_bootstrap();
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()?;
        let before = KafkaClient::new(&bootstrap)?
            .end_offsets(&self.plot.name)
            .await?
            .len();
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
        let wanted = NewPartitions::new(&self.plot.name, before + more);
        for result in admin.create_partitions([&wanted], &options).await? {
            result.map_err(|(_, code)| rdkafka::error::KafkaError::AdminOp(code))?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a topic has few partitions")]
        let all = (before + more) as f64;
        sleep(NOTICES).await;
        Ok(Effect {
            signs: vec![Sign::InTheEnd("streamer_assigned_partitions", all)],
            ..self.effect(began)
        })
    }

    /// Each life lasts until the streamer is ready, and a little longer, so that the group has to rebalance for it.
    pub(super) async fn storm(&self, times: u32, lasts: Duration) -> Result<Effect, RoundError> {
        let began = self.now();
        let options = streamer(self.venue, self.plot, Who::Streamer(crew::STREAMERS + 1));
        let mut fourth = Service::start(&options)?;
        let mut joined = false;
        for time in 0..times {
            if time > 0 {
                fourth.spawn()?;
            }
            // Where another fault keeps it from its servers, it does not come to join.
            joined |= fourth.wait_until_ready(JOINS).await.is_ok();
            sleep(lasts / times.max(1)).await;
            if let Err(error) = fourth.kill().await {
                self.crew
                    .note(format!("the fourth streamer ended by itself: {error}"));
            }
        }
        if !joined && !self.plan.iter().any(|planned| keeps_out(&planned.fault)) {
            let told = format!("the fourth streamer joined in none of {times} lives");
            self.crew.is_without_effect(told);
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
            let ends = KafkaClient::new(&bootstrap)?.end_offsets(&self.plot.name).await?;
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

    /// The group takes the later one for the member; the earlier one is fenced, ends, and is started again by the
    /// operator once the other is gone.
    pub(super) async fn duplicate(&self, who: Who, lasts: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        let options = streamer(self.venue, self.plot, who).log_name(format!("{who}-double"));
        let mut double = Service::start(&options)?;
        match service.wait(DEADLINE).await {
            Ok(Some(1)) => service.mark_ended(),
            ended => {
                let told = format!("{who} was to end with 1 for its double: {ended:?}");
                self.crew.note(told);
                self.crew.kill(who, &mut service).await?;
            }
        }
        self.expect_work_of(&double, lasts).await;
        self.crew.terminate(who, &mut double).await?;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    /// The double has the member's part now, and does its work.
    async fn expect_work_of(&self, double: &Service, lasts: Duration) {
        if let Err(error) = double.wait_until_ready(DEADLINE).await {
            return self
                .crew
                .is_without_effect(format!("the double did not join: {error}"));
        }
        let rows = async || double.metric("streamer_rows_total", "").await.ok().flatten();
        let before = rows().await.unwrap_or(0.0);
        sleep(lasts).await;
        let until = Instant::now() + DEADLINE;
        while rows().await.is_none_or(|rows| rows <= before) {
            if Instant::now() >= until {
                let told = format!("the double wrote nothing in {} s", DEADLINE.as_secs());
                return self.crew.is_without_effect(told);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether a fault may keep a new member from its servers, its topic or its table.
fn keeps_out(fault: &Fault) -> bool {
    matches!(fault.class(), 2..=5)
}
