//! A fixed, small part of the fault campaign for every test run; `scripts/chaos --scenario all` plays all of it.

use std::time::Duration;

use chaos::{Campaign, InvariantViolation, Selection, commit};
use testkit::record_type::RecordType;
use testkit::workspace::is_full_test_run;

/// The fault with the widest effect for its time.
const SCENARIOS: [&str; 1] = ["all-at-once"];

/// The further ones of a full test run. `kafka-half-open` exceeded the recovery time until the streamer closed silent
/// connections after 10 s.
const FULL_SCENARIOS: [&str; 3] = ["foreign-commit", "kafka-half-open", "cassandra-half-open"];

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
    let mut scenarios: Vec<_> = SCENARIOS.map(ToOwned::to_owned).into();
    if is_full_test_run() {
        scenarios.extend(FULL_SCENARIOS.map(ToOwned::to_owned));
    }
    let played = scenarios.len();
    let selection = Selection {
        scenarios,
        ..Selection::default()
    };
    let rounds = campaign.plan(&selection).unwrap();
    let report = campaign.run(&rounds).await.unwrap();
    // Only a full test run plays the rounds alone. Otherwise other tests delay the recovery.
    let counts = |violation: &&InvariantViolation| is_full_test_run() || !violation.is_late_recovery();
    let violations = report.rounds.iter().flat_map(|round| &round.violations);
    let violations: Vec<_> = violations.filter(counts).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(report.not_played.is_empty(), "{:#?}", report.not_played);
    assert_eq!(report.rounds.len(), played, "the budget was too small");
}
