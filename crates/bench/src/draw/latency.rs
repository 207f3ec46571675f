//! Latency percentiles against load, both axes logarithmic: median and 99th percentile of each sink.
//!
//! A cross marks a rate at which the sink did not keep up.

use plotters::prelude::*;

use super::axes::{log_range, ticks};
use super::frame::{frame, legend};
use super::style::{Canvas, Drawn, INK, colour, source};
use crate::report::{LatencyPoint, Report};

/// The legend is left of the lowest rate, so the axis starts this factor below it.
const LEGEND: f64 = 7.0;

pub(super) fn against_load(canvas: &Canvas<'_>, report: &Report) -> Drawn {
    let points = &report.latencies;
    let rates = log_range(points.iter().map(|point| number_of(point.rate)));
    let rates = rates.start / LEGEND..rates.end;
    let millis = log_range(points.iter().flat_map(|point| [point.p50_ms, point.p99_ms]));
    let mut marks: Vec<f64> = points.iter().map(|point| number_of(point.rate)).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    let lines = ticks(&millis);
    let mut chart = frame(
        canvas,
        "Latency from a record's due time until its row is visible",
        (
            rates.log_scale().with_key_points(marks),
            millis.log_scale().with_key_points(lines),
        ),
        [
            format!("records a second   ({})", source(report)),
            "milliseconds, less is better".to_owned(),
        ],
    )?;
    for (place, name) in names(points).iter().enumerate() {
        let own: Vec<&LatencyPoint> = points.iter().filter(|point| point.name == *name).collect();
        let tail: fn(&LatencyPoint) -> f64 = |point| point.p99_ms;
        let middle: fn(&LatencyPoint) -> f64 = |point| point.p50_ms;
        for (percentile, of, width) in [("p99", tail, 3), ("p50", middle, 1)] {
            let style = colour(place).stroke_width(width);
            let path: Vec<_> = own
                .iter()
                .map(|point| (number_of(point.rate), of(point)))
                .collect();
            chart
                .draw_series(LineSeries::new(path.clone(), style))
                .map_err(|error| error.to_string())?
                .label(format!("{name}, {percentile}"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
            let kept = own.iter().zip(&path).filter(|(point, _)| point.kept_up);
            chart
                .draw_series(kept.map(|(_, at)| Circle::new(*at, 4, colour(place).filled())))
                .map_err(|error| error.to_string())?;
            let lost = own.iter().zip(&path).filter(|(point, _)| !point.kept_up);
            chart
                .draw_series(lost.map(|(_, at)| Cross::new(*at, 7, INK.stroke_width(2))))
                .map_err(|error| error.to_string())?;
        }
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// The sinks in the order of the report.
fn names(points: &[LatencyPoint]) -> Vec<String> {
    let mut names: Vec<String> = points.iter().map(|point| point.name.clone()).collect();
    names.dedup();
    names
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
fn number_of(rate: u64) -> f64 {
    rate as f64
}
