//! `streamer runs`: shows what became of a run's records, by the run ledger. Changes nothing.

use clap::{Args, Subcommand};
use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::ledger::ledger_run::LedgerRun;

/// The arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Show which records of a run became rows, and which became dead letters
    ///
    /// A run that is not in the ledger, or that has expired (`ledger.ttl`), has no records.
    #[command(after_help = "Example: streamer runs show 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071 --json")]
    Show {
        /// The id of the run, a uuid
        id: Uuid,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

/// Ranges that are shown of each set.
const MAX_RANGES: usize = 10;

/// # Errors
/// When Cassandra rejects a request, or does not respond in time.
pub(super) async fn runs(clients: &Clients, arguments: &RunsArgs) -> Result<(), CommandError> {
    let RunsCommand::Show { id, json } = arguments.command;
    let state = clients.run(id).await?;
    if json {
        return print_line(serde_json::to_string(&state).expect("plain data, which JSON can hold"));
    }
    show(&state)
}

fn show(state: &LedgerRun) -> Result<(), CommandError> {
    print_line(format_args!("run           {}", state.run_id))?;
    for (label, count, ranges) in [
        ("rows", state.rows, &state.stored),
        ("dead letters", state.dead_letters, &state.dead_lettered),
        ("lost", state.lost_table, &state.lost),
    ] {
        print_line(format_args!("{label:<12}  {count}{}", shown(ranges)))?;
    }
    match state.end_to_end() {
        Some(it) => print_line(format_args!(
            "end to end    p50 {:.1} ms, p99 {:.1} ms of {} records",
            it.p50_ms, it.p99_ms, it.count
        )),
        None => print_line("end to end    not measured"),
    }
}

fn shown(ranges: &[[u64; 2]]) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let first = ranges.iter().take(MAX_RANGES).map(|[first, last]| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    let more = match ranges.len().saturating_sub(MAX_RANGES) {
        0 => String::new(),
        more => format!(" and {more} more ranges"),
    };
    format!(": {}{more}", first.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shown_up_to_a_limit() {
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[[0, 7], [9, 9]]), ": 0-7, 9");
        let many: Vec<_> = (0..12).map(|number| [2 * number, 2 * number]).collect();
        assert!(shown(&many).ends_with(", 18 and 2 more ranges"));
    }
}
