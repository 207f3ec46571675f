//! Resource usage of processes: CPU time and peak memory.

pub mod histogram;
pub mod sampler;
pub mod tree;
pub mod warmup;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};
pub use testkit::process::usage::{cpu_seconds, peak_mib, resident_mib};

/// The cost of a measurement.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// Rows written.
    pub rows: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Peak resident memory, in MiB.
    pub peak_mib: f64,
}

impl Cost {
    /// Rows each second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// CPU seconds for a million rows.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.rows as f64
    }
}

/// CPU seconds of this process so far.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 microseconds")]
pub fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_cpu_and_memory_usage() {
        let mut sum = 0_u64;
        while own_cpu_seconds() < 0.03 {
            sum = (0..100_000).fold(sum, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number));
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > 0.0, "{sum}");
        assert!(peak_mib(std::process::id()).unwrap() > 1.0);
    }
}
