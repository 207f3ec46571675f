//! Colours, fonts, title and source that all pictures share.

use std::fmt::Display;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::number;

/// A drawing area.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);

/// Converts plotters' errors, which borrow the backend.
pub(super) trait Drawn<T> {
    fn drawn(self) -> Result<T, String>;
}

impl<T, E: Display> Drawn<T> for Result<T, E> {
    fn drawn(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// The product's colour in all pictures: Okabe and Ito's palette, which colour-blind readers can distinguish.
pub(super) fn colour(product: &str) -> RGBColor {
    match product {
        "affluent" => RGBColor(0, 114, 178),
        "Spark" => RGBColor(213, 94, 0),
        "Benthos" => RGBColor(0, 158, 115),
        "Flink" => RGBColor(204, 121, 167),
        "Kafka Connect" => RGBColor(230, 159, 0),
        _ => RGBColor(86, 180, 233),
    }
}

/// Text of this size and colour, anchored at its left or right, top or bottom.
pub(super) fn text(size: u32, ink: RGBColor, (horizontal, vertical): (HPos, VPos)) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_font()
        .color(&ink)
        .pos(Pos::new(horizontal, vertical))
}

/// Draws the title above and the source below. Returns the area between them.
pub(super) fn title_and_source<'a>(
    canvas: &Canvas<'a>,
    title: &str,
    source: &str,
) -> Result<Canvas<'a>, String> {
    let style = text(22, INK, (HPos::Left, VPos::Top));
    let titled = canvas.titled(title, style).drawn()?;
    let (width, height) = titled.dim_in_pixel();
    let (body, foot) = titled.split_vertically(i32::try_from(height).unwrap_or(0) - 24);
    let style = text(12, INK, (HPos::Center, VPos::Top));
    foot.draw_text(source, &style, (i32::try_from(width / 2).unwrap_or(0), 4))
        .drawn()?;
    Ok(body)
}

/// A chart with drawn axes.
pub(super) type Chart<'a, 'b, X, Y> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

/// Draws axes with a mesh and their labels.
pub(super) fn axes<'a, 'b, X, Y>(
    builder: &mut ChartBuilder<'a, 'b, SVGBackend<'b>>,
    (x, y): (X, Y),
    (x_label, y_label): (&str, &str),
) -> Result<Chart<'a, 'b, X, Y>, String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = builder.margin_left(10).build_cartesian_2d(x, y).drawn()?;
    let axis_text = text(14, INK, (HPos::Left, VPos::Top));
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(x_label)
        .y_desc(y_label)
        .axis_desc_style(axis_text.clone())
        .label_style(axis_text)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .drawn()?;
    Ok(chart)
}
