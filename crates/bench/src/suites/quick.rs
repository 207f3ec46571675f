//! `scripts/bench --quick`: a few ratios in a few minutes, compared with the committed ones. Ratios of one run hardly
//! depend on the machine, so a worse one is a regression.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use super::chain;
use super::streamer::StreamerBench;
use crate::compare::baseline::{DRIVER_BASELINE, GATE_SETTINGS};
use crate::env::BenchEnv;
use crate::measure::spread::Spread;
use crate::report::Report;
use crate::report::figure::Figure;
use crate::report::machine::Machine;

/// A ratio may be worse than the committed one by this share of it.
const MAX_REGRESSION: f64 = 0.20;

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct QuickBench {
    /// Records of a backlog, and users of a run
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The result to compare with, in place of docs/benchmarks/quick.json
    #[arg(long)]
    pub against: Option<PathBuf>,
}

impl QuickBench {
    /// Measures the ratios.
    pub async fn run(&self) -> Result<Report> {
        let streamer = StreamerBench {
            records: self.records,
            rounds: self.rounds,
            steady: 0,
            large: 0,
        };
        let mut env = BenchEnv::start(1, 1).await?;
        let mut figures = streamer.compare_with_gate_baseline(&mut env).await?.figures;
        let (chain, breakdown) = chain::run_only(&mut env, self.records, self.rounds).await?;
        figures.push(chain);
        figures.retain(is_ratio);
        let mut report = Report::new("quick")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set(DRIVER_BASELINE, &GATE_SETTINGS);
        report.figures = figures;
        report.tables.push(breakdown);
        Ok(report)
    }
}

/// The verdict on one ratio.
#[derive(Debug, Clone, PartialEq)]
enum RatioResult {
    Passed,
    /// Worse by this share.
    Regressed(f64),
    /// Committed, but not measured.
    Missing,
    /// Worse, but not in every round.
    Unclear,
}

/// A committed ratio and the measured one.
#[derive(Debug, Clone, PartialEq)]
pub struct RatioCheck {
    name: String,
    committed: f64,
    measured: Option<f64>,
    verdict: RatioResult,
}

/// Compares each committed ratio with the measured one.
pub fn check_ratios(committed: &[Figure], measured: &[Figure]) -> Vec<RatioCheck> {
    let ratios = committed.iter().filter(|figure| is_ratio(figure));
    ratios
        .filter_map(|figure| Some(check(figure, rounds(figure)?.median, measured)))
        .collect()
}

fn is_ratio(figure: &Figure) -> bool {
    figure.unit == "ratio"
}

fn check(figure: &Figure, committed: f64, measured: &[Figure]) -> RatioCheck {
    let now = measured.iter().find(|it| it.name == figure.name).and_then(rounds);
    let less_is_better = figure.goal.starts_with("<=");
    let regression = |value: f64| {
        if less_is_better {
            value / committed - 1.0
        } else {
            1.0 - value / committed
        }
    };
    let verdict = match now {
        None => RatioResult::Missing,
        Some(now) => {
            let best = if less_is_better { now.min } else { now.max };
            let (median, best) = (regression(now.median), regression(best));
            match (median > MAX_REGRESSION, best > MAX_REGRESSION) {
                (false, _) => RatioResult::Passed,
                (true, true) => RatioResult::Regressed(median),
                (true, false) => RatioResult::Unclear,
            }
        }
    };
    RatioCheck {
        name: figure.name.clone(),
        committed,
        measured: now.map(|now| now.median),
        verdict,
    }
}

/// The rounds of a figure; a figure without rounds is its own round.
fn rounds(figure: &Figure) -> Option<Spread> {
    figure.spread.or_else(|| Spread::of([figure.value?]))
}

impl RatioCheck {
    /// Whether the gate passes.
    pub fn passes(&self) -> bool {
        matches!(self.verdict, RatioResult::Passed | RatioResult::Unclear)
    }

    /// A line for the terminal.
    pub fn line(&self) -> String {
        let measured = self
            .measured
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = match self.verdict {
            RatioResult::Passed => "passed".to_owned(),
            RatioResult::Regressed(share) => format!("REGRESSED by {:.0} %", share * 100.0),
            RatioResult::Missing => "MISSING".to_owned(),
            RatioResult::Unclear => "worse, but not in every round".to_owned(),
        };
        format!(
            "{:<58} committed {:>7.3}, measured {measured:>7}  {verdict}",
            self.name, self.committed
        )
    }
}

/// Checks that a result of this machine compares with the committed one. Other cores give other ratios.
pub fn check_cores(path: &Path, committed: &Machine, current: &Machine) -> Result<()> {
    ensure!(
        committed.cores == current.cores,
        "{} was measured on {} cores, and this machine has {}: run the bench as `taskset -c 0-{}`, or measure a new \
         reference with --out",
        path.display(),
        committed.cores,
        current.cores,
        committed.cores.saturating_sub(1)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::Goal;

    fn ratio<const N: usize>(name: &str, rounds: [f64; N], goal: Goal) -> Figure {
        Figure::measured(name, rounds, "ratio", goal)
    }

    fn verdict(committed: &Figure, measured: &Figure) -> RatioResult {
        let checks = check_ratios(std::slice::from_ref(committed), std::slice::from_ref(measured));
        checks[0].verdict.clone()
    }

    #[test]
    fn ratio_that_falls_by_more_than_a_fifth_regresses() {
        let committed = ratio("speed", [1.0, 1.0, 1.0], Goal::AtLeast(0.9));
        let measured = |median: f64| {
            ratio(
                "speed",
                [median, median * 0.99, median * 1.01],
                Goal::AtLeast(0.9),
            )
        };
        assert_eq!(verdict(&committed, &measured(0.85)), RatioResult::Passed);
        assert_eq!(verdict(&committed, &measured(3.0)), RatioResult::Passed);
        let regressed = verdict(&committed, &measured(0.75));
        assert!(matches!(regressed, RatioResult::Regressed(share) if (share - 0.25).abs() < 1e-9));
    }

    #[test]
    fn rising_cost_regresses() {
        let cost = |value: f64| ratio("cost", [value], Goal::AtMost(1.5));
        assert_eq!(verdict(&cost(1.0), &cost(0.5)), RatioResult::Passed);
        assert!(matches!(
            verdict(&cost(1.0), &cost(1.3)),
            RatioResult::Regressed(_)
        ));
    }

    #[test]
    fn one_good_round_leaves_the_verdict_unclear() {
        let committed = ratio("speed", [1.0], Goal::AtLeast(0.9));
        let measured = ratio("speed", [0.6, 0.7, 1.0], Goal::AtLeast(0.9));
        assert_eq!(verdict(&committed, &measured), RatioResult::Unclear);
    }

    #[test]
    fn missing_ratio_does_not_pass() {
        let committed = ratio("speed", [1.0], Goal::AtLeast(0.9));
        let checks = check_ratios(&[committed], &[]);
        assert_eq!(checks[0].verdict, RatioResult::Missing);
        assert!(!checks[0].passes() && checks[0].line().contains("MISSING"));
    }

    #[test]
    fn machines_with_other_cores_do_not_compare() {
        let machine = |cores: usize| Machine {
            cores,
            ..Machine::default()
        };
        let path = Path::new("docs/benchmarks/quick.json");
        assert!(check_cores(path, &machine(2), &machine(2)).is_ok());
        let error = check_cores(path, &machine(2), &machine(4))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("on 2 cores, and this machine has 4") && error.contains("taskset -c 0-1"),
            "{error}"
        );
    }

    #[test]
    fn committed_reference_is_read() {
        let path = testkit::workspace::root()
            .unwrap()
            .join("docs/benchmarks/quick.json");
        let committed = Report::read(&path).unwrap();
        assert_eq!(check_ratios(&committed.figures, &committed.figures).len(), 3);
        assert!(committed.machine.cores > 0);
    }

    #[test]
    fn only_measured_ratios_are_compared() {
        let latency = Figure::measured("p99", [4.0], "ms", Goal::AtMost(10.0));
        assert!(check_ratios(&[latency], &[]).is_empty());
        let never_measured = ratio("against a peer", [], Goal::AtLeast(5.0));
        assert!(check_ratios(&[never_measured], &[]).is_empty());
    }
}
