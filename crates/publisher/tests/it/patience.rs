//! How long callers may take: bodies that drip, answers that nobody reads, connections that grow old.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::broker;
use crate::running::{Publisher, setup};
use crate::topic::Topic;
use crate::users::{user, users};

const PATIENCE: Duration = Duration::from_secs(20);

/// A ready publisher with these settings.
async fn with(settings: &[(&str, &str)]) -> (Publisher, Topic) {
    let topic = Topic::fresh(&broker::shared().await);
    let setup = setup(&topic.brokers, &topic.name);
    let setup = settings
        .iter()
        .fold(setup, |setup, (key, value)| setup.with(key, value));
    let publisher = setup.start().await;
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

/// The first bytes of the answer to a body that comes in `pieces`, one each `gap`, and when they came.
async fn dripped(publisher: &Publisher, pieces: &[&[u8]], gap: Duration) -> (String, Duration) {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let stream = TcpStream::connect(address(publisher)).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let started = Instant::now();
    let dripping = async {
        writing
            .write_all(head("application/json", length).as_bytes())
            .await
            .unwrap();
        for piece in pieces {
            // Once it is answered nobody listens any more.
            if writing.write_all(piece).await.is_err() {
                break;
            }
            sleep(gap).await;
        }
        std::future::pending::<()>().await;
    };
    let mut heard = [0; 64];
    let length = tokio::select! {
        read = timeout(PATIENCE, reading.read(&mut heard)) => read.unwrap().unwrap(),
        () = dripping => 0,
    };
    (
        String::from_utf8_lossy(&heard[..length]).into_owned(),
        started.elapsed(),
    )
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_and_one_that_keeps_the_pace_is_taken() {
    let (publisher, topic) = with(&[("HTTP__BODY_TIMEOUT", "15s"), ("HTTP__REQUEST_TIMEOUT", "30s")]).await;
    let drops = [b" ".as_slice(); 500];
    let (heard, waited) = dripped(&publisher, &drops, Duration::from_millis(200)).await;
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    assert!(topic.read().await.is_empty());

    let mut body = user().to_string().into_bytes();
    body.resize(12 * 1024, b' ');
    let pieces: Vec<_> = body.chunks(1024).collect();
    let (heard, waited) = dripped(&publisher, &pieces, Duration::from_millis(400)).await;
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    assert!(waited > Duration::from_secs(4), "{waited:?}");
    publisher.wait_until_idle().await;
}

#[tokio::test]
async fn a_caller_who_reads_no_answers_is_cut_off() {
    let (publisher, _) = with(&[("HTTP__WRITE_TIMEOUT", "1s"), ("HTTP__HEADER_TIMEOUT", "20s")]).await;
    let body = "x\n".repeat(20_000);
    let request = head("application/x-ndjson", body.len()) + &body;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket
        .connect(address(&publisher).parse().unwrap())
        .await
        .unwrap();
    // The publisher reads no further than its caller does, so that they don't all get through.
    let asking = async {
        for _ in 0..10 {
            if stream.write_all(request.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let cut_off = async {
        // What nobody reads counts like what is being worked on: the list of 20,000 errors, and more than the body.
        publisher
            .wait_until("holding the answer", async || {
                publisher.metric("records_total{outcome=\"rejected\"}").await >= 20_000.0
                    && publisher.metric("requests_in_flight").await == 0.0
                    && publisher.metric("bytes_in_flight").await > 1_000_000.0
            })
            .await;
        publisher
            .wait_until("rid of it", async || publisher.metric("connections").await == 0.0)
            .await;
        publisher.wait_until_idle().await;
    };
    tokio::select! {
        ended = timeout(PATIENCE, cut_off) => ended.unwrap(),
        () = asking => {}
    }
}

#[tokio::test]
async fn a_connection_that_grows_old_is_ended_between_two_requests() {
    let (publisher, _) = with(&[
        ("HTTP__MAX_CONNECTION_AGE", "1s"),
        ("HTTP__HEADER_TIMEOUT", "10s"),
    ])
    .await;
    let mut stream = std::net::TcpStream::connect(address(&publisher)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asking = move || {
        let started = Instant::now();
        let mut answers = 0;
        let mut heard = [0; 4096];
        loop {
            let asked = stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n");
            match asked.and_then(|()| stream.read(&mut heard)) {
                Ok(0) | Err(_) => return (answers, started.elapsed()),
                Ok(length) => assert!(heard[..length].starts_with(b"HTTP/1.1 404")),
            }
            answers += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (answers, age) = tokio::task::spawn_blocking(asking).await.unwrap();
    assert!(answers >= 5, "{answers}");
    assert!(
        age > Duration::from_millis(900) && age < Duration::from_secs(6),
        "{age:?}"
    );
    assert_eq!(publisher.send(&users(1)).await.0, 200, "a new one is welcome");
}
