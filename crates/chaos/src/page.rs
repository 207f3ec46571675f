//! The report as one page that needs nothing else: a wall with a picture of each round, and below it each round's timeline.

mod timeline;
mod wall;

use std::fmt::Write as _;

use self::timeline::timeline;
use self::wall::wall;
use super::report::{Band, Report, Round};

const STYLE: &str = "
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1060px;padding:0 1rem;color:#1d2430;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.05rem;margin:2.4rem 0 .2rem}p{margin:.2rem 0}
a{color:inherit;text-decoration:none}.bad{color:#b3261e}.good{color:#2e7d32}.dim{color:#6b7280}
svg{width:100%;height:auto;display:block}text{font:10px system-ui,sans-serif;fill:#374151}
.figures{display:flex;flex-wrap:wrap;gap:.4rem 2.2rem;margin:1rem 0}.figures b{display:block;font-size:1.5rem;line-height:1.2}
.key span{margin-right:1.1rem;white-space:nowrap}
.wall{display:grid;grid-template-columns:repeat(auto-fill,minmax(118px,1fr));gap:6px;margin:1rem 0 2rem}
.wall a{display:block;border:1px solid #d1d5db;border-top:3px solid #2e7d32;border-radius:4px;padding:3px 4px 4px;background:#fafafa}
.wall a.failed{border-top-color:#b3261e;background:#fdecea}.wall a.failpoints{border-top-color:#7c3aed}
.wall small{display:block;font-size:10px;line-height:1.3;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.ground{fill:#f6f7f9}.grid{stroke:#d8dce2;stroke-width:.5}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e5e7eb}text{fill:#c3cad5}.ground{fill:#1b212b}.grid{stroke:#313947}
.wall a{background:#1b212b;border-color:#374151}.wall a.failed{background:#3a1d1b}.good{color:#66bb6a}.bad{color:#ef5350}}
";

/// By the class of the fault.
const COLOURS: [&str; 8] = [
    "#9ca3af", "#f59e0b", "#ef4444", "#8b5cf6", "#92714a", "#0ea5e9", "#10b981", "#ec4899",
];
const CLASSES: [(u8, &str); 7] = [
    (1, "processes"),
    (2, "servers"),
    (3, "network"),
    (4, "resources"),
    (5, "stores"),
    (6, "input"),
    (7, "groups and clocks"),
];

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Fault campaign</title><style>{STYLE}</style>\n<h1>Fault campaign</h1>\n{}{}{}",
        figures(report),
        key(),
        wall(report),
    );
    for (number, round) in report.rounds.iter().enumerate() {
        page.push_str(&section(number, round));
    }
    page.push_str(&without_verdict(report));
    page.push_str("</html>\n");
    page
}

fn figures(report: &Report) -> String {
    let failed = report
        .rounds
        .iter()
        .filter(|round| !round.violations.is_empty())
        .count();
    let unplayed = report.not_played.len();
    let sum = |of: fn(&Round) -> usize| report.rounds.iter().map(of).sum::<usize>();
    let figure = |class: &str, figure: usize, what: &str| {
        format!("<span><b class=\"{class}\">{figure}</b>{what}</span>")
    };
    let shown = [
        figure("", report.rounds.len(), "rounds"),
        figure(if failed == 0 { "good" } else { "bad" }, failed, "violated a law"),
        figure(
            if unplayed == 0 { "good" } else { "bad" },
            unplayed,
            "could not be played",
        ),
        figure("", sum(|round| round.faults.len()), "faults"),
        figure("", sum(|round| round.acknowledged), "records acknowledged"),
        figure("", sum(|round| round.rebalances), "rebalances"),
        figure(
            "",
            sum(|round| round.samples),
            "times checkpoints were held against what was durable",
        ),
    ];
    format!("<div class=\"figures\">{}</div>\n", shown.concat())
}

fn key() -> String {
    let classes = CLASSES.map(|(class, name)| {
        let colour = COLOURS[usize::from(class)];
        format!("<span><b style=\"color:{colour}\">&#9632;</b> {name}</span>")
    });
    format!("<p class=\"key\">{}</p>\n", classes.concat())
}

fn section(number: usize, round: &Round) -> String {
    let verdict = if round.violations.is_empty() {
        "<span class=\"good\">held</span>"
    } else {
        "<span class=\"bad\">violated</span>"
    };
    let bug = round
        .bug
        .as_ref()
        .map_or(String::new(), |bug| format!(" with the bug {}", escape(bug)));
    let commit = round.commit.as_deref().unwrap_or("of an unknown commit");
    let fresh = round
        .fresh_seconds
        .map_or("never".to_owned(), |seconds| format!("after {seconds:.1} s"));
    let mut text = format!(
        "<h2 id=\"round-{number}\">{}{bug} <span class=\"dim\">seed {}</span> {verdict}</h2>\n<p class=\"dim\">{:.0} s, {} \
         acknowledged, {} records, {} rows, {} refused, {} read again, {} rebalances; a fresh record flowed {fresh}; {}</p>\n{}",
        escape(&round.scenario),
        round.seed,
        round.seconds,
        round.acknowledged,
        round.records,
        round.rows,
        round.refused,
        round.read_again,
        round.rebalances,
        escape(commit),
        timeline(round),
    );
    for violation in &round.violations {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "<p class=\"bad\">{}</p>", escape(&violation.to_string()));
    }
    text
}

/// Rounds that could not be played, and scenarios that nobody could.
fn without_verdict(report: &Report) -> String {
    let failed = report.not_played.iter().map(|round| {
        format!(
            "<p class=\"bad\">{} seed {} not played: {}</p>\n",
            escape(&round.scenario),
            round.seed,
            escape(&round.reason)
        )
    });
    let left = report.left_out.iter().map(|left| {
        format!(
            "<p class=\"dim\">{} left out: {}</p>\n",
            escape(&left.scenario),
            escape(&left.reason)
        )
    });
    failed.chain(left).collect()
}

/// When the last thing of a round is drawn.
fn end_of(round: &Round) -> f64 {
    let last = round.points.last().map_or(0.0, |point| point.at);
    let bands = round.faults.iter().map(|band| band.ended);
    bands.fold(last, f64::max).max(1.0)
}

fn colour(band: &Band) -> &'static str {
    COLOURS[usize::from(band.class) % COLOURS.len()]
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
    use crate::laws::{Law, Violation};
    use crate::report::{NotPlayed, Point};

    #[test]
    fn every_fault_and_every_violation_is_on_the_page_and_nothing_is_loaded() {
        let round = Round {
            scenario: "kills".to_owned(),
            seed: 7,
            bug: None,
            commit: Some("0123abc".to_owned()),
            seconds: 20.0,
            acknowledged: 10,
            records: 10,
            rows: 5,
            letters: 1,
            refused: 1,
            read_again: 4,
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
        let page = page(&Report {
            rounds: vec![round],
            ordered: 2,
            not_played: vec![NotPlayed {
                scenario: "late".to_owned(),
                seed: 8,
                reason: "no broker".to_owned(),
                logs: None,
            }],
            left_out: Vec::new(),
        });
        for part in [
            "a &lt; b",
            "not_vacuous",
            "<b class=\"\">1</b>rounds",
            "<polyline",
            "href=\"#round-0\"",
            "seed 7",
            "0123abc",
            "late seed 8 not played: no broker",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http") && !page.contains("src="));
    }
}
