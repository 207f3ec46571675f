//! Panels with logarithmic axes: a row for each measured quantity, a column for each varied parameter, and the range of
//! the rounds at each point.

use plotters::prelude::*;

use super::axes::{log_range, ticks};
use super::data::{Grid, GridRow};
use super::style::{Canvas, Drawn, INK, axes, colour};
use crate::measure::spread::Spread;

pub(super) fn draw(canvas: &Canvas<'_>, grid: &Grid) -> Result<(), String> {
    let parts = canvas.split_evenly((grid.rows.len(), grid.columns.len()));
    let rows = parts.chunks(grid.columns.len().max(1)).zip(&grid.rows);
    for (number, (parts, row)) in rows.enumerate() {
        let last = number + 1 == grid.rows.len();
        for (part, (column, points)) in parts.iter().zip(grid.columns.iter().zip(&row.panels)) {
            let x_label = if last { column } else { "" };
            panel(part, x_label, row, points, colour(&grid.product))?;
        }
    }
    Ok(())
}

fn panel(
    part: &Canvas<'_>,
    x_label: &str,
    row: &GridRow,
    points: &[(f64, Spread)],
    ink: RGBColor,
) -> Result<(), String> {
    let at: Vec<f64> = points.iter().map(|(at, _)| *at).collect();
    let all = row.panels.iter().flatten();
    // The panels of a row share their y axis.
    let range = log_range(all.flat_map(|(_, spread)| [spread.min, spread.max]));
    let marks = ticks(&range);
    let x = log_range(at.iter().copied()).log_scale().with_key_points(at);
    let y = range.log_scale().with_key_points(marks);
    let mut builder = ChartBuilder::on(part);
    builder.margin(8).x_label_area_size(44).y_label_area_size(62);
    let mut chart = axes(&mut builder, (x, y), (x_label, &row.label))?;
    let medians: Vec<_> = points.iter().map(|(at, spread)| (*at, spread.median)).collect();
    chart
        .draw_series(LineSeries::new(medians.clone(), ink.stroke_width(2)))
        .drawn()?;
    let ranges = points
        .iter()
        .map(|(at, spread)| PathElement::new([(*at, spread.min), (*at, spread.max)], INK.stroke_width(2)));
    chart.draw_series(ranges).drawn()?;
    chart
        .draw_series(medians.into_iter().map(|at| Circle::new(at, 4, ink.filled())))
        .drawn()?;
    Ok(())
}
