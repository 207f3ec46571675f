//! Tests of the webhook, with a receiver in this process.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use service::Secret;

use super::*;
use crate::config::WebhookSettings;
use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, RunSpec, RunState, Trigger};

/// A server that fails the first requests and records each.
#[derive(Clone, Default)]
struct Receiver {
    failures: Arc<Mutex<u32>>,
    received: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    /// Returns the receiver and its URL.
    async fn start(failures: u32) -> (Self, String) {
        let receiver = Self {
            failures: Arc::new(Mutex::new(failures)),
            ..Self::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/secret-path", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/hooks/secret-path", post(receive))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, url)
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.received.lock().unwrap().push((headers, body));
    let mut failures = receiver.failures.lock().unwrap();
    if *failures == 0 {
        return StatusCode::NO_CONTENT;
    }
    *failures -= 1;
    StatusCode::BAD_GATEWAY
}

fn settings(url: &str) -> WebhookSettings {
    WebhookSettings {
        url: Some(Secret::new(url)),
        secret: Some(Secret::new("key")),
        ..WebhookSettings::default()
    }
}

fn end_run(store: &Store, state: RunState, now: Timestamp) -> String {
    let spec = RunSpec {
        trigger: Trigger::Manual,
        scheduled: None,
        seed: "abc".parse().unwrap(),
        users: 5,
        page_size: 5,
        pages: None,
        retry: 0,
        requested_by: None,
    };
    let run = store.insert_run(&spec, RunState::Queued, None, now).unwrap();
    let delivery = DeliverySpec {
        batch_size: 5,
        max_in_flight: 1,
        duplicate_window: 5,
    };
    store.start_run(run, &delivery, now).unwrap();
    store
        .finish_run(run, state, Some("why"), &RunCounts::default(), now)
        .unwrap();
    run.to_string()
}

#[test]
fn signature_is_the_hmac_of_the_body() {
    // Test case 2 of RFC 4231.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    assert_eq!(
        signature(&key, b"what do ya want for nothing?"),
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[tokio::test]
async fn failure_and_recovery_are_sent_until_confirmed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = Store::open(&path).unwrap();
    let failed = end_run(&store, RunState::Failed, Timestamp::now());
    let complete = end_run(&store, RunState::Complete, Timestamp::now());
    drop(store);
    // Another process continues.
    let store = Store::open(&path).unwrap();
    let (receiver, url) = Receiver::start(1).await;
    let webhook = Webhook::new(&settings(&url), store.clone()).unwrap().unwrap();
    webhook.send_all(Duration::from_secs(300)).await.unwrap();
    assert!(store.pending_events().unwrap().is_empty());
    let received = receiver.received.lock().unwrap().clone();
    let ids: Vec<_> = received
        .iter()
        .map(|(headers, _)| headers["idempotency-key"].to_str().unwrap().to_owned())
        .collect();
    let (first, second) = (
        format!("{failed}/run.failed"),
        format!("{complete}/run.recovered"),
    );
    assert_eq!(ids, [first.clone(), first.clone(), second]);
    assert_eq!(received[0].1, received[1].1, "the same event");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
    for (headers, body) in &received {
        assert_eq!(headers[SIGNATURE].to_str().unwrap(), signature(&key, body));
    }
    let body: serde_json::Value = serde_json::from_slice(&received[0].1).unwrap();
    assert_eq!(
        (&body["id"], &body["type"]),
        (&first.into(), &"run.failed".into())
    );
    assert_eq!(
        (&body["run"]["state"], &body["run"]["reason"]),
        (&"failed".into(), &"why".into())
    );
}

#[tokio::test]
async fn old_event_is_dropped() {
    let store = Store::in_memory().unwrap();
    end_run(&store, RunState::Failed, Timestamp::UNIX_EPOCH);
    let (receiver, url) = Receiver::start(0).await;
    let webhook = Webhook::new(&settings(&url), store.clone()).unwrap().unwrap();
    webhook.send_all(Duration::from_secs(300)).await.unwrap();
    assert!(store.pending_events().unwrap().is_empty());
    assert!(receiver.received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn error_does_not_show_the_url() {
    let store = Store::in_memory().unwrap();
    end_run(&store, RunState::Failed, Timestamp::now());
    let event = store.pending_events().unwrap().remove(0);
    // A port that nothing listens on.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", free.local_addr().unwrap());
    drop(free);
    let webhook = Webhook::new(&settings(&url), store.clone()).unwrap().unwrap();
    let error = service::process::chain(&webhook.send(&event).await.unwrap_err());
    assert!(
        error.starts_with("failed to reach the webhook") && !error.contains("secret-path"),
        "{error}"
    );
    let failed = webhook.send_all(Duration::from_millis(50)).await;
    failed.unwrap();
    assert_eq!(
        store.pending_events().unwrap().len(),
        1,
        "it is kept for the next process"
    );
}
