//! `streamer status`: shows the progress of each partition, with or without a running streamer. Changes nothing.

mod lag_rate;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use crate::admin::clients::Clients;
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::status::lag_rate::LagRate;
use crate::checkpoint::PartitionInfo;
use crate::dead_letters::limits::DeadLetterLimits;
use ::kafka::{Group, GroupMember};

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
    /// A line every two seconds until interrupted: lag, records per second, and the time to lag 0
    #[arg(long)]
    watch: bool,
}

/// Time between two lines of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// The output of `status`.
#[derive(Debug, Serialize)]
struct StatusDocument {
    group: String,
    /// `None` if Kafka does not list the members in the group's protocol.
    members: Option<usize>,
    /// Members that are no streamers.
    foreign_members: Vec<ForeignMember>,
    topic: String,
    topic_id: String,
    /// Keyspace and name.
    table: String,
    /// `None` if the table does not exist.
    table_id: Option<String>,
    /// Records between the checkpoints and the ends of the log.
    lag: i64,
    partitions: Vec<PartitionStatus>,
}

#[derive(Debug, Serialize)]
struct ForeignMember {
    client_id: String,
    host: String,
    partitions: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct PartitionStatus {
    partition: i32,
    /// The next offset; `None` if the partition was never read.
    checkpoint: Option<i64>,
    beginning: i64,
    end: i64,
    lag: i64,
    /// Records from the first open transaction on, which can't be read yet. The lag includes them.
    open_transaction: i64,
    /// The checkpoint belongs to the present topic, not to an earlier one of the same name.
    same_topic: bool,
    /// The checkpoint belongs to the present table.
    same_table: bool,
    consecutive_dead_letters: i32,
    /// The reached limit of dead letters. The partition is not read until `streamer dead-letters reset-limits`.
    halted: Option<String>,
}

/// # Errors
/// When a server rejects a request, or does not respond in time.
pub(super) async fn status(clients: &Clients, arguments: &StatusArgs) -> Result<(), CommandError> {
    if arguments.watch {
        return watch(clients, arguments.json).await;
    }
    let status = fetch(clients).await?;
    if arguments.json {
        print_line(json(&status))
    } else {
        status.show()
    }
}

/// Prints the rate from the second request on. Ends only with an error.
async fn watch(clients: &Clients, as_json: bool) -> Result<(), CommandError> {
    let mut before = None;
    loop {
        let (status, at) = (fetch(clients).await?, Instant::now());
        let (lag, read) = (status.lag, status.read());
        if let Some((lag_before, read_before, before)) = before {
            let rate = LagRate::new((lag_before, read_before), (lag, read), at - before);
            print_line(if as_json { json(&rate) } else { rate.to_string() })?;
        }
        before = Some((lag, read, at));
        sleep(WATCH_INTERVAL).await;
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data, which JSON can hold")
}

async fn fetch(clients: &Clients) -> Result<StatusDocument, CommandError> {
    let settings = clients.settings();
    let limits = DeadLetterLimits::new(&settings.dead_letters);
    let snapshot = ClusterSnapshot::fetch(clients).await?;
    let partitions: Vec<_> = snapshot
        .partitions
        .iter()
        .map(|info| {
            let high = snapshot.high_watermarks.get(&info.partition);
            PartitionStatus::new(info, high.copied().unwrap_or(info.end), limits)
        })
        .collect();
    let members = match clients.group().await? {
        Group::Members(members) => Some(members),
        Group::Unknown { .. } => None,
    };
    let foreign = members
        .iter()
        .flatten()
        .filter(|member| clients.is_foreign(member));
    Ok(StatusDocument {
        group: settings.kafka.group.clone(),
        members: members.as_ref().map(Vec::len),
        foreign_members: foreign.map(ForeignMember::new).collect(),
        topic: settings.kafka.topic().to_owned(),
        topic_id: snapshot.topic.id.to_string(),
        table: clients.table_name(),
        table_id: snapshot.table_id.map(|id| id.to_string()),
        lag: partitions.iter().map(|it| it.lag).sum(),
        partitions,
    })
}

impl ForeignMember {
    fn new(member: &GroupMember) -> Self {
        let GroupMember {
            client_id,
            host,
            partitions,
        } = member.clone();
        Self {
            client_id,
            host,
            partitions,
        }
    }
}

impl PartitionStatus {
    fn new(info: &PartitionInfo, high_watermark: i64, limits: DeadLetterLimits) -> Self {
        let end = high_watermark.max(info.end);
        let checkpoint = info.checkpoint;
        let same_topic = checkpoint.is_some_and(|it| it.is_of_topic(info.topic_id));
        // A checkpoint of an earlier topic does not apply to the records of this one.
        let next = checkpoint
            .filter(|_| same_topic)
            .map_or(info.beginning, |it| it.position.next_offset);
        Self {
            partition: info.partition,
            checkpoint: checkpoint.map(|it| it.position.next_offset),
            beginning: info.beginning,
            end,
            lag: (end - next).max(0),
            open_transaction: end - info.end,
            same_topic,
            same_table: checkpoint.is_some_and(|it| it.table_id == info.table_id),
            halted: checkpoint
                .and_then(|it| limits.reached(it.position.dead_letters))
                .map(|limit| limit.to_string()),
            consecutive_dead_letters: checkpoint.map_or(0, |it| it.position.dead_letters.consecutive),
        }
    }

    fn remarks(&self) -> String {
        let remarks = [
            (self.checkpoint.is_none(), "never read".to_owned()),
            (
                self.checkpoint.is_some() && !self.same_topic,
                "checkpoint of another topic".to_owned(),
            ),
            (
                self.checkpoint.is_some() && !self.same_table,
                "checkpoint of another table".to_owned(),
            ),
            (
                self.consecutive_dead_letters > 0 && self.halted.is_none(),
                format!("{} consecutive dead letters", self.consecutive_dead_letters),
            ),
            (
                self.open_transaction > 0,
                format!("{} records behind an open transaction", self.open_transaction),
            ),
            (
                self.halted.is_some(),
                format!("halted: {}", self.halted.as_deref().unwrap_or_default()),
            ),
        ];
        let shown: Vec<_> = remarks
            .into_iter()
            .filter_map(|(holds, remark)| holds.then_some(remark))
            .collect();
        shown.join(", ")
    }
}

impl StatusDocument {
    /// The sum of the next offsets, which grows by one with each record that becomes durable.
    fn read(&self) -> i64 {
        self.partitions.iter().map(|it| it.end - it.lag).sum()
    }

    fn show(&self) -> Result<(), CommandError> {
        let members = self
            .members
            .map_or("unknown".to_owned(), |count| count.to_string());
        print_line(format_args!("group  {}, members: {members}", self.group))?;
        for member in &self.foreign_members {
            print_line(format_args!(
                "       not a streamer: {} at {}, partitions {:?}",
                member.client_id, member.host, member.partitions
            ))?;
        }
        print_line(format_args!("topic  {}, id {}", self.topic, self.topic_id))?;
        match &self.table_id {
            Some(id) => print_line(format_args!("table  {}, id {id}", self.table))?,
            None => print_line(format_args!("table  {}, which does not exist", self.table))?,
        }
        let columns = ["partition", "checkpoint", "beginning", "end", "lag"];
        print_line(columns.map(|column| format!("{column:>12}")).concat())?;
        for it in &self.partitions {
            let checkpoint = it
                .checkpoint
                .map_or("-".to_owned(), |checkpoint| checkpoint.to_string());
            let cells = [
                it.partition.to_string(),
                checkpoint,
                it.beginning.to_string(),
                it.end.to_string(),
                it.lag.to_string(),
            ];
            let line = cells.map(|cell| format!("{cell:>12}")).concat() + "  " + &it.remarks();
            print_line(line.trim_end())?;
        }
        print_line(format_args!("lag    {} records", self.lag))
    }
}
