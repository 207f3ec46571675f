//! The driver's best settings on this machine, so that the ceiling is one.

use super::rig::ceiling;
use crate::bench::field::Field;
use crate::bench::usage::Cost;
use crate::bench::warmup::Warmup;
use crate::error::TestbedError;

/// How the bare loop writes.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Settings {
    pub(super) window: usize,
    pub(super) connections: usize,
    pub(super) batch: usize,
}

/// What a first run is done with, which only warms the server.
const FIRST: Settings = Settings {
    window: 512,
    connections: 2,
    batch: 1,
};

/// Batches of more than ten such rows pass the 5 KiB at which a server warns of each.
const SWEEP: [Settings; 6] = [
    Settings {
        window: 256,
        connections: 1,
        batch: 1,
    },
    FIRST,
    Settings {
        window: 1024,
        connections: 2,
        batch: 1,
    },
    Settings {
        window: 64,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 10,
    },
];

/// Warms the server, then tries each once.
pub(in crate::bench) async fn sweep(field: &mut Field, rows: u64) -> Result<Settings, TestbedError> {
    let mut warmup = Warmup::default();
    while warmup.goes_on() {
        let cost = ceiling(field, &FIRST, rows).await?;
        warmup.note(cost.rows_per_second());
    }
    let mut best: Option<(f64, Settings)> = None;
    for settings in SWEEP {
        let cost = ceiling(field, &settings, rows).await?;
        println!("sweep {settings:?}: {}", told(&cost));
        let speed = cost.rows_per_second();
        if best.as_ref().is_none_or(|(fastest, _)| speed > *fastest) {
            best = Some((speed, settings));
        }
    }
    Ok(best.map_or(FIRST, |(_, settings)| settings))
}

/// What the bare loop cost, in words.
pub(in crate::bench) fn told(cost: &Cost) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB",
        cost.rows_per_second(),
        cost.cpu_per_million(),
        cost.peak_mib
    )
}
