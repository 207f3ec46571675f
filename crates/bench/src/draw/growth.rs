//! Growth: a panel for each dimension, both axes logarithmic, with the spread of the rounds at each point.

use plotters::prelude::*;

use super::axes::{log_range, number, ticks};
use super::style::{Canvas, Drawn, FONT, GRID, INK, Quantity, colour, source};
use crate::report::{GrowthPoint, Report};

pub(super) fn panels(canvas: &Canvas<'_>, report: &Report, quantity: Quantity) -> Drawn {
    let (title, ..) = quantity;
    let titled = canvas
        .titled(
            &format!("{title} as things grow"),
            (FONT, 22).into_font().color(&INK),
        )
        .map_err(|error| error.to_string())?;
    let height = i32::try_from(titled.dim_in_pixel().1).unwrap_or(0);
    let (body, foot) = titled.split_vertically(height - 24);
    let axes = axes(&report.growth);
    let parts = body.split_evenly((axes.len().div_ceil(2), 2));
    // All panels share one scale.
    let all = log_range(report.growth.iter().flat_map(|point| {
        let spread = quantity.2(&point.drain);
        [spread.min, spread.max]
    }));
    for (place, (part, axis)) in parts.iter().zip(&axes).enumerate() {
        let points: Vec<_> = report.growth.iter().filter(|point| point.axis == *axis).collect();
        panel(part, axis, &points, quantity, &all, colour(place))?;
    }
    let style = (FONT, 12).into_font().color(&INK);
    foot.draw_text(&source(report), &style, (80, 4))
        .map_err(|error| error.to_string())
}

/// The dimensions in the order of the report.
fn axes(points: &[GrowthPoint]) -> Vec<String> {
    let mut axes: Vec<String> = points.iter().map(|point| point.axis.clone()).collect();
    axes.dedup();
    axes
}

fn panel(
    part: &Canvas<'_>,
    axis: &str,
    points: &[&GrowthPoint],
    (_, unit, of): Quantity,
    all: &std::ops::Range<f64>,
    colour: RGBColor,
) -> Drawn {
    let at: Vec<f64> = points.iter().map(|point| point.at).collect();
    let marks = ticks(all);
    let mut chart = ChartBuilder::on(part)
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(
            log_range(at.iter().copied()).log_scale().with_key_points(at),
            all.clone().log_scale().with_key_points(marks),
        )
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(axis)
        .y_desc(unit)
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .label_style((FONT, 13).into_font().color(&INK))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| error.to_string())?;
    let medians: Vec<_> = points
        .iter()
        .map(|point| (point.at, of(&point.drain).median))
        .collect();
    chart
        .draw_series(LineSeries::new(medians.clone(), colour.stroke_width(2)))
        .map_err(|error| error.to_string())?;
    let whiskers = points.iter().map(|point| {
        let spread = of(&point.drain);
        PathElement::new(
            [(point.at, spread.min), (point.at, spread.max)],
            INK.stroke_width(2),
        )
    });
    chart.draw_series(whiskers).map_err(|error| error.to_string())?;
    chart
        .draw_series(medians.into_iter().map(|at| Circle::new(at, 4, colour.filled())))
        .map_err(|error| error.to_string())?;
    Ok(())
}
