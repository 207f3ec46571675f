//! Kills the ingester repeatedly within one run, with real publisher and Kafka.

use std::time::Duration;

use ingester::run::{RunFilter, RunState};
use ingester::store::Store;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::workspace::is_full_test_run;

use crate::support::ingester_process::start_ingester;
use crate::support::publisher_stack::PublisherStack;
use crate::support::recording_proxy::RecordingProxy;

const USERS_PER_KILL: u64 = 1_000;
const PAGE: u64 = 250;
/// Allows acknowledged batches behind unacknowledged ones.
const IN_FLIGHT: &str = "4";
/// Initial time until a kill; doubled after a life without progress, so that the test ends on a slow machine.
const LIFE: Duration = Duration::from_millis(60);
const TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn run_killed_repeatedly_delivers_each_user_once() {
    let enough_kills: u32 = if is_full_test_run() { 50 } else { 15 };
    let users = u64::from(enough_kills) * USERS_PER_KILL;
    let stack = PublisherStack::start().await;
    let proxy = RecordingProxy::start(&stack.url()).await;
    let api = RandomUserApi::start(Options::unlimited()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db");
    let (count, page) = (users.to_string(), PAGE.to_string());
    let settings = [
        ("source.page_size", page.as_str()),
        ("source.rate_limit.users", "100000000"),
        ("publisher.max_in_flight", IN_FLIGHT),
        ("publisher.batch_size", "50"),
        ("publisher.backoff.max", "200ms"),
        ("state.path", state.to_str().unwrap()),
    ];
    let command = ["once", "--users", &count, "--seed", "killed"];
    let mut ingester = start_ingester(&command, &api.url(), &proxy.url(), &settings);

    let started = std::time::Instant::now();
    let (mut kills, mut life, mut before) = (0, LIFE, 0);
    while kills < enough_kills {
        tokio::time::sleep(life).await;
        assert!(
            ingester.child().unwrap().is_running(),
            "ended before its {kills}th kill:\n{}",
            ingester.log()
        );
        ingester.kill().await.unwrap();
        kills += 1;
        let fetched = Store::open_shared(&state)
            .ok()
            .and_then(|store| {
                store
                    .runs(&RunFilter::default())
                    .ok()?
                    .first()
                    .map(|run| run.pages_fetched)
            })
            .unwrap_or(0);
        life = if fetched == before {
            life * 2
        } else {
            LIFE.max(life / 2)
        };
        before = fetched;
        ingester.spawn().unwrap();
    }
    let code = ingester.wait(TIMEOUT).await.unwrap();
    assert_eq!(code, Some(0), "{}", ingester.log());

    let runs = Store::open_shared(&state)
        .unwrap()
        .runs(&RunFilter::default())
        .unwrap();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(run.state, RunState::Complete);
    let counts = &run.counts;
    assert_eq!((counts.requested, counts.fetched), (users, users), "{counts:?}");
    assert_eq!(counts.accepted + counts.duplicate, users, "{counts:?}");
    assert_eq!(
        (counts.undelivered, counts.rejected, counts.invalid),
        (0, 0, 0),
        "{counts:?}"
    );
    assert!(run.resumed > 0 && run.resumed <= enough_kills, "{}", run.resumed);

    proxy.assert_one_key_per_record(&run.id.to_string());
    let topic = stack.topic_contents().await;
    let (records, written) = (topic.records_of(run.id), topic.written);
    assert_eq!(
        records.len() as u64,
        counts.accepted,
        "Kafka holds exactly the accepted users, each under one sequence number"
    );
    assert_eq!(topic.runs().len(), 1);

    // Each life fetches again at most the pages that were in flight.
    let most = users / PAGE + 2 * (u64::from(run.resumed) + 1);
    let served = api.requests().len() as u64;
    assert!(served <= most, "{served} requests, expected at most {most}");
    eprintln!(
        "{kills} kills in {:?}: resumed {} times, {served} pages requested, {} requests of {} batches or more, \
         {written} records for {} users",
        started.elapsed(),
        run.resumed,
        proxy.requests(),
        counts.accepted / 50,
        counts.accepted
    );
}
