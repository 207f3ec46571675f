//! Overload by a factor of ten: memory stays flat, most requests are rejected at once, and accepted ones complete.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::headers::JSON;
use testkit::process::usage::{cpu_seconds, peak_mib, resident_mib};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, setup};
use crate::support::sample_users::users;
use crate::support::topic::Topic;

/// Ten such requests fill the default limit of 32 MiB: 850 KB each, and 700 bytes for each record.
const RECORDS: usize = 2_500;
const CAPACITY: usize = 10;

/// The maximum memory of the publisher with that limit, in MiB.
const MAX_MEMORY: f64 = 96.0;

/// The maximum memory after a load, in MiB: about 23, and up to 4 MiB of free pages in each of two arenas, for which
/// jemalloc does not wake its thread. A leak would exceed it after the third load.
const MAX_IDLE_MEMORY: f64 = 40.0;

/// Ten times jemalloc's decay time.
const DECAY: Duration = Duration::from_secs(1);

const LOAD_DURATION: Duration = Duration::from_secs(2);

/// The latencies of the responses that callers received.
#[derive(Default)]
struct Responses {
    accepted: Vec<Duration>,
    rejected: Vec<Duration>,
    /// Failed connections: the publisher reads a rejected body for two seconds at most.
    failed: usize,
}

/// The `percent` percentile.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() * percent / 100]
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(times: &[Duration]) -> f64 {
    times.len() as f64
}

/// Runs callers that send the same body repeatedly, with a pause of 100 ms after a rejection.
async fn offer(publisher: &Publisher, callers: usize) -> Responses {
    let body: Bytes = serde_json::to_vec(&users(RECORDS)).unwrap().into();
    let end = Instant::now() + LOAD_DURATION;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (client, url, body) = (publisher.client.clone(), publisher.url.clone(), body.clone());
        tasks.spawn(async move {
            let mut responses = Responses::default();
            while Instant::now() < end {
                let request = client
                    .post(format!("{url}/v1/users"))
                    .header("content-type", "application/json")
                    .body(body.clone());
                let started = Instant::now();
                let Ok(response) = request.send().await else {
                    responses.failed += 1;
                    continue;
                };
                match response.status().as_u16() {
                    200 => responses.accepted.push(started.elapsed()),
                    503 => {
                        assert!(response.headers().contains_key("retry-after"));
                        responses.rejected.push(started.elapsed());
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => panic!("unexpected status {other}"),
                }
            }
            responses
        });
    }
    let mut all = Responses::default();
    for responses in tasks.join_all().await {
        all.accepted.extend(responses.accepted);
        all.rejected.extend(responses.rejected);
        all.failed += responses.failed;
    }
    all
}

/// The publisher's peak memory since the last call, in MiB.
fn peak(publisher: &Publisher) -> f64 {
    let pid = publisher.child().pid();
    let peak = peak_mib(pid).unwrap();
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    peak
}

/// The publisher's memory after all responses, in MiB.
async fn idle_memory(publisher: &Publisher) -> f64 {
    publisher.wait_until_idle().await;
    tokio::time::sleep(DECAY).await;
    publisher.wait_until_idle().await;
    resident_mib(publisher.child().pid()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_keeps_memory_flat_and_completes_accepted() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("kafka.message_timeout", "10s")
            .set("http.body_timeout", "5s")
            .set("http.request_timeout", "20s"),
    )
    .await;
    publisher.wait_until_ready().await;
    let cpu = || cpu_seconds(publisher.child().pid()).unwrap();
    let started = cpu();
    let base = offer(&publisher, CAPACITY).await;
    let base_cpu = cpu() - started;
    let base_peak = peak(&publisher);
    let first = offer(&publisher, 10 * CAPACITY).await;
    let (first_peak, first_idle) = (peak(&publisher), idle_memory(&publisher).await);
    let started = cpu();
    let second = offer(&publisher, 10 * CAPACITY).await;
    let second_cpu = cpu() - started;
    let (second_peak, second_idle) = (peak(&publisher), idle_memory(&publisher).await);
    let third = offer(&publisher, 10 * CAPACITY).await;
    let (third_peak, third_idle) = (peak(&publisher), idle_memory(&publisher).await);
    println!(
        "{base_peak:.0} MiB with {} accepted and {} rejected; \
         {first_peak:.0}, {second_peak:.0} and {third_peak:.0} MiB with {} accepted and {} rejected; \
         {first_idle:.1}, {second_idle:.1} and {third_idle:.1} MiB when idle",
        base.accepted.len(),
        base.rejected.len(),
        first.accepted.len() + second.accepted.len() + third.accepted.len(),
        first.rejected.len() + second.rejected.len() + third.rejected.len(),
    );
    assert!(first.rejected.len() > first.accepted.len(), "not overloaded");
    assert!(
        first_peak.max(second_peak).max(third_peak) <= MAX_MEMORY,
        "{first_peak}, {second_peak} and {third_peak} MiB with a limit of 32 MiB"
    );
    assert!(
        first_idle.max(second_idle).max(third_idle) <= MAX_IDLE_MEMORY,
        "{first_idle}, {second_idle} and {third_idle} MiB when idle"
    );
    let (failed, rejected) = (
        first.failed + second.failed + third.failed,
        first.rejected.len() + second.rejected.len() + third.rejected.len(),
    );
    assert!(failed * 20 <= rejected, "{failed} connections failed");

    // A queue would multiply the latency by ten on any machine.
    let accepted_median = percentile(&base.accepted, 50);
    let rejected_median = percentile(&second.rejected, 50);
    let rejected_p99 = percentile(&second.rejected, 99);
    println!(
        "median of accepted {accepted_median:?}; of rejected {rejected_median:?}, p99 {rejected_p99:?}; \
         {failed} connections failed"
    );
    assert!(
        rejected_median < accepted_median * 5 && rejected_p99 < accepted_median * 10,
        "{accepted_median:?}, {rejected_median:?}, {rejected_p99:?}"
    );

    let accepted_p99 = percentile(&second.accepted, 99);
    println!("p99 of accepted under overload {accepted_p99:?}");
    assert!(accepted_p99 < Duration::from_secs(8), "{accepted_p99:?}");

    // The callers use most of the CPU, so the share that is accepted in a time says more of the machine than of the
    // publisher. CPU times do not depend on what runs beside it.
    let accepted_cost = base_cpu / count(&base.accepted);
    let rejected_cost = (second_cpu - accepted_cost * count(&second.accepted)) / count(&second.rejected);
    println!("CPU of an accepted request {accepted_cost:.5} s, of a rejected one {rejected_cost:.5} s");
    assert!(
        rejected_cost <= accepted_cost / 4.0,
        "a rejection costs {rejected_cost:.5} s of CPU, an accepted request {accepted_cost:.5} s"
    );
    let accepted = [&base.accepted, &first.accepted, &second.accepted].map(Vec::len);
    let acknowledged = publisher.metric("records_total{outcome=\"accepted\"}").await;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let reported = (accepted.iter().sum::<usize>() * RECORDS) as f64;
    assert!(
        acknowledged >= reported,
        "{acknowledged} acknowledged, {reported} reported as accepted"
    );
    publisher.wait_until_idle().await;
}

/// A caller that reads no response before it has written its whole body.
#[tokio::test]
async fn overloaded_publisher_reads_the_body_that_it_rejects() {
    let topic = Topic::new(&broker::shared().await);
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("limits.max_body", "1MiB")
            .set("limits.max_records", "100")
            .set("limits.max_in_flight_bytes", "1200KiB")
            .set("http.min_body_rate", "0B"),
    )
    .await;
    publisher.wait_until_ready().await;
    let head = |length: usize| {
        format!(
            "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let address = publisher.url.trim_start_matches("http://");
    // Each request without its body takes 4 KiB.
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head(10).as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let in_flight = async || publisher.metric("bytes_in_flight").await;
    publisher
        .wait_until("full", async || in_flight().await >= 1_200.0 * 1_024.0)
        .await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = 1_000_000;
    stream.write_all(head(length).as_bytes()).await.unwrap();
    stream
        .write_all(&vec![b' '; length])
        .await
        .expect("the body is read");
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 503");
}
