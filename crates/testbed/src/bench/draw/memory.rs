//! Memory over time. What differs by more than a factor of ten is shown on a logarithmic axis, or nothing of the smaller
//! would be seen.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::axes::{linear_range, log_range, number, ticks};
use super::{Canvas, Drawn, FONT, GRID, INK, colour, source};
use crate::bench::report::{MemoryLine, Report};

pub(super) fn over_time(canvas: &Canvas<'_>, report: &Report) -> Drawn {
    let peaks = report.memory.iter().map(peak);
    let (least, most) = peaks.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), peak| {
        (least.min(peak), most.max(peak))
    });
    let held = || {
        report
            .memory
            .iter()
            .flat_map(|line| line.samples.iter().map(|(_, held)| *held))
    };
    if most > least * 10.0 {
        let range = log_range(held());
        let marks = ticks(&range);
        lines(canvas, report, range.log_scale().with_key_points(marks))
    } else {
        lines(canvas, report, linear_range(held()))
    }
}

fn peak(line: &MemoryLine) -> f64 {
    line.samples.iter().map(|(_, held)| *held).fold(0.0, f64::max)
}

fn lines<Y>(canvas: &Canvas<'_>, report: &Report, held: Y) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let times = report
        .memory
        .iter()
        .flat_map(|line| line.samples.iter().map(|(at, _)| *at));
    let seconds: Range<f64> = 0.0..times.fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(canvas)
        .caption(
            "Resident memory over time, child processes included",
            (FONT, 22).into_font().color(&INK),
        )
        .margin(14)
        .x_label_area_size(62)
        .y_label_area_size(70)
        .build_cartesian_2d(seconds, held)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(format!("seconds since its start   ({})", source(report)))
        .y_desc("MiB, less is better")
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .label_style((FONT, 14).into_font().color(&INK))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| error.to_string())?;
    for (place, line) in report.memory.iter().enumerate() {
        let style = colour(place).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.samples.iter().copied(), style))
            .map_err(|error| error.to_string())?
            .label(format!("{} (most {} MiB)", line.name, number(peak(line).round())))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font((FONT, 14).into_font().color(&INK))
        .draw()
        .map_err(|error| error.to_string())
}
