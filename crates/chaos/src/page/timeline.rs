//! The timeline of a round: faults as bands, throughput, lag and latency as lines, and when a fresh record had come through.

use std::fmt::Write as _;

use super::{colour, end_of, escape};
use crate::report::{Point, Round};

/// Of the drawing, in its own units.
const WIDTH: f64 = 1020.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 14.0;
const BAND: f64 = 14.0;
const LINE: f64 = 44.0;
const GAP: f64 = 10.0;
const FOOT: f64 = 16.0;
/// A letter of a band's label, about.
const LETTER: f64 = 5.1;

/// A line of the timeline: its name, its colour, and what it shows.
type Line = (&'static str, &'static str, fn(&Point) -> f64);

const LINES: [Line; 4] = [
    ("records/s", "#2563eb", |point| point.records),
    ("rows/s", "#16a34a", |point| point.rows),
    ("lag", "#d97706", |point| point.lag),
    ("latency ms", "#dc2626", |point| point.latency_ms),
];

/// Where a moment is.
struct Scale {
    end: f64,
    top: f64,
    height: f64,
}

impl Scale {
    fn of(round: &Round) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a round has few faults")]
        let top = round.faults.len() as f64 * (BAND + 3.0) + GAP;
        Self {
            end: end_of(round),
            top,
            height: top + 4.0 * (LINE + GAP) + FOOT,
        }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end * (WIDTH - LEFT - RIGHT)
    }
}

pub(super) fn timeline(round: &Round) -> String {
    let scale = Scale::of(round);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n", scale.height);
    grid(&mut svg, &scale);
    bands(&mut svg, &scale, round);
    lines(&mut svg, &scale, round);
    fresh(&mut svg, &scale, round);
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, scale: &Scale) {
    let bottom = scale.height - FOOT;
    let (left, width) = (LEFT, WIDTH - LEFT - RIGHT);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        svg,
        "<rect class=\"ground\" x=\"{left}\" y=\"0\" width=\"{width}\" height=\"{bottom:.0}\"/>"
    );
    for part in 0..=8_u32 {
        let at = scale.end * f64::from(part) / 8.0;
        let x = scale.x(at);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom:.0}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
            scale.height - 3.0,
        );
    }
}

fn bands(svg: &mut String, scale: &Scale, round: &Round) {
    for (row, band) in (0_u32..).zip(&round.faults) {
        let (from, y) = (scale.x(band.began), f64::from(row) * (BAND + 3.0) + 2.0);
        let width = (scale.x(band.ended) - from).max(2.5);
        let (colour, bottom) = (colour(band), scale.height - FOOT);
        // When it was planned for is what the band itself shows.
        let label = band.fault.split(" at ").next().unwrap_or(&band.fault);
        #[expect(clippy::cast_precision_loss, reason = "a label is short")]
        let room = label.chars().count() as f64 * LETTER + 8.0;
        let (x, anchor) = if from + room < WIDTH - RIGHT {
            (from + 4.0, "start")
        } else {
            (from + width - 4.0, "end")
        };
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{bottom:.0}\" fill=\"{colour}\" opacity=\".10\"/>\
             <rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAND}\" rx=\"2\" fill=\"{colour}\" opacity=\".6\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + 10.5,
            escape(label),
        );
    }
}

fn lines(svg: &mut String, scale: &Scale, round: &Round) {
    for (row, (name, colour, of)) in (0_u32..).zip(LINES) {
        let y = scale.top + f64::from(row) * (LINE + GAP);
        let most = round.points.iter().map(of).fold(0.0, f64::max).max(1.0);
        let place = |point: &Point| {
            format!(
                "{:.1},{:.1}",
                scale.x(point.at),
                y + LINE - of(point) / most * LINE
            )
        };
        let points: Vec<_> = round.points.iter().map(place).collect();
        let (points, floor) = (points.join(" "), y + LINE);
        let last = round.points.last().map_or(LEFT, |point| scale.x(point.at));
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{name}</text><text x=\"0\" y=\"{:.1}\">to {most:.0}</text>\
             <polygon fill=\"{colour}\" opacity=\".16\" points=\"{LEFT},{floor:.1} {points} {last:.1},{floor:.1}\"/>\
             <polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\" points=\"{points}\"/>",
            y + 14.0,
            y + 27.0,
        );
    }
}

/// A line where the first record after the last fault had become a row.
fn fresh(svg: &mut String, scale: &Scale, round: &Round) {
    // A clock that is wrong is so from the beginning, and no fault that ends.
    let faults = round.faults.iter().filter(|band| band.began > 0.0);
    let over = faults.map(|band| band.ended).fold(0.0, f64::max);
    let Some(seconds) = round.fresh_seconds else {
        return;
    };
    let (x, bottom) = (scale.x((over + seconds).min(scale.end)), scale.height - FOOT);
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"#2e7d32\" stroke-width=\"1.4\" \
         stroke-dasharray=\"3 3\"><title>a fresh record is a row</title></line>"
    );
}
