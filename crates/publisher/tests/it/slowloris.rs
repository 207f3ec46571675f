//! Two thousand callers who send a byte each second, and what honest ones feel of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broker;
use crate::running::{Publisher, setup};
use crate::topic::Topic;
use crate::users::user;

/// More than the two thousand that are to be held: those who were thrown out are on their way back.
const SLOW: u32 = 2_600;
const HELD: f64 = 2_000.0;

/// Callers who never finish a head, or a body, and come again when they are thrown out. They leave when this is
/// dropped.
struct SlowCallers {
    _callers: JoinSet<()>,
}

impl SlowCallers {
    async fn start(publisher: &Publisher) -> Self {
        let address: SocketAddr = publisher.url.trim_start_matches("http://").parse().unwrap();
        let mut callers = JoinSet::new();
        for number in 0..SLOW {
            let said = if number % 8 > 0 {
                "POST /v1/users HTTP/1.1\r\nHost: x\r\nX: "
            } else {
                "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
            };
            callers.spawn(drip(address, said));
        }
        let slow = Self { _callers: callers };
        publisher
            .wait_until("beset", async || publisher.metric("connections").await >= HELD)
            .await;
        slow
    }
}

async fn drip(address: SocketAddr, said: &'static str) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let mut sent = stream.write_all(said.as_bytes()).await;
            while sent.is_ok() {
                sleep(Duration::from_secs(1)).await;
                sent = stream.write_all(b"x").await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The 99th percentile of what honest callers wait for an answer.
async fn p99(publisher: &Publisher) -> Duration {
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (client, url) = (publisher.client.clone(), format!("{}/v1/users", publisher.url));
        callers.spawn(async move {
            let mut waited = Vec::new();
            for _ in 0..200 {
                let request = client.post(&url).json(&user());
                let started = Instant::now();
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
                waited.push(started.elapsed());
                sleep(Duration::from_millis(10)).await;
            }
            waited
        });
    }
    let mut waited = callers.join_all().await.concat();
    waited.sort_unstable();
    waited[waited.len() * 99 / 100]
}

/// Both ends of two thousand connections are files.
fn make_room_for_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_callers_leave_honest_ones_their_pace() {
    make_room_for_files();
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name)
        .with("HTTP__HEADER_TIMEOUT", "10s")
        .with("HTTP__BODY_TIMEOUT", "10s")
        .with("HTTP__REQUEST_TIMEOUT", "20s")
        .start()
        .await;
    publisher.wait_until_ready().await;
    p99(&publisher).await;
    let mut told = Vec::new();
    // Other work on the machine disturbs one of the two more than the other now and then.
    for _ in 0..3 {
        let quiet = p99(&publisher).await;
        let slow = SlowCallers::start(&publisher).await;
        let pressed = p99(&publisher).await;
        let held = publisher.metric("connections").await;
        drop(slow);
        assert!(held >= HELD, "{held} slow connections are no test");
        println!("p99 quiet {quiet:?}, with {held} slow connections {pressed:?}");
        if pressed <= quiet * 2 {
            return;
        }
        told.push((quiet, pressed));
        publisher
            .wait_until("rid of them", async || {
                publisher.metric("connections").await < 50.0
            })
            .await;
    }
    panic!("honest callers wait more than twice as long: {told:?}");
}
