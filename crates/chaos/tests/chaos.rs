//! A fixed, small part of the fault campaign for every test run; `scripts/chaos --scenario all` plays all of it.

use std::time::Duration;

use chaos::{Campaign, Selection, commit};
use testkit::record_type::RecordType;

/// The faults with the widest effect for their time. `kafka-half-open` exceeded the recovery time until the streamer
/// closed silent connections after 10 s.
const SCENARIOS: [&str; 4] = [
    "all-at-once",
    "kafka-half-open",
    "cassandra-half-open",
    "foreign-commit",
];

#[tokio::test(flavor = "multi_thread")]
async fn pipeline_keeps_its_guarantees_under_fixed_faults() {
    let campaign = Campaign {
        seed: 1,
        budget: Some(Duration::from_secs(200)),
        out: Campaign::default_folder().unwrap().join("fixed"),
        failpoints: None,
        previous: None,
        record: RecordType::users(),
        commit: commit(),
    };
    let selection = Selection {
        scenarios: SCENARIOS.map(ToOwned::to_owned).into(),
        ..Selection::default()
    };
    let rounds = campaign.plan(&selection).unwrap();
    let report = campaign.run(&rounds).await.unwrap();
    let violations: Vec<_> = report.rounds.iter().flat_map(|round| &round.violations).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(report.not_played.is_empty(), "{:#?}", report.not_played);
    assert_eq!(report.rounds.len(), SCENARIOS.len(), "the budget was too small");
}
