//! Time breakdown of a run through the chain: CPU by process, the ingester's run time, and the streamer's flush
//! triggers.

use std::collections::BTreeMap;
use std::fmt;

use crate::report::BreakdownLine;
use crate::report::spread::Spread;

/// One round.
#[derive(Debug, Clone, Default)]
pub(super) struct Breakdown {
    /// From the start of the ingester's process to the last row.
    pub(super) seconds: f64,
    /// From the API's first request to the last row.
    pub(super) from_first_request: f64,
    /// As the ingester reports it.
    pub(super) ingester_seconds: f64,
    /// Processor seconds by process.
    pub(super) cpu: BTreeMap<&'static str, f64>,
    /// The streamer's batches by flush trigger.
    pub(super) batches: BTreeMap<String, f64>,
}

/// Reads one duration of a round, in seconds.
type Clock = fn(&Breakdown) -> f64;

impl Breakdown {
    /// Every quantity over all rounds.
    pub(super) fn lines(rounds: &[Self]) -> Vec<BreakdownLine> {
        let clocks: [(&str, Clock); 3] = [
            ("from the ingester's start to the last row", |it| it.seconds),
            ("from the first request to the last row", |it| {
                it.from_first_request
            }),
            ("the ingester's run, by its own clock", |it| it.ingester_seconds),
        ];
        let mut lines: Vec<Option<BreakdownLine>> = clocks
            .into_iter()
            .map(|(name, of)| line(name.to_owned(), "s", rounds.iter().map(of)))
            .collect();
        for name in names(rounds, |it| it.cpu.keys().copied()) {
            let of = rounds.iter().map(|it| it.cpu.get(name).copied().unwrap_or(0.0));
            lines.push(line(format!("processor time, {name}"), "s", of));
        }
        for name in names(rounds, |it| it.batches.keys()) {
            let of = rounds
                .iter()
                .map(|it| it.batches.get(name).copied().unwrap_or(0.0));
            lines.push(line(format!("the streamer's batches by {name}"), "batches", of));
        }
        lines.into_iter().flatten().collect()
    }
}

fn line(name: String, unit: &str, rounds: impl Iterator<Item = f64>) -> Option<BreakdownLine> {
    Some(BreakdownLine {
        name,
        unit: unit.to_owned(),
        spread: Spread::of(&rounds.collect::<Vec<_>>())?,
    })
}

/// All names that any round has.
fn names<'a, N: Ord, I: Iterator<Item = N>>(
    rounds: &'a [Breakdown],
    of: impl Fn(&'a Breakdown) -> I,
) -> Vec<N> {
    let mut names: Vec<N> = rounds.iter().flat_map(of).collect();
    names.sort();
    names.dedup();
    names
}

impl fmt::Display for Breakdown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.2} s, of these {:.2} s from the first request, ingester {:.2} s; CPU s:",
            self.seconds, self.from_first_request, self.ingester_seconds
        )?;
        for (name, seconds) in &self.cpu {
            write!(formatter, " {name} {seconds:.2}")?;
        }
        formatter.write_str("; batches:")?;
        self.batches
            .iter()
            .try_for_each(|(name, count)| write!(formatter, " {name} {count}"))
    }
}

/// Parses the streamer's batches by trigger from its metrics.
pub(super) fn batches(metrics: &str) -> BTreeMap<String, f64> {
    let labelled = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let label = series
            .strip_prefix("streamer_batches_total{")?
            .strip_suffix('}')?;
        let trigger = label.split_once("trigger=\"")?.1.split_once('"')?.0;
        Some((trigger.to_owned(), value.parse().ok()?))
    });
    labelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_trigger() {
        let metrics = "# HELP streamer_batches_total x\nstreamer_batches_total{trigger=\"idle\"} 7\n\
                       streamer_batches_total{trigger=\"rows\"} 120\nstreamer_batch_rows_count 127\n";
        let seen = batches(metrics);
        assert_eq!(
            seen,
            [("idle".to_owned(), 7.0), ("rows".to_owned(), 120.0)].into()
        );
    }

    #[test]
    fn breakdown_has_a_line_for_each_quantity() {
        let round = |cpu: f64, trigger: &str| Breakdown {
            seconds: cpu * 2.0,
            cpu: [("publisher", cpu)].into(),
            batches: [(trigger.to_owned(), 3.0)].into(),
            ..Breakdown::default()
        };
        let lines = Breakdown::lines(&[round(1.0, "idle"), round(2.0, "rows"), round(3.0, "rows")]);
        let of = |name: &str| lines.iter().find(|line| line.name.contains(name)).unwrap();
        let publisher = of("publisher");
        assert_eq!((publisher.spread.min, publisher.spread.max), (1.0, 3.0));
        // A round without a trigger counts zero batches.
        assert_eq!(
            (of("by idle").spread.min, of("by idle").spread.median),
            (0.0, 0.0)
        );
        assert_eq!(lines.len(), 6);
    }
}
