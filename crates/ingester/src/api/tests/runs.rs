//! Runs: start, list, cancel, retry and events.

use futures::StreamExt as _;

use super::*;
use crate::scheduler::run_queue::MAX_UNFINISHED_RUNS;

#[tokio::test]
async fn requested_run_can_be_read_and_cancelled() {
    let queue = queue();
    let body = json!({"users": 12_000, "seed": "abc", "pages": "2..3"});
    let (status, location, run) = send(&queue, "POST", "/v1/runs", Some(body)).await;
    let location = location.unwrap();
    assert_eq!(
        (status, &run["state"], &run["pages"]),
        (202, &"queued".into(), &"2..3".into())
    );
    assert_eq!(run["counts"]["requested"], 7_000);
    assert_eq!(location, format!("/v1/runs/{}", run["id"].as_str().unwrap()));
    let (status, _, details) = send(&queue, "GET", &location, None).await;
    assert_eq!(
        (status, &details["trigger"], &details["rejected_records"]),
        (200, &"manual".into(), &json!([]))
    );
    assert_eq!(send(&queue, "DELETE", &location, None).await.0, 204);
    assert_eq!(send(&queue, "DELETE", &location, None).await.0, 409);
    assert_eq!(send(&queue, "GET", &location, None).await.2["state"], "cancelled");
}

#[tokio::test]
async fn request_beyond_the_queue_is_a_conflict() {
    let queue = queue();
    for _ in 0..MAX_UNFINISHED_RUNS {
        assert_eq!(send(&queue, "POST", "/v1/runs", None).await.0, 202);
    }
    let (status, _, problem) = send(&queue, "POST", "/v1/runs", None).await;
    assert_eq!((status, &problem["title"]), (409, &"Conflict".into()));
}

#[tokio::test]
async fn runs_are_paged_and_filtered_by_state_and_trigger() {
    let queue = queue();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (_, _, run) = send(&queue, "POST", "/v1/runs", None).await;
        ids.push(run["id"].clone());
        let path = format!("/v1/runs/{}", run["id"].as_str().unwrap());
        send(&queue, "DELETE", &path, None).await;
    }
    ids.reverse();
    let (mut path, mut found) = (Some("/v1/runs?limit=2&state=cancelled".to_owned()), Vec::new());
    while let Some(page) = path {
        let (status, _, body) = send(&queue, "GET", &page, None).await;
        assert_eq!(status, 200, "{body}");
        found.extend(
            body["runs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["id"].clone()),
        );
        path = body["next"].as_str().map(str::to_owned);
    }
    assert_eq!(found, ids);
    let (_, _, none) = send(&queue, "GET", "/v1/runs?trigger=schedule", None).await;
    assert_eq!(none, json!({"runs": [], "next": null}));
}

#[tokio::test]
async fn second_or_forced_cancel_drops_what_waits() {
    let (active, settings) = (ActiveRun::default(), IngesterSettings::default());
    let queue = RunQueue::new(Store::in_memory().unwrap(), active.clone(), settings);
    let stop = tokio_util::sync::CancellationToken::new();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", None).await;
    let (location, id) = (location.unwrap(), run["id"].as_str().unwrap().parse().unwrap());
    queue.dequeue(&stop).unwrap();
    let tokens = active.claim(id, &stop);
    let cancel = async |force: &str| {
        let path = format!("{location}?force={force}");
        send(&queue, "DELETE", &path, None).await.0
    };
    assert_eq!(cancel("maybe").await, 400);
    assert_eq!(cancel("false").await, 202);
    assert_eq!(
        send(&queue, "GET", &location, None).await.2["state"],
        "cancelling"
    );
    assert!(tokens.requested.is_cancelled() && !tokens.drop.is_cancelled());
    assert_eq!(cancel("true").await, 202);
    assert!(tokens.drop.is_cancelled());
}

#[tokio::test]
async fn run_names_who_started_and_who_cancelled_it() {
    let queue = queue();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", None).await;
    assert_eq!(
        (&run["requested_by"], &run["cancelled_by"]),
        (&"anonymous".into(), &Value::Null)
    );
    send(&queue, "DELETE", location.as_deref().unwrap(), None).await;
    let run = send(&queue, "GET", location.as_deref().unwrap(), None).await.2;
    assert_eq!(run["cancelled_by"], "anonymous");
}

#[tokio::test]
async fn ended_run_can_be_retried() {
    let queue = queue();
    let (_, location, run) = send(&queue, "POST", "/v1/runs", Some(json!({"seed": "abc"}))).await;
    let (location, id) = (location.unwrap(), run["id"].as_str().unwrap().parse().unwrap());
    let retry = format!("{location}/retry");
    let (status, _, problem) = send(&queue, "POST", &retry, None).await;
    assert_eq!(
        (status, &problem["detail"]),
        (409, &"the run has not ended".into())
    );
    let counts = crate::run::run_stats::RunCounts::default();
    let (state, now) = (crate::run::RunState::Failed, jiff::Timestamp::now());
    queue
        .store()
        .finish_run(id, state, Some("why"), &counts, now)
        .unwrap();
    let (status, _, retried) = send(&queue, "POST", &retry, None).await;
    assert_eq!(
        (status, &retried["trigger"], &retried["seed"]),
        (202, &"retry".into(), &"abc".into())
    );
    assert_eq!(retried["requested_by"], "anonymous");
}

#[tokio::test]
async fn events_report_each_change_and_end_with_the_run() {
    let queue = queue();
    let spec = queue.spec(Trigger::Manual, &RunRequest::default());
    let run = queue.enqueue(&spec).unwrap();
    let response = get_response(&queue, &format!("/v1/runs/{run}/events")).await;
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        events
            .next()
            .await
            .map(|event| String::from_utf8(event.unwrap().to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    assert!(
        first.starts_with("event: run\ndata: {") && first.contains("\"queued\""),
        "{first}"
    );
    queue.cancel(run, false, "me").unwrap();
    assert!(next().await.unwrap().contains("\"cancelled\""));
    assert_eq!(next().await, None);
}
