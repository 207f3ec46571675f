//! `streamer status`: how far each partition is, beside a running streamer or without one. It changes nothing.

use clap::Args;
use serde::Serialize;

use crate::checkpoint::Known;
use crate::commands::error::CommandError;
use crate::commands::say;
use crate::commands::servers::Servers;
use crate::commands::situation::Situation;
use crate::tally::Limits;

/// How it is shown.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Status {
    group: String,
    members: usize,
    topic: String,
    topic_id: String,
    /// Keyspace and name.
    table: String,
    /// None: there is no table.
    table_id: Option<String>,
    /// Records between the checkpoints and the ends.
    lag: i64,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    /// The next offset; none: never read.
    checkpoint: Option<i64>,
    beginning: i64,
    end: i64,
    lag: i64,
    /// The checkpoint is of this very topic, not of one of the same name before it.
    same_topic: bool,
    /// The checkpoint is of this very table.
    same_table: bool,
    consecutive_dead_letters: i32,
    /// It has reached a limit of dead letters: it is read no further until `streamer resume`.
    stopped: Option<String>,
}

/// # Errors
/// When a server refuses, or has not answered in time.
pub(super) async fn status(servers: &Servers, arguments: &Arguments) -> Result<(), CommandError> {
    let settings = servers.settings();
    let limits = Limits::new(&settings.dead_letters);
    let situation = Situation::ask(servers).await?;
    let partitions: Vec<_> = situation
        .partitions
        .iter()
        .map(|known| Partition::of(known, limits))
        .collect();
    let status = Status {
        group: settings.kafka.group.clone(),
        members: servers.members().await?,
        topic: settings.kafka.topic.clone(),
        topic_id: situation.topic.id.to_string(),
        table: servers.table_name(),
        table_id: situation.table_id.map(|id| id.to_string()),
        lag: partitions.iter().map(|it| it.lag).sum(),
        partitions,
    };
    if arguments.json {
        say(serde_json::to_string(&status).expect("plain data, which JSON can hold"))
    } else {
        status.show()
    }
}

impl Partition {
    fn of(known: &Known, limits: Limits) -> Self {
        let checkpoint = known.checkpoint;
        let same_topic = checkpoint.is_some_and(|it| it.topic_id == known.topic_id);
        // A checkpoint of a topic that was there before says nothing of the records of this one.
        let next = checkpoint
            .filter(|_| same_topic)
            .map_or(known.beginning, |it| it.position.next_offset);
        Self {
            partition: known.partition,
            checkpoint: checkpoint.map(|it| it.position.next_offset),
            beginning: known.beginning,
            end: known.end,
            lag: (known.end - next).max(0),
            same_topic,
            same_table: checkpoint.is_some_and(|it| it.table_id == known.table_id),
            stopped: checkpoint
                .and_then(|it| limits.reached(it.position.tally))
                .map(|limit| limit.to_string()),
            consecutive_dead_letters: checkpoint.map_or(0, |it| it.position.tally.in_a_row),
        }
    }

    fn remarks(&self) -> String {
        let remarks = [
            (self.checkpoint.is_none(), "never read".to_owned()),
            (
                self.checkpoint.is_some() && !self.same_topic,
                "of another topic".to_owned(),
            ),
            (
                self.checkpoint.is_some() && !self.same_table,
                "of another table".to_owned(),
            ),
            (
                self.consecutive_dead_letters > 0 && self.stopped.is_none(),
                format!("{} dead letters in a row", self.consecutive_dead_letters),
            ),
            (
                self.stopped.is_some(),
                format!("stopped: {}", self.stopped.as_deref().unwrap_or_default()),
            ),
        ];
        let shown: Vec<_> = remarks
            .into_iter()
            .filter_map(|(holds, remark)| holds.then_some(remark))
            .collect();
        shown.join(", ")
    }
}

impl Status {
    fn show(&self) -> Result<(), CommandError> {
        say(format_args!("group  {}, members: {}", self.group, self.members))?;
        say(format_args!("topic  {}, id {}", self.topic, self.topic_id))?;
        match &self.table_id {
            Some(id) => say(format_args!("table  {}, id {id}", self.table))?,
            None => say(format_args!("table  {}, which does not exist", self.table))?,
        }
        let columns = ["partition", "checkpoint", "beginning", "end", "lag"];
        say(columns.map(|column| format!("{column:>12}")).concat())?;
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
            say(line.trim_end())?;
        }
        say(format_args!("lag    {} records", self.lag))
    }
}
