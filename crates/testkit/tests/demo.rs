//! The demo as users run it: the figures in the last line of its output are right.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::Command;

use serde_json::{Value, json};
use testkit::workspace;

fn demo(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let figures = serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("no figures: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), figures)
}

#[test]
fn demo_stores_every_sample_or_generated_user() {
    let samples = workspace::root().unwrap().join("../shared/samples");
    let (exit, figures) = if samples.is_dir() {
        demo(&["--samples", samples.to_str().unwrap()])
    } else {
        demo(&["--users", "211"])
    };
    for count in ["fetched", "accepted", "stored"] {
        assert_eq!(figures[count], 211, "{figures}");
    }
    assert_eq!(
        (&figures["dead_lettered"], &figures["duplicates"]),
        (&json!(0), &json!(0))
    );
    assert!(figures["p50_ms"].as_f64().unwrap() > 0.0 && figures["rows_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(exit, Some(0));
}
