//! `ingester backfill`.

use serde_json::Value;
use testkit::service::Service;

use crate::support::ingester_process::{exit_code, run_summary, start_ingester};
use crate::support::offline_api::start_api;
use crate::support::publisher_stack::PublisherStack;

#[tokio::test(flavor = "multi_thread")]
async fn backfill_fetches_the_pages_of_its_dry_run() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let page = [("source.page_size", "5")];
    let command = ["backfill", "--users", "23", "--seed", "abc", "--pages", "4..5"];
    let dry = start_ingester(
        &[&command[..], &["--dry-run"]].concat(),
        &api.url(),
        &stack.url(),
        &page,
    );
    assert_eq!(exit_code(&dry).await, Some(0));
    let plan: Value = serde_json::from_str(&dry.log()).unwrap();
    assert_eq!(
        (&plan["users"], &plan["requests"], &plan["last"]["results"]),
        (&8.into(), &2.into(), &3.into())
    );
    assert_eq!(plan["expected_seconds"], 0);
    assert!(api.requests().is_empty());
    let backfill = start_ingester(&command, &api.url(), &stack.url(), &page);
    assert_eq!(exit_code(&backfill).await, Some(0), "{}", backfill.log());
    assert_eq!(run_summary(&backfill)["requested"], 8);
    let all = start_ingester(
        &["once", "--users", "23", "--seed", "abc"],
        &api.url(),
        &stack.url(),
        &page,
    );
    assert_eq!(exit_code(&all).await, Some(0));
    let topic = stack.topic_contents().await;
    let of = |ingester: &Service| topic.records_of(run_summary(ingester)["run"].as_str().unwrap());
    let (some, all) = (of(&backfill), of(&all));
    assert_eq!((some.len(), all.len()), (8, 23));
    assert_eq!(some, all[15..], "the same users as in the full run");
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_without_users_or_time_exits_78() {
    let pages = ["backfill", "--users", "10", "--pages", "5..9"];
    let many = ["backfill", "--users", "1000000"];
    let once = ["once", "--users", "1000000"];
    let dry = |command: &[&'static str]| [command, &["--dry-run"]].concat();
    let nowhere = "http://127.0.0.1:9";
    for (command, reason) in [
        (pages.to_vec(), "the requested pages contain no users"),
        (dry(&pages), "the requested pages contain no users"),
        (many.to_vec(), "but run.timeout is 4h"),
        (dry(&many), "but run.timeout is 4h"),
        (once.to_vec(), "but run.timeout is 4h"),
    ] {
        let ingester = start_ingester(&command, nowhere, nowhere, &[("source.page_size", "5")]);
        assert_eq!(
            exit_code(&ingester).await,
            Some(78),
            "{command:?}: {}",
            ingester.log()
        );
        let log = ingester.log();
        assert!(log.contains(reason), "{command:?}: {log}");
    }
}
