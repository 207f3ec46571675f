//! The wall: a small picture of each round, in which faults are bands and the rows that came an area.

use std::fmt::Write as _;

use super::{colour, end_of, escape};
use crate::report::{Report, Round};

const WIDTH: f64 = 110.0;
const HEIGHT: f64 = 34.0;

pub(super) fn wall(report: &Report) -> String {
    let tiles: String = (0..)
        .zip(&report.rounds)
        .map(|(number, round)| tile(number, round))
        .collect();
    format!("<div class=\"wall\">{tiles}</div>\n")
}

fn tile(number: usize, round: &Round) -> String {
    let class = match (&round.bug, round.violations.is_empty()) {
        (Some(_), _) => "failpoints",
        (None, true) => "held",
        (None, false) => "failed",
    };
    let name = escape(round.bug.as_ref().unwrap_or(&round.scenario));
    format!(
        "<a class=\"{class}\" href=\"#round-{number}\" title=\"{name}, seed {}\">{}<small>{name}</small>\
         <small class=\"dim\">seed {}</small></a>",
        round.seed,
        picture(round),
        round.seed,
    )
}

fn picture(round: &Round) -> String {
    let end = end_of(round);
    let x = |at: f64| at / end * WIDTH;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\">");
    for band in &round.faults {
        let width = (x(band.ended) - x(band.began)).max(1.5);
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{}\" opacity=\".35\"/>",
            x(band.began),
            colour(band),
        );
    }
    let most = round.points.iter().map(|point| point.rows).fold(1.0, f64::max);
    let points: String = round
        .points
        .iter()
        .map(|point| {
            format!(
                "{:.1},{:.1} ",
                x(point.at),
                HEIGHT - point.rows / most * (HEIGHT - 2.0)
            )
        })
        .collect();
    let last = round.points.last().map_or(0.0, |point| x(point.at));
    let _ = write!(
        svg,
        "<polygon points=\"0,{HEIGHT} {points}{last:.1},{HEIGHT}\" fill=\"#16a34a\" opacity=\".75\"/></svg>"
    );
    svg
}
