//! Timeouts of callers: slow bodies, unread responses, old connections.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::support::broker;
use crate::support::publisher_process::{Publisher, setup};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a publisher with these settings and waits until it is ready.
async fn start_with(settings: &[(&str, &str)]) -> (Publisher, Topic) {
    let topic = Topic::new(&broker::shared().await);
    let setup = setup(&topic.brokers, &topic.name);
    let setup = settings
        .iter()
        .fold(setup, |setup, (key, value)| setup.set(key, *value));
    let publisher = Publisher::start(&setup).await;
    publisher.wait_until_ready().await;
    (publisher, topic)
}

fn address(publisher: &Publisher) -> &str {
    publisher.url.trim_start_matches("http://")
}

fn head(content_type: &str, length: usize) -> String {
    format!(
        "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Sends a body in `pieces`, one each `interval`; returns the first bytes of the response and when they arrived.
async fn send_slowly(publisher: &Publisher, pieces: &[&[u8]], interval: Duration) -> (String, Duration) {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let stream = TcpStream::connect(address(publisher)).await.unwrap();
    let (mut read_half, mut write_half) = stream.into_split();
    let started = Instant::now();
    let sending = async {
        write_half
            .write_all(head("application/json", length).as_bytes())
            .await
            .unwrap();
        for piece in pieces {
            // The connection may be closed after the response.
            if write_half.write_all(piece).await.is_err() {
                break;
            }
            sleep(interval).await;
        }
        std::future::pending::<()>().await;
    };
    let mut received = [0; 64];
    let length = tokio::select! {
        read = timeout(TIMEOUT, read_half.read(&mut received)) => read.unwrap().unwrap(),
        () = sending => 0,
    };
    (
        String::from_utf8_lossy(&received[..length]).into_owned(),
        started.elapsed(),
    )
}

#[tokio::test]
async fn body_below_the_minimum_rate_is_408() {
    let (publisher, topic) =
        start_with(&[("http.body_timeout", "15s"), ("http.request_timeout", "30s")]).await;
    let bytes = [b" ".as_slice(); 500];
    let (response, waited) = send_slowly(&publisher, &bytes, Duration::from_millis(200)).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    assert!(topic.read().await.is_empty());

    let mut body = user().to_string().into_bytes();
    body.resize(12 * 1024, b' ');
    let pieces: Vec<_> = body.chunks(1024).collect();
    let (response, waited) = send_slowly(&publisher, &pieces, Duration::from_millis(400)).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(waited > Duration::from_secs(4), "{waited:?}");
    publisher.wait_until_idle().await;
}

/// A caller that was told to continue sends its body, so a refusal must wait for it as without `Expect`.
#[tokio::test]
async fn refusal_after_100_continue_is_received() {
    let (publisher, _) = start_with(&[("limits.max_body", "1 MiB")]).await;
    for announced in [false, true] {
        let mut stream = TcpStream::connect(address(&publisher)).await.unwrap();
        let length = if announced {
            "Content-Length: 1800000"
        } else {
            "Transfer-Encoding: chunked"
        };
        let head = format!(
            "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n{length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut received = vec![0; 1024];
        let length = timeout(TIMEOUT, stream.read(&mut received))
            .await
            .unwrap()
            .unwrap();
        let interim = String::from_utf8_lossy(&received[..length]).into_owned();
        if announced {
            assert!(interim.starts_with("HTTP/1.1 413"), "{interim}");
            continue;
        }
        assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 65_536], b"\r\n"].concat();
        for _ in 0..18 {
            stream.write_all(&chunk).await.unwrap();
        }
        // The body is above the limit, and the caller is late to read that.
        sleep(Duration::from_millis(500)).await;
        for _ in 0..12 {
            stream.write_all(&chunk).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        let length = timeout(TIMEOUT, stream.read(&mut received))
            .await
            .unwrap()
            .unwrap();
        let response = String::from_utf8_lossy(&received[..length]).into_owned();
        assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    }
}

#[tokio::test]
async fn caller_that_reads_no_responses_is_disconnected() {
    let (publisher, _) = start_with(&[("http.write_timeout", "1s"), ("http.header_timeout", "20s")]).await;
    let body = "x\n".repeat(20_000);
    let request = head("application/x-ndjson", body.len()) + &body;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket
        .connect(address(&publisher).parse().unwrap())
        .await
        .unwrap();
    // The publisher stops reading while its caller does not read, so not all requests are sent.
    let sending = async {
        for _ in 0..10 {
            if stream.write_all(request.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let disconnected = async {
        // An unread response counts as bytes in flight: the list of 20,000 errors is larger than the body.
        publisher
            .wait_until("holding the response", async || {
                publisher.metric("records_total{outcome=\"rejected\"}").await >= 20_000.0
                    && publisher.metric("requests_in_flight").await == 0.0
                    && publisher.metric("bytes_in_flight").await > 1_000_000.0
            })
            .await;
        publisher
            .wait_until("without connections", async || {
                publisher.metric("connections").await == 0.0
            })
            .await;
        publisher.wait_until_idle().await;
    };
    tokio::select! {
        ended = timeout(TIMEOUT, disconnected) => ended.unwrap(),
        () = sending => {}
    }
}

/// Each read lets the publisher write some more, so no single write waits for long.
#[tokio::test]
async fn response_read_below_the_minimum_rate_ends_the_connection() {
    let (publisher, _) = start_with(&[
        ("http.write_timeout", "2s"),
        ("http.min_response_rate", "8 MiB"),
        ("http.header_timeout", "20s"),
        ("process.shutdown_grace", "40s"),
        ("limits.max_records", "100000"),
        ("limits.max_in_flight_records", "100000"),
        ("limits.max_in_flight_bytes", "128 MiB"),
    ])
    .await;
    // Each response has about 12 MB, and takes 6 s at the rate below.
    let body = "x\n".repeat(100_000);
    let request = head("application/x-ndjson", body.len()) + &body;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket
        .connect(address(&publisher).parse().unwrap())
        .await
        .unwrap();
    let (mut read_half, mut write_half) = stream.into_split();
    // The first responses fit into the buffers of the operating system.
    let sending = async {
        while write_half.write_all(request.as_bytes()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut buffer = vec![0; 50_000];
        while read_half.read(&mut buffer).await.is_ok_and(|length| length > 0) {
            sleep(Duration::from_millis(25)).await;
        }
        std::future::pending::<()>().await;
    };
    let disconnected = publisher.wait_until("disconnected", async || {
        publisher.metric("records_total{outcome=\"rejected\"}").await >= 100_000.0
            && publisher.metric("connections").await == 0.0
    });
    tokio::select! {
        () = disconnected => {}
        () = sending => {}
        () = reading => {}
    }
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn old_connection_is_closed_between_requests() {
    let (publisher, _) =
        start_with(&[("http.max_connection_age", "1s"), ("http.header_timeout", "10s")]).await;
    let mut stream = std::net::TcpStream::connect(address(&publisher)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let requesting = move || {
        let started = Instant::now();
        let mut responses = 0;
        let mut received = [0; 4096];
        loop {
            let written = stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n");
            match written.and_then(|()| stream.read(&mut received)) {
                Ok(0) | Err(_) => return (responses, started.elapsed()),
                Ok(length) => assert!(received[..length].starts_with(b"HTTP/1.1 404")),
            }
            responses += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (responses, age) = tokio::task::spawn_blocking(requesting).await.unwrap();
    assert!(responses >= 5, "{responses}");
    assert!(
        age > Duration::from_millis(900) && age < Duration::from_secs(6),
        "{age:?}"
    );
    assert_eq!(
        publisher.send(&users(1)).await.0,
        200,
        "a new connection is accepted"
    );
}
