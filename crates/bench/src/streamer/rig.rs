//! What the bench of the streamer works with beside the common field: the ceiling as a process of its own, a steady
//! stream by the streamer's own clock, and its start.

use std::time::{Duration, Instant};

use super::TOPIC;
use super::sweep::Settings;
use crate::bare;
use crate::error::BenchError;
use crate::field::{Field, PATIENCE};
use crate::sink::{Site, Streamer};
use crate::stream::Stream;
use crate::usage::Cost;
use testkit::process::Program;
use testkit::service::PrometheusHistogram;
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

const POLL: Duration = Duration::from_millis(50);
const READY: Duration = Duration::from_secs(60);
const KAFKA_TO_ROW: &str = "streamer_kafka_to_row_seconds";

/// The bare loop, as a process of its own.
pub(crate) async fn ceiling(field: &mut Field, settings: &Settings, rows: u64) -> Result<Cost, BenchError> {
    let keyspace = field.keyspace().await?;
    let log = field.folder.join(format!("{keyspace}.log"));
    let arguments = [
        (
            "--contact-point",
            field.stack.cassandra.contact_points()[0].clone(),
        ),
        ("--keyspace", keyspace.clone()),
        ("--rows", rows.to_string()),
        ("--window", settings.window.to_string()),
        ("--connections", settings.connections.to_string()),
        ("--batch", settings.batch.to_string()),
    ];
    let mut program = Program::new(workspace::binary("bench")?).arg("ceiling");
    for (name, value) in arguments {
        program = program.arg(name).arg(value);
    }
    let cost = bare::cost(program, &log, PATIENCE).await?;
    field.drop_keyspace(&keyspace).await?;
    Ok(cost)
}

fn options(site: &Site) -> ServiceOptions {
    Streamer::options(site).log_name("streamer")
}

/// Median and 99th percentile of Kafka → row in milliseconds, at `rate` records a second, by the streamer's own
/// histogram. A record's timestamp is the moment at which it was to be sent, so that a late sender hides nothing.
pub(super) async fn steady(
    field: &mut Field,
    rate: u64,
    length: Duration,
    round: usize,
) -> Result<(f64, f64), BenchError> {
    let topic = format!("steady_{rate}_{round}");
    field.stack.kafka.create_topic(&topic, 6).await?;
    let site = field.site(&topic).await?;
    let mut streamer = Service::start(&options(&site))?;
    streamer.wait_until_ready(READY).await?;
    let warm = Stream {
        rate,
        length: Duration::from_secs(3),
        probes: 1,
        longest_pause: POLL,
        patience: READY,
        from: 0,
    };
    warm.run(field, &site).await?;
    let before = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let stream = Stream {
        length,
        from: 1_000_000,
        ..warm
    };
    stream.run(field, &site).await?;
    wait_for_rows(&streamer, (warm.length + length).as_secs() * rate).await?;
    let after = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let latencies = after.since(&before);
    streamer.terminate(READY).await?;
    field.drop_keyspace(&site.keyspace).await?;
    field.delete_topic(&topic).await?;
    Ok((
        latencies.quantile(0.50) * 1_000.0,
        latencies.quantile(0.99) * 1_000.0,
    ))
}

/// Milliseconds from the process's start until `/readyz` says yes, tables and topics being there, again and again.
pub(super) async fn starts_to_ready(field: &mut Field) -> Result<Vec<f64>, BenchError> {
    let site = field.site(TOPIC).await?;
    let options = options(&site).set("checkpoint.on_missing", "latest");
    let mut streamer = Service::start(&options)?;
    streamer.wait_until_ready(READY).await?;
    streamer.terminate(READY).await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        streamer.spawn()?;
        streamer.wait_until_ready(READY).await?;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
        streamer.terminate(READY).await?;
    }
    field.drop_keyspace(&site.keyspace).await?;
    Ok(times)
}

async fn wait_for_rows(streamer: &Service, rows: u64) -> Result<(), BenchError> {
    let started = Instant::now();
    loop {
        let found = streamer.metric("streamer_rows_total", "").await?.unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter"
        )]
        let stored = found as u64;
        if stored >= rows {
            return Ok(());
        }
        if started.elapsed() > READY {
            let log = streamer.last_lines(20);
            return Err(BenchError::Stuck {
                stored,
                expected: rows,
                waited: READY,
                log,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
