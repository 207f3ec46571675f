//! `bench quick`: compares a few ratios with the committed ones, in a few minutes.
//!
//! Ratios within one run hardly depend on the machine, so a drop is a regression.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::baseline::sweep::GATE_SETTINGS;
use crate::chain::ChainBench;
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::Report;
use crate::report::figures::Figure;
use crate::report::machine::Machine;
use crate::report::spread::Spread;
use crate::streamer::StreamerBench;

/// Maximum relative regression of a ratio.
pub const MAX_REGRESSION: f64 = 0.20;

/// Verdict on one ratio.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// No regression.
    Passed,
    /// Worse by this share.
    Regressed(f64),
    /// Committed, but not measured now.
    Missing,
    /// Worse in the median, but not in every round.
    Inconclusive,
}

/// Comparison of one ratio.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Its name.
    pub name: String,
    /// The committed value.
    pub was: f64,
    /// The measured value; none if not measured.
    pub is: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Compares the measured ratios with the committed ones.
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
            let (regression, best_regression) = (worse(now.median), worse(best));
            match (regression > MAX_REGRESSION, best_regression > MAX_REGRESSION) {
                (false, _) => Verdict::Passed,
                (true, true) => Verdict::Regressed(regression),
                // The best round shows no regression.
                (true, false) => Verdict::Inconclusive,
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

/// The spread of a figure; a figure without rounds is its own spread.
fn middle(figure: &Figure) -> Option<Spread> {
    figure.spread.or_else(|| Spread::of(&[figure.value?]))
}

impl Comparison {
    /// Whether the gate passes.
    pub fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Passed | Verdict::Inconclusive)
    }

    /// The row of the table.
    pub fn line(&self) -> String {
        let is = self.is.map_or_else(|| "-".to_owned(), |is| format!("{is:.3}"));
        let verdict = match self.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Regressed(share) => format!("REGRESSED by {:.0} %", share * 100.0),
            Verdict::Missing => "MISSING".to_owned(),
            Verdict::Inconclusive => "worse, but not in every round".to_owned(),
        };
        format!("{:<58} was {:>7.3}, is {is:>7}  {verdict}", self.name, self.was)
    }
}

/// The gate can't compare.
#[derive(Debug, Error)]
pub enum GateError {
    /// Ratios depend on the number of cores.
    #[error(
        "{} was measured on {committed} cores, this machine has {here}: run it with `taskset -c 0-{}`, or measure a new \
         reference with --out",
        against.display(),
        committed.saturating_sub(1)
    )]
    Cores {
        /// The committed result.
        against: PathBuf,
        /// Its number of cores.
        committed: usize,
        /// The number of cores available here.
        here: usize,
    },
}

/// Checks whether this machine is comparable with the committed one, before any measurement.
///
/// # Errors
/// [`GateError`]
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

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct QuickBench {
    /// Records of a backlog and users of a run.
    pub records: u64,
    /// Measured rounds.
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
        let mut env = BenchEnv::start(1, 1).await?;
        let mut figures = streamer.against_baseline(&mut env).await?.figures;
        let chain = ChainBench {
            users: self.records,
            records: self.records,
            rounds: self.rounds,
            singles: 0,
            steady: Duration::ZERO,
        };
        let (through, breakdown) = chain.throughput_only(&mut env).await?;
        figures.push(through);
        figures.retain(|figure| figure.unit == "ratio");
        let mut report = Report::new("quick")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("baseline", &format!("{GATE_SETTINGS:?}"));
        report.figures = figures;
        report.breakdown = breakdown;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Goal;

    fn ratio(name: &str, rounds: &[f64], goal: Goal) -> Figure {
        Figure::measured(name, rounds, "ratio", goal)
    }

    fn verdict(was: &Figure, is: &Figure) -> Verdict {
        compare(std::slice::from_ref(was), std::slice::from_ref(is))[0]
            .verdict
            .clone()
    }

    #[test]
    fn ratio_lower_by_a_fifth_has_regressed() {
        let was = ratio("speed", &[1.0, 1.0, 1.0], Goal::AtLeast(0.9));
        let is = |median: f64| {
            ratio(
                "speed",
                &[median, median * 0.99, median * 1.01],
                Goal::AtLeast(0.9),
            )
        };
        assert_eq!(verdict(&was, &is(0.85)), Verdict::Passed);
        assert_eq!(verdict(&was, &is(3.0)), Verdict::Passed);
        assert!(matches!(verdict(&was, &is(0.75)), Verdict::Regressed(share) if (share - 0.25).abs() < 1e-9));
    }

    #[test]
    fn higher_cost_has_regressed() {
        let was = ratio("cost", &[1.0], Goal::AtMost(1.5));
        assert_eq!(
            verdict(&was, &ratio("cost", &[0.5], Goal::AtMost(1.5))),
            Verdict::Passed
        );
        assert!(matches!(
            verdict(&was, &ratio("cost", &[1.3], Goal::AtMost(1.5))),
            Verdict::Regressed(_)
        ));
    }

    #[test]
    fn one_good_round_makes_a_regression_inconclusive() {
        let was = ratio("speed", &[1.0], Goal::AtLeast(0.9));
        let is = ratio("speed", &[0.6, 0.7, 1.0], Goal::AtLeast(0.9));
        assert_eq!(verdict(&was, &is), Verdict::Inconclusive);
    }

    #[test]
    fn missing_ratio_does_not_pass() {
        let was = ratio("speed", &[1.0], Goal::AtLeast(0.9));
        let comparisons = compare(&[was], &[]);
        assert_eq!(comparisons[0].verdict, Verdict::Missing);
        assert!(!comparisons[0].passes() && comparisons[0].line().contains("MISSING"));
    }

    #[test]
    fn machines_with_other_core_counts_are_refused() {
        let of = |cores: usize| Machine {
            cores,
            ..Machine::default()
        };
        let against = Path::new("docs/benchmarks/quick.json");
        assert!(comparable(against, &of(2), &of(2)).is_ok());
        let error = comparable(against, &of(2), &of(4)).unwrap_err().to_string();
        assert!(
            error.contains("on 2 cores, this machine has 4") && error.contains("taskset -c 0-1"),
            "{error}"
        );
    }

    #[test]
    fn committed_reference_is_readable() {
        let path = testkit::workspace::root()
            .unwrap()
            .join("docs/benchmarks/quick.json");
        let committed = Report::read(&path).unwrap();
        assert_eq!(compare(&committed.figures, &committed.figures).len(), 3);
        assert!(committed.machine.cores > 0);
    }

    #[test]
    fn only_ratios_are_compared() {
        let was = Figure::measured("p99", &[4.0], "ms", Goal::AtMost(10.0));
        assert!(compare(&[was], &[]).is_empty());
        let never = ratio("against a peer", &[], Goal::AtLeast(5.0));
        assert!(compare(&[never], &[]).is_empty());
    }
}
