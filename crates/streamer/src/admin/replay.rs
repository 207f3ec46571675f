//! `streamer replay`: moves checkpoints back. The streamer writes the records again at its next start.

mod confirm;

use clap::Args;

use self::confirm::confirm;
use crate::admin::clients::Clients;
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::cassandra::schema;
use crate::checkpoint::{Checkpoint, PartitionInfo, admin};
use crate::pipeline::write_timestamp::wall_micros;

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    from: ReplayFrom,
    /// Only this partition
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct ReplayFrom {
    /// Offset of the first record to write again; 0 is the beginning
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// Kafka timestamp of the first record to write again, such as 2026-05-01T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    from_time: Option<jiff::Timestamp>,
}

/// # Errors
/// When the group has members, or the operator declines.
pub(super) async fn replay(clients: &Clients, arguments: &ReplayArgs) -> Result<(), CommandError> {
    let plan = ReplayPlan::make(clients, arguments).await?;
    plan.show()?;
    if plan.moves.is_empty() {
        return Ok(());
    }
    confirm("Move the checkpoints?", arguments.yes)?;
    let settings = &clients.settings().cassandra;
    clients
        .cassandra(async |session| schema::ensure_table(session, settings, clients.contract(), false).await)
        .await?;
    // The state may have changed while the operator was asked.
    let plan = ReplayPlan::make(clients, arguments).await?;
    let checkpoints: Vec<_> = plan.moves.iter().map(|it| it.to).collect();
    clients.store(&checkpoints).await?;
    print_line(format_args!(
        "{} checkpoints moved; the next start writes the records again",
        checkpoints.len()
    ))
}

/// The checkpoints to move.
struct ReplayPlan {
    group: String,
    moves: Vec<CheckpointMove>,
    /// Partitions whose checkpoint is at or before the requested offset.
    stay: usize,
    /// Partitions without a checkpoint.
    unread: usize,
    /// Other partitions whose checkpoints belong to another table.
    left_behind: usize,
    /// Partitions whose first offset is after the requested one.
    truncated: Vec<(i32, i64)>,
    creates_table: bool,
}

struct CheckpointMove {
    from: Checkpoint,
    to: Checkpoint,
    end: i64,
}

impl ReplayPlan {
    async fn make(clients: &Clients, arguments: &ReplayArgs) -> Result<Self, CommandError> {
        clients.require_no_members().await?;
        let snapshot = ClusterSnapshot::fetch(clients).await?;
        let requested = arguments.partition;
        if let Some(requested) = requested.filter(|requested| *requested >= snapshot.topic.partitions) {
            return Err(CommandError::NoPartition {
                topic: clients.settings().kafka.topic().to_owned(),
                partitions: snapshot.topic.partitions,
                requested,
            });
        }
        let mut plan = Self {
            group: clients.settings().kafka.group.clone(),
            moves: Vec::new(),
            stay: 0,
            unread: 0,
            left_behind: 0,
            truncated: Vec::new(),
            creates_table: snapshot.table_id.is_none(),
        };
        let offsets = offsets(clients, arguments.from, snapshot.topic.partitions).await?;
        for (info, offset) in snapshot.partitions.iter().zip(offsets) {
            if requested.is_none_or(|requested| requested == info.partition) {
                plan.consider(info, offset);
            } else if info.checkpoint.is_some_and(|it| it.table_id != info.table_id) {
                plan.left_behind += 1;
            }
        }
        Ok(plan)
    }

    fn consider(&mut self, info: &PartitionInfo, offset: i64) {
        let Some(from) = info.checkpoint else {
            self.unread += 1;
            return;
        };
        if offset < info.beginning {
            self.truncated.push((info.partition, info.beginning));
        }
        match admin::replay(info, offset, wall_micros()) {
            Some(to) => self.moves.push(CheckpointMove {
                from,
                to,
                end: info.end,
            }),
            None => self.stay += 1,
        }
    }

    fn show(&self) -> Result<(), CommandError> {
        if self.moves.is_empty() && self.stay == 0 {
            return print_line(format_args!(
                "nothing to move: group `{}` has no checkpoint there and starts as checkpoint.on_missing defines",
                self.group
            ));
        }
        for (partition, beginning) in &self.truncated {
            print_line(format_args!(
                "the records of partition {partition} before offset {beginning} are deleted from the topic"
            ))?;
        }
        if self.moves.is_empty() {
            return print_line(
                "nothing to move: every checkpoint is already at or before the requested offset",
            );
        }
        let columns = ["partition", "checkpoint", "moves to", "end", "records"];
        print_line(columns.map(|column| format!("{column:>12}")).concat())?;
        for CheckpointMove { from, to, end, .. } in &self.moves {
            let (from, next) = (from.position.next_offset, to.position.next_offset);
            let partition = i64::from(to.partition);
            let cells = [partition, from, next, *end, end - next];
            print_line(cells.map(|cell| format!("{cell:>12}")).concat())?;
        }
        let total: i64 = self
            .moves
            .iter()
            .map(|it| it.end - it.to.position.next_offset)
            .sum();
        print_line(format_args!(
            "about {total} records to write; {} partitions are not moved",
            self.stay + self.unread
        ))?;
        if self.creates_table {
            print_line("the table does not exist and will be created")?;
        }
        if self.left_behind > 0 {
            print_line(format_args!(
                "{} other partitions have checkpoints of another table: the streamer starts only after a replay or \
                 accept-table of them",
                self.left_behind
            ))?;
        }
        Ok(())
    }
}

/// Returns the first offset to write again of each partition.
async fn offsets(clients: &Clients, from: ReplayFrom, partitions: i32) -> Result<Vec<i64>, CommandError> {
    let all: Vec<_> = (0..partitions).collect();
    match from.from_time {
        Some(time) => {
            let millis = time.as_millisecond();
            clients.kafka(move |client| client.offsets_at(&all, millis)).await
        }
        None => Ok(vec![from.from_offset.unwrap_or_default(); all.len()]),
    }
}
