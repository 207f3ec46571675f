//! Progress output of `ingester once`: a bar on a terminal, log lines otherwise.

use std::time::Duration;

use testkit::process::Program;
use testkit::randomuser::Fault;

use crate::support::TIMEOUT;
use crate::support::ingester_process::{exit_code, start_ingester};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

/// `script` runs its command in a terminal and copies the terminal to standard output.
#[tokio::test(flavor = "multi_thread")]
async fn terminal_shows_a_progress_bar() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page is late. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_secs(3))), 1);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("terminal");
    let command = format!("{} once --users 10", env!("CARGO_BIN_EXE_ingester"));
    let program = Program::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env("INGESTER__PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
        .env("INGESTER__SOURCE__URL", format!("{}/api/1.4/", api.url()))
        .env("INGESTER__SOURCE__PAGE_SIZE", "5")
        .env("INGESTER__SOURCE__MAX_IN_FLIGHT", "1")
        .env("INGESTER__PUBLISHER__URL", stack.url())
        .log_to(&log);
    let status = program.spawn().unwrap().wait(TIMEOUT).await.unwrap();
    let shown = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("5/10 users delivered, 5 fetched, 0 s rate limited"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_logged_without_a_terminal() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    // The second page is late. Requests are sequential, or it may be the first page.
    api.inject(Fault::Hang(Some(Duration::ZERO)), 1);
    api.inject(Fault::Hang(Some(Duration::from_secs(3))), 1);
    let settings = [
        ("source.page_size", "5"),
        ("source.max_in_flight", "1"),
        ("run.progress_interval", "50ms"),
    ];
    let ingester = start_ingester(&["once", "--users", "10"], &api.url(), &stack.url(), &settings);
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());
    let log = ingester.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("progress")).collect();
    let half_way = "requested=10 fetched=5 accepted=5 rate_limited_seconds=0";
    assert!(lines.iter().any(|line| line.contains(half_way)), "{log}");
    assert!(lines.len() > 3, "one line per interval: {log}");
    assert!(
        !log.contains(['\r', '\u{1b}']),
        "no terminal control characters: {log}"
    );
}
