//! Replies of older versions of the API: rejected by name or mapped as documented, never in part.

use ingester::config::IngesterSettings;
use ingester::http::endpoint::Endpoint;
use ingester::run::report::RunOutcome;
use serde_json::{Value, json};

use crate::fetch::{only, run_over};
use crate::support::offline_api::start_api;
use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;
use crate::support::stub_api::{SEED, user};

/// Returns replies of older versions, with the version that each declares.
fn old_replies() -> [(&'static str, Value); 4] {
    let old_dates = |user: &mut Value| {
        user["dob"] = json!("1981-03-04 05:06:07");
        user["registered"] = json!("2010-11-12 13:14:15");
        user["location"]["street"] = json!("7 rantatie");
        user["login"].as_object_mut().unwrap().remove("uuid");
    };
    let mut user_1_1 = user(1);
    old_dates(&mut user_1_1);
    let mut user_1_2 = user(1);
    user_1_2["location"]["street"] = json!("7 rantatie");
    user_1_2["dob"]["date"] = json!("1981-03-04T05:06:07Z");
    let around = |user: &Value, version: &str| {
        let info = json!({"seed": SEED, "results": 5, "page": 1, "version": version});
        json!({"results": vec![user; 5], "info": info})
    };
    let inner = json!({"gender": "female", "name": {"title": "ms", "first": "aino", "last": "salo"}, "dob": 352530367,
        "location": {"street": "7 rantatie", "city": "turku", "state": "pirkanmaa", "zip": 20100}});
    let oldest = json!({"results": vec![json!({"user": inner}); 5], "nationality": "FI", "seed": SEED, "version": "0.8"});
    [
        ("0.8", oldest),
        ("1.1", around(&user_1_1, "1.1")),
        ("1.2", around(&user_1_2, "1.2")),
        ("1.3", around(&user(1), "1.3")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_of_an_old_version_is_rejected_by_name() {
    for (version, reply) in old_replies() {
        let (report, delivered, queries) = run_over(vec![(200, reply)], only(5)).await;
        assert_eq!(
            report.reason().unwrap(),
            format!(
                "failed to fetch users: failed to fetch page 1: the API responded with 200 and an invalid reply: \
                 requested version 1.4, received version {version}"
            )
        );
        assert_eq!(
            (
                pipeline::fetched_accepted_retried(&report.counts),
                delivered.len(),
                queries.len()
            ),
            ((0, 0, 0), 0, 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_shape_with_a_new_version_gives_no_record() {
    let expected = ["id: missing", "id: missing", "address: street_as_before_1_3"];
    for ((version, mut reply), reason) in old_replies().into_iter().zip(expected) {
        reply["info"] = json!({"seed": SEED, "results": 5, "page": 1, "version": "1.4"});
        let (report, delivered, _) = run_over(vec![(200, reply)], only(5)).await;
        assert_eq!(
            (report.counts.fetched, report.counts.invalid),
            (5, 5),
            "{version}"
        );
        assert_eq!(
            report.counts.invalid_reasons,
            [(reason.to_owned(), 5)].into(),
            "{version}"
        );
        assert!(delivered.is_empty(), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_3_is_mapped_when_configured() {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let mut settings = pipeline::settings(&api, &stack.url());
    let pin = |settings: &mut IngesterSettings, path: &str| {
        settings.source.url = Endpoint::parse(&format!("{}/api/{path}/", api.url())).unwrap();
        settings.source.version = "1.3".to_owned();
    };
    pin(&mut settings, "1.3");
    let report = pipeline::run(&settings).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!(
        (
            pipeline::fetched_accepted_retried(&report.counts),
            report.counts.invalid
        ),
        ((10, 10, 0), 0)
    );
    pin(&mut settings, "1.4");
    let reason = pipeline::run(&settings).await.reason().unwrap();
    assert!(
        reason.ends_with("requested version 1.3, received version 1.4"),
        "{reason}"
    );
    assert!(
        IngesterSettings::default()
            .source
            .url
            .url()
            .path()
            .ends_with("/api/1.4/")
    );
}
