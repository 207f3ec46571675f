//! The demo as users run it: the figures in the last line of its output are right.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::process::Program;
use testkit::workspace;

use crate::servers::children;

/// For a start of all servers on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(240);

fn demo(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .arg("demo")
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), figures(&text))
}

fn figures(text: &str) -> Value {
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no figures: {text}"))
}

async fn wait_for_line(log: &Path, part: &str) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.lines().any(|line| line.contains(part)) {
            return;
        }
        assert!(Instant::now() < until, "no line with {part}:\n{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The process with this name that `parent` has started.
fn child_named(name: &str, parent: u32) -> u32 {
    let has_name = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap()
            .trim()
            == name
    };
    children(parent).into_iter().find(has_name).unwrap()
}

/// The streamer may be killed, as in the tutorial: the servers continue until Ctrl-C.
#[tokio::test]
async fn demo_stores_every_sample_or_generated_user() {
    let samples = workspace::root().unwrap().join("../shared/samples");
    let arguments = if samples.is_dir() {
        ["--samples", samples.to_str().unwrap()]
    } else {
        ["--users", "211"]
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("demo.log");
    let demo = Program::new(env!("CARGO_BIN_EXE_testkit"))
        .args(["demo", "--keep"])
        .args(arguments)
        .log_to(&log)
        .spawn()
        .unwrap();
    wait_for_line(&log, "streamer admin").await;
    let streamer = child_named("streamer", demo.pid());
    kill(Pid::from_raw(streamer.try_into().unwrap()), Signal::SIGKILL).unwrap();
    wait_for_line(&log, "streamer ended unexpectedly").await;
    let text = std::fs::read_to_string(&log).unwrap();
    let kafka = text.lines().find_map(|line| line.trim().strip_prefix("kafka "));
    TcpStream::connect(kafka.unwrap().trim()).unwrap();
    demo.signal(Signal::SIGINT).unwrap();
    let exit = demo.wait(TIMEOUT).await.unwrap();
    let figures = figures(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(
        (exit.code(), &figures["record"]),
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
