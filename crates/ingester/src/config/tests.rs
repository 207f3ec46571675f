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
    assert!(refused(|s| s.run.users = 0).starts_with("run.users: "));
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
