//! The results of a comparison as tables, plots and goals.

use std::collections::BTreeMap;

use super::baseline::DRIVER_BASELINE;
use super::drain::{DRAIN_COLUMNS, Drains};
use crate::load::stream::Latency;
use crate::measure::cost::{Cost, as_f64};
use crate::measure::spread::{Spread, short};
use crate::plot::data::{Bars, Chart, ChartLine, LineChart};
use crate::report::figure::{Figure, Goal};
use crate::report::reason;
use crate::report::table::{Cell, Table, cost_cells};

/// All results.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The rounds of the driver baseline.
    pub baseline: Vec<Cost>,
    /// The sinks; the first is Affluent's streamer.
    pub sinks: Vec<SinkResult>,
}

/// The results of one sink.
#[derive(Debug, Clone, Default)]
pub struct SinkResult {
    /// The product.
    pub name: String,
    /// Records in its backlog.
    pub records: u64,
    /// The drained backlogs.
    pub drains: Drains,
    /// Why it was excluded.
    pub failure: Option<String>,
    /// Latencies at rising rates.
    pub latencies: Vec<Latency>,
    /// Why no higher rate was measured.
    pub latency_failure: Option<String>,
}

impl SinkResult {
    /// A result without measurements.
    pub fn new(name: &str, records: u64) -> Self {
        Self {
            name: name.to_owned(),
            records,
            ..Self::default()
        }
    }

    /// Excludes the sink.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        println!("{} is not measured: {error:#}", self.name);
        self.drains = Drains::default();
        self.failure = Some(reason(error));
    }
}

impl Comparison {
    /// Throughput, CPU time and memory of the drained backlogs.
    pub fn drain_table(&self) -> Table {
        let mut table = Table::new("backlog drained by", &DRAIN_COLUMNS);
        if let Some(cost) = self.baseline.first() {
            let cells = cost_cells(&self.baseline).into_iter().chain([Cell::Empty]);
            table.push(format!("{DRIVER_BASELINE}, {}", cost.rows), cells);
        }
        for sink in self.measured() {
            table.push(format!("{}, {}", sink.name, sink.records), sink.drains.cells());
        }
        table
    }

    /// Latencies by rate.
    pub fn latency_table(&self) -> Table {
        let columns = ["p50, ms", "p90, ms", "p99, ms", "max, ms", "rows observed"];
        let mut table = Table::new("latency at a rate", &columns);
        for sink in &self.sinks {
            for latency in &sink.latencies {
                let lost = if latency.kept_up { "" } else { ", did not keep up" };
                let quantiles = [latency.p50, latency.p90, latency.p99, latency.max].map(short);
                let cells = quantiles.into_iter().chain([latency.probes.to_string()]);
                table.push(
                    format!("{}, {}/s{lost}", sink.name, latency.rate),
                    cells.map(Cell::from),
                );
            }
        }
        table
    }

    /// A bar for each sink.
    pub fn throughput_chart(&self) -> Option<Chart> {
        let speeds = |costs: &[Cost]| Spread::of(costs.iter().map(Cost::rows_per_second));
        let bar = |sink: &SinkResult| Some((sink.name.clone(), speeds(&sink.drains.costs())?));
        let bars: Vec<_> = self.measured().filter_map(bar).collect();
        let baseline = speeds(&self.baseline).map(|speed| (DRIVER_BASELINE.to_owned(), speed.median));
        (!bars.is_empty()).then(|| {
            Chart::Bars(Bars {
                y_label: "rows/s, more is better".to_owned(),
                bars,
                baseline,
            })
        })
    }

    /// A thick line for p99 and a thin one for p50 of each sink.
    pub fn latency_chart(&self) -> Option<Chart> {
        let mut lines = Vec::new();
        for sink in self.sinks.iter().filter(|sink| !sink.latencies.is_empty()) {
            let line = |value: fn(&Latency) -> f64| {
                let points = sink.latencies.iter();
                let points = points.map(|latency| (as_f64(latency.rate), value(latency)));
                let mut line = ChartLine::new(&sink.name, points.collect());
                line.overloaded = sink.latencies.last().is_some_and(|last| !last.kept_up);
                line
            };
            lines.push(line(|latency| latency.p99).labelled(&sink.name));
            lines.push(line(|latency| latency.p50));
        }
        (!lines.is_empty()).then(|| {
            Chart::Lines(LineChart {
                x_label: "records/s".to_owned(),
                y_label: "milliseconds, less is better".to_owned(),
                x_log: true,
                y_log: true,
                lines,
            })
        })
    }

    /// Memory over the last drain of each sink.
    pub fn memory_lines(&self) -> Vec<ChartLine> {
        let lines = self.measured().filter_map(|sink| sink.drains.memory(&sink.name));
        let label = |line: ChartLine| {
            if line.product == "affluent" {
                line.labelled("streamer")
            } else {
                line
            }
        };
        lines.map(label).collect()
    }

    /// The peak memory of a product in each round.
    pub fn peaks(&self, product: &str) -> Vec<f64> {
        self.drains(product)
            .map_or_else(Vec::new, |drains| drains.each(|cost| cost.peak_mib))
    }

    /// The speed of the streamer in shares of a peer's.
    pub fn speedup(&self, peer: &str, goal: f64) -> Figure {
        let speeds = |drains: &Drains| drains.each(Cost::rows_per_second);
        let streamer = self.sinks.first().map(|sink| speeds(&sink.drains));
        let peer_speeds = self.drains(peer).map(speeds).unwrap_or_default();
        let ratios = ratios(&streamer.unwrap_or_default(), &peer_speeds);
        let name = format!("drain, rows/s, streamer / {peer}");
        Figure::measured(name, ratios, "ratio", Goal::AtLeast(goal))
    }

    /// Why something was not measured.
    pub fn skipped(&self) -> BTreeMap<String, String> {
        let mut skipped = BTreeMap::new();
        for sink in &self.sinks {
            let latency = format!("{}, latency at the next rate", sink.name);
            skipped.extend(sink.failure.clone().map(|reason| (sink.name.clone(), reason)));
            skipped.extend(sink.latency_failure.clone().map(|reason| (latency, reason)));
        }
        skipped
    }

    fn measured(&self) -> impl Iterator<Item = &SinkResult> {
        self.sinks.iter().filter(|sink| !sink.drains.0.is_empty())
    }

    fn drains(&self, product: &str) -> Option<&Drains> {
        let sink = self.sinks.iter().find(|sink| sink.name == product);
        sink.map(|sink| &sink.drains)
    }
}

/// The ratio of each round; nothing beyond the shorter slice.
pub fn ratios(numerators: &[f64], denominators: &[f64]) -> Vec<f64> {
    let pairs = numerators.iter().zip(denominators);
    pairs
        .map(|(numerator, denominator)| numerator / denominator)
        .collect()
}
