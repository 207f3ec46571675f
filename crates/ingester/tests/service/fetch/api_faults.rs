//! Faults of the API: a run ends with correct counts or a clear error, and never delivers a partial record.

use std::time::Duration;

use ingester::config::IngesterSettings;
use ingester::http::endpoint::Endpoint;
use ingester::run::report::{Report, RunOutcome};
use model::Contract;
use serde_json::Value;
use testkit::randomuser::{self, BrokenField, Fault, Options, RandomUserApi, RateLimit, RateLimitReply};

use crate::fetch::perform;
use crate::support::offline_api::start_api;
use crate::support::pipeline;
use crate::support::publisher_stack::PublisherStack;

/// Executes a run with injected faults. Returns its report and its records, which must be valid.
async fn run_with(faults: &[Fault], change: impl FnOnce(&mut IngesterSettings)) -> (Report, Vec<Value>) {
    let (api, stack) = (start_api().await, PublisherStack::shared().await);
    for fault in faults {
        api.inject(fault.clone(), 1);
    }
    let mut settings = pipeline::settings(&api, &stack.url());
    change(&mut settings);
    let report = pipeline::run(&settings).await;
    let records = stack.records_of(report.run).await;
    for record in &records {
        Contract::user()
            .parse_strict(record.to_string().as_bytes())
            .unwrap();
    }
    assert_eq!(records.len() as u64, report.counts.accepted);
    (report, records)
}

/// Shortens the request timeout for faults that only a timeout ends.
fn short_timeout(fault: &Fault) -> impl FnOnce(&mut IngesterSettings) {
    let hangs = matches!(
        fault,
        Fault::StallMidBody | Fault::Hang(None) | Fault::SlowBytes(_)
    );
    move |settings| {
        if hangs {
            settings.source.request_timeout = Duration::from_secs(1);
        }
    }
}

/// Faults that a retry overcomes.
fn temporary_faults() -> Vec<Fault> {
    vec![
        Fault::InternalError,
        Fault::BadGateway,
        Fault::Unavailable,
        Fault::ErrorBody,
        Fault::NoResults,
        Fault::FewerResults,
        Fault::WrongContentType,
        Fault::TruncatedJson,
        Fault::ResetMidBody,
        Fault::StallMidBody,
        Fault::Hang(None),
        Fault::SlowBytes(Duration::from_millis(50)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_fault_is_retried() {
    let checks = temporary_faults().into_iter().map(async |fault| {
        let (report, _) = run_with(std::slice::from_ref(&fault), short_timeout(&fault)).await;
        assert!(
            matches!(report.outcome, RunOutcome::Complete),
            "{fault}: {report:?}"
        );
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (10, 10, 1),
            "{fault}"
        );
    });
    perform(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn persistent_fault_fails_the_run_and_delivers_earlier_pages() {
    let checks = temporary_faults().into_iter().map(async |fault| {
        let faults = [
            Fault::Hang(Some(Duration::ZERO)),
            fault.clone(),
            fault.clone(),
            fault.clone(),
        ];
        let (report, _) = run_with(&faults, short_timeout(&fault)).await;
        let reason = report.reason().unwrap();
        assert!(
            reason.starts_with("failed to fetch users: failed to fetch page 2 in 3 attempts: "),
            "{fault}: {reason}"
        );
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (5, 5, 2),
            "{fault}"
        );
    });
    perform(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_fault_fails_at_once_with_the_reason() {
    for (fault, reason) in [
        (Fault::ForbiddenPage, "the API responded with 403 Forbidden"),
        (Fault::WrongVersion, "requested version 1.4, received version 1.3"),
        (
            Fault::OversizedBody(2 << 20),
            "the API's response exceeds source.max_response_size of 1.0 MiB",
        ),
    ] {
        let one_mib =
            |settings: &mut IngesterSettings| settings.source.max_response_size = bytesize::ByteSize::mib(1);
        let (report, _) = run_with(std::slice::from_ref(&fault), one_mib).await;
        assert!(
            report.reason().unwrap().ends_with(reason),
            "{fault}: {:?}",
            report.reason()
        );
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (0, 0, 0),
            "{fault}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_large_responses_within_limits_are_accepted() {
    let faults = [
        Fault::SlowBytes(Duration::from_millis(1)),
        Fault::OversizedBody(2 << 20),
    ];
    let (report, _) = run_with(&faults, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Complete));
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_user_is_counted_by_field_and_rule() {
    let checks = BrokenField::all().map(async |broken| {
        let (report, _) = run_with(&[Fault::BrokenRecord(broken)], |_| {}).await;
        assert!(matches!(report.outcome, RunOutcome::Complete), "{broken}");
        assert_eq!(
            pipeline::fetched_accepted_retried(&report.counts),
            (10, 9, 0),
            "{broken}"
        );
        let reasons: Vec<_> = report.counts.invalid_reasons.keys().map(String::as_str).collect();
        assert_eq!(reasons, [reason_of(broken)], "{broken}");
    });
    perform(checks).await;
}

fn reason_of(broken: BrokenField) -> &'static str {
    match broken {
        BrokenField::MissingEmail => "email: missing",
        BrokenField::EmailWithoutAt => "email: not_an_email",
        BrokenField::MissingLogin => "id: missing",
        BrokenField::NullUuid | BrokenField::NullRecord => "id: wrong_type",
        BrokenField::NilUuid => "id: nil_uuid",
        BrokenField::BadUuid => "id: not_a_uuid",
        BrokenField::BlankName => "first_name: blank",
        BrokenField::NumericName => "first_name: wrong_type",
        BrokenField::NulInName => "first_name: nul_character",
        BrokenField::LongName => "first_name: too_long",
        BrokenField::BadDate => "dob: not_an_instant",
        BrokenField::NullDate => "registered_date: wrong_type",
        BrokenField::ObjectPostcode => "post_code: wrong_type",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_uuid_is_counted_and_not_sent_twice() {
    let (report, records) = run_with(&[Fault::DuplicateUuids], |_| {}).await;
    assert_eq!((report.counts.duplicate, report.counts.accepted), (1, 9));
    let mut ids: Vec<_> = records.iter().map(|record| record["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limited_run_waits_and_reports_the_wait() {
    for retry_after in [None, Some(1)] {
        let (report, _) = run_with(&[Fault::TooManyRequests(retry_after)], |_| {}).await;
        assert!(matches!(report.outcome, RunOutcome::Complete));
        assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (10, 10, 1));
        let least = retry_after.map_or(0.0, f64::from);
        assert!(
            report.counts.rate_limited_seconds > least - 0.001,
            "{:?}",
            report.counts
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_used_by_others_is_waited_out() {
    for reply in [RateLimitReply::TooManyRequests, RateLimitReply::Unavailable] {
        let rate_limit = RateLimit {
            users: 5,
            window: Duration::from_millis(700),
            reply,
        };
        let options = Options {
            rate_limit: Some(rate_limit),
            ..Options::default()
        };
        let (api, stack) = (
            RandomUserApi::start(options).await.unwrap(),
            PublisherStack::shared().await,
        );
        let mut settings = pipeline::settings(&api, &stack.url());
        settings.source.attempts = 100;
        settings.source.backoff.max = Duration::from_millis(100);
        let report = pipeline::run(&settings).await;
        assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
        assert!(report.counts.retried > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_rate_limit_prevents_refusals() {
    // Longer than a busy machine takes for a page.
    let window = Duration::from_secs(2);
    let rate_limit = RateLimit {
        users: 10,
        window,
        reply: RateLimitReply::TooManyRequests,
    };
    let options = Options {
        rate_limit: Some(rate_limit),
        ..Options::default()
    };
    let (api, stack) = (
        RandomUserApi::start(options).await.unwrap(),
        PublisherStack::shared().await,
    );
    let mut settings = pipeline::settings(&api, &stack.url());
    settings.source.rate_limit.users = 10;
    settings.source.rate_limit.window = window;
    settings.run.users = 30;
    let report = pipeline::run(&settings).await;
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (30, 30, 0));
    assert!(
        report.counts.rate_limited_seconds > 0.5,
        "it waited for two windows"
    );
    let refused =
        |request: &randomuser::ServedRequest| request.outcome == randomuser::ServedOutcome::RateLimited;
    assert!(!api.requests().iter().any(refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_version_is_rejected_by_name() {
    let old = |settings: &mut IngesterSettings| {
        let url = settings.source.url.url().as_str().replace("1.4", "1.2");
        settings.source.url = Endpoint::parse(&url).unwrap();
    };
    let (report, _) = run_with(&[], old).await;
    let reason = report.reason().unwrap();
    assert!(
        reason.ends_with("requested version 1.4, received version 1.2"),
        "{reason}"
    );
    assert_eq!(pipeline::fetched_accepted_retried(&report.counts), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_api_fails_the_run_after_its_attempts() {
    let gone = |settings: &mut IngesterSettings| {
        settings.source.url = Endpoint::parse("http://127.0.0.1:9/api/1.4/").unwrap();
    };
    let (report, _) = run_with(&[], gone).await;
    assert!(
        report
            .reason()
            .unwrap()
            .contains("in 3 attempts: failed to reach the API"),
        "{:?}",
        report.reason()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn same_seed_gives_the_same_users() {
    let seeded = |settings: &mut IngesterSettings| settings.run.seed = Some("abc".parse().unwrap());
    let (one, first) = run_with(&[], seeded).await;
    let (_, second) = run_with(&[], seeded).await;
    let (other, third) = run_with(&[], |_| {}).await;
    assert_eq!(first, second);
    assert_ne!(first, third);
    assert_ne!(one.seed, other.seed);
}
