//! The latency of a steady stream, by the streamer's own histogram.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::service::{PrometheusHistogram, Service};

use crate::env::{BenchEnv, PARTITIONS};
use crate::load::stream::Stream;
use crate::measure::cost::as_f64;
use crate::sinks::streamer::Streamer;

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const KAFKA_TO_ROW: &str = "streamer_kafka_to_row_seconds";

/// Median and 99th percentile from Kafka to row in milliseconds, at `rate` records per second. A record's timestamp is
/// the time it was due, so that a late sender hides nothing.
pub(super) async fn steady_latency(
    env: &mut BenchEnv,
    rate: u64,
    length: Duration,
    round: usize,
) -> Result<(f64, f64)> {
    let topic = format!("steady_{rate}_{round}");
    env.create_topic(&topic, PARTITIONS).await?;
    let target = env.create_target(&topic).await?;
    let mut streamer = Service::start(&Streamer::options(&target))?;
    streamer.wait_until_ready(TIMEOUT).await?;
    let warmup = Stream {
        rate,
        length: Duration::from_secs(3),
        probes: 1,
        max_delay: POLL_INTERVAL,
        timeout: TIMEOUT,
        from: 0,
    };
    warmup.run(env, &target).await?;
    let before = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let stream = Stream {
        length,
        from: 1_000_000,
        ..warmup
    };
    stream.run(env, &target).await?;
    wait_for_rows(&streamer, (warmup.length + length).as_secs() * rate).await?;
    let after = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let latencies = after.since(&before);
    streamer.terminate(TIMEOUT).await?;
    env.drop_keyspace(&target.keyspace).await?;
    env.delete_topic(&topic).await?;
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
