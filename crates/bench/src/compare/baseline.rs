//! Runs the driver baseline as a process of its own, and finds its fastest settings on this machine.

use std::fmt;

use anyhow::Result;
use testkit::process::Program;
use testkit::workspace;

use crate::env::row_count::TIMEOUT;
use crate::env::{BenchEnv, child};
use crate::measure::cost::Cost;
use crate::measure::warmup::Warmup;

/// The baseline's name in tables and plots.
pub const DRIVER_BASELINE: &str = "driver baseline";

/// How the baseline writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaselineSettings {
    max_in_flight: usize,
    connections: usize,
    batch_size: usize,
}

impl BaselineSettings {
    const fn new(max_in_flight: usize, connections: usize, batch_size: usize) -> Self {
        Self {
            max_in_flight,
            connections,
            batch_size,
        }
    }
}

impl fmt::Display for BaselineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            max_in_flight,
            connections,
            batch_size,
        } = self;
        write!(
            f,
            "{max_in_flight} statements in flight, {connections} connections, {batch_size} rows per batch"
        )
    }
}

/// The settings that warm the server.
const WARMUP: BaselineSettings = BaselineSettings::new(512, 2, 1);

/// The gate's settings. They never change: other settings are as fast, varying from run to run, and cost up to a third
/// less CPU time.
pub const GATE_SETTINGS: BaselineSettings = BaselineSettings::new(128, 2, 8);

/// Batches of more than ten rows exceed the 5 KiB above which a server logs a warning, and stay far below the 50 KiB
/// above which it rejects them.
const SWEEP: [BaselineSettings; 8] = [
    BaselineSettings::new(256, 1, 1),
    WARMUP,
    BaselineSettings::new(1_024, 2, 1),
    BaselineSettings::new(64, 2, 8),
    BaselineSettings::new(128, 2, 8),
    BaselineSettings::new(128, 2, 10),
    BaselineSettings::new(64, 2, 16),
    BaselineSettings::new(32, 2, 32),
];

/// Writes `rows` into a new table with these settings.
pub async fn run(env: &mut BenchEnv, settings: &BaselineSettings, rows: u64) -> Result<Cost> {
    let keyspace = env.create_keyspace().await?;
    let log = env.folder.join(format!("{keyspace}.log"));
    let options = [
        ("--contact-point", env.stack.cassandra.contact_points()[0].clone()),
        ("--keyspace", keyspace.clone()),
        ("--rows", rows.to_string()),
        ("--max-in-flight", settings.max_in_flight.to_string()),
        ("--connections", settings.connections.to_string()),
        ("--batch-size", settings.batch_size.to_string()),
    ];
    let mut program = Program::new(workspace::binary("bench")?).arg("driver-baseline");
    for (name, value) in options {
        program = program.arg(name).arg(value);
    }
    let cost = child::measure("run the driver baseline", program, &log, TIMEOUT).await?;
    env.drop_keyspace(&keyspace).await?;
    Ok(cost)
}

/// Warms the server and returns the fastest settings.
pub async fn sweep(env: &mut BenchEnv, rows: u64) -> Result<BaselineSettings> {
    warm_up(env, rows).await?;
    let mut speeds = vec![Vec::new(); SWEEP.len()];
    for place in forth_and_back(SWEEP.len()) {
        let cost = run(env, &SWEEP[place], rows).await?;
        println!("sweep, {}: {cost}", SWEEP[place]);
        speeds[place].push(cost.rows_per_second());
    }
    Ok(fastest(&speeds).map_or(WARMUP, |place| SWEEP[place]))
}

/// Warms the server.
pub async fn warm_up(env: &mut BenchEnv, rows: u64) -> Result<()> {
    let mut warmup = Warmup::default();
    while warmup.needs_another() {
        warmup.record(run(env, &WARMUP, rows).await?.rows_per_second());
    }
    Ok(())
}

/// The order of a sweep: each setting twice, the second time in reverse, so that none has only a colder or a more worn
/// server.
pub fn forth_and_back(count: usize) -> impl Iterator<Item = usize> {
    (0..count).chain((0..count).rev())
}

/// The index with the highest mean speed.
pub fn fastest(speeds: &[Vec<f64>]) -> Option<usize> {
    let sums = speeds.iter().map(|runs| runs.iter().sum::<f64>());
    let fastest = sums.enumerate().max_by(|one, other| one.1.total_cmp(&other.1));
    fastest.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_runs_each_setting_twice_in_opposite_orders() {
        assert_eq!(forth_and_back(3).collect::<Vec<_>>(), [0, 1, 2, 2, 1, 0]);
    }

    #[test]
    fn fastest_setting_has_the_highest_mean() {
        assert_eq!(
            fastest(&[vec![10.0, 30.0], vec![25.0, 26.0], vec![1.0, 49.0]]),
            Some(1)
        );
        assert_eq!(fastest(&[]), None);
    }
}
