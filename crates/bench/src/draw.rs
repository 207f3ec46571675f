//! Draws a report's pictures as SVG files. They need no fonts or system libraries.

mod axes;
mod bars;
mod frame;
mod growth;
mod latency;
mod memory;
pub(crate) mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::drawing::IntoDrawingArea as _;
use plotters::prelude::{DrawingArea, RGBColor, SVGBackend, WHITE};

use super::report::{DrainLine, Report};
use crate::error::BenchError;

/// The drawing area.
type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A picture or the reason why it failed.
type Drawn = Result<(), String>;

/// Size of a picture in pixels.
const SIZE: (u32, u32) = (900, 480);
/// Size of a picture with panels in two columns.
const PANELS: (u32, u32) = (900, 760);

/// Okabe and Ito's palette, which is safe for colour-blind readers.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

/// The colour at this index.
fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// The caption of every picture: machine, versions and date.
fn source(report: &Report) -> String {
    let machine = &report.machine;
    let date = report.at.strftime("%Y-%m-%d");
    format!(
        "{}, {} cores, {:.0} GiB; Kafka {}, Cassandra {}; {date}",
        machine.cpu,
        machine.cores,
        gib(machine.memory_mib),
        report.versions.get("kafka").map_or("?", String::as_str),
        report.versions.get("cassandra").map_or("?", String::as_str),
    )
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 MiB")]
fn gib(mib: u64) -> f64 {
    mib as f64 / 1024.0
}

/// Draws the report's pictures and writes its tables as a Markdown page.
/// The file names begin with the report's. Returns their paths, the page first.
///
/// # Errors
/// When the report can't be read or a file can't be written.
pub fn draw(path: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let report = Report::read(path)?;
    let stem = path.with_extension("");
    let page = path.with_extension("md");
    fs::write(&page, tables::page(&report)).map_err(BenchError::file(&page))?;
    let mut drawn = vec![page];
    for (name, picture) in pictures(&report) {
        let target = PathBuf::from(format!("{}-{name}.svg", stem.display()));
        let picture = picture.map_err(|reason| BenchError::Picture {
            path: target.clone(),
            reason,
        })?;
        fs::write(&target, picture).map_err(BenchError::file(&target))?;
        drawn.push(target);
    }
    Ok(drawn)
}

/// The quantity of a growth picture: title, unit and value.
type Quantity = (
    &'static str,
    &'static str,
    fn(&DrainLine) -> super::spread::Spread,
);

const GROWN: [(&str, Quantity); 3] = [
    ("growth", ("Rows a second", "rows/s", |line| line.rows_per_second)),
    (
        "growth-cpu",
        ("Processor time", "CPU s per million rows", |line| {
            line.cpu_per_million
        }),
    ),
    ("growth-memory", ("Peak memory", "MiB", |line| line.peak_mib)),
];

/// The report's pictures by name.
fn pictures(report: &Report) -> Vec<(&'static str, Result<String, String>)> {
    let mut pictures = Vec::new();
    if !report.drains.is_empty() {
        pictures.push(("throughput", svg(SIZE, |canvas| bars::throughput(canvas, report))));
    }
    if !report.latencies.is_empty() {
        pictures.push((
            "latency",
            svg(SIZE, |canvas| latency::against_load(canvas, report)),
        ));
    }
    if !report.memory.is_empty() {
        pictures.push(("memory", svg(SIZE, |canvas| memory::over_time(canvas, report))));
    }
    if !report.growth.is_empty() {
        for (name, quantity) in GROWN {
            pictures.push((
                name,
                svg(PANELS, |canvas| growth::panels(canvas, report, quantity)),
            ));
        }
    }
    pictures
}

fn svg(size: (u32, u32), paint: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<String, String> {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
        canvas.fill(&WHITE).map_err(|error| error.to_string())?;
        paint(&canvas)?;
        canvas.present().map_err(|error| error.to_string())?;
    }
    Ok(text + "\n")
}

#[cfg(test)]
mod tests;
