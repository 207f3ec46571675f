//! Looks at every process a few times a second, and at the checkpoints and what is durable beneath them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use reqwest::Client;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RoundError;
use super::chronicle::Chronicle;
use super::evidence::{CheckpointSample, Look, Who};
use super::laws;
use super::pause::Pause;
use testkit::cassandra_client::{CassandraClient, CassandraClientError};
use testkit::kafka_client::{KafkaClient, TopicRecord};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(300);
/// For its answer; a frozen one has none.
const ANSWER: Duration = Duration::from_millis(1_000);
/// Between two samples of the checkpoints.
const SAMPLE: Duration = Duration::from_millis(250);
/// One in so many samples reads the dead letters, too, which costs as much as several others.
const WITH_LETTERS: u64 = 5;
/// For a sample, when a server is away.
const READ: Duration = Duration::from_secs(5);
/// For the dead letters of a sample: without them it is still one.
const READ_LETTERS: Duration = Duration::from_secs(3);

/// Looks at processes.
pub struct Watch {
    /// Where each tells of itself.
    pub admins: BTreeMap<Who, String>,
    /// When the round began.
    pub began: Instant,
    /// When to end.
    pub stop: CancellationToken,
}

impl Watch {
    /// Until it is stopped; returns the looks at each.
    ///
    /// # Errors
    /// When no client can be made.
    pub async fn run(&self) -> Result<BTreeMap<Who, Vec<Look>>, RoundError> {
        let client = Client::builder()
            .timeout(ANSWER)
            .build()
            .map_err(RoundError::Client)?;
        let each = self.admins.iter().map(|(who, admin)| {
            let client = client.clone();
            async move {
                let mut looks = Vec::new();
                while !self.stop.is_cancelled() {
                    looks.push(look(&client, admin, self.began).await);
                    sleep(LOOK).await;
                }
                (*who, looks)
            }
        });
        Ok(join_all(each).await.into_iter().collect())
    }
}

/// One look at a process. Each of the three questions is asked by itself: who is silent at one of them may answer the
/// others.
pub(super) async fn look(client: &Client, admin: &str, began: Instant) -> Look {
    let at = began.elapsed().as_secs_f64();
    let ask = async |path: &str| {
        let answer = client.get(format!("{admin}{path}")).send().await.ok()?;
        let status = answer.status();
        Some((status.is_success(), answer.text().await.ok()?))
    };
    let (alive, ready, metrics) = tokio::join!(ask("/healthz"), ask("/readyz"), ask("/metrics"));
    Look {
        at,
        alive: alive.map(|(alive, _)| alive),
        missing: ready.as_ref().map(|(_, text)| missing(text)).unwrap_or_default(),
        ready: ready.map(|(ready, _)| ready),
        metrics: metrics.map(|(_, text)| sums(&text)).unwrap_or_default(),
    }
}

/// The dependencies that are not ready.
fn missing(readiness: &str) -> Vec<String> {
    let readiness: Value = serde_json::from_str(readiness).unwrap_or_default();
    let dependencies = readiness["dependencies"].as_array().cloned().unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| dependency["ready"] == false)
        .filter_map(|dependency| Some(dependency["name"].as_str()?.to_owned()))
        .collect()
}

/// Of each metric the sum of its series, and each series with labels by itself; of histograms only sum and count.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or(series);
        if let (false, Ok(value)) = (name.ends_with("_bucket"), value.parse::<f64>()) {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
            if name != series {
                sums.insert(series.to_owned(), value);
            }
        }
    }
    sums
}

/// Looks at checkpoints, past every proxy.
pub struct CheckpointWatch<'a> {
    /// Where Cassandra's nodes are.
    pub contact_points: Vec<String>,
    /// Topic, keyspace and group.
    pub name: &'a str,
    /// The dead-letter topic.
    pub letters: String,
    /// Past the proxy, too.
    pub tap: KafkaClient,
    /// When the round began.
    pub began: Instant,
    /// Held while an operator changes them.
    pub pause: &'a Pause,
    /// What became of the topic.
    pub chronicle: &'a Chronicle,
    /// When to end.
    pub stop: CancellationToken,
}

impl CheckpointWatch<'_> {
    /// Until it is stopped; returns the samples.
    pub async fn run(&self) -> Vec<CheckpointSample> {
        let mut samples = Vec::new();
        let (mut table, mut turns) = (None, 0);
        for number in 0_u64.. {
            if self.stop.is_cancelled() {
                break;
            }
            let letters = number % WITH_LETTERS == 0;
            let before = self.pause.turns();
            match timeout(READ, self.sample(&mut table, letters)).await {
                // What was read while an operator was at work may be half of the one and half of the other.
                Ok(Ok(mut sample)) if !self.pause.is_held() && before == self.pause.turns() => {
                    sample.anew = std::mem::replace(&mut turns, before) != before;
                    samples.push(sample);
                }
                Ok(Ok(_)) => {}
                // A server is away; a session that has seen it go may take a minute to come back.
                Ok(Err(_)) | Err(_) => table = None,
            }
            sleep(SAMPLE).await;
        }
        samples
    }

    /// The checkpoints first, then everything else: what is durable can only have become more.
    ///
    /// # Errors
    /// When Cassandra does not answer.
    pub async fn sample(
        &self,
        table: &mut Option<CassandraClient>,
        letters: bool,
    ) -> Result<CheckpointSample, CassandraClientError> {
        let table = match table {
            Some(table) => table,
            None => table.insert(
                CassandraClient::connect(&self.contact_points, self.name)
                    .await?
                    .by_quorum(),
            ),
        };
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let checkpoints = table.checkpoints(self.name, self.name).await?;
        let letters = if letters {
            timeout(READ_LETTERS, self.tap.read(&self.letters))
                .await
                .ok()
                .and_then(Result::ok)
        } else {
            None
        };
        let stamps = table.stamps().await?;
        let next = checkpoints.iter().map(|(partition, checkpoint)| {
            let place = (*partition, checkpoint.next_offset);
            self.chronicle.place(Some(checkpoint.topic_id), place)
        });
        let place = |letter: &TopicRecord| {
            let (topic, place) = laws::place_of(letter)?;
            Some(self.chronicle.place(topic, place))
        };
        Ok(CheckpointSample {
            at_ms,
            read_by: Timestamp::now().as_millisecond(),
            anew: false,
            next: next.collect(),
            stamps,
            letters: letters.map(|letters| letters.iter().filter_map(place).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_and_buckets_left_out() {
        let text = "# HELP x y\nx{a=\"1\"} 1\nx{a=\"2\"} 2\ny_bucket{le=\"1\"} 9\ny_count 4\n";
        let found = sums(text);
        assert_eq!(
            found,
            BTreeMap::from([
                ("x".to_owned(), 3.0),
                ("x{a=\"1\"}".to_owned(), 1.0),
                ("x{a=\"2\"}".to_owned(), 2.0),
                ("y_count".to_owned(), 4.0)
            ])
        );
    }

    #[test]
    fn what_is_not_ready_is_named() {
        let text = r#"{"ready":false,"dependencies":[{"name":"kafka","ready":true},{"name":"cassandra","ready":false}]}"#;
        assert_eq!(missing(text), ["cassandra"]);
        assert!(missing("no JSON").is_empty());
    }
}
