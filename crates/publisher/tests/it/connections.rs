//! Callers who are slow, hostile or gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;

use crate::broker;
use crate::running::{Publisher, answer, ready, setup, setup_with_few_files};
use crate::topic::Topic;
use crate::users::{user, users};

/// A connection that gives up listening after 10 s.
pub(crate) fn connect(publisher: &Publisher) -> TcpStream {
    let stream = TcpStream::connect(publisher.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// What is read until the publisher closes the connection, and how long that took.
pub(crate) async fn until_closed(mut stream: TcpStream, said: &'static [u8]) -> (String, Duration) {
    let reading = move || {
        let started = Instant::now();
        let mut heard = Vec::new();
        // A reset is an end as well.
        drop(stream.write_all(said));
        drop(stream.read_to_end(&mut heard));
        (String::from_utf8_lossy(&heard).into_owned(), started.elapsed())
    };
    tokio::task::spawn_blocking(reading).await.unwrap()
}

#[tokio::test]
async fn a_caller_who_says_nothing_or_half_a_head_is_cut_off() {
    let (publisher, _) = ready().await;
    for said in [
        b"".as_slice(),
        b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-",
        b"PRI * HTTP/2.0\r\n",
    ] {
        let (_, waited) = until_closed(connect(&publisher), said).await;
        assert!(
            waited >= Duration::from_secs(1) && waited < Duration::from_secs(5),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_is_closed_after_a_while() {
    let (publisher, _) = ready().await;
    let said = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    let (heard, waited) = until_closed(connect(&publisher), said).await;
    assert!(heard.starts_with("HTTP/1.1 404"), "{heard}");
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let (publisher, topic) = ready().await;
    let said = b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n[";
    let (heard, waited) = until_closed(connect(&publisher), said).await;
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    publisher.wait_until_idle().await;
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn many_silent_connections_do_not_keep_honest_callers_out() {
    let (publisher, _) = ready().await;
    let silent: Vec<_> = (0..300).map(|_| connect(&publisher)).collect();
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(publisher.send(&users(3)).await.0, 200);
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
    drop(silent);
    publisher
        .wait_until("rid of them", async || {
            publisher.metric("connections").await <= 3.0
        })
        .await;
}

/// Each connection is an open file, and the usual limit of those is a soft one.
#[tokio::test]
async fn room_is_made_for_as_many_connections_as_are_configured() {
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup_with_few_files(200, &topic.brokers, &topic.name)
        .with("HTTP__MAX_CONNECTIONS", "400")
        .with("HTTP__HEADER_TIMEOUT", "20s")
        .with("PROCESS__SHUTDOWN_GRACE", "40s")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let held: Vec<_> = (0..300).map(|_| connect(&publisher)).collect();
    publisher
        .wait_until("holding them", async || {
            publisher.metric("connections").await >= 300.0
        })
        .await;
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    drop(held);
}

#[tokio::test]
async fn above_the_bound_a_connection_waits_for_its_turn() {
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name)
        .with("HTTP__MAX_CONNECTIONS", "2")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let held = [connect(&publisher), connect(&publisher)];
    publisher
        .wait_until("full", async || publisher.metric("connections").await == 2.0)
        .await;
    let (status, _) = publisher.send(&[user()]).await;
    assert_eq!(status, 200, "the silent ones were cut off");
    drop(held);
}

#[tokio::test]
async fn http2_without_tls_is_spoken() {
    let (mut publisher, _) = ready().await;
    publisher.client = Client::builder().http2_prior_knowledge().build().unwrap();
    let many: Vec<_> = (0..20).map(|_| users(5)).collect();
    let answers = futures::future::join_all(many.iter().map(|users| publisher.send(users))).await;
    for answer in answers {
        assert_eq!(answer, (200, json!({"accepted": 5, "rejected": 0})));
    }
    let request = publisher.post("application/json", user().to_string());
    let response = request.send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let (status, _) = answer(publisher.post("text/plain", "x")).await;
    assert_eq!(status, 415);
}
