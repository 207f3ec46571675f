//! The driver's best settings on this machine, so that the ceiling is one.

use super::rig::ceiling;
use crate::error::BenchError;
use crate::field::Field;
use crate::usage::Cost;
use crate::warmup::Warmup;

/// How the bare loop writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(super) window: usize,
    pub(super) connections: usize,
    pub(super) batch: usize,
}

impl Settings {
    const fn new(window: usize, connections: usize, batch: usize) -> Self {
        Self {
            window,
            connections,
            batch,
        }
    }
}

/// What a first run is done with, which only warms the server.
const FIRST: Settings = Settings::new(512, 2, 1);

/// The loop that the gate holds the streamer against. Always the same: others are as fast, now this one and now that, and cost
/// up to a third less.
pub(crate) const SAME: Settings = Settings::new(128, 2, 8);

/// Batches of more than ten such rows pass the 5 KiB at which a server warns of each, and stay far below the 50 KiB at
/// which it refuses them.
const SWEEP: [Settings; 8] = [
    Settings::new(256, 1, 1),
    FIRST,
    Settings::new(1_024, 2, 1),
    Settings::new(64, 2, 8),
    Settings::new(128, 2, 8),
    Settings::new(128, 2, 10),
    Settings::new(64, 2, 16),
    Settings::new(32, 2, 32),
];

/// Warms the server, then tries each twice, the second time in the opposite order, so that none has only a colder server
/// than the others, or a more worn one.
pub(crate) async fn sweep(field: &mut Field, rows: u64) -> Result<Settings, BenchError> {
    warm(field, rows).await?;
    let mut speeds = vec![Vec::new(); SWEEP.len()];
    for place in there_and_back(SWEEP.len()) {
        let cost = ceiling(field, &SWEEP[place], rows).await?;
        println!("sweep {:?}: {}", SWEEP[place], told(&cost));
        speeds[place].push(cost.rows_per_second());
    }
    Ok(best(&speeds).map_or(FIRST, |place| SWEEP[place]))
}

/// Warms the server.
pub(super) async fn warm(field: &mut Field, rows: u64) -> Result<(), BenchError> {
    let mut warmup = Warmup::default();
    while warmup.goes_on() {
        let cost = ceiling(field, &FIRST, rows).await?;
        warmup.note(cost.rows_per_second());
    }
    Ok(())
}

/// The places of a sweep in order, then in the opposite one.
pub(crate) fn there_and_back(places: usize) -> impl Iterator<Item = usize> {
    (0..places).chain((0..places).rev())
}

/// The place whose runs were the fastest on average.
pub(crate) fn best(speeds: &[Vec<f64>]) -> Option<usize> {
    let sums = speeds.iter().map(|runs| runs.iter().sum::<f64>());
    let fastest = sums.enumerate().max_by(|one, other| one.1.total_cmp(&other.1));
    fastest.map(|(place, _)| place)
}

/// What the bare loop cost, in words.
pub(crate) fn told(cost: &Cost) -> String {
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
    fn each_is_tried_twice_in_opposite_orders() {
        assert_eq!(there_and_back(3).collect::<Vec<_>>(), [0, 1, 2, 2, 1, 0]);
    }

    #[test]
    fn the_fastest_of_both_passes_is_taken() {
        assert_eq!(
            best(&[vec![10.0, 30.0], vec![25.0, 26.0], vec![1.0, 49.0]]),
            Some(1)
        );
        assert_eq!(best(&[]), None);
    }
}
