//! Starts that come to something else: missed, caught up with, skipped, tried again.

use std::time::Duration;

use serde_json::Value;
use testbed::randomuser::{Fault, Options, RandomUserApi};

use crate::chain::Chain;
use crate::process::Ingester;
use crate::service::Service;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_nobody_was_there_for_are_in_the_history_and_the_latest_is_caught_up() {
    let (api, chain) = (api().await, Chain::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let hours_ago = |hours| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    let memory = ingester::memory::Memory::open(&path).unwrap();
    memory.schedule_up_to(hours_ago(50)).unwrap();
    drop(memory);
    let state = path.display().to_string();
    let settings = [("STATE__PATH", state.as_str()), ("SCHEDULE__CRON", "30 12 * * *")];
    let service = Service::start(&api.url(), &chain.url(), &settings).await;
    let runs = service
        .until("/v1/runs", |runs| runs["runs"][0]["state"] == "complete")
        .await;
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs[0]["cause"], "catch_up", "{runs:?}");
    let missed: Vec<_> = runs[1..]
        .iter()
        .map(|run| (&run["state"], &run["reason"]))
        .collect();
    let reason = &Value::from("nobody was there");
    assert!(
        !missed.is_empty() && missed.iter().all(|run| *run == (&"missed".into(), reason)),
        "{runs:?}"
    );
    let line = format!("ingester_starts_missed_total {}\n", missed.len());
    assert!(service.ingester.ask("/metrics").await.1.contains(&line));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_falls_into_another_run_is_skipped_and_the_history_says_so() {
    let (api, chain) = (api().await, Chain::shared().await);
    api.inject(Fault::Hang(Some(Duration::from_secs(3))), 1);
    let each_second = [("SCHEDULE__CRON", "* * * * * *")];
    let service = Service::start(&api.url(), &chain.url(), &each_second).await;
    let skipped = service
        .until("/v1/runs?state=skipped&limit=500", |runs| {
            !runs["runs"][0].is_null()
        })
        .await;
    for run in skipped["runs"].as_array().unwrap() {
        assert_eq!(
            (&run["cause"], &run["reason"], &run["started"]),
            (
                &"schedule".into(),
                &"another run was under way".into(),
                &Value::Null
            )
        );
        assert!(
            run["scheduled"].is_string() && run["counts"]["requested"] == 0,
            "{run}"
        );
    }
    let metrics = service.ingester.wait_for("/metrics", |_, body| {
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("ingester_starts_skipped_total "));
        line.and_then(|count| count.parse::<usize>().ok())
            .is_some_and(|count| count > 0)
    });
    metrics.await;
    service
        .until("/v1/runs?state=complete", |runs| {
            runs["runs"][0]["cause"] == "schedule"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_tried_again_after_the_delay() {
    let (api, chain) = (api().await, Chain::shared().await);
    api.inject(Fault::ForbiddenPage, 1);
    let settings = [("RUN__USERS", "5"), ("SCHEDULE__RETRY_DELAY", "200ms")];
    let ingester = Ingester::start(&["run"], &api.url(), &chain.url(), &settings);
    let metrics = ingester.wait_for("/metrics", |_, body| {
        body.contains("runs_total{outcome=\"complete\"} 1")
    });
    assert!(
        metrics
            .await
            .contains("ingester_runs_total{outcome=\"failed\"} 1")
    );
    assert_eq!(
        ingester
            .ask("/metrics")
            .await
            .1
            .matches("ingester_users_accepted_total 5\n")
            .count(),
        1
    );
}
