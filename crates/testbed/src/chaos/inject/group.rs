//! Faults of the group: who is in it, what it has committed, what it shares.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::sleep;

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::crew::{self, streamer};
use crate::chaos::evidence::{Sign, Who};
use crate::service::Service;
use crate::tap::Tap;

/// For an answer of an operator's tool, and for a member to notice that it is none.
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
        #[expect(clippy::cast_precision_loss, reason = "a topic has few partitions")]
        let all = (before + more) as f64;
        Ok(Effect {
            signs: vec![Sign::InTheEnd("streamer_assigned_partitions", all)],
            ..self.effect(began)
        })
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

    /// The group takes the later one for the member; the earlier one is fenced, ends, and is started again by the
    /// operator once the other is gone.
    pub(super) async fn duplicate(&self, who: Who, lasts: Duration) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        let Who::Streamer(number) = who else {
            return Err(RoundError::Refused {
                what: "a second process that is no streamer",
                log: String::new(),
            });
        };
        let options = streamer(self.venue, self.plot, number).log_name(format!("{who}-double"));
        let mut double = Service::start(&options)?;
        match service.wait(DEADLINE).await {
            Ok(Some(1)) => service.forget(),
            ended => {
                let told = format!("{who} was to end with 1 for its double: {ended:?}");
                self.crew.note(told);
                self.crew.kill(who, &mut service).await?;
            }
        }
        sleep(lasts).await;
        self.crew.terminate(who, &mut double).await?;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }
}
