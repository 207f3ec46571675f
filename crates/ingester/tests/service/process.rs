//! The binary: exit codes, the summary on standard output, the admin port, signals.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::process::{Child, Program};
use testbed::randomuser::{Fault, Options, RandomUserApi};

use crate::door::{Answer, Door};

const DEADLINE: Duration = Duration::from_secs(20);

/// A free port, which nobody else has taken by the time it is used, with luck; the process names it when not.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The ingester as a process, between an API and a publisher.
pub(crate) struct Ingester {
    pub(crate) child: Child,
    pub(crate) admin: String,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ingester {
    pub(crate) fn start(command: &[&str], api: &str, publisher: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let port = free_port();
        let mut program = Program::new(env!("CARGO_BIN_EXE_ingester"))
            .args(command)
            .env("INGESTER__PROCESS__ADMIN_LISTEN", format!("127.0.0.1:{port}"))
            .env("INGESTER__API__LISTEN", format!("127.0.0.1:{}", free_port()))
            .env("INGESTER__SOURCE__URL", format!("{api}/api/1.4/"))
            .env("INGESTER__PUBLISHER__URL", publisher)
            .log_to(&log);
        for (name, value) in settings {
            program = program.env(format!("INGESTER__{name}"), *value);
        }
        Self {
            child: program.spawn().unwrap(),
            admin: format!("http://127.0.0.1:{port}"),
            log,
            _folder: folder,
        }
    }

    pub(crate) async fn exit_code(&self) -> Option<i32> {
        self.child.wait(DEADLINE).await.unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The last line of standard output, which is JSON; the log of standard error lies in the same file.
    pub(crate) fn summary(&self) -> Value {
        let log = self.log();
        let line = log
            .lines()
            .rfind(|line| line.starts_with("{\"run\""))
            .unwrap_or_else(|| panic!("{log}"));
        serde_json::from_str(line).unwrap()
    }

    /// Status and body of an admin path; 0 while nothing listens.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        match reqwest::get(format!("{}{path}", self.admin)).await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
            Err(_) => (0, String::new()),
        }
    }

    pub(crate) async fn wait_for(&self, path: &str, hopeful: impl Fn(u16, &str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.ask(path).await;
            if hopeful(status, &body) {
                return body;
            }
            assert!(Instant::now() < until, "{path}: {status} {body}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test]
async fn a_complete_run_exits_0_with_its_summary() {
    let (api, door) = (api().await, Door::open().await);
    let command = ["once", "--users", "25", "--seed", "abc"];
    let ingester = Ingester::start(&command, &api.url(), &door.url(), &[("SOURCE__PAGE_SIZE", "10")]);
    assert_eq!(ingester.exit_code().await, Some(0), "{}", ingester.log());
    let summary = ingester.summary();
    assert_eq!(
        (&summary["outcome"], &summary["seed"]),
        (&"complete".into(), &"abc".into())
    );
    for count in ["requested", "fetched", "accepted"] {
        assert_eq!(summary[count], 25, "{count}");
    }
    assert_eq!(door.accepted().len(), 25);
}

/// `script` gives its command a terminal, and what that shows to its own standard output.
#[tokio::test]
async fn on_a_terminal_a_bar_shows_how_far_a_run_has_come() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("terminal");
    let command = format!("{} once --users 10", env!("CARGO_BIN_EXE_ingester"));
    let program = Program::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env("INGESTER__PROCESS__ADMIN_LISTEN", "127.0.0.1:0")
        .env("INGESTER__SOURCE__URL", format!("{}/api/1.4/", api.url()))
        .env("INGESTER__SOURCE__PAGE_SIZE", "5")
        .env("INGESTER__PUBLISHER__URL", door.url())
        .log_to(&log);
    let status = program.spawn().unwrap().wait(DEADLINE).await.unwrap();
    let shown = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("0/10 users delivered, 10 fetched, 0 s waited"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_incomplete_run_exits_1_and_says_why() {
    let (api, door) = (api().await, Door::open().await);
    api.inject(Fault::ForbiddenPage, 1);
    let ingester = Ingester::start(&["once", "--users", "5"], &api.url(), &door.url(), &[]);
    assert_eq!(ingester.exit_code().await, Some(1));
    assert_eq!(ingester.summary()["outcome"], "failed");
    door.answer([Answer::RefusesTheFirst]);
    let ingester = Ingester::start(&["once", "--users", "5"], &api.url(), &door.url(), &[]);
    assert_eq!(ingester.exit_code().await, Some(1));
    assert_eq!(
        (&ingester.summary()["outcome"], &ingester.summary()["rejected"]),
        (&"rejected".into(), &1.into())
    );
}

#[tokio::test]
async fn a_wrong_configuration_exits_78_and_names_the_key() {
    for (name, value, named) in [
        ("SOURCE__PAGE_SIZE", "5001", "`source.page_size`"),
        ("SOURCE__VERSION", "1.2", "`source.version`"),
        ("SOURCE__URL", "ftp://x/", "source.url"),
        ("PUBLISHER__URL", "http://a:b@x/", "publisher.url"),
        ("RUN__SEED", "a b", "run.seed"),
        ("SCHEDULE__INTERVAL", "0s", "`schedule.interval`"),
        (
            "API__LISTEN",
            "0.0.0.0:0",
            "`api.listen` can be reached by others",
        ),
        ("AUTH__TOKENS_PATH", "/nowhere/tokens", "read /nowhere/tokens"),
        ("PUBLISHER__TOKEN_FILE", "/nowhere/token", "read /nowhere/token"),
        ("PUBLISHER__TOKN", "x", "did you mean `publisher.token`?"),
    ] {
        let ingester = Ingester::start(
            &["run"],
            "http://127.0.0.1:9",
            "http://127.0.0.1:9",
            &[(name, value)],
        );
        assert_eq!(ingester.exit_code().await, Some(78), "{name}");
        assert!(ingester.log().contains(named), "{name}: {}", ingester.log());
        // What can be known without starting is one line; a token file is read by a process that logs already.
        assert!(
            name == "AUTH__TOKENS_PATH" || ingester.log().lines().count() == 1,
            "{}",
            ingester.log()
        );
    }
    for known in [
        ("API__ALLOW_ANONYMOUS", "true"),
        ("AUTH__TOKENS_PATH", "/some/tokens"),
    ] {
        let settings = [("API__LISTEN", "0.0.0.0:0"), known];
        let check = Ingester::start(
            &["--check-config"],
            "http://127.0.0.1:9",
            "http://127.0.0.1:9",
            &settings,
        );
        assert_eq!(check.exit_code().await, Some(0), "{}", check.log());
    }
    let check = Ingester::start(
        &["--check-config"],
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
        &[],
    );
    assert_eq!(check.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_publisher_s_token_is_read_from_a_file_and_sent_with_each_request() {
    let (api, door) = (api().await, Door::open().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    let token = [("PUBLISHER__TOKEN_FILE", path.to_str().unwrap())];
    let ingester = Ingester::start(&["once", "--users", "5"], &api.url(), &door.url(), &token);
    assert_eq!(ingester.exit_code().await, Some(0), "{}", ingester.log());
    assert_eq!(door.parcels()[0].token.as_deref(), Some("Bearer s3cret"));
    assert!(!ingester.log().contains("s3cret"));
}

#[tokio::test]
async fn refused_credentials_exit_78() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([
        Answer::Says(401, None, Value::Null),
        Answer::Says(403, None, Value::Null),
    ]);
    for command in [&["once", "--users", "5"][..], &["run"]] {
        let token = [("PUBLISHER__TOKEN", "s3cret")];
        let ingester = Ingester::start(command, &api.url(), &door.url(), &token);
        assert_eq!(ingester.exit_code().await, Some(78));
        assert!(ingester.log().contains("refused our credentials") && !ingester.log().contains("s3cret"));
    }
}

#[tokio::test]
async fn the_service_runs_at_once_and_again_and_stops_on_sigterm() {
    let (api, door) = (api().await, Door::open().await);
    let settings = [("RUN__USERS", "5"), ("SCHEDULE__INTERVAL", "300ms")];
    let ingester = Ingester::start(&["run"], &api.url(), &door.url(), &settings);
    let metrics = ingester.wait_for("/metrics", |_, body| {
        body.lines()
            .any(|line| line == "ingester_runs_total{outcome=\"complete\"} 3")
    });
    let metrics = metrics.await;
    assert!(metrics.contains("ingester_requests_total{leg=\"source\",status=\"200\"}"));
    assert_eq!(ingester.ask("/healthz").await.0, 200);
    assert_eq!(ingester.ask("/readyz").await.0, 200);
    let status = ingester.child.terminate(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());
    let runs: std::collections::HashSet<_> = door.parcels().into_iter().map(|parcel| parcel.run).collect();
    assert!(runs.len() >= 3, "each run has its own id");
}

#[tokio::test]
async fn a_failed_run_is_tried_again_after_the_delay() {
    let (api, door) = (api().await, Door::open().await);
    api.inject(Fault::ForbiddenPage, 1);
    let settings = [("RUN__USERS", "5"), ("SCHEDULE__RETRY_DELAY", "200ms")];
    let ingester = Ingester::start(&["run"], &api.url(), &door.url(), &settings);
    let metrics = ingester.wait_for("/metrics", |_, body| {
        body.contains("runs_total{outcome=\"complete\"} 1")
    });
    assert!(
        metrics
            .await
            .contains("ingester_runs_total{outcome=\"failed\"} 1")
    );
    assert_eq!(door.accepted().len(), 5);
}

#[tokio::test]
async fn readyz_tells_the_truth_about_the_publisher() {
    let api = api().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let ingester = Ingester::start(&["run"], &api.url(), &nobody, &[("RUN__USERS", "5")]);
    let body = ingester.wait_for("/readyz", |status, body| {
        status == 503 && body.contains("reach the publisher")
    });
    assert!(body.await.contains("\"name\":\"publisher\""));
    assert_eq!(
        ingester.ask("/healthz").await.0,
        200,
        "a restart would not cure it"
    );
}

#[tokio::test]
async fn sigterm_in_the_middle_delivers_what_was_fetched_and_exits_0() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let settings = [("RUN__USERS", "5000"), ("SOURCE__PAGE_SIZE", "5")];
    let ingester = Ingester::start(&["run"], &api.url(), &door.url(), &settings);
    ingester
        .wait_for("/metrics", |_, body| {
            body.contains("ingester_retries_total{leg=\"publisher\"} 1")
        })
        .await;
    let status = ingester.child.terminate(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", ingester.log());
    assert!(
        ingester.log().contains("outcome=\"stopped\""),
        "{}",
        ingester.log()
    );
    assert_eq!(
        door.accepted().len(),
        10,
        "the page in hand and the one fetched meanwhile"
    );
}

#[tokio::test]
async fn an_interrupted_once_is_not_complete() {
    let (api, door) = (api().await, Door::open().await);
    door.answer([Answer::Says(503, Some("1"), Value::Null)]);
    let page = [("SOURCE__PAGE_SIZE", "5")];
    let ingester = Ingester::start(&["once", "--users", "5000"], &api.url(), &door.url(), &page);
    ingester
        .wait_for("/metrics", |_, body| {
            body.contains("ingester_retries_total{leg=\"publisher\"} 1")
        })
        .await;
    let status = ingester.child.terminate(DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        (&ingester.summary()["outcome"], &ingester.summary()["accepted"]),
        (&"stopped".into(), &10.into())
    );
}
