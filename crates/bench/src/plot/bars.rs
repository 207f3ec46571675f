//! A bar for each product, with the range of its rounds, and the baseline as a dashed line.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axes::{linear_range, number};
use super::data::Bars;
use super::style::{Canvas, Drawn, GRID, INK, colour, text};
use crate::measure::cost::as_f64;

/// A number closer to the baseline, in pixels, is drawn inside its bar.
const BASELINE_DISTANCE: i32 = 24;
/// Half a bar's width in shares of its slot, for three bars or more.
const HALF_WIDTH: f64 = 0.28;

pub(super) fn draw(canvas: &Canvas<'_>, data: &Bars) -> Result<(), String> {
    let count = as_f64(data.bars.len() as u64);
    let tops = data.bars.iter().map(|(_, spread)| spread.max);
    let baseline = data.baseline.iter().map(|(_, level)| *level);
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..count, linear_range(tops.chain(baseline)))
        .drawn()?;
    let axis_text = text(14, INK, (HPos::Left, VPos::Top));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .y_desc(&data.y_label)
        .axis_desc_style(axis_text.clone())
        .label_style(axis_text)
        .y_label_formatter(&|value| number(*value))
        .draw()
        .drawn()?;
    let area = chart.plotting_area().clone();
    let origin = canvas.get_pixel_range();
    let pixel = |at: (f64, f64)| {
        let (x, y) = area.map_coordinate(&at);
        (x - origin.0.start, y - origin.1.start)
    };
    let half = HALF_WIDTH * (count / 3.0).min(1.0);
    for (place, (name, speed)) in data.bars.iter().enumerate() {
        let middle = as_f64(place as u64) + 0.5;
        let corners = [(middle - half, 0.0), (middle + half, speed.median)];
        area.draw(&Rectangle::new(corners, colour(name).filled()))
            .drawn()?;
        let ends = [(middle, speed.min), (middle, speed.max)];
        area.draw(&PathElement::new(ends, INK.stroke_width(2))).drawn()?;
        let height = |level: f64| pixel((middle, level)).1;
        let crossed = data
            .baseline
            .iter()
            .any(|(_, level)| (height(*level) - height(speed.max)).abs() < BASELINE_DISTANCE);
        let (level, ink, anchor) = if crossed {
            (speed.min * 0.97, WHITE, VPos::Top)
        } else {
            (speed.max, INK, VPos::Bottom)
        };
        let value = number(speed.median.round());
        canvas
            .draw_text(
                &value,
                &text(15, ink, (HPos::Center, anchor)),
                pixel((middle, level)),
            )
            .drawn()?;
        let (x, y) = pixel((middle, 0.0));
        canvas
            .draw_text(name, &text(15, INK, (HPos::Center, VPos::Top)), (x, y + 10))
            .drawn()?;
    }
    if let Some((name, level)) = &data.baseline {
        let line = [(0.0, *level), (count, *level)];
        chart
            .draw_series(DashedLineSeries::new(line, 9, 6, INK.stroke_width(2)))
            .drawn()?;
        let (x, y) = pixel((count, *level));
        let label = format!("{name}: {}", number(level.round()));
        canvas
            .draw_text(&label, &text(14, INK, (HPos::Right, VPos::Top)), (x - 6, y - 18))
            .drawn()?;
    }
    Ok(())
}
