//! Ten times the load that can be carried: memory stays flat, most are told so at once, and who is let in is served.

use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::process::usage::{peak_mib, resident_mib};
use tokio::task::JoinSet;

use crate::broker;
use crate::running::{Publisher, setup};
use crate::topic::Topic;
use crate::users::users;

/// Some ten such requests fill the default bound of 32 MiB: 850 KB each, and 700 bytes for each record.
const RECORDS: usize = 2_500;
const CARRIED: usize = 10;

/// The goal for the publisher's memory with that bound, in MiB.
const MOST: f64 = 96.0;

/// What the publisher may hold once a load is over, in MiB: some 23, and up to 4 MiB of free pages in each of two arenas, for
/// which jemalloc does not wake its thread. What grows with each load is more after the third.
const IDLE: f64 = 40.0;

/// Ten times as long as jemalloc keeps what was freed.
const GIVEN_BACK: Duration = Duration::from_secs(1);

const LENGTH: Duration = Duration::from_secs(3);

/// What callers without much patience have heard.
#[derive(Default)]
struct Heard {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    /// Connections that broke: the publisher reads a body that it refuses for two seconds, no longer.
    broken: usize,
}

/// The answer that came later than `part` of a hundred.
fn quantile(mut times: Vec<Duration>, part: usize) -> Duration {
    times.sort_unstable();
    times[times.len() * part / 100]
}

/// Callers who send the same body again and again, 100 ms after they were refused.
async fn offer(publisher: &Publisher, callers: usize) -> Heard {
    let body: Bytes = serde_json::to_vec(&users(RECORDS)).unwrap().into();
    let until = Instant::now() + LENGTH;
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let (client, url, body) = (publisher.client.clone(), publisher.url.clone(), body.clone());
        asking.spawn(async move {
            let mut heard = Heard::default();
            while Instant::now() < until {
                let request = client
                    .post(format!("{url}/v1/users"))
                    .header("content-type", "application/json")
                    .body(body.clone());
                let started = Instant::now();
                let Ok(answer) = request.send().await else {
                    heard.broken += 1;
                    continue;
                };
                match answer.status().as_u16() {
                    200 => heard.accepted.push(started.elapsed()),
                    503 => {
                        assert!(answer.headers().contains_key("retry-after"));
                        heard.refused.push(started.elapsed());
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => panic!("answered {other}"),
                }
            }
            heard
        });
    }
    let mut all = Heard::default();
    for heard in asking.join_all().await {
        all.accepted.extend(heard.accepted);
        all.refused.extend(heard.refused);
        all.broken += heard.broken;
    }
    all
}

/// The most memory the publisher held since this was asked last, in MiB.
fn peak(publisher: &Publisher) -> f64 {
    let pid = publisher.child.pid();
    let peak = peak_mib(pid).unwrap();
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    peak
}

/// What the publisher still holds once all is answered, in MiB.
async fn kept(publisher: &Publisher) -> f64 {
    publisher.wait_until_idle().await;
    tokio::time::sleep(GIVEN_BACK).await;
    publisher.wait_until_idle().await;
    resident_mib(publisher.child.pid()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_leaves_memory_flat_and_those_who_are_let_in_served() {
    let topic = Topic::fresh(&broker::shared().await);
    let publisher = setup(&topic.brokers, &topic.name)
        .with("KAFKA__MESSAGE_TIMEOUT", "10s")
        .with("HTTP__BODY_TIMEOUT", "5s")
        .with("HTTP__REQUEST_TIMEOUT", "20s")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let alone = offer(&publisher, CARRIED).await;
    let carrying = peak(&publisher);
    let crowd = offer(&publisher, 10 * CARRIED).await;
    let (crowded, kept_once) = (peak(&publisher), kept(&publisher).await);
    let later = offer(&publisher, 10 * CARRIED).await;
    let (still, kept_twice) = (peak(&publisher), kept(&publisher).await);
    let last = offer(&publisher, 10 * CARRIED).await;
    let (at_last, kept_thrice) = (peak(&publisher), kept(&publisher).await);
    println!(
        "{carrying:.0} MiB with {} accepted and {} refused; {crowded:.0}, {still:.0} and {at_last:.0} MiB with {} accepted \
         and {} refused; {kept_once:.1}, {kept_twice:.1} and {kept_thrice:.1} MiB kept",
        alone.accepted.len(),
        alone.refused.len(),
        crowd.accepted.len() + later.accepted.len() + last.accepted.len(),
        crowd.refused.len() + later.refused.len() + last.refused.len(),
    );
    assert!(crowd.refused.len() > crowd.accepted.len(), "no overload");
    assert!(
        crowded.max(still).max(at_last) <= MOST,
        "{crowded}, {still} and {at_last} MiB with a bound of 32 MiB"
    );
    assert!(
        kept_once.max(kept_twice).max(kept_thrice) <= IDLE,
        "{kept_once}, {kept_twice} and {kept_thrice} MiB kept"
    );
    let (broken, refused) = (
        crowd.broken + later.broken + last.broken,
        crowd.refused.len() + later.refused.len() + last.refused.len(),
    );
    assert!(broken * 20 <= refused, "{broken} heard nothing");

    // In a queue they would wait for ten times as many before them, however fast or slow this machine is.
    let served = quantile(alone.accepted.clone(), 50);
    let median = quantile(later.refused.clone(), 50);
    let slow = quantile(later.refused, 99);
    println!(
        "served within {served:?}; refused within {median:?}, 99 of 100 within {slow:?}; {broken} connections broke"
    );
    assert!(
        median < served * 5 && slow < served * 10,
        "{served:?}, {median:?}, {slow:?}"
    );

    let slowest = quantile(later.accepted.clone(), 99);
    println!("accepted within {slowest:?}");
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    assert!(
        later.accepted.len() * 4 >= alone.accepted.len(),
        "the crowd keeps it from its work"
    );
    let accepted = [&alone.accepted, &crowd.accepted, &later.accepted].map(Vec::len);
    let acknowledged = publisher.metric("records_total{outcome=\"accepted\"}").await;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let heard = (accepted.iter().sum::<usize>() * RECORDS) as f64;
    assert!(
        acknowledged >= heard,
        "{acknowledged} acknowledged, {heard} said to be"
    );
    publisher.wait_until_idle().await;
}
