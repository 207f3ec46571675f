//! `ingester backfill`.

use serde_json::Value;
use testkit::randomuser::{Options, RandomUserApi};

use crate::ingester_process::Ingester;
use crate::publisher_stack::PublisherStack;

async fn api() -> RandomUserApi {
    RandomUserApi::start(Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_fetches_the_pages_of_its_dry_run() {
    let (api, stack) = (api().await, PublisherStack::shared().await);
    let page = [("SOURCE__PAGE_SIZE", "5")];
    let command = ["backfill", "--users", "23", "--seed", "abc", "--pages", "4..5"];
    let dry = Ingester::start(
        &[&command[..], &["--dry-run"]].concat(),
        &api.url(),
        &stack.url(),
        &page,
    );
    assert_eq!(dry.exit_code().await, Some(0));
    let plan: Value = serde_json::from_str(&dry.log()).unwrap();
    assert_eq!(
        (&plan["users"], &plan["requests"], &plan["last"]["results"]),
        (&8.into(), &2.into(), &3.into())
    );
    assert_eq!(plan["expected_seconds"], 0);
    assert!(api.requests().is_empty());
    let backfill = Ingester::start(&command, &api.url(), &stack.url(), &page);
    assert_eq!(backfill.exit_code().await, Some(0), "{}", backfill.log());
    assert_eq!(backfill.summary()["requested"], 8);
    let all = Ingester::start(
        &["once", "--users", "23", "--seed", "abc"],
        &api.url(),
        &stack.url(),
        &page,
    );
    assert_eq!(all.exit_code().await, Some(0));
    let topic = stack.topic_contents().await;
    let of = |ingester: &Ingester| topic.records_of(ingester.summary()["run"].as_str().unwrap());
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
        let ingester = Ingester::start(&command, nowhere, nowhere, &[("SOURCE__PAGE_SIZE", "5")]);
        assert_eq!(
            ingester.exit_code().await,
            Some(78),
            "{command:?}: {}",
            ingester.log()
        );
        let log = ingester.log();
        assert!(log.contains(reason), "{command:?}: {log}");
    }
}
