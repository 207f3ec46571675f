//! A streamer under a steady stream: its own histogram from Kafka to row, and rows that are observed from outside.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::service::{PrometheusHistogram, Service};

use super::stream::{Latency, Stream};
use crate::env::{BenchEnv, PARTITIONS};
use crate::measure::cost::as_f64;
use crate::sinks::streamer::Streamer;

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const KAFKA_TO_ROW: &str = "streamer_kafka_to_row_seconds";
const WARMUP: Duration = Duration::from_secs(3);

/// What a streamer did with the records of a steady stream.
pub struct Steady {
    /// Seconds from Kafka to row. A record's timestamp is the time it was due, so that a late sender hides nothing.
    pub kafka_to_row: PrometheusHistogram,
    /// The observed rows.
    pub observed: Latency,
    /// Micro-batches that were written again.
    pub rewritten: f64,
}

/// Sends the stream to a new topic with this many partitions, after a warmup at its rate, while `beside` runs.
pub async fn steady(
    env: &mut BenchEnv,
    partitions: i32,
    stream: Stream,
    beside: impl AsyncFnOnce(&BenchEnv) -> Result<()>,
) -> Result<Steady> {
    let topic = format!("steady_{}_{partitions}", env.next_topic());
    env.create_topic(&topic, partitions).await?;
    let target = env.create_target(&topic).await?;
    let mut streamer = Service::start(&Streamer::options(&target))?;
    streamer.wait_until_ready(TIMEOUT).await?;
    let warmup = Stream {
        length: WARMUP,
        probes: 1,
        from: 1_000_000_000,
        ..stream
    };
    warmup.run(env, &target).await?;
    let histogram = async || {
        let (_, text) = streamer.get("/metrics").await?;
        Ok::<_, anyhow::Error>(PrometheusHistogram::read(&text, KAFKA_TO_ROW))
    };
    let before = histogram().await?;
    let (probes, ()) = tokio::try_join!(stream.run(env, &target), beside(env))?;
    wait_for_rows(&streamer, (WARMUP + stream.length).as_secs() * stream.rate).await?;
    let steady = Steady {
        kafka_to_row: histogram().await?.since(&before),
        observed: stream.latency(&probes),
        rewritten: streamer
            .metric("streamer_retries_total", "")
            .await?
            .unwrap_or(0.0),
    };
    streamer.terminate(TIMEOUT).await?;
    env.drop_keyspace(&target.keyspace).await?;
    env.delete_topic(&topic).await?;
    Ok(steady)
}

/// Median and 99th percentile from Kafka to row in milliseconds, at `rate` records per second.
pub async fn steady_latency(env: &mut BenchEnv, rate: u64, length: Duration) -> Result<(f64, f64)> {
    let stream = Stream {
        rate,
        length,
        probes: 1,
        max_delay: POLL_INTERVAL,
        timeout: TIMEOUT,
        from: 0,
    };
    let latencies = steady(env, PARTITIONS, stream, async |_| Ok(()))
        .await?
        .kafka_to_row;
    let [p50, p99] = [0.50, 0.99].map(|quantile| latencies.quantile(quantile) * 1_000.0);
    Ok((p50, p99))
}

async fn wait_for_rows(streamer: &Service, rows: u64) -> Result<()> {
    let started = Instant::now();
    loop {
        let written = streamer.metric("streamer_rows_total", "").await?.unwrap_or(0.0);
        if written >= as_f64(rows) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < TIMEOUT,
            "{written} of {rows} rows after {} s:\n{}",
            TIMEOUT.as_secs(),
            streamer.last_lines(20)
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
