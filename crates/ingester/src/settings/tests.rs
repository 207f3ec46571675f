use std::time::Duration;

use service::Secret;

use super::*;

fn refused(change: impl FnOnce(&mut IngesterSettings)) -> String {
    let mut settings = IngesterSettings::default();
    change(&mut settings);
    settings.validate().unwrap_err().to_string()
}

#[test]
fn the_defaults_are_valid() {
    IngesterSettings::default().validate().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_by_its_key() {
    assert!(refused(|s| s.source.version = "1.2".into()).starts_with("`source.version`"));
    assert!(refused(|s| s.source.page_size = 5_001).starts_with("`source.page_size`"));
    assert!(refused(|s| s.source.rate_limit.users = 4_999).contains("source.rate_limit.users"));
    assert!(refused(|s| s.source.attempts = 0).starts_with("`source.attempts`"));
    assert!(refused(|s| s.source.backoff.max = Duration::ZERO).starts_with("`source.backoff.initial`"));
    assert!(refused(|s| s.publisher.batch_size = 1_001).starts_with("`publisher.batch_size`"));
    assert!(refused(|s| s.publisher.max_in_flight = 0).starts_with("`publisher.max_in_flight`"));
    assert!(refused(|s| s.run.duplicate_window = 3_999).starts_with("`run.duplicate_window`"));
    assert!(refused(|s| s.publisher.token = Some(Secret::new("a b"))).starts_with("`publisher.token`"));
    assert!(refused(|s| s.source.max_in_flight = 0).starts_with("`source.max_in_flight`"));
    assert!(refused(|s| s.state.outbox_pages = 1).starts_with("`state.outbox_pages`"));
    assert!(refused(|s| s.run.users = 0).starts_with("`run.users`"));
    assert!(refused(|s| s.run.timeout = Duration::ZERO).starts_with("`run.timeout`"));
}
