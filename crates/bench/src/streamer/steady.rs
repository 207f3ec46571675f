//! The streamer's latency at a steady rate, and its startup time.

use std::time::{Duration, Instant};

use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::sink::stream::Stream;
use crate::sink::{SinkConfig, Streamer};
use testkit::service::{PrometheusHistogram, Service, ServiceOptions};

const POLL: Duration = Duration::from_millis(50);
const READY: Duration = Duration::from_secs(60);
const KAFKA_TO_ROW: &str = "streamer_kafka_to_row_seconds";

fn options(config: &SinkConfig) -> ServiceOptions {
    Streamer::options(config).log_name("streamer")
}

/// Median and 99th percentile from Kafka to the row in milliseconds, from the streamer's own histogram.
/// A record's timestamp is its due time, so that a late sender hides nothing.
pub(super) async fn steady(
    env: &mut BenchEnv,
    rate: u64,
    length: Duration,
    round: usize,
) -> Result<(f64, f64), BenchError> {
    let topic = format!("steady_{rate}_{round}");
    env.stack.kafka.create_topic(&topic, 6).await?;
    let config = env.prepare_sink(&topic).await?;
    let mut streamer = Service::start(&options(&config))?;
    streamer.wait_until_ready(READY).await?;
    let warm = Stream {
        rate,
        length: Duration::from_secs(3),
        probes: 1,
        max_pause: POLL,
        timeout: READY,
        from: 0,
    };
    warm.run(env, &config).await?;
    let before = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let stream = Stream {
        length,
        from: 1_000_000,
        ..warm
    };
    stream.run(env, &config).await?;
    wait_for_rows(&streamer, (warm.length + length).as_secs() * rate).await?;
    let after = PrometheusHistogram::read(&streamer.get("/metrics").await?.1, KAFKA_TO_ROW);
    let latencies = after.since(&before);
    streamer.terminate(READY).await?;
    env.drop_keyspace(&config.keyspace).await?;
    env.delete_topic(&topic).await?;
    Ok((
        latencies.quantile(0.50) * 1_000.0,
        latencies.quantile(0.99) * 1_000.0,
    ))
}

/// Measures the time from process start to `/readyz` in milliseconds. Tables and topics exist already.
pub(super) async fn starts_to_ready(env: &mut BenchEnv, topic: &str) -> Result<Vec<f64>, BenchError> {
    let config = env.prepare_sink(topic).await?;
    let options = options(&config).set("checkpoint.on_missing", "latest");
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
    env.drop_keyspace(&config.keyspace).await?;
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
