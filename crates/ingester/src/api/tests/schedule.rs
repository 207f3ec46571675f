//! The schedule.

use super::*;

#[tokio::test]
async fn schedule_can_be_paused_and_resumed() {
    let queue = queue();
    queue.set_next_starts(vec![jiff::Timestamp::UNIX_EPOCH]);
    let (status, _, plan) = send(&queue, "GET", "/v1/schedule", None).await;
    assert_eq!((status, &plan["paused"]), (200, &Value::Null));
    assert_eq!(plan["next_starts"], json!(["1970-01-01T00:00:00Z"]));
    let (status, _, plan) = send(&queue, "POST", "/v1/schedule/pause", None).await;
    assert_eq!((status, &plan["paused"]["by"]), (200, &"anonymous".into()));
    assert_eq!(
        (&plan["next_start"], &plan["next_starts"]),
        (&Value::Null, &json!([]))
    );
    assert!(plan["paused"]["since"].is_string());
    let (status, _, plan) = send(&queue, "POST", "/v1/schedule/resume", None).await;
    assert_eq!((status, &plan["paused"]), (200, &Value::Null));
}

#[tokio::test]
async fn schedule_has_the_expected_duration() {
    let mut settings = IngesterSettings::default();
    settings.run.users = 50_000;
    let queue = RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings);
    let (_, _, plan) = send(&queue, "GET", "/v1/schedule", None).await;
    assert_eq!(plan["expected_seconds"], 600);
}
