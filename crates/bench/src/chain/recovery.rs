//! A streamer is killed in the middle of a steady stream and started again at once, as an orchestrator would: how long
//! until the first new row, and until every row is as fresh as before.

use std::time::{Duration, Instant};

use super::line::READY;
use crate::error::BenchError;
use crate::field::Field;
use crate::figures::{Figure, Goal, spread};
use crate::sink::{Site, Streamer};
use crate::stream::{Probe, Stream};
use testkit::service::Service;

const RATE: u64 = 1_000;
/// The session of a member that may be replaced: what the group's rules make everybody wait for. Set, so that it is what
/// the figure says.
const SESSION: Duration = Duration::from_secs(8);
/// The stream flows for so long before the kill.
const BEFORE: Duration = Duration::from_secs(5);
/// Later than this after it was due, a row shows a lag; on a busy machine single rows need a tenth of it.
const LATE: Duration = Duration::from_millis(250);

/// A member of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    /// It has a name, under which it takes its partitions back.
    Static,
    /// It is a stranger after its restart: the group waits for the dead one's session.
    Dynamic,
}

/// What the rounds gave, in seconds since the kill.
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
    pub(super) async fn measure(field: &mut Field, rounds: usize) -> Result<Self, BenchError> {
        let mut seen = Self::default();
        for number in 1..=rounds {
            let of_static = round(field, Member::Static, number).await?;
            let of_dynamic = round(field, Member::Dynamic, number).await?;
            println!(
                "round {number}: recovery of a static member {of_static:?}, of a dynamic one {of_dynamic:?}"
            );
            seen.of_static.push(of_static);
            seen.of_dynamic.push(of_dynamic);
        }
        Ok(seen)
    }

    /// A figure for each kind of member, with the time to no lag in the name. One of less than nothing is told as it is:
    /// the group had given the dead member up before its session was over since the kill.
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

async fn round(field: &mut Field, member: Member, number: usize) -> Result<Recovered, BenchError> {
    let name = format!("recovery_{number}_{member:?}").to_lowercase();
    field.stack.kafka.create_topic(&name, 6).await?;
    let site = field.site(&name).await?;
    let session = format!("{}s", SESSION.as_secs());
    let mut options = Streamer::options(&site).set("kafka.session_timeout", session);
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
        longest_pause: Duration::from_millis(20),
        patience: Duration::from_secs(60),
        from: 0,
    };
    let (probes, killed) = tokio::try_join!(stream.run(field, &site), kill(&mut streamer))?;
    streamer.terminate(READY).await?;
    field.drop_keyspace(&site.keyspace).await?;
    field.delete_topic(&name).await?;
    recovered(&probes, killed).ok_or_else(|| stuck(&site, &streamer))
}

async fn kill(streamer: &mut Service) -> Result<Instant, BenchError> {
    tokio::time::sleep(BEFORE).await;
    let killed = Instant::now();
    streamer.kill().await?;
    streamer.spawn()?;
    Ok(killed)
}

fn stuck(site: &Site, streamer: &Service) -> BenchError {
    BenchError::Incomplete(format!(
        "{}: no row after the kill\n{}",
        site.keyspace,
        streamer.last_lines(20)
    ))
}

/// The first row of a record that was due after the kill, and the last row that came late; none if a row never came.
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
        .filter(|(intended, seen)| *seen > killed && *seen - *intended > LATE);
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
    fn the_first_row_is_of_a_record_that_was_due_after_the_kill() {
        let start = Instant::now();
        let killed = start + Duration::from_millis(100);
        let probes = [
            probe(start, 50, Some(60)),
            // On its way when the kill came: it proves nothing.
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
    fn a_row_that_never_came_is_no_recovery() {
        let start = Instant::now();
        let probes = [probe(start, 120, Some(1_500)), probe(start, 130, None)];
        assert_eq!(recovered(&probes, start), None);
    }
}
