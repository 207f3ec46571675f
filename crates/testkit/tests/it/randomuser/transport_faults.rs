//! Faults in the transport of a page.

use std::{
    error::Error as _,
    io,
    time::{Duration, Instant},
};

use futures::StreamExt;
use serde_json::Value;
use testkit::randomuser::{Fault, RandomUserApi};

use super::client::{client, get, page, results, start};

const TEN: &str = "/api/1.4/?results=10&seed=x";

#[tokio::test]
async fn truncated_json_is_a_complete_response_with_half_a_page() {
    let api = start().await;
    let whole = get(&api, TEN).await.bytes().await.unwrap();
    api.inject(Fault::TruncatedJson, 1);
    let reply = get(&api, TEN).await;
    assert_eq!(reply.status(), 200);
    let half = reply.bytes().await.unwrap();
    assert_eq!(half, whole.slice(..whole.len() / 2));
    assert!(serde_json::from_slice::<Value>(&half).unwrap_err().is_eof());
}

#[tokio::test]
async fn oversized_body_has_no_length_and_the_same_content() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    api.inject(Fault::OversizedBody(3_000_001), 1);
    let reply = get(&api, TEN).await;
    assert_eq!(reply.content_length(), None);
    let body = reply.bytes().await.unwrap();
    assert_eq!(body.len(), 3_000_001);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), whole);
}

#[tokio::test]
async fn hang_outlasts_the_client_timeout_and_ends_on_stop() {
    let api = start().await;
    api.inject(Fault::Hang(None), 2);
    let url = format!("{}/api/", api.url());
    let timed_out = client()
        .get(&url)
        .timeout(Duration::from_millis(300))
        .send()
        .await;
    assert!(timed_out.unwrap_err().is_timeout());
    let held = tokio::spawn(client().get(&url).send());
    wait_for_requests(&api, 2).await;
    let stopping = Instant::now();
    api.stop().await;
    assert!(
        stopping.elapsed() < Duration::from_secs(4),
        "a hanging request delayed the stop"
    );
    assert_eq!(held.await.unwrap().unwrap().status(), 503);
}

#[tokio::test]
async fn limited_hang_delays_the_right_response() {
    let api = start().await;
    let whole = page(&api, TEN).await;
    api.inject(Fault::Hang(Some(Duration::from_millis(400))), 1);
    let started = Instant::now();
    assert_eq!(page(&api, TEN).await, whole);
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn hang_blocks_only_its_request() {
    let api = start().await;
    api.inject(Fault::Hang(None), 1);
    let held = tokio::spawn(client().get(format!("{}/api/", api.url())).send());
    wait_for_requests(&api, 1).await;
    assert_eq!(get(&api, "/api/").await.status(), 200);
    assert!(!held.is_finished());
}

#[tokio::test]
async fn stalled_body_has_its_full_content_length() {
    let api = start().await;
    let whole = get(&api, TEN).await.bytes().await.unwrap();
    api.inject(Fault::StallMidBody, 1);
    let mut reply = get(&api, TEN).await;
    assert_eq!(reply.content_length(), u64::try_from(whole.len()).ok());
    let mut received = 0;
    while received < whole.len() / 2 {
        received += reply.chunk().await.unwrap().unwrap().len();
    }
    let more = tokio::time::timeout(Duration::from_millis(300), reply.chunk()).await;
    assert!(more.is_err(), "the body continued: {more:?}");
    let stopping = Instant::now();
    api.stop().await;
    assert!(
        stopping.elapsed() < Duration::from_secs(4),
        "a stalled body delayed the stop"
    );
    assert!(reply.chunk().await.is_err());
}

#[tokio::test]
async fn slow_bytes_arrive_64_per_interval() {
    let api = start().await;
    let whole = page(&api, "/api/1.4/?seed=x").await;
    api.inject(Fault::SlowBytes(Duration::from_millis(20)), 1);
    let started = Instant::now();
    assert_eq!(page(&api, "/api/1.4/?seed=x").await, whole);
    let chunks = whole.to_string().len() / 64;
    assert!(chunks > 10);
    assert!(started.elapsed() >= Duration::from_millis(20) * u32::try_from(chunks).unwrap());
}

#[tokio::test]
async fn reset_in_mid_body_follows_the_first_half() {
    let api = start().await;
    let whole = get(&api, TEN).await.bytes().await.unwrap();
    api.inject(Fault::ResetMidBody, 1);
    let (received, end) = drain(get(&api, TEN).await).await;
    assert_eq!(received, whole.len() / 2);
    let error = end.unwrap();
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    let reset = causes.any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    });
    assert!(reset, "closed instead of reset: {error:?}");
    assert_eq!(results(&page(&api, TEN).await).len(), 10);
}

/// Returns the received bytes of the body and the error that ended it.
async fn drain(reply: reqwest::Response) -> (usize, Option<reqwest::Error>) {
    let mut chunks = reply.bytes_stream();
    let mut received = 0;
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(bytes) => received += bytes.len(),
            Err(error) => return (received, Some(error)),
        }
    }
    (received, None)
}

async fn wait_for_requests(api: &RandomUserApi, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while api.requests().len() < count {
        assert!(Instant::now() < deadline, "the request never arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
