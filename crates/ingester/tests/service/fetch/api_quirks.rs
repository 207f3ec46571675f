//! Known quirks of the random-user API, over real HTTP, each with its exact outcome. Transport faults (broken connections,
//! slow bytes) are in `api_faults`.

use std::time::Duration;

use ingester::config::IngesterSettings;
use ingester::run::report::{Report, RunOutcome};
use serde_json::{Value, json};
use service::config::Settings as _;
use testkit::randomuser::{Fault, Options, RandomUserApi};

use crate::fetch::{only, perform, run_over};
use crate::support::offline_api::start_api;
use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;
use crate::support::stub_api::{Reply, page, user};

fn five_users(first: u32) -> Vec<Value> {
    (first..first + 5).map(user).collect()
}

/// Returns the user with `value` at `pointer`.
fn with(number: u32, pointer: &str, value: Value) -> Value {
    let mut user = user(number);
    *user.pointer_mut(pointer).unwrap() = value;
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn page_size_is_validated_and_one_user_is_no_page() {
    for size in [0, 5_001] {
        let mut settings = IngesterSettings::default();
        settings.source.page_size = size;
        let violations: Vec<_> = settings.validate().iter().map(ToString::to_string).collect();
        assert_eq!(violations, ["source.page_size: must be between 1 and 5000"]);
    }
    let (report, delivered, queries) = run_over(vec![page(&[user(1)], 1)], only(5)).await;
    assert_eq!(
        report.reason().unwrap(),
        "failed to fetch users: failed to fetch page 1 in 3 attempts: the API responded with 200 and an invalid reply: \
         requested 5 users, the reply declares 1 and contains 1"
    );
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (0, 0, 2));
    assert_eq!((delivered.len(), queries.len()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_corrected_to_the_first_is_rejected() {
    let replies = vec![page(&five_users(1), 1), page(&five_users(1), 1)];
    let (report, delivered, _) = run_over(replies, |_| {}).await;
    assert_eq!(
        report.reason().unwrap(),
        "failed to fetch users: failed to fetch page 2 in 3 attempts: the API responded with 200 and an invalid reply: \
         requested page 2, the reply declares page 1"
    );
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (5, 5, 2));
    assert_eq!(delivered.len(), 5, "the page before it is valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_to_another_seed_is_retried() {
    let cached = |(status, mut body): Reply| {
        body["info"]["seed"] = json!("cached");
        (status, body)
    };
    let replies = vec![
        cached(page(&five_users(1), 1)),
        page(&five_users(1), 1),
        cached(page(&five_users(6), 2)),
        page(&five_users(6), 2),
    ];
    let (report, delivered, _) = run_over(replies, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 2));
    assert_eq!(delivered.len(), 10);
    let (report, delivered, _) = run_over(vec![cached(page(&five_users(1), 1))], only(5)).await;
    let reason = report.reason().unwrap();
    let expected = format!("requested seed {}, the reply declares cached", report.seed);
    assert!(reason.ends_with(&expected), "{reason}");
    assert!(delivered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_has_size_page_and_seed_and_no_filter() {
    let seeded = |settings: &mut IngesterSettings| settings.run.seed = Some("abc".parse().unwrap());
    let replies = vec![page(&five_users(1), 1), page(&five_users(6), 2)];
    let (_, _, queries) = run_over(replies.clone(), seeded).await;
    assert_eq!(
        queries,
        ["results=5&page=1&seed=abc", "results=5&page=2&seed=abc"]
    );
    let (report, _, queries) = run_over(replies, |_| {}).await;
    let seed = &report.seed;
    let expected = [1, 2].map(|page| format!("results=5&page={page}&seed={seed}"));
    assert_eq!(
        queries, expected,
        "without a configured seed it generates one of 64 bits"
    );
    assert_eq!(seed.to_string().len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_rate_limit_is_the_api_s_and_refusals_are_retried() {
    let rate_limit = IngesterSettings::default().source.rate_limit;
    assert_eq!(
        (rate_limit.users, rate_limit.window),
        (20_000, Duration::from_secs(300))
    );
    let slow_down = json!({"error": "slow down"});
    let replies = vec![
        (429, slow_down.clone()),
        page(&five_users(1), 1),
        (503, slow_down),
        page(&five_users(6), 2),
    ];
    let (report, delivered, _) = run_over(replies, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 2));
    assert_eq!(delivered.len(), 10);
    assert!(
        report.counts.rate_limited_seconds > 0.0,
        "429 counts as rate limiting, the older 503 as a retry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_replies_report_their_cause() {
    let invalid_reply = "the API responded with 200 and an invalid reply";
    let checks = [
        (
            Fault::NoResults,
            format!("{invalid_reply}: the reply contains no users"),
        ),
        (
            Fault::ErrorBody,
            format!(
                "{invalid_reply}: the API reports an error: Uh oh, something has gone wrong: please try again soon"
            ),
        ),
        (
            Fault::InternalError,
            "the API responded with 500 Internal Server Error".to_owned(),
        ),
        (
            Fault::BadGateway,
            "the API responded with 502 Bad Gateway".to_owned(),
        ),
        (
            Fault::Unavailable,
            "the API responded with 503 Service Unavailable".to_owned(),
        ),
        (
            Fault::Hang(None),
            "no complete response from the API within source.request_timeout of 1s".to_owned(),
        ),
    ]
    .map(async |(fault, cause)| {
        let (report, delivered) = run_with(fault.clone(), 3).await;
        let expected = format!("failed to fetch users: failed to fetch page 1 in 3 attempts: {cause}");
        assert_eq!(report.reason().unwrap(), expected, "{fault}");
        assert_eq!(
            (pipeline::fetched_accepted_retried(&report.counts), delivered),
            ((0, 0, 2), 0),
            "{fault}"
        );
        let (report, delivered) = run_with(fault.clone(), 1).await;
        assert!(
            matches!(report.outcome, RunOutcome::Complete),
            "{fault}: {report:?}"
        );
        assert_eq!(
            (pipeline::fetched_accepted_retried(&report.counts), delivered),
            ((10, 10, 1), 10),
            "{fault}"
        );
    });
    perform(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn block_page_for_cloud_addresses_fails_the_run_at_once() {
    let (report, delivered) = run_with(Fault::ForbiddenPage, 1).await;
    assert_eq!(
        report.reason().unwrap(),
        "failed to fetch users: failed to fetch page 1: the API responded with 403 Forbidden"
    );
    assert_eq!(
        (pipeline::fetched_accepted_retried(&report.counts), delivered),
        ((0, 0, 0), 0)
    );
}

async fn run_with(fault: Fault, times: u32) -> (Report, usize) {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    let hangs = fault == Fault::Hang(None);
    api.inject(fault, times);
    let mut settings = pipeline::settings(&api, &stack.url());
    if hangs {
        settings.source.request_timeout = Duration::from_secs(1);
    }
    let report = pipeline::run(&settings).await;
    let delivered = stack.records_of(report.run).await.len();
    (report, delivered)
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_page_is_sent_once() {
    let (report, delivered, _) =
        run_over(vec![page(&five_users(1), 1), page(&five_users(1), 2)], |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    let counts = &report.counts;
    assert_eq!((counts.fetched, counts.accepted, counts.duplicate), (10, 5, 5));
    assert_eq!(delivered.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn drifting_ages_do_not_change_a_record() {
    let mut delivered = Vec::new();
    for today in ["2026-01-01T00:00:00Z", "2036-06-01T00:00:00Z"] {
        let today = today.parse().unwrap();
        let api = RandomUserApi::start(Options {
            today,
            ..Options::default()
        })
        .await
        .unwrap();
        let stack = PublisherStack::shared().await;
        let mut settings = pipeline::settings(&api, &stack.url());
        settings.run.seed = Some("abc".parse().unwrap());
        let report = pipeline::run(&settings).await;
        delivered.push(stack.records_of(report.run).await);
    }
    assert_eq!((delivered[0].len(), &delivered[0]), (10, &delivered[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_known_value_type_keeps_its_exact_value() {
    let values = [
        ("/location/postcode", json!("0378"), "post_code", "0378"),
        ("/location/postcode", json!("E1W 2XY"), "post_code", "E1W 2XY"),
        ("/location/postcode", json!("K1A 0B1"), "post_code", "K1A 0B1"),
        ("/location/postcode", json!("4194 XZ"), "post_code", "4194 XZ"),
        ("/location/postcode", json!(41470), "post_code", "41470"),
        ("/id/value", json!(null), "phone", "02-345-678"),
        ("/id/value", json!("NaNNA213undefined"), "phone", "02-345-678"),
        ("/phone", json!("(067) Q47-9264"), "phone", "(067) Q47-9264"),
        ("/phone", json!("S31 D77-8890"), "phone", "S31 D77-8890"),
        (
            "/location/street/name",
            json!("Rua Um "),
            "address",
            "7 Rua Um, Turku, Pirkanmaa, Finland",
        ),
        (
            "/dob/date",
            json!("1944-09-12T01:02:03.004Z"),
            "dob",
            "1944-09-12T01:02:03.004Z",
        ),
        (
            "/dob/date",
            json!("1969-12-31T23:59:59.999Z"),
            "dob",
            "1969-12-31T23:59:59.999Z",
        ),
    ];
    let users: Vec<_> = (1..)
        .zip(&values)
        .map(|(number, (pointer, value, ..))| with(number, pointer, value.clone()))
        .collect();
    let one_page = |settings: &mut IngesterSettings| {
        settings.source.page_size = 12;
        settings.run.users = 12;
    };
    let (report, delivered, _) = run_over(vec![page(&users, 1)], one_page).await;
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!(
        (
            pipeline::fetched_accepted_retried(&report.counts),
            report.counts.invalid
        ),
        ((12, 12, 0), 0)
    );
    for (record, (pointer, value, field, expected)) in delivered.iter().zip(&values) {
        assert_eq!(record[field], *expected, "{pointer}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_unmapped_fields_are_not_forwarded() {
    let (_, delivered, _) = run_over(vec![page(&five_users(1), 1)], only(5)).await;
    let fields: Vec<_> = delivered[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        fields,
        [
            "address",
            "dob",
            "email",
            "first_name",
            "gender",
            "id",
            "last_name",
            "phone",
            "picture",
            "post_code",
            "registered_date",
            "username"
        ]
    );
    let sent = json!(delivered).to_string();
    for secret in [
        "pass-word",
        "sa-lt",
        "md-5",
        "sha-1",
        "sha-256",
        "national-id",
        "040-123",
    ] {
        assert!(!sent.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn largest_page_fits_the_default_response_limit() {
    let (api, stack) = (
        RandomUserApi::start(Options::unlimited()).await.unwrap(),
        PublisherStack::shared().await,
    );
    let mut settings = pipeline::settings(&api, &stack.url());
    settings.source.page_size = 5_000;
    settings.run.users = 5_000;
    let report = pipeline::run(&settings).await;
    assert_eq!(
        pipeline::fetched_accepted_retried(&report.counts),
        (5_000, 5_000, 0)
    );
    let url = format!("{}/api/1.4/?results=5000&seed={}", api.url(), report.seed);
    let size = reqwest::get(url).await.unwrap().bytes().await.unwrap().len();
    assert!(
        (4_500_000..7_000_000).contains(&size),
        "{size} bytes differ from the real API"
    );
}
