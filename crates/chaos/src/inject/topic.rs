//! Faults of the topic itself: it is deleted and created anew, or loses its older records.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::chronicle::Gone;
use crate::crew::streamer;
use crate::evidence::{OPERATORS, Sign};
use crate::fault::Loss;
use crate::round;
use testkit::cassandra_client::CheckpointRow;
use testkit::kafka_client::{KafkaClient, TopicRecord};
use testkit::service::Service;

/// For an operator's tool, and for a service to do what it must.
const DEADLINE: Duration = Duration::from_secs(30);
/// Records that come in while nobody reads.
const ABSENCE: Duration = Duration::from_secs(2);

impl Scene<'_> {
    /// All traffic waits for as long as there is no topic: what is acknowledged into one that is being deleted is lost, and
    /// nobody could tell the oracle what it was.
    pub(super) async fn topic_recreated(&self) -> Result<Effect, RoundError> {
        let held = self.workload.hold().await;
        drop(self.workload.runs(DEADLINE).await);
        round::settle(*self).await;
        let began = self.now();
        self.pause.hold();
        let tap = KafkaClient::new(self.venue.stack.kafka.internal_bootstrap())?;
        let (read, ends) = (
            tap.read(&self.plot.name).await?,
            tap.end_offsets(&self.plot.name).await?,
        );
        let checkpoints = self.checkpoints().await?;
        let topic = checkpoints.values().next().map(|checkpoint| checkpoint.topic_id);
        let reached = |(partition, end): (&i32, &i64)| {
            checkpoints
                .get(partition)
                .is_some_and(|checkpoint| checkpoint.next_offset == *end)
        };
        let (Some(topic), true) = (topic, ends.iter().all(reached)) else {
            return Err(refused(
                "to read all before the topic is deleted",
                format!("{ends:?}"),
            ));
        };
        self.chronicle.note(Gone {
            read,
            unread: Vec::new(),
            before: Some((topic, ends.clone())),
        });
        self.delete_and_create(&tap, ends.len()).await?;
        self.pause.release();
        drop(held);
        Ok(Effect {
            signs: vec![Sign::Rose("streamer_restarts_total")],
            ..self.effect(began)
        })
    }

    /// The deletion is under way when it is answered; a streamer that finds no topic may be the one who creates it.
    async fn delete_and_create(&self, tap: &KafkaClient, partitions: usize) -> Result<(), RoundError> {
        let (name, admin, options) = (&self.plot.name, self.admin()?, options());
        sort(admin.delete_topics(&[name.as_str()], &options).await?)?;
        let nodes = self.venue.shape.nodes();
        let replicas = TopicReplication::Fixed(i32::try_from(nodes).unwrap_or(1));
        let in_sync = nodes.div_ceil(2).to_string();
        let topic = NewTopic::new(name, i32::try_from(partitions).unwrap_or(1), replicas)
            .set("message.timestamp.type", "LogAppendTime")
            .set("min.insync.replicas", &in_sync);
        let until = Instant::now() + DEADLINE;
        loop {
            match sort(admin.create_topics([&topic], &options).await?) {
                Ok(()) => return Ok(()),
                Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < until => {}
                Err(error) => return Err(error.into()),
            }
            let ends = tap.end_offsets(name).await.unwrap_or_default();
            if ends.len() == partitions && ends.values().all(|end| *end == 0) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn topic_cut(&self, loss: Loss) -> Result<Effect, RoundError> {
        let began = self.now();
        if loss == Loss::Settled {
            self.cut(loss).await?;
            return Ok(self.effect(began));
        }
        let mut held = self.stop_streamers().await?;
        sleep(ABSENCE).await;
        let starts = self.cut(loss).await?;
        // Data is gone: whoever starts says so and ends.
        let (who, service) = &mut held[0];
        service.spawn()?;
        match service.wait(DEADLINE).await {
            Ok(Some(78)) => service.mark_ended(),
            ended => {
                let told = format!("{who} was to end with 78 for the records that are gone: {ended:?}");
                self.crew.note(told);
                self.crew.kill(*who, service).await?;
            }
        }
        self.go_on_behind(&starts).await?;
        self.start_streamers(held).await?;
        Ok(self.restarted(began, self.crew.streamers()))
    }

    /// Deletes the records below the checkpoints, or all that are there; returns where the topic begins then.
    async fn cut(&self, loss: Loss) -> Result<BTreeMap<i32, i64>, RoundError> {
        let tap = KafkaClient::new(self.venue.stack.kafka.internal_bootstrap())?;
        let (checkpoints, log) = (self.checkpoints().await?, tap.read(&self.plot.name).await?);
        let next = |record: &TopicRecord| checkpoints.get(&record.partition).map_or(0, |it| it.next_offset);
        let (read, unread): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|record| record.offset < next(record));
        let unread = if loss == Loss::Unread { unread } else { Vec::new() };
        if loss == Loss::Unread && unread.is_empty() {
            return Err(refused(
                "to lose records that nobody has read",
                format!("{checkpoints:?}"),
            ));
        }
        let mut starts = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for record in read.iter().chain(&unread) {
            let start = starts.entry(record.partition).or_insert(0);
            *start = (*start).max(record.offset + 1);
        }
        for (partition, start) in &starts {
            list.add_partition_offset(&self.plot.name, *partition, Offset::Offset(*start))?;
        }
        let before = None;
        self.chronicle.note(Gone { read, unread, before });
        let cut = self.admin()?.delete_records(&list, &options()).await?;
        cut.elements().iter().try_for_each(|element| element.error())?;
        Ok(starts)
    }

    /// The operator lets one streamer go on behind the gap, and takes the permission back once all partitions are there.
    async fn go_on_behind(&self, starts: &BTreeMap<i32, i64>) -> Result<(), RoundError> {
        let options =
            streamer(self.venue, self.plot, OPERATORS).set("checkpoint.on_out_of_range", "earliest");
        let mut allowed = Service::start(&options)?;
        let until = Instant::now() + DEADLINE;
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
                return Err(refused("to go on behind the gap", allowed.last_lines(5)));
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.crew.terminate(OPERATORS, &mut allowed).await
    }

    async fn checkpoints(&self) -> Result<BTreeMap<i32, CheckpointRow>, RoundError> {
        let name = &self.plot.name;
        Ok(self.table().await?.checkpoints(name, name).await?)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
        ClientConfig::new()
            .set("bootstrap.servers", self.venue.stack.kafka.internal_bootstrap())
            .create()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE))
}

fn sort(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), KafkaError> {
    let mut results = results.into_iter();
    results.try_for_each(|result| result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}

fn refused(what: &'static str, log: String) -> RoundError {
    RoundError::Refused { what, log }
}
