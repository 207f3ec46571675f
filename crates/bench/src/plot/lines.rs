//! Lines on linear or logarithmic axes, each labelled at its end.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axes::{linear_range, log_range, ticks};
use super::data::{ChartLine, LineChart};
use super::labels::{Pixel, place, trace};
use super::style::{Canvas, Drawn, INK, axes, colour, text};

/// Room for labels right of the plot, in pixels.
const LABEL_MARGIN: u32 = 110;

pub(super) fn draw(canvas: &Canvas<'_>, chart: &LineChart) -> Result<(), String> {
    let x = chart
        .lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.0);
    let y = chart
        .lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1);
    let mut rates: Vec<f64> = x.clone().collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let log_y = || {
        let range = log_range(y.clone());
        let marks = ticks(&range);
        range.log_scale().with_key_points(marks)
    };
    let linear_x: Range<f64> = 0.0..x.clone().fold(1.0, f64::max);
    match (chart.x_log, chart.y_log) {
        (true, _) => {
            let range = log_range(x).log_scale().with_key_points(rates);
            draw_on(canvas, chart, range, log_y())
        }
        (false, true) => draw_on(canvas, chart, linear_x, log_y()),
        (false, false) => draw_on(canvas, chart, linear_x, linear_range(y)),
    }
}

fn draw_on<X, Y>(canvas: &Canvas<'_>, data: &LineChart, x: X, y: Y) -> Result<(), String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut builder = ChartBuilder::on(canvas);
    builder
        .margin(10)
        .margin_right(LABEL_MARGIN)
        .x_label_area_size(50)
        .y_label_area_size(70);
    let mut chart = axes(&mut builder, (x, y), (&data.x_label, &data.y_label))?;
    for line in &data.lines {
        let ink = colour(&line.product);
        let style = ink.stroke_width(if line.label.is_some() { 3 } else { 1 });
        let points = line.points.iter().copied();
        chart.draw_series(LineSeries::new(points, style)).drawn()?;
        if data.x_log {
            let reached = line.points.len() - usize::from(line.overloaded);
            let circles = line.points[..reached].iter();
            chart
                .draw_series(circles.map(|point| Circle::new(*point, 4, ink.filled())))
                .drawn()?;
            let crosses = line.points[reached..].iter();
            chart
                .draw_series(crosses.map(|point| Cross::new(*point, 7, INK.stroke_width(2))))
                .drawn()?;
        }
    }
    let area = chart.plotting_area();
    label(canvas, &data.lines, |point| area.map_coordinate(&point))
}

fn label(
    canvas: &Canvas<'_>,
    lines: &[ChartLine],
    pixel: impl Fn((f64, f64)) -> Pixel,
) -> Result<(), String> {
    let (origin, _) = canvas.get_pixel_range();
    let local = |point: &(f64, f64)| {
        let (x, y) = pixel(*point);
        (x - origin.start, y - canvas.get_pixel_range().1.start)
    };
    let traces = lines.iter().map(|line| line.points.iter().map(local).collect());
    let traces: Vec<Vec<Pixel>> = traces.collect();
    let covered: Vec<Pixel> = traces.iter().flat_map(|line| trace(line)).collect();
    let labelled = lines.iter().zip(&traces).filter_map(|(line, trace)| {
        let end = (*trace.last()?, line.label.as_deref()?);
        Some((end, colour(&line.product)))
    });
    let (ends, inks): (Vec<(Pixel, &str)>, Vec<RGBColor>) = labelled.unzip();
    let width = i32::try_from(canvas.dim_in_pixel().0).unwrap_or(0);
    for ((left_top, (_, label)), ink) in place(&ends, &covered, width).into_iter().zip(&ends).zip(inks) {
        let style = text(15, ink, (HPos::Left, VPos::Top));
        canvas.draw_text(label, &style, left_top).drawn()?;
    }
    Ok(())
}
