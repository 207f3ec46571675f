//! The report as one page that needs nothing else: a timeline of each round, faults as bands, throughput, lag and latency
//! as lines.

use std::fmt::Write as _;

use super::report::{Point, Report, Round};

const STYLE: &str = "
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:980px;color:#1d2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0}
.bad{color:#b3261e}.good{color:#2e7d32}.dim{color:#6b7280}svg{width:100%;height:auto;display:block}
text{font:10px system-ui,sans-serif;fill:#4b5563}table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e5e7eb}text{fill:#9ca3af}}
";

/// Of the drawing, in its own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const BAND: f64 = 14.0;
const LINE: f64 = 46.0;
const GAP: f64 = 8.0;

/// By the class of the fault.
const COLOURS: [&str; 8] = [
    "#9ca3af", "#f59e0b", "#ef4444", "#8b5cf6", "#64748b", "#0ea5e9", "#10b981", "#ec4899",
];
const CLASSES: [(u8, &str); 6] = [
    (1, "processes"),
    (2, "servers"),
    (3, "network"),
    (5, "stores"),
    (6, "input"),
    (7, "groups and clocks"),
];

/// A line of the timeline: its name, its colour, and what it shows.
type Line = (&'static str, &'static str, fn(&Point) -> f64);

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let failed = report
        .rounds
        .iter()
        .filter(|round| !round.violations.is_empty())
        .count();
    let sum = |of: fn(&Round) -> usize| report.rounds.iter().map(of).sum::<usize>();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Fault campaign</title><style>{STYLE}</style>\n\
         <h1>Fault campaign</h1>\n<p>{} rounds, <span class=\"{}\">{failed} failed</span>; {} records acknowledged, \
         {} faults, {} rebalances, checkpoints held against what was durable {} times.</p>\n<p>",
        report.rounds.len(),
        if failed == 0 { "good" } else { "bad" },
        sum(|round| round.acknowledged),
        sum(|round| round.faults.len()),
        sum(|round| round.rebalances),
        sum(|round| round.samples),
    );
    for (class, name) in CLASSES {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<span style=\"color:{}\">&#9632;</span> {name} &nbsp; ",
            COLOURS[usize::from(class)]
        );
    }
    page.push_str("</p>\n");
    for round in &report.rounds {
        page.push_str(&section(round));
    }
    page.push_str("</html>\n");
    page
}

fn section(round: &Round) -> String {
    let verdict = if round.violations.is_empty() {
        "<span class=\"good\">held</span>"
    } else {
        "<span class=\"bad\">violated</span>"
    };
    let bug = round
        .bug
        .as_ref()
        .map_or(String::new(), |bug| format!(" with the bug {}", escape(bug)));
    let fresh = round
        .fresh_seconds
        .map_or("never".to_owned(), |seconds| format!("after {seconds:.1} s"));
    let mut text = format!(
        "<h2>{}{bug} <span class=\"dim\">seed {}</span> {verdict}</h2>\n<p class=\"dim\">{:.0} s, {} acknowledged, {} records, \
         {} rows, {} refused, {} rebalances; a fresh record flowed {fresh}</p>\n{}",
        escape(&round.scenario),
        round.seed,
        round.seconds,
        round.acknowledged,
        round.records,
        round.rows,
        round.refused,
        round.rebalances,
        timeline(round),
    );
    for violation in &round.violations {
        let _ = writeln!(text, "<p class=\"bad\">{}</p>", escape(&violation.to_string()));
    }
    text
}

fn timeline(round: &Round) -> String {
    let last = round.points.last().map_or(0.0, |point| point.at);
    let end = round
        .faults
        .iter()
        .map(|band| band.ended)
        .fold(last, f64::max)
        .max(1.0);
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - RIGHT);
    #[expect(clippy::cast_precision_loss, reason = "a round has few faults")]
    let top = round.faults.len() as f64 * (BAND + 2.0) + GAP;
    let lines: [Line; 4] = [
        ("records/s", "#2563eb", |point| point.records),
        ("rows/s", "#16a34a", |point| point.rows),
        ("lag", "#d97706", |point| point.lag),
        ("latency ms", "#dc2626", |point| point.latency_ms),
    ];
    let height = top + 4.0 * (LINE + GAP) + 14.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n");
    for (row, band) in (0_u32..).zip(&round.faults) {
        let (from, until, y) = (x(band.began), x(band.ended), f64::from(row) * (BAND + 2.0));
        let (colour, width) = (
            COLOURS[usize::from(band.class) % COLOURS.len()],
            (until - from).max(2.0),
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{colour}\" opacity=\".10\"/>\
             <rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAND}\" fill=\"{colour}\" opacity=\".75\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            height - 14.0,
            (from + 4.0).min(WIDTH * 0.6),
            y + 10.5,
            escape(&band.fault),
        );
    }
    for (row, (name, colour, of)) in (0_u32..).zip(lines) {
        let y = top + f64::from(row) * (LINE + GAP);
        let most = round.points.iter().map(of).fold(0.0, f64::max).max(1.0);
        let points: Vec<_> = round
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.at), y + LINE - of(point) / most * LINE))
            .collect();
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{name}</text><text x=\"0\" y=\"{:.1}\">max {most:.0}</text>\
             <polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>",
            y + 12.0,
            y + 25.0,
            points.join(" "),
        );
    }
    for quarter in 0..=4_u32 {
        let at = end * f64::from(quarter) / 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{at:.0} s</text>",
            x(at) - 8.0,
            height - 2.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::laws::{Law, Violation};
    use crate::chaos::report::Band;

    #[test]
    fn every_fault_and_every_violation_is_on_the_page_and_nothing_is_loaded() {
        let round = Round {
            scenario: "kills".to_owned(),
            seed: 7,
            bug: None,
            seconds: 20.0,
            acknowledged: 10,
            records: 10,
            rows: 5,
            letters: 1,
            refused: 1,
            rebalances: 2,
            samples: 3,
            fresh_seconds: Some(0.3),
            faults: vec![Band {
                fault: "a < b".to_owned(),
                class: 1,
                began: 1.0,
                ended: 2.0,
            }],
            violations: vec![Violation::new(Law::NotVacuous, "faults", "none")],
            logs: None,
            points: vec![Point {
                at: 0.0,
                records: 3.0,
                ..Point::default()
            }],
        };
        let page = page(&Report { rounds: vec![round] });
        for part in ["a &lt; b", "not_vacuous", "1 rounds", "<polyline", "seed 7"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http") && !page.contains("src="));
    }
}
