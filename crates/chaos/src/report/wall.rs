//! Draws a campaign as an SVG: a tile for each round, with faults as bands and written rows as an area.
//!
//! All tiles share one path for each colour, in whole pixels, which keeps the file small.

use std::fmt::Write as _;

use super::round::RoundReport;
use crate::scenario::fault::FaultClass;

/// Size of a tile and its gap, in pixels.
const TILE: (u32, u32) = (36, 24);
const GAP: u32 = 4;
const COLUMNS: u32 = 24;
const WIDTH: u32 = COLUMNS * (TILE.0 + GAP) - GAP;
/// Height of figures and legend.
const HEADER: u32 = 52;
/// Width of a step of the area.
const STEP: u32 = 2;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#374151}.tile{fill:#eef0f3}.violated{fill:none;stroke:#b3261e;\
    stroke-width:2}.band{opacity:.4}.rows{fill:#16a34a;opacity:.75}@media(prefers-color-scheme:dark){text{fill:#c3cad5}\
    .tile{fill:#262d38}.violated{stroke:#ef5350}}";

const CLASSES: [(FaultClass, &str, &str); 7] = [
    (FaultClass::Process, "processes", "#f59e0b"),
    (FaultClass::Server, "servers", "#ef4444"),
    (FaultClass::Network, "network", "#8b5cf6"),
    (FaultClass::Resource, "resources", "#92714a"),
    (FaultClass::Store, "stores", "#0ea5e9"),
    (FaultClass::Input, "input", "#10b981"),
    (FaultClass::Group, "groups and clocks", "#ec4899"),
];

/// The SVG document.
pub(super) fn wall(rounds: &[RoundReport]) -> String {
    let tiles: Vec<_> = (0..)
        .zip(rounds)
        .map(|(number, round)| Tile::new(number, round))
        .collect();
    let height = tiles.last().map_or(HEADER, |tile| tile.y + TILE.1);
    let violated = tiles.iter().filter(|tile| !tile.round.violations.is_empty());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Fault campaign</title><style>{STYLE}</style>\n{}{}",
        figures(rounds),
        legend()
    );
    path(&mut svg, "class=\"tile\"", tiles.iter().map(Tile::outline));
    for (class, _, color) in CLASSES {
        let bands = tiles.iter().map(|tile| tile.bands(class));
        path(&mut svg, &format!("class=\"band\" fill=\"{color}\""), bands);
    }
    path(&mut svg, "class=\"rows\"", tiles.iter().map(Tile::rows));
    path(&mut svg, "class=\"violated\"", violated.map(Tile::outline));
    svg.push_str("</svg>\n");
    svg
}

fn figures(rounds: &[RoundReport]) -> String {
    let violated = rounds.iter().filter(|round| !round.violations.is_empty()).count();
    let faults: usize = rounds.iter().map(|round| round.faults.len()).sum();
    let acknowledged: usize = rounds.iter().map(|round| round.acknowledged).sum();
    format!(
        "<text y=\"14\">{} rounds, {violated} with violations, {faults} faults, {acknowledged} acknowledged records. \
         Bands are faults, green is rows per second.</text>\n",
        rounds.len()
    )
}

fn legend() -> String {
    let entries = (0_u32..).zip(CLASSES).map(|(number, (_, name, color))| {
        let x = number * 110;
        format!(
            "<rect class=\"band\" x=\"{x}\" y=\"26\" width=\"12\" height=\"12\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"36\">{name}</text>",
            x + 17
        )
    });
    entries.collect::<String>() + "\n"
}

fn path(svg: &mut String, attributes: &str, parts: impl Iterator<Item = String>) {
    let data: String = parts.collect();
    if !data.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<path {attributes} d=\"{data}\"/>");
    }
}

/// A round with its place on the wall.
struct Tile<'a> {
    round: &'a RoundReport,
    x: u32,
    y: u32,
    /// The last second that is drawn.
    end: f64,
}

impl<'a> Tile<'a> {
    fn new(number: u32, round: &'a RoundReport) -> Self {
        let last = u32::try_from(round.rows_per_second.len()).unwrap_or(0).max(1) - 1;
        let ends = round.faults.iter().map(|fault| fault.ended);
        Self {
            round,
            x: number % COLUMNS * (TILE.0 + GAP),
            y: HEADER + number / COLUMNS * (TILE.1 + GAP),
            end: ends.fold(f64::from(last), f64::max).max(1.0),
        }
    }

    fn outline(&self) -> String {
        let (width, height) = TILE;
        format!("M{} {}h{width}v{height}h-{width}z", self.x, self.y)
    }

    fn bands(&self, class: FaultClass) -> String {
        let faults = self.round.faults.iter().filter(|fault| fault.class == class);
        let x = |at: f64| pixels(at / self.end * f64::from(TILE.0));
        let bands = faults.map(|fault| {
            let width = x(fault.ended - fault.started).max(1);
            let left = self.x + x(fault.started).min(TILE.0 - 1);
            format!("M{left} {}h{width}v{}h-{width}z", self.y, TILE.1)
        });
        bands.collect()
    }

    /// The mean of each step, relative to the highest one.
    fn rows(&self) -> String {
        let steps = TILE.0 / STEP;
        let at = |step: u32| self.end * f64::from(step) / f64::from(steps);
        let means: Vec<_> = (0..steps)
            .map(|step| mean(&self.round.rows_per_second, at(step), at(step + 1)))
            .collect();
        let max = means.iter().copied().fold(1.0, f64::max);
        let base = self.y + TILE.1;
        let mut data = format!("M{} {base}", self.x);
        let mut before = 0;
        for mean in means {
            let height = pixels(mean / max * f64::from(TILE.1 - 2));
            if height != before {
                data += &format!("v{}", i64::from(before) - i64::from(height));
            }
            data += &format!("h{STEP}");
            before = height;
        }
        data + &format!("V{base}z")
    }
}

/// Mean of the seconds that overlap this time.
fn mean(rows: &[f64], from: f64, until: f64) -> f64 {
    let within = (0_u32..).zip(rows).filter(|(second, _)| {
        let second = f64::from(*second);
        second < until && second + 1.0 > from
    });
    let (sum, count) = within.fold((0.0, 0.0), |(sum, count), (_, rows)| (sum + rows, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a coordinate within a tile"
)]
fn pixels(value: f64) -> u32 {
    value.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::{Invariant, InvariantViolation};
    use crate::report::round::FaultSpan;

    fn round(violations: Vec<InvariantViolation>) -> RoundReport {
        RoundReport {
            scenario: "kills".to_owned(),
            seed: 7,
            mutation: None,
            commit: None,
            seconds: 20.0,
            acknowledged: 10,
            records: 10,
            rows: 5,
            dead_letters: 1,
            invalid_records: 1,
            reread: 4,
            rebalances: 2,
            checkpoint_samples: 3,
            recovery_seconds: Some(0.3),
            faults: vec![FaultSpan {
                fault: "streamer-1 killed".to_owned(),
                class: FaultClass::Process,
                started: 9.0,
                ended: 18.0,
            }],
            violations,
            logs: None,
            rows_per_second: (0_u32..36).map(|second| f64::from(second * 7 % 31)).collect(),
        }
    }

    #[test]
    fn wall_contains_figures_faults_and_violations() {
        let violation = InvariantViolation::new(Invariant::SufficientCoverage, "faults", "none");
        let svg = wall(&[round(Vec::new()), round(vec![violation])]);
        for part in [
            "2 rounds, 1 with violations, 2 faults, 20 acknowledged records",
            "fill=\"#f59e0b\" d=\"M9 52h9v24h-9zM49 52h9v24h-9z\"",
            "class=\"violated\" d=\"M40 52h36v24h-36z\"",
            "prefers-color-scheme:dark",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn wall_of_a_whole_campaign_is_small() {
        let size = wall(&vec![round(Vec::new()); 300]).len();
        assert!(size < 60_000, "{size}");
    }
}
