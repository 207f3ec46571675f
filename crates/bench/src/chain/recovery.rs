//! Recovery: a streamer is killed during a steady stream and restarted at once, as by an orchestrator.
//!
//! Measures the time to the first new row and to the last delayed row.

use std::time::{Duration, Instant};

use super::pipeline::READY;
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::figures::{Figure, Goal, spread};
use crate::sink::stream::{Probe, Stream};
use crate::sink::{SinkConfig, Streamer};
use testkit::service::Service;

const RATE: u64 = 1_000;
/// `kafka.session_timeout` of the killed member, which the group waits for. It is set explicitly, because the
/// figure names it.
const SESSION: Duration = Duration::from_secs(8);
/// Time between the start of the stream and the kill.
const BEFORE: Duration = Duration::from_secs(5);
/// A row later than this counts as delayed. On a busy machine single rows need a tenth of it.
const DELAYED: Duration = Duration::from_millis(250);

/// A member of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    /// With an instance id, so that it gets its partitions back.
    Static,
    /// Without an instance id: the group waits for the dead member's session timeout.
    Dynamic,
}

/// Results of the rounds, in seconds since the kill.
#[derive(Default)]
pub(super) struct Recovery {
    of_static: Vec<Recovered>,
    of_dynamic: Vec<Recovered>,
}

/// One recovery, in seconds since the kill.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Recovered {
    first_row: f64,
    no_lag: f64,
}

impl Recovery {
    pub(super) async fn measure(env: &mut BenchEnv, rounds: usize) -> Result<Self, BenchError> {
        let mut results = Self::default();
        for number in 1..=rounds {
            let of_static = round(env, Member::Static, number).await?;
            let of_dynamic = round(env, Member::Dynamic, number).await?;
            println!(
                "round {number}: recovery of a static member {of_static:?}, of a dynamic one {of_dynamic:?}"
            );
            results.of_static.push(of_static);
            results.of_dynamic.push(of_dynamic);
        }
        Ok(results)
    }

    /// Returns a figure for each kind of member, with the time to the last delayed row in its name.
    /// A value below zero means that the group removed the dead member before its session timeout since the kill.
    pub(super) fn figures(&self) -> [Figure; 2] {
        let session = SESSION.as_secs_f64();
        let of = |name: &str, seen: &[Recovered], rules: f64| {
            let lags: Vec<f64> = seen.iter().map(|it| it.no_lag).collect();
            let beyond: Vec<f64> = seen.iter().map(|it| it.first_row - rules).collect();
            let name = if seen.is_empty() {
                name.to_owned()
            } else {
                format!("{name} (no lag after {} s)", spread(&lags))
            };
            Figure::measured(name, &beyond, "s", Goal::AtMost(2.0))
        };
        let dynamic = format!("recovery, dynamic member: beyond its session of {session} s");
        [
            of(
                "recovery, static member: kill -9 to first new row",
                &self.of_static,
                0.0,
            ),
            of(&dynamic, &self.of_dynamic, session),
        ]
    }
}

async fn round(env: &mut BenchEnv, member: Member, number: usize) -> Result<Recovered, BenchError> {
    let name = format!("recovery_{number}_{member:?}").to_lowercase();
    env.stack.kafka.create_topic(&name, 6).await?;
    let config = env.prepare_sink(&name).await?;
    let session = format!("{}s", SESSION.as_secs());
    let mut options = Streamer::options(&config).set("kafka.session_timeout", session);
    if member == Member::Static {
        options = options.set("kafka.instance_id", "streamer-0");
    }
    let mut streamer = Service::start(&options)?;
    streamer.wait_until_ready(READY).await?;
    let length = match member {
        Member::Static => Duration::from_secs(12),
        Member::Dynamic => Duration::from_secs(20),
    };
    let stream = Stream {
        rate: RATE,
        length,
        probes: 25,
        max_pause: Duration::from_millis(20),
        timeout: Duration::from_secs(60),
        from: 0,
    };
    let (probes, killed) = tokio::try_join!(stream.run(env, &config), kill(&mut streamer))?;
    streamer.terminate(READY).await?;
    env.drop_keyspace(&config.keyspace).await?;
    env.delete_topic(&name).await?;
    recovered(&probes, killed).ok_or_else(|| missing_rows(&config, &streamer))
}

async fn kill(streamer: &mut Service) -> Result<Instant, BenchError> {
    tokio::time::sleep(BEFORE).await;
    let killed = Instant::now();
    streamer.kill().await?;
    streamer.spawn()?;
    Ok(killed)
}

fn missing_rows(config: &SinkConfig, streamer: &Service) -> BenchError {
    BenchError::Incomplete(format!(
        "{}: no row after the kill\n{}",
        config.keyspace,
        streamer.last_lines(20)
    ))
}

/// Returns the first row of a record due after the kill and the last delayed row; none if a row is missing.
fn recovered(probes: &[Probe], killed: Instant) -> Option<Recovered> {
    let seen: Option<Vec<(Instant, Instant)>> = probes
        .iter()
        .map(|probe| Some((probe.intended, probe.seen?)))
        .collect();
    let seen = seen?;
    let after = seen.iter().filter(|(intended, _)| *intended > killed);
    let first = after.map(|(_, seen)| *seen).min()?;
    let late = seen
        .iter()
        .filter(|(intended, seen)| *seen > killed && *seen - *intended > DELAYED);
    let last = late.map(|(_, seen)| *seen).max().unwrap_or(first);
    Some(Recovered {
        first_row: (first - killed).as_secs_f64(),
        no_lag: (last - killed).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(start: Instant, intended: u64, seen: Option<u64>) -> Probe {
        let at = |millis| start + Duration::from_millis(millis);
        Probe {
            intended: at(intended),
            seen: seen.map(at),
        }
    }

    #[test]
    fn first_row_is_of_a_record_due_after_the_kill() {
        let start = Instant::now();
        let killed = start + Duration::from_millis(100);
        let probes = [
            probe(start, 50, Some(60)),
            // In flight when the kill came, so it does not count.
            probe(start, 99, Some(101)),
            probe(start, 120, Some(1_500)),
            probe(start, 900, Some(1_400)),
            probe(start, 1_450, Some(1_600)),
            probe(start, 2_000, Some(2_005)),
        ];
        let seen = recovered(&probes, killed).unwrap();
        assert_eq!(
            seen,
            Recovered {
                first_row: 1.3,
                no_lag: 1.4
            }
        );
    }

    #[test]
    fn missing_row_is_no_recovery() {
        let start = Instant::now();
        let probes = [probe(start, 120, Some(1_500)), probe(start, 130, None)];
        assert_eq!(recovered(&probes, start), None);
    }
}
