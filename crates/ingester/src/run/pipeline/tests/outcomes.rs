//! How a run ends, and its counts.

use super::*;
use crate::delivery::response::RecordRejection;

#[tokio::test]
async fn complete_run_sends_each_user_once_in_sequence() {
    let publisher = CountingPublisher::default();
    let report = run(publisher.clone(), |_| {}).await;
    let counts = &report.counts;
    assert!(matches!(report.outcome, RunOutcome::Complete));
    assert_eq!((counts.requested, counts.fetched, counts.accepted), (25, 25, 10));
    assert_eq!(
        (counts.duplicate, counts.undelivered),
        (15, 0),
        "the same ten users on each page"
    );
    assert_eq!(*publisher.sent.lock().unwrap(), [(0, 4), (4, 4), (8, 2)]);
    assert!(adds_up(counts));
}

#[tokio::test]
async fn one_page_is_fetched_during_a_delivery() {
    let publisher = CountingPublisher::default();
    run(publisher.clone(), |settings| {
        settings.run.users = 60;
        settings.run.duplicate_window = 1; // so that each page is delivered in full
        settings.publisher.batch_size = 10;
    })
    .await;
    let requested = publisher.requested_before.lock().unwrap().clone();
    assert_eq!(
        requested,
        [2, 3, 4, 5, 6, 6],
        "one more page was requested at each delivery"
    );
}

#[tokio::test]
async fn rejected_records_set_the_outcome_and_keep_reasons() {
    let rejected = vec![RecordRejection::new(0, "email: is blank")];
    let outcome = BatchOutcome {
        accepted: 3,
        rejected,
    };
    let publisher = CountingPublisher::with_script([Ok(outcome)]);
    let report = run(publisher, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Rejected));
    assert_eq!((report.counts.accepted, report.counts.rejected), (9, 1));
    assert!(adds_up(&report.counts));
}

#[tokio::test]
async fn run_with_too_many_invalid_users_fails() {
    let invalid = async |invalid, max_invalid_share| {
        let publisher = CountingPublisher {
            api: FakeApi {
                invalid,
                ..FakeApi::default()
            },
            ..CountingPublisher::default()
        };
        run(publisher, |settings| {
            settings.run.users = 10;
            settings.run.max_invalid_share = max_invalid_share;
        })
        .await
    };
    for (users, share) in [(10, 0.5), (6, 0.5), (1, 0.0)] {
        let report = invalid(users, share).await;
        assert!(matches!(report.outcome, RunOutcome::Failed(_)), "{report:?}");
        assert_eq!(
            report.reason().unwrap(),
            format!(
                "{users} of 10 users are invalid and 0 are rejected, more than run.max_invalid_share of {share}; most \
                 often address: street_as_before_1_3"
            )
        );
        assert_eq!(
            report.counts.accepted,
            10 - users as u64,
            "valid ones are delivered"
        );
    }
    for (users, share) in [(0, 0.0), (5, 0.5), (10, 1.0)] {
        let report = invalid(users, share).await;
        assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    }
}

#[tokio::test]
async fn run_with_too_many_rejected_records_fails() {
    for (rejected, fails) in [(5, false), (6, true), (10, true)] {
        let outcome = BatchOutcome {
            accepted: 10 - rejected,
            rejected: (0..rejected)
                .map(|index| RecordRejection::new(index, "record: is too large"))
                .collect(),
        };
        let publisher = CountingPublisher::with_script([Ok(outcome)]);
        let report = run(publisher, |settings| {
            // Duplicates of rejected users do not hide them.
            settings.run.users = 50;
            settings.publisher.batch_size = 10;
        })
        .await;
        assert_eq!((report.counts.rejected, report.counts.duplicate), (rejected, 40));
        if !fails {
            assert!(matches!(report.outcome, RunOutcome::Rejected), "{report:?}");
            continue;
        }
        assert_eq!(
            report.reason().unwrap(),
            format!(
                "0 of 50 users are invalid and {rejected} are rejected, more than run.max_invalid_share of 0.5; most \
                 often record: is too large"
            )
        );
    }
}

#[tokio::test]
async fn users_fetched_before_an_error_are_delivered() {
    let publisher = CountingPublisher {
        api: FakeApi {
            fails_from: Some(1),
            ..FakeApi::default()
        },
        ..CountingPublisher::default()
    };
    let report = run(publisher, |_| {}).await;
    let reason = "failed to fetch users: failed to fetch page 2: the API responded with 403 Forbidden";
    assert_eq!(report.reason().as_deref(), Some(reason));
    assert_eq!((report.counts.fetched, report.counts.accepted), (10, 10));
}

#[tokio::test]
async fn permanent_error_ends_the_run_and_counts_undelivered() {
    let accepted = BatchOutcome {
        accepted: 4,
        rejected: vec![],
    };
    let publisher = CountingPublisher::with_script([Ok(accepted), Err(permanent_error())]);
    let report = run(publisher, |_| {}).await;
    assert!(matches!(
        report.outcome,
        RunOutcome::Failed(RunError::Delivery(_))
    ));
    assert_eq!(report.counts.accepted, 4);
    assert!(report.counts.undelivered >= 6 && adds_up(&report.counts));
}

#[tokio::test]
async fn rejected_credentials_are_unrecoverable() {
    let unauthorized = ResponseError::Unauthorized { status: 401 };
    let publisher = CountingPublisher::with_script([Err(unauthorized)]);
    assert!(run(publisher, |_| {}).await.is_unrecoverable());
}

#[tokio::test]
async fn run_ends_at_its_timeout() {
    let publisher = CountingPublisher::hanging();
    let report = run(publisher, |settings| {
        settings.run.timeout = Duration::from_millis(100)
    })
    .await;
    assert!(matches!(report.outcome, RunOutcome::Failed(RunError::Timeout(_))));
    assert!(report.counts.accepted == 0 && adds_up(&report.counts));
}

#[tokio::test]
async fn stopped_run_delivers_fetched_users() {
    let publisher = CountingPublisher {
        stop_at_first: Some(CancellationToken::new()),
        ..CountingPublisher::default()
    };
    let report = run(publisher.clone(), |settings| {
        settings.run.users = 1_000;
        settings.run.duplicate_window = 1;
    })
    .await;
    assert!(matches!(report.outcome, RunOutcome::Stopped));
    let counts = &report.counts;
    assert_eq!((counts.fetched, counts.accepted, counts.undelivered), (20, 20, 0));
    assert_eq!(publisher.api.requested.load(Ordering::SeqCst), 2);
}
