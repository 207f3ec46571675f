//! Draws a report's pictures as SVG files. They need no fonts or system libraries.

mod axes;
mod bars;
mod frame;
mod growth;
mod latency;
mod memory;
mod style;
pub(crate) mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use plotters::drawing::IntoDrawingArea as _;
use plotters::prelude::{SVGBackend, WHITE};

use self::style::{Canvas, Drawn, PANELS, Quantity, SIZE};
use crate::error::BenchError;
use crate::report::Report;

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
