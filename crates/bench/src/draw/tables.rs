//! Renders a report's tables as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::style::source;
use crate::report::figures::Figure;
use crate::report::spread::Spread;
use crate::report::{DrainLine, GrowthPoint, LatencyPoint, Report, SentLine};

const DRAINS: &str = "rows/s | CPU s per million | peak MiB | first row, s |\n|---|---|---|---|---|\n";

pub(crate) fn page(report: &Report) -> String {
    let mut page = format!("# {}\n\n{}.\n", report.bench, source(report));
    put(&mut page, "Versions", &report.versions);
    put(&mut page, "Configuration", &report.configuration);
    if !report.figures.is_empty() {
        page.push_str("\n| | result | goal | met |\n|---|---|---|---|\n");
        page.extend(report.figures.iter().map(Figure::row));
    }
    if !report.drains.is_empty() {
        page.push_str("\n| backlog drained by | ");
        page.push_str(DRAINS);
        for line in &report.drains {
            page.push_str(&drain_row(&format!("{}, {}", line.name, line.records), line));
        }
    }
    if !report.sent.is_empty() {
        page.push_str(
            "\n| sent to Kafka by | records/s | CPU s per million | peak MiB |\n|---|---|---|---|\n",
        );
        report.sent.iter().for_each(|line| page.push_str(&sent_row(line)));
    }
    if !report.latencies.is_empty() {
        page.push_str("\n| latency, ms | records/s | p50 | p90 | p99 | max | probes |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        report
            .latencies
            .iter()
            .for_each(|point| page.push_str(&latency_row(point)));
    }
    if !report.growth.is_empty() {
        page.push_str("\n| dimension | ");
        page.push_str(DRAINS);
        for GrowthPoint { axis, at, drain } in &report.growth {
            page.push_str(&drain_row(&format!("{axis}: {at}"), drain));
        }
    }
    if !report.breakdown.is_empty() {
        page.push_str("\n| through the whole chain | result |\n|---|---|\n");
        for line in &report.breakdown {
            writeln!(page, "| {} | {} |", line.name, line.summary()).expect("a string takes every text");
        }
    }
    for (name, reason) in &report.absent {
        writeln!(page, "\n{name}: not measured: {reason}").expect("a string takes every text");
    }
    page
}

fn put(page: &mut String, title: &str, pairs: &BTreeMap<String, String>) {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    writeln!(page, "\n{title}: {}.", pairs.join(", ")).expect("a string takes every text");
}

fn sent_row(line: &SentLine) -> String {
    format!(
        "| {} | {} | {} | {} |\n",
        line.name,
        spread_text(&line.records_per_second),
        spread_text(&line.cpu_per_million),
        spread_text(&line.peak_mib)
    )
}

fn spread_text(spread: &Spread) -> String {
    let wide = if spread.is_narrow() { "" } else { ", wide" };
    let [median, min, max] = [spread.median, spread.min, spread.max].map(short);
    format!("{median} ({min} to {max}{wide})")
}

fn drain_row(name: &str, line: &DrainLine) -> String {
    let first = line
        .first_row_seconds
        .as_ref()
        .map_or_else(|| "-".to_owned(), spread_text);
    format!(
        "| {name} | {} | {} | {} | {first} |\n",
        spread_text(&line.rows_per_second),
        spread_text(&line.cpu_per_million),
        spread_text(&line.peak_mib)
    )
}

fn latency_row(point: &LatencyPoint) -> String {
    let [p50, p90, p99, max] = [point.p50_ms, point.p90_ms, point.p99_ms, point.max_ms].map(short);
    let overloaded = if point.kept_up { "" } else { ", did not keep up" };
    format!(
        "| {} | {}{overloaded} | {p50} | {p90} | {p99} | {max} | {} |\n",
        point.name, point.rate, point.probes
    )
}

/// Formats small numbers with three digits, large ones without decimals.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
