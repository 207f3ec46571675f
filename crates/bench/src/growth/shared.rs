//! A group of streamers that shares an empty topic before the first record comes.

use std::time::{Duration, Instant};

use crate::drain::{Drain, followed};
use crate::error::BenchError;
use crate::field::{Field, prepared};
use crate::sink::{Running, Site, Streamer};
use testkit::service::Service;

const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Pours so many records into the topic once each of the members holds some of its partitions, and follows them. The
/// records are made before, so that the pouring costs as little as it can beside what is measured.
pub(super) async fn drain_by_group(
    field: &mut Field,
    topic: &str,
    replicas: usize,
    records: u64,
) -> Result<Drain, BenchError> {
    let ready = prepared(0..records, 0);
    let site = field.site(topic).await?;
    let members = members(&site, replicas).await?;
    let running = Running::of_all(members);
    let begun = Instant::now();
    let followed = followed(field, &site, &running, begun, records);
    let (drain, ()) = tokio::try_join!(followed, field.pour(topic, &ready))?;
    running.stop().await?;
    field.verify(&site, records).await?;
    field.drop_keyspace(&site.keyspace).await?;
    Ok(drain)
}

/// Starts them, and waits until each holds partitions.
async fn members(site: &Site, replicas: usize) -> Result<Vec<Service>, BenchError> {
    let members = Streamer { replicas }.members(site)?;
    for member in &members {
        member.wait_until_ready(READY).await?;
    }
    let until = Instant::now() + READY;
    while !are_shared(&members).await? {
        if Instant::now() >= until {
            let log = members.first().map_or_else(String::new, |it| it.last_lines(20));
            return Err(BenchError::Incomplete(format!(
                "{}: its partitions are not shared by {replicas}\n{log}",
                site.topic
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(members)
}

async fn are_shared(members: &[Service]) -> Result<bool, BenchError> {
    for member in members {
        let held = member.metric("streamer_assigned_partitions", "").await?;
        if held.unwrap_or(0.0) < 1.0 {
            return Ok(false);
        }
    }
    Ok(true)
}
