//! Ingester processes between an API and a publisher: start, exit, summary and admin port.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::service::{Service, ServiceOptions};
use uuid::Uuid;

use crate::support::TIMEOUT;

/// Starts an ingester.
pub(crate) fn start_ingester(
    command: &[&str],
    api: &str,
    publisher: &str,
    settings: &[(&str, &str)],
) -> Service {
    Service::start(&ingester_options(command, api, publisher, settings)).unwrap()
}

/// Returns the options of an ingester with a log of its own.
pub(crate) fn ingester_options(
    command: &[&str],
    api: &str,
    publisher: &str,
    settings: &[(&str, &str)],
) -> ServiceOptions {
    let logs = testkit::workspace::target_dir().unwrap().join("testkit/logs");
    let options = ServiceOptions::new("ingester", logs)
        .log_name(format!("ingester_{}", Uuid::new_v4().simple()))
        .binary(env!("CARGO_BIN_EXE_ingester"))
        .set("source.url", format!("{api}/api/1.4/"))
        .set("publisher.url", publisher);
    let options = command.iter().copied().fold(options, ServiceOptions::arg);
    let settings = settings.iter();
    settings.fold(options, |options, (key, value)| options.set(key, *value))
}

/// Waits until the process ends, and returns its exit code.
pub(crate) async fn exit_code(ingester: &Service) -> Option<i32> {
    ingester.wait(TIMEOUT).await.unwrap()
}

/// Returns the summary of a run, the last JSON line. Standard output and standard error share one file.
pub(crate) fn run_summary(ingester: &Service) -> Value {
    let log = ingester.log();
    let line = log
        .lines()
        .rfind(|line| line.starts_with("{\"run\""))
        .unwrap_or_else(|| panic!("{log}"));
    serde_json::from_str(line).unwrap()
}

/// Waits until the response of an admin path is accepted, and returns its body.
pub(crate) async fn wait_for_admin(
    ingester: &Service,
    path: &str,
    accept: impl Fn(u16, &str) -> bool,
) -> String {
    let until = Instant::now() + TIMEOUT;
    loop {
        match ingester.get(path).await {
            Ok((status, body)) if accept(status.as_u16(), &body) => return body,
            response => assert!(Instant::now() < until, "{path}: {response:?}\n{}", ingester.log()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until at least `least` users are accepted.
pub(crate) async fn wait_until_accepted(ingester: &Service, least: u64) {
    wait_for_admin(ingester, "/metrics", |_, body| {
        metric(body, "ingester_users_accepted_total") >= least
    })
    .await;
}

/// Returns the value of a series in `metrics`, or 0 without it.
pub(crate) fn metric(metrics: &str, series: &str) -> u64 {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Executes a command that reads a state file, and returns its standard output.
pub(crate) fn read_state(command: &[&str], state: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ingester"))
        .args(command)
        .env("INGESTER__STATE__PATH", state)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
