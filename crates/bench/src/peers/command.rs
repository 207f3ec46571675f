//! `testbed bench peers`: whether the peers store what the topic holds, which settings suit them, how fast they are beside
//! our streamer.

use std::path::PathBuf;

use clap::Args;

use super::python::{Producer, Python, Work};
use super::rig::{RigError, check, compare, fill, write_users};
use super::{Peer, PeerError};
use crate::drain::{Backlogs, told};
use crate::field::Field;
use crate::sink::{Sink, Streamer};
use crate::spread::order;
use crate::usage::Cost;
use crate::warmup::Warmup;

/// Enough for every kind of record to come in every partition.
const CHECKED: u64 = 2_000;
const CHECK_TOPIC: &str = "peers_check";

/// What is asked of the peers.
#[derive(Debug, Args)]
pub struct PeersBench {
    /// Have each store 2,000 records, and hold every column of every row against the topic
    #[arg(long)]
    check: bool,
    /// Compare the settings that suit each
    #[arg(long, conflicts_with = "check")]
    sweep: bool,
    /// Leave out all but these peers
    #[arg(long, value_enum)]
    only: Vec<Peer>,
    /// Leave out the producers
    #[arg(long)]
    no_producers: bool,
    /// Records that each drains
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Records that each producer sends; a tenth when it flushes each
    #[arg(long, default_value_t = 50_000)]
    produced: u64,
    /// Rounds of all in turn
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

impl PeersBench {
    /// Installs, starts servers, and does what is asked.
    ///
    /// # Errors
    /// [`RigError`]; among them that a peer stores something else than the topic holds.
    pub async fn run(&self) -> Result<(), RigError> {
        let sinks = self.sinks().await?;
        let python = if self.no_producers {
            None
        } else {
            Some(Python::install().await?)
        };
        let mut field = Field::start(1, 1).await?;
        if self.check {
            return self.check(&mut field, &sinks, python.as_ref()).await;
        }
        self.drain(&mut field, &sinks).await?;
        if let Some(python) = &python {
            self.produce(&field, python).await?;
        }
        Ok(())
    }

    /// Ours warms Cassandra up, then comes in turn with the others.
    async fn drain(&self, field: &mut Field, sinks: &[Box<dyn Sink>]) -> Result<(), RigError> {
        let mut backlogs = Backlogs::default();
        let backlog = backlogs.of(field, 6, self.records, 0).await?;
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let drain = backlog.drain(field, &Streamer::default()).await?;
            warmup.note(drain.cost.rows_per_second());
            println!("warming up: {}", told(&drain));
        }
        for round in 0..self.rounds {
            for place in order(round, sinks.len()) {
                let sink = sinks[place].as_ref();
                let records = self.records.min(sink.most_records());
                let backlog = backlogs.of(field, 6, records, 0).await?;
                match backlog.drain(field, sink).await {
                    Ok(drain) => println!("round {round}: {}: {}", sink.name(), told(&drain)),
                    Err(error) => println!("round {round}: {}: not measured: {error}", sink.name()),
                }
            }
        }
        Ok(backlogs.delete(field).await?)
    }

    /// Ours first.
    async fn sinks(&self) -> Result<Vec<Box<dyn Sink>>, PeerError> {
        let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(Streamer::default())];
        for peer in Peer::ALL {
            if !self.only.is_empty() && !self.only.contains(&peer) {
                continue;
            }
            if self.sweep {
                sinks.extend(peer.candidates().await?);
            } else {
                sinks.push(peer.install().await?);
            }
        }
        Ok(sinks)
    }

    async fn check(
        &self,
        field: &mut Field,
        sinks: &[Box<dyn Sink>],
        python: Option<&Python>,
    ) -> Result<(), RigError> {
        fill(field, CHECK_TOPIC, CHECKED).await?;
        for sink in sinks {
            let rows = check(field, sink.as_ref(), CHECK_TOPIC).await?;
            println!("{}: {rows} rows, every column as in the topic", sink.name());
        }
        let Some(python) = python else { return Ok(()) };
        let (users, given) = (self.users(field, CHECKED)?, field.tap.read(CHECK_TOPIC).await?);
        for (number, producer) in Producer::ALL.into_iter().enumerate() {
            let topic = format!("produced_{number}");
            produced(field, python, producer, &topic, &users, CHECKED).await?;
            let records = compare(&producer.name(), &field.tap.read(&topic).await?, &given)?;
            println!(
                "{}: {records} records, every field as in the file",
                producer.name()
            );
        }
        Ok(())
    }

    async fn produce(&self, field: &Field, python: &Python) -> Result<(), RigError> {
        let users = self.users(field, self.produced.min(10_000))?;
        for round in 0..self.rounds {
            for (number, producer) in Producer::ALL.into_iter().enumerate() {
                let records = if producer.flushes_each() {
                    self.produced / 10
                } else {
                    self.produced
                };
                let topic = format!("produced_{round}_{number}");
                let cost = produced(field, python, producer, &topic, &users, records).await?;
                println!(
                    "round {round}: {}: {:.0} records/s, {:.1} CPU s per million, {:.0} MiB",
                    producer.name(),
                    cost.rows_per_second(),
                    cost.cpu_per_million(),
                    cost.peak_mib
                );
            }
        }
        Ok(())
    }

    fn users(&self, field: &Field, records: u64) -> Result<PathBuf, RigError> {
        let path = field.folder.join("users.jsonl");
        write_users(&path, records)?;
        Ok(path)
    }
}

async fn produced(
    field: &Field,
    python: &Python,
    producer: Producer,
    topic: &str,
    users: &std::path::Path,
    records: u64,
) -> Result<Cost, RigError> {
    field.stack.kafka.create_topic(topic, 6).await?;
    let brokers = field.stack.kafka.bootstrap();
    let work = Work {
        brokers: &brokers,
        topic,
        users,
        records,
    };
    let log = field.folder.join(format!("{topic}.log"));
    Ok(python.produce(producer, &work, &log).await?)
}
