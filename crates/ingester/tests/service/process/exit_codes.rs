//! Exit codes, the summary, and errors of an invalid configuration.

use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::Value;
use testkit::randomuser::Fault;

use crate::support::ingester_process::{exit_code, run_summary, start_ingester};
use crate::support::ingester_service::IngesterService;
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;
use crate::support::token_file::{TOKEN, tokens_file};

#[tokio::test(flavor = "multi_thread")]
async fn complete_run_exits_0_with_its_summary() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let command = ["once", "--users", "25", "--seed", "abc"];
    let ingester = start_ingester(&command, &api.url(), &stack.url(), &[("source.page_size", "10")]);
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());
    let summary = run_summary(&ingester);
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
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let ingester = start_ingester(&["once", "--users", "5"], &api.url(), &stack.url(), &[]);
    assert_eq!(exit_code(&ingester).await, Some(1));
    assert_eq!(run_summary(&ingester)["outcome"], "failed");
    let narrow = PublisherStack::with(&[("limits.max_record", "10 B")]).await;
    let ingester = start_ingester(&["once", "--users", "5"], &api.url(), &narrow.url(), &[]);
    assert_eq!(exit_code(&ingester).await, Some(1));
    assert_eq!(
        (
            &run_summary(&ingester)["outcome"],
            &run_summary(&ingester)["rejected"]
        ),
        (&"failed".into(), &5.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_exits_78_and_names_the_key() {
    for (name, value, named) in [
        ("source.page_size", "5001", "source.page_size: "),
        ("source.version", "1.2", "source.version: "),
        ("source.url", "ftp://x/", "source.url"),
        ("publisher.url", "http://a:b@x/", "publisher.url"),
        ("run.seed", "a b", "run.seed"),
        ("schedule.interval", "0s", "schedule.interval: "),
        (
            "api.listen",
            "0.0.0.0:0",
            "api.listen: is reachable from other machines",
        ),
        ("auth.tokens_path", "/nowhere/tokens", "read /nowhere/tokens"),
        ("publisher.token_file", "/nowhere/token", "read /nowhere/token"),
        ("publisher.tokn", "x", "did you mean `publisher.token`?"),
    ] {
        let ingester = start_ingester(
            &["run"],
            "http://127.0.0.1:9",
            "http://127.0.0.1:9",
            &[(name, value)],
        );
        assert_eq!(exit_code(&ingester).await, Some(78), "{name}");
        assert!(ingester.log().contains(named), "{name}: {}", ingester.log());
        // Errors before the start are one line. The token file is read after the start, when the process logs.
        assert!(
            name == "auth.tokens_path" || ingester.log().lines().count() == 1,
            "{}",
            ingester.log()
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    for known in [("api.allow_anonymous", "true"), ("auth.tokens_path", &*tokens)] {
        let settings = [("api.listen", "0.0.0.0:0"), known];
        let check = start_ingester(
            &["--check-config"],
            "http://127.0.0.1:9",
            "http://127.0.0.1:9",
            &settings,
        );
        assert_eq!(exit_code(&check).await, Some(0), "{}", check.log());
    }
    let check = start_ingester(
        &["--check-config"],
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
        &[],
    );
    assert_eq!(exit_code(&check).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_publisher_token_exits_78() {
    let api = start_api().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens_file(folder.path(), TOKEN);
    let stack = PublisherStack::with(&[("auth.tokens_path", &tokens)]).await;
    let path = folder.path().join("token");
    let token = [("publisher.token_file", path.to_str().unwrap())];
    let start = |command: &[&str]| start_ingester(command, &api.url(), &stack.url(), &token);
    std::fs::write(&path, "s3cret\n").unwrap();
    for command in [&["once", "--users", "5"][..], &["run"]] {
        let ingester = start(command);
        assert_eq!(exit_code(&ingester).await, Some(78), "{}", ingester.log());
        assert!(ingester.log().contains("rejected the credentials") && !ingester.log().contains("s3cret"));
    }
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let ingester = start(&["once", "--users", "5"]);
    assert_eq!(exit_code(&ingester).await, Some(0), "{}", ingester.log());
    assert!(!ingester.log().contains(TOKEN));
    assert_eq!(stack.topic_contents().await.written, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_state_file_exits_1_and_recovers_after_restart() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let settings = [("state.path", path.to_str().unwrap())];
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
    assert_eq!(exit_code(&full.ingester).await, Some(1));
    let log = full.ingester.log();
    assert!(
        log.contains("no room") && log.contains("stopped by an error"),
        "{log}"
    );

    state.execute_batch("DROP TRIGGER filled").unwrap();
    let roomy = IngesterService::start(&api.url(), &stack.url(), &settings).await;
    let (_, run) = roomy.send(Method::POST, "/v1/runs", Value::Null).await;
    roomy.wait_for_state(&run, "complete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_ingester_on_a_state_reports_the_first_not_a_port() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("state.db"), folder.path().join("link.db"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let text = path.display().to_string();
    let first = IngesterService::start(&api.url(), &stack.url(), &[("state.path", &text)]).await;
    let admin = first.ingester.admin();
    let settings = [
        ("state.path", link.to_str().unwrap()),
        ("process.admin_listen", admin.trim_start_matches("http://")),
    ];
    let second = start_ingester(&["run"], &api.url(), &stack.url(), &settings);
    assert_eq!(exit_code(&second).await, Some(78));
    let log = second.log();
    assert!(log.contains("in use by another ingester"), "{log}");
}
