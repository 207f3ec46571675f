//! Shared style of the pictures: sizes, colours, font and caption.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, RGBColor, SVGBackend};

use crate::report::{DrainLine, Report};

/// The drawing area.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A picture or the reason why it failed.
pub(super) type Drawn = Result<(), String>;

/// Size of a picture in pixels.
pub(super) const SIZE: (u32, u32) = (900, 480);
/// Size of a picture with panels in two columns.
pub(super) const PANELS: (u32, u32) = (900, 760);

/// Okabe and Ito's palette, which is safe for colour-blind readers.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);
pub(super) const FONT: &str = "sans-serif";

/// The colour at this index.
pub(super) fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// The caption of every picture: machine, versions and date.
pub(super) fn source(report: &Report) -> String {
    let machine = &report.machine;
    let date = report.at.strftime("%Y-%m-%d");
    format!(
        "{}, {} cores, {:.0} GiB; Kafka {}, Cassandra {}; {date}",
        machine.cpu,
        machine.cores,
        gib(machine.memory_mib),
        report.versions.get("kafka").map_or("?", String::as_str),
        report.versions.get("cassandra").map_or("?", String::as_str),
    )
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 MiB")]
fn gib(mib: u64) -> f64 {
    mib as f64 / 1024.0
}

/// The quantity of a growth picture: title, unit and value.
pub(super) type Quantity = (
    &'static str,
    &'static str,
    fn(&DrainLine) -> crate::report::spread::Spread,
);
