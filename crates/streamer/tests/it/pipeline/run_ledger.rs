//! The run ledger: what became of each record of a run.

use std::time::UNIX_EPOCH;

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::assignment::{wait_for_even_assignment, wait_for_partitions};
use crate::support::commands::{run_command, run_successfully, stop};
use crate::support::test_env::{KILLED_SESSION, TestEnv, eventually, outgoing};
use crate::support::traffic::metric;

/// A record of a run that was fetched now.
fn numbered(run: Uuid, sequence: u64) -> ProducerRecord {
    let now = UNIX_EPOCH.elapsed().unwrap().as_micros().to_string();
    let mut record = outgoing(Uuid::new_v4(), "someone");
    record.headers = vec![
        ("accepted-at-us".to_owned(), now.clone().into_bytes()),
        ("fetched-at-us".to_owned(), now.into_bytes()),
        ("run-id".to_owned(), run.to_string().into_bytes()),
        ("run-seq".to_owned(), sequence.to_string().into_bytes()),
    ];
    record
}

/// A record of a run that becomes a dead letter.
fn garbage(run: Uuid, sequence: u64) -> ProducerRecord {
    ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..numbered(run, sequence)
    }
}

/// Returns the state of the run without its latencies, which are approximate.
async fn state(streamer: &Service, run: Uuid) -> Value {
    let (status, body) = streamer.get(&format!("/v1/runs/{run}")).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    without_latencies(&body)
}

fn without_latencies(body: &str) -> Value {
    let mut state: Value = serde_json::from_str(body).unwrap();
    state.as_object_mut().unwrap().remove("end_to_end");
    state
}

fn is_garbage(sequence: u64) -> bool {
    sequence % 100 == 50
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ledger_is_exact_across_kill_rebalance_and_duplicates() {
    let env = TestEnv::new("ledger", 6).await;
    // Slow enough that records are in flight whenever a member is killed or joins.
    let options = env
        .options()
        .set("cassandra.max_rows_per_second", "800")
        .set("kafka.session_timeout", KILLED_SESSION);
    let mut first = env.start(&options.clone().log_name("first")).await;
    let (run, other) = (Uuid::new_v4(), Uuid::new_v4());
    let record = |sequence| {
        if is_garbage(sequence) {
            garbage(run, sequence)
        } else {
            numbered(run, sequence)
        }
    };
    let records = |range: std::ops::Range<u64>| range.map(record).collect::<Vec<_>>();
    env.kafka.write(&env.topic, &records(0..1_500)).await.unwrap();
    env.wait_for_rows(&first).await;
    first.kill().await.unwrap();
    first.spawn().unwrap();
    // Duplicates of the producer in other partitions, another run with the same numbers in two chunks, and a record
    // without a run. Number 50 is a dead letter that is sent again as a valid record.
    let mut more = records(1_000..3_000);
    more.extend((999_900..1_000_100).map(|sequence| numbered(other, sequence)));
    more.push(numbered(run, 50));
    more.push(outgoing(Uuid::new_v4(), "without a run"));
    env.kafka.write(&env.topic, &more).await.unwrap();
    wait_for_partitions(&first, 6.0).await;
    let second = env.start(&options.log_name("second")).await;
    wait_for_even_assignment(&[&first, &second], 6).await;
    env.kafka.write(&env.topic, &records(3_000..3_600)).await.unwrap();
    env.wait_until_caught_up().await;

    let dead: Vec<_> = (0..3_600).filter(|it| is_garbage(*it) && *it != 50).collect();
    let mut stored = Vec::new();
    let mut start = 0;
    for dead in &dead {
        stored.push([start, dead - 1]);
        start = dead + 1;
    }
    stored.push([start, 3_599]);
    let expected = json!({
        "run_id": run.to_string(), "rows": 3_565, "dead_letters": 35, "lost_table": 0,
        "stored": stored, "dead_lettered": dead.iter().map(|it| [it, it]).collect::<Vec<_>>(), "lost": [],
    });
    assert_eq!(state(&second, run).await, expected);
    assert_eq!(state(&first, run).await, expected);
    let shown = run_successfully(&env, &format!("runs show {run} --json")).await;
    assert_eq!(without_latencies(&shown), expected);
    let (_, body) = second.get(&format!("/v1/runs/{other}")).await.unwrap();
    let found: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(found["stored"], json!([[999_900, 1_000_099]]));
    assert!(found["end_to_end"]["count"].as_u64() >= Some(200), "{found}");
    assert!(found["end_to_end"]["p99_ms"].as_f64() > Some(0.0), "{found}");

    let unknown = Uuid::new_v4();
    let nothing = json!({
        "run_id": unknown.to_string(), "rows": 0, "dead_letters": 0, "lost_table": 0,
        "stored": [], "dead_lettered": [], "lost": [],
    });
    assert_eq!(state(&second, unknown).await, nothing);
    let (status, body) = second.get("/v1/runs/nightly").await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.contains("urn:affluent:problem:bad-request"), "{body}");
    let mut without_run = 0.0;
    for member in [&first, &second] {
        without_run += metric(member, "streamer_records_without_run_total", "").await;
    }
    assert!(without_run >= 1.0, "{without_run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ledger_knows_redriven_lost_and_replayed_records() {
    let env = TestEnv::new("ledgerlost", 1).await;
    let rejecting = env.options().set("tombstones", "dead_letter");
    let mut streamer = env.start(&rejecting).await;
    let run = Uuid::new_v4();
    let mut records: Vec<_> = (0..20).map(|sequence| numbered(run, sequence)).collect();
    records.push(ProducerRecord {
        value: None,
        ..numbered(run, 20)
    });
    records.push(garbage(run, 21));
    env.kafka.write(&env.topic, &records).await.unwrap();
    env.wait_until_caught_up().await;
    let show = async || {
        let output = run_successfully(&env, &format!("runs show {run} --json")).await;
        let found: Value = serde_json::from_str(&output).unwrap();
        json!([found["stored"], found["dead_lettered"], found["lost"]])
    };
    assert_eq!(show().await, json!([[[0, 19]], [[20, 21]], []]));
    let observed = metric(&streamer, "streamer_end_to_end_seconds_count", "").await;
    assert!((observed - 20.0).abs() < f64::EPSILON, "{observed}");

    let output = run_successfully(&env, "redrive").await;
    assert!(output.contains("written: 1, still rejected: 1"), "{output}");
    assert_eq!(show().await, json!([[[0, 20]], [[21, 21]], []]));

    stop(&mut streamer).await;
    let create = run_successfully(&env, "schema show").await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    assert_eq!(
        show().await,
        json!([[], [[20, 21]], [[0, 19]]]),
        "without a table"
    );
    env.cassandra.run(create.trim_end_matches(';')).await.unwrap();
    let (code, output) = run_command(env.options(), "accept-table").await;
    assert_eq!(code, Some(0), "{output}");
    streamer.spawn().unwrap();
    streamer
        .wait_until_ready(crate::support::test_env::DEADLINE)
        .await
        .unwrap();
    assert_eq!(
        show().await,
        json!([[], [[20, 21]], [[0, 19]]]),
        "accepted without its rows"
    );
    let text = run_successfully(&env, &format!("runs show {run}")).await;
    assert!(text.contains("lost          20: 0-19"), "{text}");

    stop(&mut streamer).await;
    run_successfully(&env, "replay --from-offset 0 --yes").await;
    streamer.spawn().unwrap();
    eventually("the replayed records are rows of the new table", async || {
        let found = show().await;
        if found == json!([[[0, 19]], [[20, 21]], []]) {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
    let observed = metric(&streamer, "streamer_end_to_end_seconds_count", "").await;
    assert!(
        observed.abs() < f64::EPSILON,
        "a replay measures nothing: {observed}"
    );

    // A record at each attempt, because the status forgets after a minute.
    eventually("a new record is in the status", async || {
        let record = numbered(Uuid::new_v4(), 0);
        env.kafka.write(&env.topic, &[record]).await.unwrap();
        let (_, status) = streamer.get("/status").await.map_err(|error| error.to_string())?;
        let status: Value = serde_json::from_str(&status).unwrap();
        match status["end_to_end"]["p50_ms"].as_f64() {
            Some(millis) if millis > 0.0 => Ok(()),
            _ => Err(status.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_of_a_record_ends_when_its_own_row_is_acknowledged() {
    let env = TestEnv::new("ledgerlatency", 1).await;
    let run = Uuid::new_v4();
    let records: Vec<_> = (0..160).map(|sequence| numbered(run, sequence)).collect();
    // A backlog, so that all are in one micro-batch, which takes seven seconds: longer than pauses of a busy machine.
    env.kafka.write(&env.topic, &records).await.unwrap();
    let slow = env.options().set("cassandra.max_rows_per_second", "20");
    let streamer = env.start(&slow).await;
    env.wait_until_caught_up().await;
    let (_, body) = streamer.get(&format!("/v1/runs/{run}")).await.unwrap();
    let found: Value = serde_json::from_str(&body).unwrap();
    let millis = |quantile: &str| found["end_to_end"][quantile].as_f64().unwrap();
    assert!(millis("p99_ms") - millis("p50_ms") >= 1_000.0, "{found}");
}

/// The server refuses batches above 50 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn segments_are_written_alone_where_their_batch_is_too_large() {
    let env = TestEnv::new("ledgerlarge", 1).await;
    let runs: Vec<_> = (0..500).map(|_| Uuid::new_v4()).collect();
    let records: Vec<_> = runs.iter().map(|run| numbered(*run, 3)).collect();
    env.kafka.write(&env.topic, &records).await.unwrap();
    let options = env.options().set("cassandra.statement_bytes", "200KiB");
    let streamer = env.start(&options).await;
    env.wait_until_caught_up().await;
    for run in runs.iter().step_by(50) {
        let state = state(&streamer, *run).await;
        assert_eq!(state["stored"], json!([[3, 3]]), "{state}");
    }
}
