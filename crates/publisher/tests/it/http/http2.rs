//! HTTP/2 attacks: frames that cost the server more than the client.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::process::usage::resident_mib;

use crate::http::connections::connect;
use crate::support::broker;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GO_AWAY, HEADERS, PING, RESET, RawConnection, SETTINGS,
    body, field, frame, post, read_frame,
};
use crate::support::publisher_process::{Publisher, ready, ready_with, setup};
use crate::support::sample_users::users;
use crate::support::topic::Topic;

/// How the publisher closed the connection of a flood.
struct ClosedFlood {
    /// The bytes written until then.
    written: usize,
    /// The types of the received frames.
    received: Vec<u8>,
}

/// Sends the frames of `next` until the connection is closed.
async fn flood(publisher: &Publisher, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> ClosedFlood {
    let mut stream = connect(publisher);
    let read_half = stream.try_clone().unwrap();
    let reading = tokio::task::spawn_blocking(move || frame_types(read_half));
    let writing = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut result = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        result = result.and_then(|()| stream.write_all(&frame(SETTINGS, 0, 0, &[])));
        let (mut written, mut round) = (0, 0);
        while result.is_ok() {
            assert!(
                Instant::now() < deadline,
                "connection still open after {written} bytes"
            );
            let frames = next(round);
            written += frames.len();
            round += 1;
            result = stream.write_all(&frames);
        }
        written
    });
    ClosedFlood {
        received: reading.await.unwrap(),
        written: writing.await.unwrap(),
    }
}

fn frame_types(mut stream: TcpStream) -> Vec<u8> {
    let mut types = Vec::new();
    while let Some(frame) = read_frame(&mut stream) {
        types.push(frame.kind);
    }
    types
}

/// Far above the size of socket buffers, and small compared with the memory of the process.
const MOST: usize = 16 << 20;

#[tokio::test]
async fn rapid_reset_closes_the_connection() {
    let (publisher, _) = ready().await;
    let rapid_reset = |round: u32| {
        let streams = (round * 100..(round + 1) * 100).map(|number| 2 * number + 1);
        let frames = streams.flat_map(|stream| {
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &GET);
            [request, frame(RESET, 0, stream, &8_u32.to_be_bytes())]
        });
        frames.collect::<Vec<_>>().concat()
    };
    let closed = flood(&publisher, rapid_reset).await;
    assert!(closed.received.contains(&GO_AWAY), "{:?}", closed.received);
    assert!(closed.written < MOST, "{}", closed.written);
    assert_eq!(
        publisher.send(&users(1)).await.0,
        200,
        "the publisher still works"
    );
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn continuation_flood_closes_the_connection() {
    let (publisher, _) = ready().await;
    // A literal without indexing: x: aaaaaaaaaa.
    let header = [&[0, 1, b'x', 10][..], &[b'a'; 10]].concat();
    let headers = header.repeat(1_000);
    let continuations = move |round: u32| match round {
        0 => frame(HEADERS, 0, 1, &GET),
        _ => frame(CONTINUATION, 0, 1, &headers),
    };
    let closed = flood(&publisher, continuations).await;
    assert!(closed.written < MOST, "{}", closed.written);
    assert!(!closed.received.contains(&DATA), "{:?}", closed.received);
    assert_eq!(
        publisher.send(&users(1)).await.0,
        200,
        "the publisher still works"
    );
    publisher.wait_until_idle().await;
}

/// Each ping requires a response, which the client does not read.
#[tokio::test]
async fn ping_flood_closes_the_connection() {
    let topic = Topic::new(&broker::shared().await);
    let setup = setup(&topic.brokers, &topic.name).set("http.write_timeout", "1s");
    let publisher = Publisher::start(&setup).await;
    publisher.wait_until_ready().await;
    let address = publisher.url.trim_start_matches("http://").to_owned();
    let pinging = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(1_000);
        let mut result = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        result = result.and_then(|()| stream.write_all(&frame(SETTINGS, 0, 0, &[])));
        let mut written = 0;
        while result.is_ok() && written < (256 << 20) {
            result = stream.write_all(&pings);
            written += pings.len();
        }
        written
    };
    let written = tokio::task::spawn_blocking(pinging).await.unwrap();
    assert!(written < 256 << 20, "connection still open after {written} bytes");
    publisher
        .wait_until("without the flood's connection", async || {
            publisher.metric("connections").await <= 1.0
        })
        .await;
    assert_eq!(
        publisher.send(&users(1)).await.0,
        200,
        "the publisher still works"
    );
}

/// The caller acknowledges pings, so the connection is alive, but its window of 0 bytes holds every response.
#[tokio::test]
async fn response_without_window_ends_the_connection() {
    let (publisher, _) = ready_with(|setup| {
        setup
            .set("http.write_timeout", "1s")
            .set("http.min_response_rate", "128 KiB")
            .set("http.header_timeout", "10s")
    })
    .await;
    let mut connection = RawConnection::open(&publisher, 0);
    request_errors(&publisher, &mut connection, &[1, 3]).await;
    let started = Instant::now();
    publisher
        .wait_until("without connections", async || connection.is_closed())
        .await;
    // Each of the two responses has about 1 MB.
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    publisher.wait_until_idle().await;
    assert_eq!(publisher.send(&users(1)).await.0, 200);
}

/// Sends a body of 8,000 invalid records on each stream, and waits until the publisher holds the responses.
async fn request_errors(publisher: &Publisher, connection: &mut RawConnection, streams: &[u32]) {
    let records = "x\n".repeat(8_000);
    for stream in streams {
        assert!(connection.send(&frame(
            HEADERS,
            END_HEADERS,
            *stream,
            &post("application/x-ndjson")
        )));
        assert!(connection.send(&body(*stream, records.as_bytes())));
    }
    publisher
        .wait_until("holding the responses", async || {
            publisher.metric("requests_in_flight").await == 0.0
                && publisher.metric("bytes_in_flight").await > 500_000.0
        })
        .await;
}

#[tokio::test]
async fn unread_response_does_not_delay_the_shutdown() {
    let (publisher, _) = ready_with(|setup| {
        setup
            .set("http.write_timeout", "1s")
            .set("http.min_response_rate", "1 B")
            .set("process.shutdown_grace", "7s")
    })
    .await;
    let mut connection = RawConnection::open(&publisher, 0);
    request_errors(&publisher, &mut connection, &[1]).await;
    let status = publisher
        .child()
        .terminate(Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0), "{}", publisher.service.last_lines(10));
}

#[tokio::test]
async fn idle_connection_is_closed_after_the_header_timeout() {
    let (publisher, _) = ready().await;
    let mut connection = RawConnection::open(&publisher, 65_535);
    assert!(connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &GET)));
    publisher
        .wait_until("responding", async || {
            connection.received().iter().any(|frame| frame.kind == HEADERS)
        })
        .await;
    let started = Instant::now();
    publisher
        .wait_until("without connections", async || connection.is_closed())
        .await;
    let waited = started.elapsed();
    assert!(
        waited > Duration::from_secs(1) && waited < Duration::from_secs(6),
        "{waited:?}"
    );
}

#[tokio::test]
async fn more_than_100_fields_or_16_kib_are_431() {
    let (publisher, _) = ready().await;
    let mut connection = RawConnection::open(&publisher, 65_535);
    let get = |fields: usize, value: usize| {
        let field = field("x-number-1", &"v".repeat(value));
        [&GET[..], &field.repeat(fields)].concat()
    };
    for (stream, fields, value) in [(1, 101, 1), (3, 100, 126), (5, 100, 1)] {
        let head = get(fields, value);
        let (first, rest) = head.split_at(head.len().min(16_000));
        let flags = if rest.is_empty() { END_HEADERS } else { 0 };
        let mut frames = frame(HEADERS, flags | END_STREAM, stream, first);
        if !rest.is_empty() {
            frames.extend(frame(CONTINUATION, END_HEADERS, stream, rest));
        }
        assert!(connection.send(&frames));
    }
    publisher
        .wait_until("responding", async || {
            let received = connection.received();
            received.iter().filter(|frame| frame.kind == HEADERS).count() == 3
        })
        .await;
    assert_eq!(publisher.metric("requests_total{status=\"404\"}").await, 1.0);
    assert_eq!(publisher.send(&users(1)).await.0, 200);
}

/// One byte stands for a field of 33 bytes in the header list. Each head is held until its body has arrived, unless it is
/// freed when it was read.
#[tokio::test]
async fn header_bombs_take_no_memory() {
    const CONNECTIONS: usize = 15;
    const STREAMS: u32 = 128;
    let (publisher, _) = ready_with(|setup| {
        setup
            .set("http.body_timeout", "40s")
            .set("http.min_body_rate", "0")
            .set("http.request_timeout", "60s")
            .set("process.shutdown_grace", "50s")
    })
    .await;
    // The first request adds the field to the dynamic table, where its index is 62.
    let added = [0x40, 1, b'x', 1, b'y'];
    let most = [
        post("application/x-ndjson"),
        added.to_vec(),
        vec![0x80 | 62; 1_900],
    ]
    .concat();
    let allowed = [
        post("application/x-ndjson"),
        field("x", &"y".repeat(120)).repeat(90),
    ]
    .concat();
    let mut connections = Vec::new();
    for head in [most, allowed] {
        let mut connection: Vec<_> = (0..CONNECTIONS)
            .map(|_| RawConnection::open(&publisher, 65_535))
            .collect();
        for connection in &mut connection {
            for stream in (0..STREAMS).map(|number| 2 * number + 1) {
                assert!(connection.send(&frame(HEADERS, END_HEADERS, stream, &head)));
            }
        }
        connections.extend(connection);
    }
    publisher
        .wait_until("waiting for bodies", async || {
            publisher.metric("requests_in_flight").await >= 1_900.0
        })
        .await;
    let memory = resident_mib(publisher.child().pid()).unwrap();
    println!("{memory:.0} MiB with {} connections", connections.len());
    assert!(memory < 96.0, "{memory} MiB");
    drop(connections);
    publisher.wait_until_idle().await;
}

/// A caller that is still writing when its stream is reset may lose the response.
#[tokio::test]
async fn refusal_comes_before_the_stream_is_reset() {
    let (publisher, _) = ready().await;
    let mut connection = RawConnection::open(&publisher, 65_535);
    let mut head = post("text/plain");
    head.extend(field("content-length", "60000000"));
    assert!(connection.send(&frame(HEADERS, END_HEADERS, 1, &head)));
    // The default windows of 64 KiB are not used up.
    assert!(connection.send(&frame(DATA, 0, 1, &[b' '; 16_384]).repeat(3)));
    publisher
        .wait_until("responding", async || {
            connection.received().iter().any(|frame| frame.kind == DATA)
        })
        .await;
    let is_reset = |connection: &RawConnection| connection.received().iter().any(|frame| frame.kind == RESET);
    assert!(!is_reset(&connection));
    let started = Instant::now();
    publisher
        .wait_until("ending the stream", async || is_reset(&connection))
        .await;
    assert!(
        started.elapsed() > Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    publisher.wait_until_idle().await;
    assert!(!connection.is_closed(), "other requests of the connection go on");
}
