//! Requests whose ends are told in two ways, in a wrong one, or not at all; and heads beyond measure.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::broker;
use crate::connections::{connect, until_closed};
use crate::running::{Publisher, ready, setup};
use crate::topic::Topic;
use crate::users::{user, users};

const HEAD: &str = "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// What a front server may have taken for a body, and we must not take for a request.
const HIDDEN: &str = "DELETE /v1/users/0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071 HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is heard when `said` and a hidden request behind it come in one piece.
async fn heard(publisher: &Publisher, said: &str) -> String {
    let said = format!("{said}{HIDDEN}").into_bytes();
    until_closed(connect(publisher), said.leak()).await.0
}

#[tokio::test]
async fn shapes_that_smuggle_requests_are_refused() {
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
        let heard = heard(&publisher, &shape).await;
        assert!(
            heard.starts_with("HTTP/1.1 400") || heard.starts_with("HTTP/1.0 400"),
            "{shape}: {heard}"
        );
        assert_eq!(heard.matches("HTTP/1.").count(), 1, "{shape}: {heard}");
    }
    assert!(topic.read().await.is_empty(), "no hidden request was heard");
    publisher.wait_until_idle().await;
}

/// RFC 9112, 6.3: the chunks count, and the connection ends with the answer. Whoever went by the length believes that
/// what follows the chunks is body.
#[tokio::test]
async fn a_length_beside_chunks_is_no_door_for_a_second_request() {
    let (publisher, topic) = ready().await;
    let record = user().to_string();
    let chunks = format!("{:x}\r\n{record}\r\n0\r\n\r\n", record.len());
    let length = format!("Content-Length: {}\r\n", chunks.len() + HIDDEN.len());
    for framing in [
        format!("{length}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
    ] {
        let heard = heard(&publisher, &format!("{HEAD}{framing}\r\n{chunks}")).await;
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
        assert_eq!(heard.matches("HTTP/1.1").count(), 1, "{heard}");
    }
    assert_eq!(topic.read().await.len(), 2, "the records alone, no tombstone");
}

#[tokio::test]
async fn a_header_that_counts_and_comes_twice_is_refused() {
    let (publisher, topic) = ready().await;
    for header in [
        "Content-Type: application/x-ndjson",
        "Run-Id: a\r\nRun-Id: b",
        "Run-Seq: 1\r\nRun-Seq: 1",
        "Idempotency-Key: a\r\nIdempotency-Key: a",
    ] {
        let said = format!("{HEAD}{header}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]");
        let (heard, _) = until_closed(connect(&publisher), said.into_bytes().leak()).await;
        assert!(heard.starts_with("HTTP/1.1 400"), "{header}: {heard}");
        assert!(heard.contains("problem:bad-header"), "{header}: {heard}");
    }
    assert!(topic.read().await.is_empty());
}

#[tokio::test]
async fn heads_beyond_measure_are_refused() {
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
        let (heard, _) = until_closed(connect(&publisher), head.clone().into_bytes().leak()).await;
        // The rest of such a head is not read, so that a reset may overtake the answer.
        let told = statuses
            .iter()
            .any(|status| heard.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(heard.is_empty() || told, "{}: {heard}", &head[..50]);
    }
    assert_eq!(publisher.send(&users(1)).await.0, 200);
    publisher.wait_until_idle().await;
}

/// Writes `piece` until nobody takes it any more; what was heard, and how many bytes were written.
async fn endless(publisher: &Publisher, head: String, piece: Vec<u8>) -> (String, usize) {
    let mut writing = connect(publisher);
    let mut reading = writing.try_clone().unwrap();
    let talking = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + Duration::from_secs(30);
        let mut written = 0;
        let mut said = writing.write_all(head.as_bytes());
        while said.is_ok() {
            assert!(Instant::now() < until, "{written} bytes, and it still listens");
            said = writing.write_all(&piece);
            written += piece.len();
        }
        written
    });
    let listening = tokio::task::spawn_blocking(move || {
        let mut heard = Vec::new();
        // A reset is an end as well.
        drop(reading.read_to_end(&mut heard));
        String::from_utf8_lossy(&heard).into_owned()
    });
    (listening.await.unwrap(), talking.await.unwrap())
}

#[tokio::test]
async fn what_has_no_end_is_cut_off() {
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name)
        .with("LIMITS__MAX_BODY", "1 MiB")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
    // What is refused is read on for a while, of twice the limit; what the sockets hold is not read at all.
    const MOST: usize = 20 << 20;
    let (heard, written) = endless(&publisher, chunked.clone(), chunk).await;
    assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
    assert!((1 << 20..MOST).contains(&written), "{written}");
    for (what, head, piece) in [
        ("an extension", format!("{chunked}2;"), vec![b'a'; 4096]),
        (
            "trailers",
            format!("{chunked}2\r\n[]\r\n0\r\n"),
            b"X: y\r\n".repeat(1_000),
        ),
    ] {
        let (heard, written) = endless(&publisher, head, piece).await;
        assert!(
            heard.is_empty() || heard.starts_with("HTTP/1.1 400"),
            "{what}: {heard}"
        );
        assert!(written < MOST, "{what}: {written}");
    }
    // Zeros before a chunk's size take no memory; they take the time that a body has.
    let (heard, _) = endless(&publisher, chunked, vec![b'0'; 4096]).await;
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert!(topic.read().await.is_empty());
    assert_eq!(publisher.send(&users(3)).await.0, 200, "it is well");
    publisher.wait_until_idle().await;
}
