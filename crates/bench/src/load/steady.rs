//! A streamer under a steady stream: its own histogram from Kafka to row, and rows that are observed from outside.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::service::{PrometheusHistogram, Service};

use super::stream::{Latency, Stream};
use crate::env::{BenchEnv, PARTITIONS};
use crate::measure::cost::as_f64;
use crate::measure::partition_progress::{CHECKPOINT_OFFSET, Checkpoints, widest_gap};
use crate::sinks::streamer::Streamer;
use crate::sinks::target::Target;

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const KAFKA_TO_ROW: &str = "streamer_kafka_to_row_seconds";
const WRITE_ATTEMPTS: &str = "streamer_write_attempts";
const WARMUP: Duration = Duration::from_secs(10);
/// Between two looks at the partitions.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// What a streamer did with the records of a steady stream.
pub struct Steady {
    /// Seconds from Kafka to row. A record's timestamp is the time it was due, so that a late sender hides nothing.
    pub kafka_to_row: PrometheusHistogram,
    /// The observed rows.
    pub observed: Latency,
    /// How often the rows of each micro-batch were sent.
    pub write_attempts: PrometheusHistogram,
    /// How many seconds the last partition was behind the median one, at worst.
    pub partition_gap: f64,
}

/// A ready streamer, its topic and its table.
struct Running {
    topic: String,
    target: Target,
    streamer: Service,
}

impl Running {
    /// Starts a streamer on a new topic with this many partitions, and warms it up at the stream's rate.
    async fn start(env: &mut BenchEnv, partitions: i32, stream: Stream) -> Result<Self> {
        let topic = format!("steady_{}_{partitions}", env.next_topic());
        env.create_topic(&topic, partitions).await?;
        let target = env.create_target(&topic).await?;
        let streamer = Service::start(&Streamer::options(&target))?;
        streamer.wait_until_ready(TIMEOUT).await?;
        let warmup = Stream {
            length: WARMUP,
            probes: 1,
            from: 1_000_000_000,
            ..stream
        };
        warmup.run(env, &target).await?;
        wait_for_checkpoints(&streamer, WARMUP.as_secs() * stream.rate).await?;
        Ok(Self {
            topic,
            target,
            streamer,
        })
    }

    async fn end(mut self, env: &mut BenchEnv) -> Result<()> {
        self.streamer.terminate(TIMEOUT).await?;
        env.drop_keyspace(&self.target.keyspace).await?;
        env.delete_topic(&self.topic).await
    }
}

/// Sends the stream to a new topic with this many partitions, after a warmup at its rate, while `beside` runs. Returns what
/// `beside` does, too.
pub async fn steady<T>(
    env: &mut BenchEnv,
    partitions: i32,
    stream: Stream,
    beside: impl AsyncFnOnce(&BenchEnv, &Service) -> Result<T>,
) -> Result<(Steady, T)> {
    let running = Running::start(env, partitions, stream).await?;
    let streamer = &running.streamer;
    let histograms = async || {
        let (_, text) = streamer.get("/metrics").await?;
        let histograms = [KAFKA_TO_ROW, WRITE_ATTEMPTS].map(|name| PrometheusHistogram::read(&text, name));
        Ok::<_, anyhow::Error>(histograms)
    };
    let [latency_before, attempts_before] = histograms().await?;
    let mut samples = Vec::new();
    let work = async {
        let done = tokio::try_join!(stream.run(env, &running.target), beside(env, streamer))?;
        wait_for_checkpoints(streamer, (WARMUP + stream.length).as_secs() * stream.rate).await?;
        anyhow::Ok(done)
    };
    let (probes, beside) = tokio::select! {
        done = work => done?,
        failed = sample(streamer, &mut samples) => match failed? {},
    };
    samples.push(checkpoints(streamer).await?);
    let [latency, attempts] = histograms().await?;
    let steady = Steady {
        kafka_to_row: latency.since(&latency_before),
        observed: stream.latency(&probes),
        write_attempts: attempts.since(&attempts_before),
        partition_gap: widest_gap(&samples, stream.length),
    };
    running.end(env).await?;
    Ok((steady, beside))
}

/// Rows per second that a streamer writes while records are sent faster: its capacity beside the sender. The records that are
/// left at the end are dropped.
pub async fn capacity(env: &mut BenchEnv, partitions: i32, stream: Stream) -> Result<f64> {
    let running = Running::start(env, partitions, stream).await?;
    let before = rows(&running.streamer).await?;
    let started = Instant::now();
    // The sender is stopped, not awaited: it may be late.
    if let Ok(sent) = tokio::time::timeout(stream.length, stream.run(env, &running.target)).await {
        sent?;
    }
    let written = rows(&running.streamer).await? - before;
    let capacity = written / started.elapsed().as_secs_f64();
    running.end(env).await?;
    Ok(capacity)
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
    let (steady, ()) = steady(env, PARTITIONS, stream, async |_, _| Ok(())).await?;
    let [p50, p99] = [0.50, 0.99].map(|quantile| steady.kafka_to_row.quantile(quantile) * 1_000.0);
    Ok((p50, p99))
}

async fn rows(streamer: &Service) -> Result<f64> {
    let rows = streamer.metric("streamer_rows_total", "").await?;
    Ok(rows.unwrap_or(0.0))
}

async fn checkpoints(streamer: &Service) -> Result<Checkpoints> {
    let (_, text) = streamer.get("/metrics").await?;
    Ok(Checkpoints::read(&text))
}

/// Adds the checkpoints twice a second, until a request fails.
async fn sample(streamer: &Service, samples: &mut Vec<Checkpoints>) -> Result<Infallible> {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        interval.tick().await;
        samples.push(checkpoints(streamer).await?);
    }
}

async fn wait_for_checkpoints(streamer: &Service, expected: u64) -> Result<()> {
    let started = Instant::now();
    loop {
        let written = streamer.metric(CHECKPOINT_OFFSET, "").await?.unwrap_or(0.0);
        if written >= as_f64(expected) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < TIMEOUT,
            "{written} of {expected} records after {} s:\n{}",
            TIMEOUT.as_secs(),
            streamer.last_lines(20)
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
