//! Recovery of a streamer that is killed during a steady stream and restarted at once, as an orchestrator would: the time
//! to the first new row, and until every row is as fresh as before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::service::Service;

use super::pipeline::TIMEOUT;
use crate::env::{BenchEnv, PARTITIONS};
use crate::load::stream::{RowProbe, Stream};
use crate::measure::spread::summary;
use crate::report::figure::{Figure, Goal};
use crate::sinks::streamer::Streamer;

/// Records per second.
const RATE: u64 = 1_000;
/// `kafka.session_timeout`, set to its default: the group waits this long for a dead dynamic member.
const SESSION_TIMEOUT: Duration = Duration::from_secs(8);
/// Length of the stream before the kill.
const TIME_BEFORE_KILL: Duration = Duration::from_secs(5);
/// A row that is later than this is lagging. On a busy machine single rows take a tenth of it.
const LAG: Duration = Duration::from_millis(250);

/// The streamer's group membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// With a `kafka.instance_id`: it takes its partitions over at once.
    Static,
    /// Without: the group waits for the session timeout of the dead member.
    Dynamic,
}

/// The rounds.
#[derive(Default)]
pub(super) struct Recovery {
    static_rounds: Vec<RecoveryTimes>,
    dynamic_rounds: Vec<RecoveryTimes>,
}

/// Seconds since the kill.
#[derive(Debug, Clone, Copy, PartialEq)]
struct RecoveryTimes {
    first_row: f64,
    no_lag: f64,
}

impl Recovery {
    pub(super) async fn measure(env: &mut BenchEnv, rounds: usize) -> Result<Self> {
        let mut recovery = Self::default();
        for number in 1..=rounds {
            let of_static = measure_round(env, Membership::Static, number).await?;
            let of_dynamic = measure_round(env, Membership::Dynamic, number).await?;
            println!("round {number}: static member {of_static:?}, dynamic member {of_dynamic:?}");
            recovery.static_rounds.push(of_static);
            recovery.dynamic_rounds.push(of_dynamic);
        }
        Ok(recovery)
    }

    /// A figure for each membership. It is negative if the dead member's last heartbeat was a while before the kill.
    pub(super) fn figures(&self) -> [Figure; 2] {
        let session = SESSION_TIMEOUT.as_secs_f64();
        let figure = |name: &str, rounds: &[RecoveryTimes], allowance: f64| {
            let no_lag: Vec<f64> = rounds.iter().map(|times| times.no_lag).collect();
            let name = if rounds.is_empty() {
                name.to_owned()
            } else {
                format!("{name} (no lag after {} s)", summary(&no_lag))
            };
            let first_rows = rounds.iter().map(|times| times.first_row - allowance);
            Figure::measured(name, first_rows, "s", Goal::AtMost(2.0))
        };
        let dynamic = format!("recovery, dynamic member: beyond its session of {session} s");
        [
            figure(
                "recovery, static member: kill -9 to first new row",
                &self.static_rounds,
                0.0,
            ),
            figure(&dynamic, &self.dynamic_rounds, session),
        ]
    }
}

async fn measure_round(env: &mut BenchEnv, membership: Membership, number: usize) -> Result<RecoveryTimes> {
    let name = format!("recovery_{number}_{membership:?}").to_lowercase();
    env.create_topic(&name, PARTITIONS).await?;
    let target = env.create_target(&name).await?;
    let session = format!("{}s", SESSION_TIMEOUT.as_secs());
    let mut options = Streamer::options(&target).set("kafka.session_timeout", session);
    if membership == Membership::Static {
        options = options.set("kafka.instance_id", "streamer-0");
    }
    let mut streamer = Service::start(&options)?;
    streamer.wait_until_ready(TIMEOUT).await?;
    let stream = Stream {
        rate: RATE,
        length: match membership {
            Membership::Static => Duration::from_secs(12),
            Membership::Dynamic => Duration::from_secs(20),
        },
        probes: 25,
        max_delay: Duration::from_millis(20),
        timeout: TIMEOUT,
        from: 0,
    };
    let (probes, killed) = tokio::try_join!(stream.run(env, &target), restart(&mut streamer))?;
    streamer.terminate(TIMEOUT).await?;
    env.drop_keyspace(&target.keyspace).await?;
    env.delete_topic(&name).await?;
    recovery_times(&probes, killed).with_context(|| {
        format!(
            "{name}: rows are missing after the kill\n{}",
            streamer.last_lines(20)
        )
    })
}

/// Kills the streamer in mid-stream and restarts it. Returns the time of the kill.
async fn restart(streamer: &mut Service) -> Result<Instant> {
    tokio::time::sleep(TIME_BEFORE_KILL).await;
    let killed = Instant::now();
    streamer.kill().await?;
    streamer.spawn()?;
    Ok(killed)
}

/// The first row of a record due after the kill, and the last lagging row; `None` if a row is missing.
fn recovery_times(probes: &[RowProbe], killed: Instant) -> Option<RecoveryTimes> {
    let rows: Option<Vec<(Instant, Instant)>> = probes
        .iter()
        .map(|probe| Some((probe.due, probe.seen?)))
        .collect();
    let rows = rows?;
    let new_rows = rows.iter().filter(|(due, _)| *due > killed);
    let first = new_rows.map(|(_, seen)| *seen).min()?;
    let lagging = rows
        .iter()
        .filter(|(due, seen)| *seen > killed && *seen - *due > LAG);
    let last = lagging.map(|(_, seen)| *seen).max().unwrap_or(first);
    Some(RecoveryTimes {
        first_row: (first - killed).as_secs_f64(),
        no_lag: (last - killed).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(start: Instant, due: u64, seen: Option<u64>) -> RowProbe {
        let at = |millis| start + Duration::from_millis(millis);
        RowProbe {
            due: at(due),
            seen: seen.map(at),
        }
    }

    #[test]
    fn first_row_is_of_a_record_due_after_the_kill() {
        let start = Instant::now();
        let killed = start + Duration::from_millis(100);
        let probes = [
            probe(start, 50, Some(60)),
            // In flight during the kill: it proves nothing.
            probe(start, 99, Some(101)),
            probe(start, 120, Some(1_500)),
            probe(start, 900, Some(1_400)),
            probe(start, 1_450, Some(1_600)),
            probe(start, 2_000, Some(2_005)),
        ];
        let times = recovery_times(&probes, killed).unwrap();
        assert_eq!(
            times,
            RecoveryTimes {
                first_row: 1.3,
                no_lag: 1.4
            }
        );
    }

    #[test]
    fn missing_row_is_no_recovery() {
        let start = Instant::now();
        let probes = [probe(start, 120, Some(1_500)), probe(start, 130, None)];
        assert_eq!(recovery_times(&probes, start), None);
    }
}
