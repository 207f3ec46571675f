//! `scripts/bench quick`: a few ratios in a few minutes, against those that are committed. Ratios of one run hardly
//! depend on the machine, so a fall of one is ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::chain::ChainBench;
use super::field::Field;
use super::figures::Figure;
use super::machine::Machine;
use super::report::Report;
use super::spread::Spread;
use super::streamer::StreamerBench;
use super::streamer::sweep::SAME;
use crate::error::BenchError;

/// A ratio may be so much worse than the committed one, in shares of it.
pub const FALL: f64 = 0.20;

/// What is said of one ratio.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It holds.
    Held,
    /// Worse by this share.
    Fallen(f64),
    /// Measured then, and not now.
    Missing,
    /// Its rounds lie too far apart to tell.
    Unsure,
}

/// How one ratio compares.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Its name.
    pub name: String,
    /// What it was.
    pub was: f64,
    /// What it is; none: not measured.
    pub is: Option<f64>,
    /// What that means.
    pub verdict: Verdict,
}

/// Holds what was measured against what is committed, ratio by ratio of the committed ones.
pub fn compare(committed: &[Figure], measured: &[Figure]) -> Vec<Comparison> {
    let ratios = committed.iter().filter(|figure| figure.unit == "ratio");
    ratios
        .filter_map(|figure| Some(compared(figure, middle(figure)?.median, measured)))
        .collect()
}

fn compared(figure: &Figure, was: f64, measured: &[Figure]) -> Comparison {
    let now = measured.iter().find(|it| it.name == figure.name).and_then(middle);
    let less_is_better = figure.goal.starts_with("<=");
    let worse = |is: f64| {
        if less_is_better {
            is / was - 1.0
        } else {
            1.0 - is / was
        }
    };
    let verdict = match now {
        None => Verdict::Missing,
        Some(now) => {
            let best = if less_is_better { now.min } else { now.max };
            let (fallen, at_best) = (worse(now.median), worse(best));
            match (fallen > FALL, at_best > FALL) {
                (false, _) => Verdict::Held,
                (true, true) => Verdict::Fallen(fallen),
                // One of the rounds was as good as ever.
                (true, false) => Verdict::Unsure,
            }
        }
    };
    Comparison {
        name: figure.name.clone(),
        was,
        is: now.map(|now| now.median),
        verdict,
    }
}

/// The rounds of a figure; one that has none is its own round.
fn middle(figure: &Figure) -> Option<Spread> {
    figure.spread.or_else(|| Spread::of(&[figure.value?]))
}

impl Comparison {
    /// Whether the gate lets it pass.
    pub fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Held | Verdict::Unsure)
    }

    /// As a line of the table.
    pub fn line(&self) -> String {
        let is = self.is.map_or_else(|| "-".to_owned(), |is| format!("{is:.3}"));
        let verdict = match self.verdict {
            Verdict::Held => "holds".to_owned(),
            Verdict::Fallen(share) => format!("FALLEN by {:.0} %", share * 100.0),
            Verdict::Missing => "MISSING".to_owned(),
            Verdict::Unsure => "lower, but not in every round".to_owned(),
        };
        format!("{:<58} was {:>7.3}, is {is:>7}  {verdict}", self.name, self.was)
    }
}

/// The gate can't compare.
#[derive(Debug, Error)]
pub enum GateError {
    /// What competes for two cores does not for four: not even ratios are the same.
    #[error(
        "{} was measured on {committed} cores, and here are {here}: their ratios do not compare; run it as `taskset -c \
         0-{}`, or measure the reference again with --out",
        against.display(),
        committed.saturating_sub(1)
    )]
    Cores {
        /// The committed result.
        against: PathBuf,
        /// Its machine's cores.
        committed: usize,
        /// Those of this one that may be used.
        here: usize,
    },
}

/// Whether a result of this machine compares with the committed one; asked before anything is measured.
///
/// # Errors
/// [`GateError`], which says why not.
pub fn comparable(against: &Path, committed: &Machine, here: &Machine) -> Result<(), GateError> {
    if committed.cores == here.cores {
        return Ok(());
    }
    Err(GateError::Cores {
        against: against.to_path_buf(),
        committed: committed.cores,
        here: here.cores,
    })
}

/// How much is measured.
#[derive(Debug, Clone)]
pub struct QuickBench {
    /// Records of a backlog, and users of a run.
    pub records: u64,
    /// Rounds that count.
    pub rounds: usize,
}

impl QuickBench {
    /// Measures the ratios.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn run(&self) -> Result<Report, BenchError> {
        let streamer = StreamerBench {
            records: self.records,
            rounds: self.rounds,
            steady: Duration::ZERO,
            large: 0,
        };
        let mut field = Field::start(1, 1).await?;
        let mut figures = streamer.against_ceiling(&mut field).await?.figures;
        let chain = ChainBench {
            users: self.records,
            records: self.records,
            rounds: self.rounds,
            singles: 0,
            steady: Duration::ZERO,
        };
        let (through, split) = chain.through_only(&mut field).await?;
        figures.push(through);
        figures.retain(|figure| figure.unit == "ratio");
        let mut report = Report::new("quick")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("bare loop", &format!("{SAME:?}"));
        report.figures = figures;
        report.split = split;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Goal;

    fn ratio(name: &str, rounds: &[f64], goal: Goal) -> Figure {
        Figure::measured(name, rounds, "ratio", goal)
    }

    fn verdict(was: &Figure, is: &Figure) -> Verdict {
        compare(std::slice::from_ref(was), std::slice::from_ref(is))[0]
            .verdict
            .clone()
    }

    #[test]
    fn a_ratio_that_is_a_fifth_lower_has_fallen() {
        let was = ratio("speed", &[1.0, 1.0, 1.0], Goal::AtLeast(0.9));
        let is = |median: f64| {
            ratio(
                "speed",
                &[median, median * 0.99, median * 1.01],
                Goal::AtLeast(0.9),
            )
        };
        assert_eq!(verdict(&was, &is(0.85)), Verdict::Held);
        assert_eq!(verdict(&was, &is(3.0)), Verdict::Held);
        assert!(matches!(verdict(&was, &is(0.75)), Verdict::Fallen(share) if (share - 0.25).abs() < 1e-9));
    }

    #[test]
    fn where_less_is_better_more_has_fallen() {
        let was = ratio("cost", &[1.0], Goal::AtMost(1.5));
        assert_eq!(
            verdict(&was, &ratio("cost", &[0.5], Goal::AtMost(1.5))),
            Verdict::Held
        );
        assert!(matches!(
            verdict(&was, &ratio("cost", &[1.3], Goal::AtMost(1.5))),
            Verdict::Fallen(_)
        ));
    }

    #[test]
    fn one_round_that_is_as_good_as_ever_leaves_a_doubt() {
        let was = ratio("speed", &[1.0], Goal::AtLeast(0.9));
        let is = ratio("speed", &[0.6, 0.7, 1.0], Goal::AtLeast(0.9));
        assert_eq!(verdict(&was, &is), Verdict::Unsure);
    }

    #[test]
    fn a_ratio_that_is_no_longer_measured_does_not_pass() {
        let was = ratio("speed", &[1.0], Goal::AtLeast(0.9));
        let comparisons = compare(&[was], &[]);
        assert_eq!(comparisons[0].verdict, Verdict::Missing);
        assert!(!comparisons[0].passes() && comparisons[0].line().contains("MISSING"));
    }

    #[test]
    fn machines_of_different_cores_are_not_compared() {
        let of = |cores: usize| Machine {
            cores,
            ..Machine::default()
        };
        let against = Path::new("docs/benchmarks/quick.json");
        assert!(comparable(against, &of(2), &of(2)).is_ok());
        let refused = comparable(against, &of(2), &of(4)).unwrap_err().to_string();
        assert!(
            refused.contains("on 2 cores, and here are 4") && refused.contains("taskset -c 0-1"),
            "{refused}"
        );
    }

    #[test]
    fn the_committed_reference_is_read() {
        let path = testkit::workspace::root()
            .unwrap()
            .join("docs/benchmarks/quick.json");
        let committed = Report::read(&path).unwrap();
        assert_eq!(compare(&committed.figures, &committed.figures).len(), 3);
        assert!(committed.machine.cores > 0);
    }

    #[test]
    fn what_is_no_ratio_is_not_compared() {
        let was = Figure::measured("p99", &[4.0], "ms", Goal::AtMost(10.0));
        assert!(compare(&[was], &[]).is_empty());
        let never = ratio("against a peer", &[], Goal::AtLeast(5.0));
        assert!(compare(&[never], &[]).is_empty());
    }
}
