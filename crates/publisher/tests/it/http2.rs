//! HTTP/2 spoken by those who mean harm: frames that cost the one who reads them more than the one who writes them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::broker;
use crate::connections::connect;
use crate::running::{Publisher, ready, setup};
use crate::topic::Topic;
use crate::users::users;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET / HTTP/2`, of the static table but for the authority.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'x'];

/// RFC 9113, 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What the publisher did with a caller who would never have stopped.
struct CutOff {
    /// Bytes that it was sent until then.
    written: usize,
    /// The frames it said, each by its kind.
    heard: Vec<u8>,
}

/// Sends what `next` gives until the connection is over.
async fn flood(publisher: &Publisher, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> CutOff {
    let mut stream = connect(publisher);
    let reading = stream.try_clone().unwrap();
    let listening = tokio::task::spawn_blocking(move || kinds(reading));
    let talking = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + Duration::from_secs(30);
        let mut said = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        said = said.and_then(|()| stream.write_all(&frame(SETTINGS, 0, 0, &[])));
        let (mut written, mut turn) = (0, 0);
        while said.is_ok() {
            assert!(Instant::now() < until, "{written} bytes, and it still listens");
            let frames = next(turn);
            written += frames.len();
            turn += 1;
            said = stream.write_all(&frames);
        }
        written
    });
    CutOff {
        heard: listening.await.unwrap(),
        written: talking.await.unwrap(),
    }
}

fn kinds(mut stream: TcpStream) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    // A reset is an end as well.
    while stream.read_exact(&mut head).is_ok() {
        kinds.push(head[3]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
    }
    kinds
}

/// Well below what a memory would notice, and far above what sockets hold.
const MOST: usize = 16 << 20;

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let (publisher, _) = ready().await;
    let taken_back = |turn: u32| {
        let streams = (turn * 100..(turn + 1) * 100).map(|number| 2 * number + 1);
        let frames = streams.flat_map(|stream| {
            let asked = frame(HEADERS, END_HEADERS | END_STREAM, stream, &GET);
            [asked, frame(RESET, 0, stream, &8_u32.to_be_bytes())]
        });
        frames.collect::<Vec<_>>().concat()
    };
    let cut_off = flood(&publisher, taken_back).await;
    assert!(cut_off.heard.contains(&GO_AWAY), "{:?}", cut_off.heard);
    assert!(cut_off.written < MOST, "{}", cut_off.written);
    assert_eq!(publisher.send(&users(1)).await.0, 200, "it is well");
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn a_head_that_goes_on_without_end_ends_the_connection() {
    let (publisher, _) = ready().await;
    // A literal without indexing: x: aaaaaaaaaa.
    let header = [&[0, 1, b'x', 10][..], &[b'a'; 10]].concat();
    let headers = header.repeat(1_000);
    let continued = move |turn: u32| match turn {
        0 => frame(HEADERS, 0, 1, &GET),
        _ => frame(CONTINUATION, 0, 1, &headers),
    };
    let cut_off = flood(&publisher, continued).await;
    assert!(cut_off.written < MOST, "{}", cut_off.written);
    assert!(!cut_off.heard.contains(&DATA), "{:?}", cut_off.heard);
    assert_eq!(publisher.send(&users(1)).await.0, 200, "it is well");
    publisher.wait_until_idle().await;
}

/// Each has to be answered, and the answers are not read.
#[tokio::test]
async fn pings_without_end_by_one_who_reads_nothing_end_the_connection() {
    let topic = Topic::fresh(&broker::shared().await);
    let setup = setup(&topic.brokers, &topic.name).with("HTTP__WRITE_TIMEOUT", "1s");
    let publisher = setup.start().await;
    publisher.wait_until_ready().await;
    let address = publisher.url.trim_start_matches("http://").to_owned();
    let pinging = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(1_000);
        let mut said = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        said = said.and_then(|()| stream.write_all(&frame(SETTINGS, 0, 0, &[])));
        let mut written = 0;
        while said.is_ok() && written < (256 << 20) {
            said = stream.write_all(&pings);
            written += pings.len();
        }
        written
    };
    let written = tokio::task::spawn_blocking(pinging).await.unwrap();
    assert!(written < 256 << 20, "{written} bytes, and it still listens");
    publisher
        .wait_until("rid of it", async || publisher.metric("connections").await <= 1.0)
        .await;
    assert_eq!(publisher.send(&users(1)).await.0, 200, "it is well");
}
