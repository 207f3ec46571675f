//! `streamer replay`: moves the checkpoints back on purpose. Writing the records again is the streamer's work, at its
//! next start.

use clap::Args;

use crate::cassandra::schema;
use crate::checkpoint::{Checkpoint, Known, deliberate};
use crate::clock::wall_micros;
use crate::commands::confirm::confirm;
use crate::commands::error::CommandError;
use crate::commands::say;
use crate::commands::servers::Servers;
use crate::commands::situation::Situation;

/// From where, and which partitions.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    from: From,
    /// This partition alone
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct From {
    /// The offset of the first record to write again; 0 is the beginning
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// The Kafka timestamp of the first record to write again, such as 2026-05-01T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    from_time: Option<jiff::Timestamp>,
}

/// # Errors
/// When a member would not notice, or the operator says no.
pub(super) async fn replay(servers: &Servers, arguments: &Arguments) -> Result<(), CommandError> {
    let plan = Plan::make(servers, arguments).await?;
    plan.show()?;
    if plan.moves.is_empty() {
        return Ok(());
    }
    confirm("Move the checkpoints?", arguments.yes)?;
    let settings = &servers.settings().cassandra;
    servers
        .cassandra(async |live| schema::ensure_table(live, settings, false).await)
        .await?;
    // The answer may have taken its time: what was highest then need not be highest now.
    let plan = Plan::make(servers, arguments).await?;
    let checkpoints: Vec<_> = plan.moves.iter().map(|it| it.to).collect();
    servers.store(&checkpoints).await?;
    say(format_args!(
        "{} checkpoints moved; the records are written again from the next start on",
        checkpoints.len()
    ))
}

/// Which checkpoints change, and how.
struct Plan {
    group: String,
    moves: Vec<Move>,
    /// Partitions whose checkpoint is where it has to be, or before.
    stay: usize,
    /// Partitions without a checkpoint.
    unread: usize,
    /// Partitions that were not asked for, whose checkpoints name another table.
    left_behind: usize,
    /// Partitions that begin after what was asked for, and where.
    gone: Vec<(i32, i64)>,
    creates_table: bool,
}

struct Move {
    from: Checkpoint,
    to: Checkpoint,
    end: i64,
}

impl Plan {
    async fn make(servers: &Servers, arguments: &Arguments) -> Result<Self, CommandError> {
        servers.refuse_members().await?;
        let situation = Situation::ask(servers).await?;
        let asked = arguments.partition;
        if let Some(asked) = asked.filter(|asked| *asked >= situation.topic.partitions) {
            return Err(CommandError::NoPartition {
                topic: servers.settings().kafka.topic.clone(),
                partitions: situation.topic.partitions,
                asked,
            });
        }
        let mut plan = Self {
            group: servers.settings().kafka.group.clone(),
            moves: Vec::new(),
            stay: 0,
            unread: 0,
            left_behind: 0,
            gone: Vec::new(),
            creates_table: situation.table_id.is_none(),
        };
        let offsets = offsets(servers, arguments.from, situation.topic.partitions).await?;
        for (known, offset) in situation.partitions.iter().zip(offsets) {
            if asked.is_none_or(|asked| asked == known.partition) {
                plan.consider(known, offset);
            } else if known.checkpoint.is_some_and(|it| it.table_id != known.table_id) {
                plan.left_behind += 1;
            }
        }
        Ok(plan)
    }

    fn consider(&mut self, known: &Known, offset: i64) {
        let Some(from) = known.checkpoint else {
            self.unread += 1;
            return;
        };
        if offset < known.beginning {
            self.gone.push((known.partition, known.beginning));
        }
        match deliberate::replay(known, offset, wall_micros()) {
            Some(to) => self.moves.push(Move {
                from,
                to,
                end: known.end,
            }),
            None => self.stay += 1,
        }
    }

    fn show(&self) -> Result<(), CommandError> {
        if self.moves.is_empty() && self.stay == 0 {
            return say(format_args!(
                "nothing to move: group `{}` has no checkpoint there; it starts where checkpoint.on_missing says",
                self.group
            ));
        }
        for (partition, beginning) in &self.gone {
            say(format_args!(
                "the records of partition {partition} before offset {beginning} are gone from the topic"
            ))?;
        }
        if self.moves.is_empty() {
            return say("nothing to move: every checkpoint is there, or before, already");
        }
        let columns = ["partition", "checkpoint", "moves to", "end", "records"];
        say(columns.map(|column| format!("{column:>12}")).concat())?;
        for Move { from, to, end, .. } in &self.moves {
            let (from, next) = (from.position.next_offset, to.position.next_offset);
            let partition = i64::from(to.partition);
            let cells = [partition, from, next, *end, end - next];
            say(cells.map(|cell| format!("{cell:>12}")).concat())?;
        }
        let total: i64 = self
            .moves
            .iter()
            .map(|it| it.end - it.to.position.next_offset)
            .sum();
        say(format_args!(
            "about {total} records to write; {} partitions stay where they are",
            self.stay + self.unread
        ))?;
        if self.creates_table {
            say("the table is gone and will be created anew")?;
        }
        if self.left_behind > 0 {
            say(format_args!(
                "{} partitions that were not asked for name another table: the streamer starts only after a replay \
                 or an accept-table of theirs",
                self.left_behind
            ))?;
        }
        Ok(())
    }
}

/// The first offset to write again, for each partition.
async fn offsets(servers: &Servers, from: From, partitions: i32) -> Result<Vec<i64>, CommandError> {
    let all: Vec<_> = (0..partitions).collect();
    match from.from_time {
        Some(time) => {
            let millis = time.as_millisecond();
            servers.kafka(move |broker| broker.offsets_at(&all, millis)).await
        }
        None => Ok(vec![from.from_offset.unwrap_or_default(); all.len()]),
    }
}
