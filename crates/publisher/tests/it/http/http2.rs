//! HTTP/2 attacks: frames that cost the server more than the client.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::connections::connect;
use crate::support::broker;
use crate::support::harness::{Publisher, ready, setup};
use crate::support::sample_users::users;
use crate::support::topic::Topic;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET / HTTP/2`, encoded with the static table except the authority.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'x'];

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

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
    let mut head = [0; 9];
    // A reset also closes the connection.
    while stream.read_exact(&mut head).is_ok() {
        types.push(head[3]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
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
    let setup = setup(&topic.brokers, &topic.name).with("HTTP__WRITE_TIMEOUT", "1s");
    let publisher = setup.start().await;
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
