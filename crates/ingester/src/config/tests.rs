//! Tests of the settings: the defaults, the rules between them, and the schema.

use std::time::Duration;

use service::Secret;

use super::*;

/// The first rule that the changed defaults break.
fn refused(change: impl FnOnce(&mut IngesterSettings)) -> String {
    let mut settings = IngesterSettings::default();
    change(&mut settings);
    settings.validate().iter().next().unwrap().to_string()
}

#[test]
fn defaults_are_valid() {
    assert!(IngesterSettings::default().validate().is_empty());
}

#[test]
fn broken_rule_names_its_key() {
    assert!(refused(|s| s.source.version = "1.2".into()).starts_with("source.version: "));
    assert!(refused(|s| s.source.page_size = 5_001).starts_with("source.page_size: "));
    assert!(refused(|s| s.source.rate_limit.users = 4_999).contains("source.rate_limit.users"));
    assert!(refused(|s| s.source.attempts = 0).starts_with("source.attempts: "));
    assert!(refused(|s| s.source.backoff.max = Duration::ZERO).starts_with("source.backoff.initial: "));
    assert!(refused(|s| s.publisher.batch_size = 1_001).starts_with("publisher.batch_size: "));
    assert!(refused(|s| s.publisher.max_in_flight = 0).starts_with("publisher.max_in_flight: "));
    assert!(refused(|s| s.run.duplicate_window = 3_999).starts_with("run.duplicate_window: "));
    assert!(refused(|s| s.publisher.token = Some(Secret::new("a b"))).starts_with("publisher.token: "));
    assert!(refused(|s| s.source.max_in_flight = 0).starts_with("source.max_in_flight: "));
    assert!(refused(|s| s.state.outbox_pages = 1).starts_with("state.outbox_pages: "));
    for users in [0, 1_000_000_001, u64::MAX] {
        assert!(refused(|s| s.run.users = users).starts_with("run.users: "));
    }
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(refused(|s| s.run.max_invalid_share = share).starts_with("run.max_invalid_share: "));
    }
    for key in ["run.timeout", "schedule.interval", "source.request_timeout"] {
        let variable = format!("INGESTER__{}", key.to_uppercase().replace('.', "__"));
        let loaded = service::config::load::<IngesterSettings>(None, [(variable, "0s")]);
        let error = loaded.unwrap_err().to_string();
        assert!(error.ends_with(&format!("{key}: must be above zero")), "{error}");
    }
}

#[test]
fn every_broken_rule_is_reported() {
    let mut settings = IngesterSettings::default();
    settings.source.attempts = 0;
    settings.run.users = 0;
    settings.publisher.batch_size = 1_001;
    let violations = settings.validate();
    let keys: Vec<_> = violations
        .iter()
        .map(|violation| violation.key.as_str())
        .collect();
    assert_eq!(keys, ["source.attempts", "publisher.batch_size", "run.users"]);
}

#[test]
fn jitter_beyond_the_next_start_is_refused() {
    let jitter = |cron: Option<&str>, minutes: u64| {
        let mut settings = IngesterSettings::default();
        settings.schedule.cron = cron.map(|cron| cron.parse().unwrap());
        settings.schedule.interval = Duration::from_secs(30 * 60);
        settings.schedule.jitter = Duration::from_secs(minutes * 60);
        let violations = settings.validate();
        violations.iter().next().map(ToString::to_string)
    };
    let rule = "schedule.jitter: must be less than the time between two starts";
    assert_eq!((jitter(None, 0), jitter(None, 29)), (None, None));
    assert_eq!(jitter(None, 30), Some(format!("{rule}, 30m")));
    assert_eq!(jitter(Some("0 2,14 * * *"), 11 * 60), None);
    assert_eq!(
        jitter(Some("0 2,14 * * *"), 12 * 60),
        Some(format!("{rule}, 12h"))
    );
    assert_eq!(jitter(Some("0 0 29 2 *"), 365 * 24 * 60), None);
}

#[test]
fn users_that_take_longer_than_the_timeout_are_refused() {
    let reason = refused(|settings| settings.run.users = 1_000_000);
    assert_eq!(
        reason,
        "run.timeout: must exceed the 4h 5m that run.users take at source.rate_limit"
    );
    let mut settings = IngesterSettings::default();
    settings.run.users = 1_000_000;
    settings.run.timeout = Duration::from_secs(5 * 3_600);
    assert!(settings.validate().is_empty());
}

#[test]
fn min_duration_equals_the_waits_of_the_rate_limit() {
    use std::time::Instant;

    use crate::fetch::rate_window::RateWindow;
    use crate::run::plan::PagePlan;

    let seed: crate::run::plan::Seed = "abc".parse().unwrap();
    for limit in [20_000, 20_010, 5_000, 23] {
        let rate_limit = RateLimitSettings {
            users: limit,
            ..RateLimitSettings::default()
        };
        for page_size in [1, 5, 6, 23, 5_000]
            .into_iter()
            .filter(|size| u64::from(*size) <= limit)
        {
            let numbers = [
                1, 5, 22, 23, 24, 46, 50, 4_999, 5_000, 20_000, 20_001, 20_010, 40_000, 46_001,
            ];
            let few_pages = |users: &u64| users / u64::from(page_size) < 300;
            for users in numbers.into_iter().filter(few_pages) {
                let (mut window, start) = (RateWindow::new(&rate_limit), Instant::now());
                let mut now = start;
                for page in PagePlan::new(seed.clone(), users, page_size).pages() {
                    now += window.wait(page.results.into(), now);
                    window.reserve(page.results.into());
                    window.complete(page.results.into(), true, now);
                }
                let expected = rate_limit.min_duration(users, page_size);
                assert_eq!(
                    expected,
                    now - start,
                    "{users} users in pages of {page_size}, limit {limit}"
                );
            }
        }
    }
    let huge = RateLimitSettings::default().min_duration(u64::MAX, 1);
    assert!(huge > Duration::from_secs(1 << 40), "{huge:?}");
}

#[test]
fn schema_accepts_a_configuration_and_rejects_a_misspelt_key() {
    let schema = jsonschema::validator_for(&service::config::schema::<IngesterSettings>()).unwrap();
    assert!(schema.is_valid(&serde_json::json!({
        "publisher": {"url": "https://publisher:8080/", "token_file": "/run/token"},
        "run": {"users": 5000},
        "schedule": {"cron": "0 3 * * *"}
    })));
    assert!(!schema.is_valid(&serde_json::json!({"schedule": {"crom": "0 3 * * *"}})));
}
