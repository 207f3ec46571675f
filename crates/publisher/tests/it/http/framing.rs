//! Requests with ambiguous, invalid or missing framing (request smuggling), and with oversized headers.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::http::connections::{connect, until_closed};
use crate::support::broker;
use crate::support::publisher_process::{Publisher, ready, setup};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

const HEAD: &str = "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// A request that a proxy may have forwarded as a body, and that must not be processed.
const HIDDEN: &str = "DELETE /v1/users/0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends `request` and the hidden request at once, and returns the response.
async fn response_to(publisher: &Publisher, request: &str) -> String {
    let bytes = format!("{request}{HIDDEN}").into_bytes();
    until_closed(connect(publisher), bytes.leak()).await.0
}

#[tokio::test]
async fn smuggled_requests_are_rejected() {
    let (publisher, topic) = ready().await;
    let heads = [
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
        "Content-Length: 2, 3\r\n\r\n[]",
        "Content-Length: +2\r\n\r\n[]",
        "Content-Length: -2\r\n\r\n[]",
        "Content-Length: 0x2\r\n\r\n[]",
        "Content-Length: \r\n\r\n[]",
        "Content-Length: 99999999999999999999\r\n\r\n[]",
        "Content-Length : 2\r\n\r\n[]",
        "Content-Length: 2\r\n X: y\r\n\r\n[]",
        "Content-Length: 2\r\nX\r\n\r\n[]",
        "Content-Length: 2\r\nX: a\rb\r\n\r\n[]",
        "Content-Length: 2\r\nX: a\0b\r\n\r\n[]",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n[]",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n[]",
        "Transfer-Encoding: chunked\r\n\r\nZZ\r\n[]\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-2\r\n[]\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x2\r\n[]\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n[]\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n[]0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\n[]\r\n0\r\n\r\n",
    ];
    let old = HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let shapes = heads.iter().map(|rest| format!("{HEAD}{rest}"));
    for shape in shapes.chain([old]) {
        let response = response_to(&publisher, &shape).await;
        assert!(
            response.starts_with("HTTP/1.1 400") || response.starts_with("HTTP/1.0 400"),
            "{shape}: {response}"
        );
        assert_eq!(response.matches("HTTP/1.").count(), 1, "{shape}: {response}");
    }
    assert!(
        topic.read().await.is_empty(),
        "the hidden request is not processed"
    );
    publisher.wait_until_idle().await;
}

/// RFC 9112, 6.3: chunks take precedence over a length, and the connection closes after the response. A proxy that
/// used the length treats the bytes after the chunks as body.
#[tokio::test]
async fn chunks_with_a_length_admit_no_second_request() {
    let (publisher, topic) = ready().await;
    let record = user().to_string();
    let chunks = format!("{:x}\r\n{record}\r\n0\r\n\r\n", record.len());
    let length = format!("Content-Length: {}\r\n", chunks.len() + HIDDEN.len());
    for framing in [
        format!("{length}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
    ] {
        let response = response_to(&publisher, &format!("{HEAD}{framing}\r\n{chunks}")).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
    }
    assert_eq!(topic.read().await.len(), 2, "only the records, no tombstone");
}

#[tokio::test]
async fn duplicate_header_is_rejected() {
    let (publisher, topic) = ready().await;
    for header in [
        "Content-Type: application/x-ndjson",
        "Run-Id: a\r\nRun-Id: b",
        "Run-Seq: 1\r\nRun-Seq: 1",
        "Fetched-At-Us: 1\r\nFetched-At-Us: 1",
        "Idempotency-Key: a\r\nIdempotency-Key: a",
    ] {
        let request = format!("{HEAD}{header}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]");
        let (response, _) = until_closed(connect(&publisher), request.into_bytes().leak()).await;
        assert!(response.starts_with("HTTP/1.1 400"), "{header}: {response}");
        assert!(response.contains("problem:bad-header"), "{header}: {response}");
    }
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn oversized_headers_are_rejected() {
    let (publisher, _) = ready().await;
    let long = "a".repeat(100_000);
    let heads: [(String, &[&str]); 4] = [
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
            &["431"],
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\n{long}: x\r\n\r\n"),
            &["431", "400"],
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            &["414", "431"],
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1_000)),
            &["431"],
        ),
    ];
    for (head, statuses) in heads {
        let (response, _) = until_closed(connect(&publisher), head.clone().into_bytes().leak()).await;
        // The rest of the headers is not read, so a reset may arrive before the response.
        let rejected = statuses
            .iter()
            .any(|status| response.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(response.is_empty() || rejected, "{}: {response}", &head[..50]);
    }
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    publisher.wait_until_idle().await;
}

/// Writes `piece` until the connection is closed; returns the response and the number of bytes written.
async fn write_endlessly(publisher: &Publisher, head: String, piece: Vec<u8>) -> (String, usize) {
    let mut write_half = connect(publisher);
    let mut read_half = write_half.try_clone().unwrap();
    let writing = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut written = 0;
        let mut result = write_half.write_all(head.as_bytes());
        while result.is_ok() {
            assert!(
                Instant::now() < deadline,
                "connection still open after {written} bytes"
            );
            result = write_half.write_all(&piece);
            written += piece.len();
        }
        written
    });
    let reading = tokio::task::spawn_blocking(move || {
        let mut received = Vec::new();
        // A reset also closes the connection.
        drop(read_half.read_to_end(&mut received));
        String::from_utf8_lossy(&received).into_owned()
    });
    (reading.await.unwrap(), writing.await.unwrap())
}

#[tokio::test]
async fn endless_request_is_cut_off() {
    let topic = Topic::new(&broker::shared().await);
    let publisher =
        Publisher::start(&setup(&topic.brokers, &topic.name).set("limits.max_body", "1 MiB")).await;
    publisher.wait_until_ready().await;
    let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
    // Up to twice the limit of a rejected body is read; socket buffers hold some more.
    const MOST: usize = 20 << 20;
    let (response, written) = write_endlessly(&publisher, chunked.clone(), chunk).await;
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    assert!((1 << 20..MOST).contains(&written), "{written}");
    for (what, head, piece) in [
        ("an extension", format!("{chunked}2;"), vec![b'a'; 4096]),
        (
            "trailers",
            format!("{chunked}2\r\n[]\r\n0\r\n"),
            b"X: y\r\n".repeat(1_000),
        ),
    ] {
        let (response, written) = write_endlessly(&publisher, head, piece).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 400"),
            "{what}: {response}"
        );
        assert!(written < MOST, "{what}: {written}");
    }
    // Zeros before the size of a chunk take no memory, but the body times out.
    let (response, _) = write_endlessly(&publisher, chunked, vec![b'0'; 4096]).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(topic.read().await.is_empty());
    assert_eq!(
        publisher.send(&users(3)).await.0,
        200,
        "the publisher still works"
    );
    publisher.wait_until_idle().await;
}
