//! Memory over time. The axis is logarithmic if the peaks differ by more than a factor of ten.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::axes::{linear_range, log_range, number, ticks};
use super::frame::{frame, legend};
use super::style::{Canvas, Drawn, colour, source};
use crate::report::{MemoryLine, Report};

pub(super) fn over_time(canvas: &Canvas<'_>, report: &Report) -> Drawn {
    let peaks = report.memory.iter().map(peak);
    let (least, most) = peaks.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), peak| {
        (least.min(peak), most.max(peak))
    });
    if most > least * 10.0 {
        // The memory of a starting process would take most of the axis.
        let floor = least / 10.0;
        let range = log_range([floor, most].into_iter());
        let marks = ticks(&range);
        lines(canvas, report, range.log_scale().with_key_points(marks), floor)
    } else {
        lines(canvas, report, linear_range([most].into_iter()), 0.0)
    }
}

fn peak(line: &MemoryLine) -> f64 {
    line.samples.iter().map(|(_, held)| *held).fold(0.0, f64::max)
}

/// Values below `floor` are drawn at `floor`.
fn lines<Y>(canvas: &Canvas<'_>, report: &Report, held: Y, floor: f64) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let times = report
        .memory
        .iter()
        .flat_map(|line| line.samples.iter().map(|(at, _)| *at));
    let seconds: Range<f64> = 0.0..times.fold(1.0, f64::max);
    let mut chart = frame(
        canvas,
        "Resident memory over time, child processes included",
        (seconds, held),
        [
            format!("seconds since its start   ({})", source(report)),
            "MiB, less is better".to_owned(),
        ],
    )?;
    for (place, line) in report.memory.iter().enumerate() {
        let style = colour(place).stroke_width(2);
        let samples = line.samples.iter().map(|(at, held)| (*at, held.max(floor)));
        chart
            .draw_series(LineSeries::new(samples, style))
            .map_err(|error| error.to_string())?
            .label(format!("{} (most {} MiB)", line.name, number(peak(line).round())))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}
