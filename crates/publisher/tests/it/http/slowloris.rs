//! Slowloris: two thousand callers that send one byte a second, and the latency of other callers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, setup};
use crate::support::sample_users::user;
use crate::support::topic::Topic;

/// More than the two thousand connections that the test requires, because disconnected callers reconnect.
const SLOW_CALLERS: u32 = 2_600;
const MIN_CONNECTIONS: f64 = 2_000.0;

/// Callers that never finish their headers or body, and reconnect when they are disconnected. Dropping this stops
/// them.
struct SlowCallers {
    _callers: JoinSet<()>,
}

impl SlowCallers {
    async fn start(publisher: &Publisher) -> Self {
        let address: SocketAddr = publisher.url.trim_start_matches("http://").parse().unwrap();
        let mut callers = JoinSet::new();
        for number in 0..SLOW_CALLERS {
            let head = if number % 8 > 0 {
                "POST /v1/users HTTP/1.1\r\nHost: x\r\nX: "
            } else {
                "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
            };
            callers.spawn(drip(address, head));
        }
        let slow = Self { _callers: callers };
        publisher
            .wait_until("under attack", async || {
                publisher.metric("connections").await >= MIN_CONNECTIONS
            })
            .await;
        slow
    }
}

async fn drip(address: SocketAddr, head: &'static str) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sleep(Duration::from_secs(1)).await;
                sent = stream.write_all(b"x").await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The 99th percentile of the latency of other callers.
async fn p99(publisher: &Publisher) -> Duration {
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (client, url) = (publisher.client.clone(), format!("{}/v1/users", publisher.url));
        callers.spawn(async move {
            let mut waited = Vec::new();
            for _ in 0..200 {
                let request = client.post(&url).json(&user());
                let started = Instant::now();
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
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

/// Raises the limit of open files: the test holds one end of each connection.
fn raise_nofile() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_do_not_delay_others() {
    raise_nofile();
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("http.header_timeout", "10s")
            .set("http.body_timeout", "10s")
            .set("http.request_timeout", "20s"),
    )
    .await;
    publisher.wait_until_ready().await;
    p99(&publisher).await;
    let mut measured = Vec::new();
    // Repeated, because other load on the machine may disturb a measurement, or delay the slow callers that reconnect.
    for _ in 0..5 {
        let quiet = p99(&publisher).await;
        let slow = SlowCallers::start(&publisher).await;
        let attacked = p99(&publisher).await;
        let held = publisher.metric("connections").await;
        drop(slow);
        println!("p99 quiet {quiet:?}, with {held} slow connections {attacked:?}");
        if held >= MIN_CONNECTIONS && attacked <= quiet * 2 {
            return;
        }
        measured.push((quiet, held, attacked));
        publisher
            .wait_until("without slow connections", async || {
                publisher.metric("connections").await < 50.0
            })
            .await;
    }
    panic!("other callers wait more than twice as long: {measured:?}");
}
