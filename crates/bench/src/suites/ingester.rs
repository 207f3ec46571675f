//! `scripts/bench ingester`: parsing compared with Python, delivery from the offline API compared with the publisher
//! alone, memory of a long run, and the delay of a triggered run.

mod delivery;
mod format;
mod trigger;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::workspace;

use self::delivery::DeliveryBench;
use self::format::ApiPages;
use crate::measure::spread::{median, summary};
use crate::measure::warmup::Warmup;
use crate::report::Report;
use crate::report::figure::{Figure, Goal};

/// Goal of parsing and formatting on one core, in users per second.
const MIN_FORMAT_RATE: f64 = 200_000.0;
/// The same goal as a multiple of Python's rate.
const MIN_PYTHON_RATIO: f64 = 5.0;
/// Holds the pages of a run whose speed is measured, so that generating users takes no CPU time from it. A long run
/// exceeds it.
const PAGE_CACHE_BYTES: usize = 256 << 20;
/// Goal of a long run's memory: the last third in shares of the first.
const MAX_GROWTH: f64 = 1.1;

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct IngesterBench {
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement of parsing, and of the publisher alone
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Users of a run whose speed is measured
    #[arg(long, default_value_t = 100_000)]
    users: u64,
    /// Users of a run whose memory is measured
    #[arg(long, default_value_t = 1_000_000)]
    long: u64,
}

impl IngesterBench {
    /// Runs the bench and prints its progress.
    pub async fn run(&self) -> Result<Report> {
        let folder = workspace::target_dir()?.join("bench").join("ingester");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let mut report = Report::new("ingester")
            .set("rounds", &self.rounds)
            .set("users", &self.users)
            .set("users of a long run", &self.long);
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(PAGE_CACHE_BYTES)).await?;
        let pages = ApiPages::fetch(&api, &folder).await?;
        report.figures.push(self.format(&pages)?);
        println!("starting Kafka and the publisher");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        let delivery = DeliveryBench::start(&api, &kafka, &pages, &folder).await?;
        report.figures.push(self.deliver(&delivery).await?);
        report.figures.push(self.memory(&delivery).await?);
        let delays = trigger::delays(&delivery, 2 * self.rounds + 1).await?;
        println!("trigger to first request: {} ms", summary(&delays));
        report.figures.push(Figure::measured(
            "trigger to first request out",
            delays,
            "ms",
            Goal::AtMost(100.0),
        ));
        Ok(report)
    }

    /// Two goals; the figure is met if both are.
    fn format(&self, pages: &ApiPages) -> Result<Figure> {
        let length = Duration::from_secs(self.seconds);
        let mut warmup = Warmup::default();
        while warmup.needs_another() {
            warmup.record(pages.format_rate(length)?);
            pages.python_rate(length)?;
        }
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let rate = pages.format_rate(length)?;
            let python = pages.python_rate(length)?;
            println!("round {round}: {rate:.0} users/s, Python {python:.0}");
            rates.push(rate);
            ratios.push(rate / python);
        }
        println!(
            "parse and format: {} users/s, {} times Python",
            summary(&rates),
            summary(&ratios)
        );
        let name = format!("parse + format, 1 core; {:.1} times Python", median(&ratios));
        let mut figure = Figure::measured(name, rates, "users/s", Goal::AtLeast(MIN_FORMAT_RATE));
        figure.goal = format!(">= {MIN_FORMAT_RATE}, >= {MIN_PYTHON_RATIO} x");
        figure.met = figure.met.map(|met| met && median(&ratios) >= MIN_PYTHON_RATIO);
        Ok(figure)
    }

    async fn deliver(&self, delivery: &DeliveryBench<'_>) -> Result<Figure> {
        let length = Duration::from_secs(self.seconds);
        let mut warmup = Warmup::default();
        while warmup.needs_another() {
            let publisher = delivery.publisher_rate(length).await?;
            warmup.record(publisher + delivery.run(self.users, "zstd").await?.users_per_second);
        }
        let mut ratios = Vec::new();
        for round in 1..=self.rounds {
            let publisher = delivery.publisher_rate(length).await?;
            let run = delivery.run(self.users, "zstd").await?;
            println!("round {round}: publisher alone {publisher:.0} users/s, from the API {run}");
            ratios.push(run.users_per_second / publisher);
        }
        for compression in ["none", "gzip", "zstd"] {
            let run = delivery.run(self.users, compression).await?;
            println!("compression {compression}: {run}");
        }
        println!("from the API / publisher alone: {}", summary(&ratios));
        Ok(Figure::measured(
            "API to publisher, users/s / publisher by itself",
            ratios,
            "ratio",
            Goal::AtLeast(0.3),
        ))
    }

    async fn memory(&self, delivery: &DeliveryBench<'_>) -> Result<Figure> {
        let (mut peaks, mut growths) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let run = delivery.run(self.long, "zstd").await?;
            let (first, last) = run.peaks_of_thirds();
            println!(
                "round {round}: {} users, {run}, peak {:.1} MiB; first third {first:.1}, last third {last:.1}",
                self.long, run.peak_mib
            );
            peaks.push(run.peak_mib);
            growths.push(last / first);
        }
        let name = format!(
            "peak RSS of {} users; last third x {:.2}",
            self.long,
            median(&growths)
        );
        let mut figure = Figure::measured(name, peaks, "MiB", Goal::AtMost(48.0));
        figure.goal.push_str(", flat");
        figure.met = figure.met.map(|met| met && median(&growths) <= MAX_GROWTH);
        Ok(figure)
    }
}
