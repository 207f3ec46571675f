//! Finds the fastest settings of the driver baseline on this machine.

use super::run;
use crate::env::{BenchEnv, TIMEOUT};
use crate::error::BenchError;
use crate::usage::Cost;
use crate::usage::warmup::Warmup;
use testkit::process::Program;
use testkit::workspace;

/// Settings of the driver baseline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriverSettings {
    max_in_flight: usize,
    connections: usize,
    batch_size: usize,
}

impl DriverSettings {
    const fn new(max_in_flight: usize, connections: usize, batch_size: usize) -> Self {
        Self {
            max_in_flight,
            connections,
            batch_size,
        }
    }
}

/// The settings of the warm-up.
const FIRST: DriverSettings = DriverSettings::new(512, 2, 1);

/// The settings of the quick gate. They are fixed, because several settings are equally fast but differ in CPU by a
/// third.
pub(crate) const GATE_SETTINGS: DriverSettings = DriverSettings::new(128, 2, 8);

/// Batches of more than ten rows exceed Cassandra's warning threshold of 5 KiB and stay below its limit of 50 KiB.
const SWEEP: [DriverSettings; 8] = [
    DriverSettings::new(256, 1, 1),
    FIRST,
    DriverSettings::new(1_024, 2, 1),
    DriverSettings::new(64, 2, 8),
    DriverSettings::new(128, 2, 8),
    DriverSettings::new(128, 2, 10),
    DriverSettings::new(64, 2, 16),
    DriverSettings::new(32, 2, 32),
];

/// Warms up the server, then measures each setting twice, the second time in reverse order.
/// So no setting always meets a colder server than the others.
pub(crate) async fn sweep(env: &mut BenchEnv, rows: u64) -> Result<DriverSettings, BenchError> {
    warm(env, rows).await?;
    let mut speeds = vec![Vec::new(); SWEEP.len()];
    for place in forward_and_back(SWEEP.len()) {
        let cost = run_baseline(env, &SWEEP[place], rows).await?;
        println!("sweep {:?}: {}", SWEEP[place], summary(&cost));
        speeds[place].push(cost.rows_per_second());
    }
    Ok(best(&speeds).map_or(FIRST, |place| SWEEP[place]))
}

/// Runs the driver baseline in a new keyspace.
pub(crate) async fn run_baseline(
    env: &mut BenchEnv,
    settings: &DriverSettings,
    rows: u64,
) -> Result<Cost, BenchError> {
    let keyspace = env.keyspace().await?;
    let log = env.folder.join(format!("{keyspace}.log"));
    let arguments = [
        ("--contact-point", env.stack.cassandra.contact_points()[0].clone()),
        ("--keyspace", keyspace.clone()),
        ("--rows", rows.to_string()),
        ("--max-in-flight", settings.max_in_flight.to_string()),
        ("--connections", settings.connections.to_string()),
        ("--batch-size", settings.batch_size.to_string()),
    ];
    let mut program = Program::new(workspace::binary("bench")?).arg("driver-baseline");
    for (name, value) in arguments {
        program = program.arg(name).arg(value);
    }
    let cost = run::cost(program, &log, TIMEOUT).await?;
    env.drop_keyspace(&keyspace).await?;
    Ok(cost)
}

/// Runs the baseline until its speed is steady.
pub(crate) async fn warm(env: &mut BenchEnv, rows: u64) -> Result<(), BenchError> {
    let mut warmup = Warmup::default();
    while warmup.needs_another_round() {
        let cost = run_baseline(env, &FIRST, rows).await?;
        warmup.record(cost.rows_per_second());
    }
    Ok(())
}

/// The indexes of a sweep in order, then in reverse order.
pub(crate) fn forward_and_back(places: usize) -> impl Iterator<Item = usize> {
    (0..places).chain((0..places).rev())
}

/// The index with the highest average speed.
pub(crate) fn best(speeds: &[Vec<f64>]) -> Option<usize> {
    let sums = speeds.iter().map(|runs| runs.iter().sum::<f64>());
    let fastest = sums.enumerate().max_by(|one, other| one.1.total_cmp(&other.1));
    fastest.map(|(place, _)| place)
}

/// The cost as text.
pub(crate) fn summary(cost: &Cost) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB",
        cost.rows_per_second(),
        cost.cpu_per_million(),
        cost.peak_mib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_tried_twice_in_opposite_orders() {
        assert_eq!(forward_and_back(3).collect::<Vec<_>>(), [0, 1, 2, 2, 1, 0]);
    }

    #[test]
    fn fastest_average_of_both_passes_wins() {
        assert_eq!(
            best(&[vec![10.0, 30.0], vec![25.0, 26.0], vec![1.0, 49.0]]),
            Some(1)
        );
        assert_eq!(best(&[]), None);
    }
}
