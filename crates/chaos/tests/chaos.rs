//! A fixed, small part of the fault campaign, for every run of the tests; the whole of it is `scripts/chaos --scenario all`.

use std::time::Duration;

use chaos::campaign::commit;
use chaos::{Campaign, Pick};

/// What breaks in most places for the time that it takes. `kafka-half-open` broke `fresh_record_flows` until the streamer gave a
/// dead connection up after 10 s.
const SCENARIOS: [&str; 4] = [
    "all-at-once",
    "kafka-half-open",
    "cassandra-half-open",
    "foreign-commit",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_holds_every_law_through_a_fixed_set_of_faults() {
    let campaign = Campaign {
        seed: 1,
        budget: Some(Duration::from_secs(200)),
        out: Campaign::folder().unwrap().join("fixed"),
        failpoints: None,
        commit: commit(),
    };
    let pick = Pick {
        scenarios: SCENARIOS.map(ToOwned::to_owned).into(),
        ..Pick::default()
    };
    let orders = campaign.orders(&pick).unwrap();
    let report = campaign.run(&orders, Vec::new()).await.unwrap();
    let violations: Vec<_> = report.rounds.iter().flat_map(|round| &round.violations).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(report.not_played.is_empty(), "{:#?}", report.not_played);
    assert_eq!(report.rounds.len(), SCENARIOS.len(), "the budget was too small");
}
