//! The demo as users run it: the figures in the last line of its output are right.

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
    assert_eq!(
        (exit, &figures["record"]),
        (Some(0), &json!("users")),
        "{figures}"
    );
    assert_all_stored(&figures, 211);
}

#[test]
fn demo_stores_generated_records_of_another_contract() {
    let (exit, figures) = demo(&["--record", "orders", "--users", "777"]);
    assert_eq!(
        (exit, &figures["record"]),
        (Some(0), &json!("orders")),
        "{figures}"
    );
    assert_all_stored(&figures, 777);
}

fn assert_all_stored(figures: &Value, records: u64) {
    for count in ["fetched", "accepted", "stored"] {
        assert_eq!(figures[count], records, "{figures}");
    }
    for count in ["invalid", "dead_lettered", "duplicates"] {
        assert_eq!(figures[count], 0, "{figures}");
    }
    assert_eq!(figures["conserved"], true, "{figures}");
    for latency in ["end_to_end_p50_ms", "end_to_end_p99_ms"] {
        assert!(figures[latency].as_f64().unwrap() > 0.0, "{figures}");
    }
    assert!(figures["p50_ms"].as_f64().unwrap() > 0.0 && figures["rows_per_second"].as_f64().unwrap() > 0.0);
}
