//! What the next process knows of an earlier one.

use super::*;
use crate::delivery::response::RecordRejection;

#[tokio::test]
async fn resumed_run_sends_the_stored_time_of_its_page_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let state = |settings: &mut IngesterSettings| {
        settings.state.path = Some(folder.path().join("state.db"));
        settings.run.users = 10;
    };
    let fetched_at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    let publisher = CountingPublisher::hanging();
    publisher.api.fetched_at.set(fetched_at).unwrap();
    let (mut killed, settings, stop) = pipeline(publisher.clone(), state);
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let sent_before = async {
        while publisher.sent_at.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = killed.run(&spec, &stop) => panic!("the publisher hangs: {ended:?}"),
        () = sent_before => {}
    }
    drop(killed);
    let outcome = BatchOutcome {
        accepted: 3,
        rejected: vec![RecordRejection::new(1, "email: is blank")],
    };
    let resumed = CountingPublisher::with_script([Ok(outcome)]);
    let (mut pipeline, _, stop) = pipeline(resumed.clone(), state);
    let store = pipeline.store().clone();
    let run = store.unfinished_runs().unwrap()[0].id;
    let report = pipeline.execute(run, &stop).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.rejected), (9, 1));
    assert_conserved(&store, run);
    assert_eq!(store.numbers(run).unwrap().unwrap().rejected.to_string(), "1-2");
    assert_eq!(*publisher.sent_at.lock().unwrap(), [Some(fetched_at)]);
    assert_eq!(*resumed.sent_at.lock().unwrap(), [Some(fetched_at); 3]);
}

#[tokio::test]
async fn resumed_run_keeps_its_window_and_its_deduplication() {
    let publisher = CountingPublisher::hanging();
    let (mut pipeline, settings, stop) = pipeline(publisher.clone(), |settings| {
        settings.publisher.max_in_flight = 4;
        settings.run.timeout = Duration::from_millis(300);
    });
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let store = pipeline.store().clone();
    let run = store
        .insert_run(&spec, RunState::Queued, None, Timestamp::now())
        .unwrap();
    let earlier = DeliverySpec {
        batch_size: 2,
        max_in_flight: 1,
        duplicate_window: 2,
    };
    store.start_run(run, &earlier, Timestamp::now()).unwrap();
    let report = pipeline.execute(run, &stop).await.unwrap();
    assert_eq!(
        *publisher.sent.lock().unwrap(),
        [(0, 2)],
        "one batch of two in flight"
    );
    assert_eq!((report.counts.fetched, report.counts.duplicate), (20, 0));
}

#[tokio::test]
async fn last_success_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = |settings: &mut IngesterSettings| settings.state.path = Some(folder.path().join("state.db"));
    let (pipeline_before, settings, stop) = pipeline(CountingPublisher::default(), state);
    assert!(pipeline_before.metrics().last_success.get().abs() < 1.0);
    let mut pipeline_before = pipeline_before;
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let report = pipeline_before.run(&spec, &stop).await.unwrap();
    let ended = pipeline_before
        .store()
        .run(report.run)
        .unwrap()
        .unwrap()
        .ended
        .unwrap();
    drop(pipeline_before);
    let (pipeline_after, ..) = pipeline(CountingPublisher::default(), state);
    let known = pipeline_after.metrics().last_success.get();
    assert!((known - seconds(ended)).abs() < 0.01, "{known}");
}
