//! Shutdown and crashes: every acknowledged record is in the topic.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::broker;
use crate::support::load::Load;
use crate::support::publisher_process::{Publisher, ready, setup};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

async fn under_load() -> (Publisher, Topic, Load) {
    let (publisher, topic) = ready().await;
    let load = Load::start(&publisher, 8);
    publisher
        .wait_until("under load", async || load.count(200) > 100)
        .await;
    (publisher, topic, load)
}

#[tokio::test]
async fn sigterm_under_load_finishes_requests_and_exits_0() {
    let (publisher, topic, mut load) = under_load().await;
    let status = publisher
        .child()
        .terminate(Duration::from_secs(25))
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0), "{}", publisher.service.last_lines(10));
    load.stop().await;
    assert_eq!(load.count(504), 0);
    load.assert_responses_match_topic(&topic).await;
    load.assert_requests_without_response_wrote_nothing(&topic).await;
}

#[tokio::test]
async fn sigkill_under_load_loses_no_acknowledged_record() {
    let (publisher, topic, mut load) = under_load().await;
    publisher.child().kill().await.unwrap();
    load.stop().await;
    load.assert_responses_match_topic(&topic).await;
}

#[tokio::test]
async fn sigterm_during_an_outage_is_504_and_exits_0() {
    let kafka = broker::own().await;
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    kafka.node(0).unwrap().freeze().await.unwrap();
    let records = users(5);
    let stopping = async {
        publisher
            .wait_until("in flight", async || {
                publisher.metric("records_in_flight").await == 5.0
            })
            .await;
        publisher
            .child()
            .terminate(Duration::from_secs(20))
            .await
            .unwrap()
    };
    let (response, status) = tokio::join!(publisher.send(&records), stopping);
    assert_eq!((response.0, &response.1["unknown"]), (504, &serde_json::json!(5)));
    assert_eq!(status.code(), Some(0), "{}", publisher.service.last_lines(10));
}

#[tokio::test]
async fn late_request_is_503_and_closes_the_connection() {
    let (publisher, topic) = ready().await;
    let body = user().to_string();
    let address = publisher.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    publisher
        .wait_until("reading", async || {
            publisher.metric("requests_in_flight").await == 1.0
        })
        .await;
    let stopping = publisher.child().terminate(Duration::from_secs(20));
    let late = async {
        publisher
            .wait_until("stopping", async || {
                publisher.readiness().await.1["stopping"] == true
            })
            .await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    };
    let (status, response) = tokio::join!(stopping, late);
    assert_eq!(
        status.unwrap().code(),
        Some(0),
        "{}",
        publisher.service.last_lines(10)
    );
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    assert!(
        response.contains("connection: close") && response.contains("problem:shutting-down"),
        "{response}"
    );
    assert!(topic.read().await.is_empty());
}
