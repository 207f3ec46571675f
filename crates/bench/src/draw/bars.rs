//! Throughput: a bar for each sink with the spread of its rounds, and the baseline as a line.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{linear_range, number};
use super::style::{Canvas, Drawn, FONT, GRID, INK, SIZE, colour, source};
use crate::report::{DrainLine, Report};

/// A value within this many pixels of the baseline's line is drawn inside its bar.
const CROSSED: i32 = 24;

/// Half of a bar's share of its slot, for three bars or more.
const HALF: f64 = 0.28;

pub(super) fn throughput(canvas: &Canvas<'_>, report: &Report) -> Drawn {
    let (baselines, bars): (Vec<&DrainLine>, Vec<&DrainLine>) =
        report.drains.iter().partition(|it| it.baseline);
    let most = report.drains.iter().map(|line| line.rows_per_second.max);
    let records = number(bars.first().map_or(0.0, |line| count(line.records)));
    let title = format!("Draining a backlog of {records} records");
    let mut chart = ChartBuilder::on(canvas)
        .caption(title, (FONT, 22).into_font().color(&INK))
        .margin(14)
        .margin_bottom(34)
        .x_label_area_size(34)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..count(bars.len() as u64), linear_range(most))
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .y_desc("rows a second, more is better")
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .label_style((FONT, 14).into_font().color(&INK))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| error.to_string())?;
    let area = chart.plotting_area().clone();
    for (place, line) in bars.iter().enumerate() {
        let speed = &line.rows_per_second;
        let middle = count(place as u64) + 0.5;
        let half = HALF * (count(bars.len() as u64) / 3.0).min(1.0);
        let bar = Rectangle::new(
            [(middle - half, 0.0), (middle + half, speed.median)],
            colour(place).filled(),
        );
        area.draw(&bar).map_err(|error| error.to_string())?;
        let whisker = PathElement::new([(middle, speed.min), (middle, speed.max)], INK.stroke_width(2));
        area.draw(&whisker).map_err(|error| error.to_string())?;
        let height = |of: f64| area.map_coordinate(&(middle, of)).1;
        let crossed = baselines
            .iter()
            .any(|baseline| (height(baseline.rows_per_second.median) - height(speed.max)).abs() < CROSSED);
        let (at, ink, above) = if crossed {
            (speed.min * 0.97, &WHITE, VPos::Top)
        } else {
            (speed.max, &INK, VPos::Bottom)
        };
        let style = (FONT, 15).into_font().color(ink).pos(Pos::new(HPos::Left, above));
        let value = Text::new(number(speed.median.round()), (middle + 0.03, at), style);
        area.draw(&value).map_err(|error| error.to_string())?;
        let (x, y) = area.map_coordinate(&(middle, 0.0));
        label(canvas, &line.name, (x, y + 10), 15)?;
    }
    for line in baselines {
        let (speed, end) = (line.rows_per_second.median, count(bars.len() as u64));
        let level = [(0.0, speed), (end, speed)];
        chart
            .draw_series(DashedLineSeries::new(level, 9, 6, INK.stroke_width(2)))
            .map_err(|error| error.to_string())?;
        let (x, y) = area.map_coordinate(&(end, speed));
        let text = format!("{}: {}", line.name, number(speed.round()));
        right(canvas, &text, (x - 6, y - 18))?;
    }
    let below = i32::try_from(SIZE.1).unwrap_or(0) - 20;
    label(
        canvas,
        &source(report),
        (i32::try_from(SIZE.0 / 2).unwrap_or(0), below),
        12,
    )
}

fn label(canvas: &Canvas<'_>, text: &str, at: (i32, i32), size: u32) -> Drawn {
    let style = (FONT, size)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Center, VPos::Top));
    canvas
        .draw_text(text, &style, at)
        .map_err(|error| error.to_string())
}

fn right(canvas: &Canvas<'_>, text: &str, at: (i32, i32)) -> Drawn {
    let style = (FONT, 14)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Right, VPos::Top));
    canvas
        .draw_text(text, &style, at)
        .map_err(|error| error.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
fn count(number: u64) -> f64 {
    number as f64
}
