//! Exit codes, the summary, and errors of an invalid configuration.

use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::Value;
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::authentication::{TOKEN, tokens_file};
use crate::ingester_process::Ingester;
use crate::ingester_service::{IngesterService, path as run_path};
use crate::publisher_stack::PublisherStack;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_run_exits_0_with_its_summary() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    let command = ["once", "--users", "25", "--seed", "abc"];
    let ingester = Ingester::start(&command, &api.url(), &stack.url(), &[("SOURCE__PAGE_SIZE", "10")]);
    assert_eq!(ingester.exit_code().await, Some(0), "{}", ingester.log());
    let summary = ingester.summary();
    assert_eq!(
        (&summary["outcome"], &summary["seed"]),
        (&"complete".into(), &"abc".into())
    );
    for count in ["requested", "fetched", "accepted"] {
        assert_eq!(summary[count], 25, "{count}");
    }
    let records = stack.records_of(summary["run"].as_str().unwrap()).await;
    assert_eq!(records.len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_run_exits_1_with_its_reason() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let ingester = Ingester::start(&["once", "--users", "5"], &api.url(), &stack.url(), &[]);
    assert_eq!(ingester.exit_code().await, Some(1));
    assert_eq!(ingester.summary()["outcome"], "failed");
    let narrow = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let ingester = Ingester::start(&["once", "--users", "5"], &api.url(), &narrow.url(), &[]);
    assert_eq!(ingester.exit_code().await, Some(1));
    assert_eq!(
        (&ingester.summary()["outcome"], &ingester.summary()["rejected"]),
        (&"failed".into(), &5.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_exits_78_and_names_the_key() {
    for (name, value, named) in [
        ("SOURCE__PAGE_SIZE", "5001", "source.page_size: "),
        ("SOURCE__VERSION", "1.2", "source.version: "),
        ("SOURCE__URL", "ftp://x/", "source.url"),
        ("PUBLISHER__URL", "http://a:b@x/", "publisher.url"),
        ("RUN__SEED", "a b", "run.seed"),
        ("SCHEDULE__INTERVAL", "0s", "schedule.interval: "),
        (
            "API__LISTEN",
            "0.0.0.0:0",
            "api.listen: is reachable from other machines",
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
        // Errors before the start are one line. The token file is read after the start, when the process logs.
        assert!(
            name == "AUTH__TOKENS_PATH" || ingester.log().lines().count() == 1,
            "{}",
            ingester.log()
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    for known in [("API__ALLOW_ANONYMOUS", "true"), ("AUTH__TOKENS_PATH", &*tokens)] {
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

#[tokio::test(flavor = "multi_thread")]
async fn rejected_publisher_token_exits_78() {
    let api = api().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let stack = PublisherStack::with(&[("auth.tokens_path", &tokens)]).await;
    let path = folder.path().join("token");
    let token = [("PUBLISHER__TOKEN_FILE", path.to_str().unwrap())];
    let start = |command: &[&str]| Ingester::start(command, &api.url(), &stack.url(), &token);
    std::fs::write(&path, "s3cret\n").unwrap();
    for command in [&["once", "--users", "5"][..], &["run"]] {
        let ingester = start(command);
        assert_eq!(ingester.exit_code().await, Some(78), "{}", ingester.log());
        assert!(ingester.log().contains("rejected the credentials") && !ingester.log().contains("s3cret"));
    }
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let ingester = start(&["once", "--users", "5"]);
    assert_eq!(ingester.exit_code().await, Some(0), "{}", ingester.log());
    assert!(!ingester.log().contains(TOKEN));
    assert_eq!(stack.topic_contents().await.written, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_state_file_exits_1_and_recovers_after_restart() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let settings = [("STATE__PATH", path.to_str().unwrap())];
    let full = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let state = Connection::open(&path).unwrap();
    let filled = "CREATE TRIGGER filled BEFORE INSERT ON runs BEGIN SELECT RAISE(FAIL, 'no room'); END";
    state.execute_batch(filled).unwrap();
    let (status, problem) = full.send(Method::POST, "/v1/runs", Value::Null).await;
    assert_eq!(
        (status, &problem["detail"]),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            &"failed to access the state file".into()
        )
    );
    assert_eq!(full.ingester.exit_code().await, Some(1));
    let log = full.ingester.log();
    assert!(
        log.contains("no room") && log.contains("stopped by an error"),
        "{log}"
    );

    state.execute_batch("DROP TRIGGER filled").unwrap();
    let roomy = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = roomy.send(Method::POST, "/v1/runs", Value::Null).await;
    roomy
        .wait_for(&run_path(&run), |run| run["state"] == "complete")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_ingester_on_a_state_reports_the_first_not_a_port() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("state.db"), folder.path().join("link.db"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let text = path.display().to_string();
    let first = IngesterService::start(&api.url(), &stack.url(), &[("STATE__PATH", &text)]).await;
    let admin = first.ingester.url("admin").unwrap();
    let settings = [
        ("STATE__PATH", link.to_str().unwrap()),
        ("PROCESS__ADMIN_LISTEN", admin.trim_start_matches("http://")),
    ];
    let second = Ingester::start(&["run"], &api.url(), &stack.url(), &settings);
    assert_eq!(second.exit_code().await, Some(78));
    let log = second.log();
    assert!(log.contains("in use by another ingester"), "{log}");
}
