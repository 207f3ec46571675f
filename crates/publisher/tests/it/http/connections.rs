//! Slow, silent and many connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, ready, setup, status_and_body};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

/// Connects with a read timeout of 10 s.
pub(crate) fn connect(publisher: &Publisher) -> TcpStream {
    let stream = TcpStream::connect(publisher.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends bytes, and returns what is received until the connection is closed, and how long that took.
pub(crate) async fn until_closed(mut stream: TcpStream, request: &'static [u8]) -> (String, Duration) {
    let reading = move || {
        let started = Instant::now();
        let mut received = Vec::new();
        // A reset also closes the connection.
        drop(stream.write_all(request));
        drop(stream.read_to_end(&mut received));
        (String::from_utf8_lossy(&received).into_owned(), started.elapsed())
    };
    tokio::task::spawn_blocking(reading).await.unwrap()
}

#[tokio::test]
async fn silent_or_partial_request_times_out() {
    let (publisher, _) = ready().await;
    for request in [
        b"".as_slice(),
        b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-",
        b"PRI * HTTP/2.0\r\n",
    ] {
        let (_, waited) = until_closed(connect(&publisher), request).await;
        assert!(
            waited >= Duration::from_secs(1) && waited < Duration::from_secs(5),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let (publisher, _) = ready().await;
    let request = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    let (response, waited) = until_closed(connect(&publisher), request).await;
    assert!(response.starts_with("HTTP/1.1 404"), "{response}");
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}

#[tokio::test]
async fn missing_body_is_408() {
    let (publisher, topic) = ready().await;
    let request = b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n[";
    let (response, waited) = until_closed(connect(&publisher), request).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    publisher.wait_until_idle().await;
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn silent_connections_do_not_block_others() {
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
        .wait_until("without silent connections", async || {
            publisher.metric("connections").await <= 3.0
        })
        .await;
}

/// Each connection is an open file, and the usual limit of open files is a soft one.
#[tokio::test]
async fn limit_of_open_files_is_raised_for_max_connections() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .wrapped_by(["prlimit", "--nofile=200:4096"])
            .set("http.max_connections", "400")
            .set("http.header_timeout", "20s")
            .set("process.shutdown_grace", "40s"),
    )
    .await;
    publisher.wait_until_ready().await;
    let held: Vec<_> = (0..300).map(|_| connect(&publisher)).collect();
    publisher
        .wait_until("connected", async || {
            publisher.metric("connections").await >= 300.0
        })
        .await;
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    drop(held);
}

#[tokio::test]
async fn connection_above_the_limit_waits() {
    let topic = Topic::new(&broker::shared().await);
    let publisher =
        Publisher::start(&setup(&topic.brokers, &topic.name).set("http.max_connections", "2")).await;
    publisher.wait_until_ready().await;
    let held = [connect(&publisher), connect(&publisher)];
    publisher
        .wait_until("full", async || publisher.metric("connections").await == 2.0)
        .await;
    let (status, _) = publisher.send(&[user()]).await;
    assert_eq!(status, 200, "the silent connections timed out");
    drop(held);
}

#[tokio::test]
async fn http2_without_tls_is_supported() {
    let (mut publisher, _) = ready().await;
    publisher.client = Client::builder().http2_prior_knowledge().build().unwrap();
    let many: Vec<_> = (0..20).map(|_| users(5)).collect();
    let responses = futures::future::join_all(many.iter().map(|users| publisher.send(users))).await;
    for response in responses {
        assert_eq!(response, (200, json!({"accepted": 5, "rejected": 0})));
    }
    let request = publisher.post("application/json", user().to_string());
    let response = request.send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let (status, _) = status_and_body(publisher.post("text/plain", "x")).await;
    assert_eq!(status, 415);
}
