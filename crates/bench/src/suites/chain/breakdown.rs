//! Where the time of a run through all services goes: CPU time by process, wall-clock time, and the streamer's flushes
//! by trigger.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::measure::spread::Spread;
use crate::report::table::Table;

/// One round.
#[derive(Debug, Clone, Default)]
pub(super) struct Breakdown {
    /// From the start of the ingester's process to the last row.
    pub(super) seconds: f64,
    /// From the API's first request to the last row.
    pub(super) seconds_from_request: f64,
    /// By the ingester's own clock.
    pub(super) ingester_seconds: f64,
    /// CPU seconds by process.
    pub(super) cpu: BTreeMap<&'static str, f64>,
    /// The streamer's batches by the trigger of their flush.
    pub(super) batches: BTreeMap<String, f64>,
}

/// Adds every quantity, over all rounds, to the table.
pub(super) fn add_rows(table: &mut Table, rounds: &[Breakdown]) {
    let mut add = |name: String, value: &dyn Fn(&Breakdown) -> f64| {
        let spread = Spread::of(rounds.iter().map(value));
        if spread.is_some() {
            table.push(name, [spread.into()]);
        }
    };
    add(
        "from the ingester's start to the last row, s".to_owned(),
        &|round| round.seconds,
    );
    add("from the first request to the last row, s".to_owned(), &|round| {
        round.seconds_from_request
    });
    add("the ingester's run, by its own clock, s".to_owned(), &|round| {
        round.ingester_seconds
    });
    let processes: BTreeSet<_> = rounds.iter().flat_map(|round| round.cpu.keys()).collect();
    for process in processes {
        add(format!("CPU time, {process}, s"), &|round| {
            round.cpu.get(process).copied().unwrap_or(0.0)
        });
    }
    let triggers: BTreeSet<_> = rounds.iter().flat_map(|round| round.batches.keys()).collect();
    for trigger in triggers {
        add(
            format!("the streamer's batches, flushed by {trigger}"),
            &|round| round.batches.get(trigger).copied().unwrap_or(0.0),
        );
    }
}

impl fmt::Display for Breakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s, {:.2} s from the first request, ingester {:.2} s; CPU s:",
            self.seconds, self.seconds_from_request, self.ingester_seconds
        )?;
        for (process, seconds) in &self.cpu {
            write!(f, " {process} {seconds:.2}")?;
        }
        f.write_str("; batches:")?;
        self.batches
            .iter()
            .try_for_each(|(trigger, count)| write!(f, " {trigger} {count}"))
    }
}

/// Reads the streamer's batches by trigger from its metrics.
pub(super) fn batches(metrics: &str) -> BTreeMap<String, f64> {
    let series = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series
            .strip_prefix("streamer_batches_total{")?
            .strip_suffix('}')?;
        let trigger = labels.split_once("trigger=\"")?.1.split_once('"')?.0;
        Some((trigger.to_owned(), value.parse().ok()?))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Cell;

    #[test]
    fn batches_are_read_by_trigger() {
        let metrics = "# HELP streamer_batches_total x\nstreamer_batches_total{trigger=\"idle\"} 7\n\
                       streamer_batches_total{trigger=\"rows\"} 120\nstreamer_batch_rows_count 127\n";
        assert_eq!(
            batches(metrics),
            [("idle".to_owned(), 7.0), ("rows".to_owned(), 120.0)].into()
        );
    }

    #[test]
    fn every_quantity_is_a_row_with_its_spread() {
        let round = |cpu: f64, trigger: &str| Breakdown {
            seconds: cpu * 2.0,
            cpu: [("publisher", cpu)].into(),
            batches: [(trigger.to_owned(), 3.0)].into(),
            ..Breakdown::default()
        };
        let mut table = Table::new("run", &["measured"]);
        let rounds = [round(1.0, "idle"), round(2.0, "rows"), round(3.0, "rows")];
        add_rows(&mut table, &rounds);
        let spread = |name: &str| {
            let row = table.rows.iter().find(|(label, _)| label.contains(name));
            match row.unwrap().1[..] {
                [Cell::Measured(spread)] => spread,
                _ => panic!("{name} is not measured"),
            }
        };
        assert_eq!((spread("publisher").min, spread("publisher").max), (1.0, 3.0));
        // A round without a trigger counts no batches of it.
        assert_eq!((spread("by idle").min, spread("by idle").median), (0.0, 0.0));
        assert_eq!(table.rows.len(), 6);
    }
}
