//! The cost of a measured piece of work: rows, wall-clock time, CPU time and peak memory.

use std::fmt;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// The cost of one round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// Rows or records written.
    pub rows: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Peak resident memory, in MiB.
    pub peak_mib: f64,
}

impl Cost {
    /// Rows per second.
    pub fn rows_per_second(&self) -> f64 {
        as_f64(self.rows) / self.seconds
    }

    /// CPU seconds per million rows.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / as_f64(self.rows)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB",
            self.rows_per_second(),
            self.cpu_per_million(),
            self.peak_mib
        )
    }
}

/// Converts a count.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
pub fn as_f64(count: u64) -> f64 {
    count as f64
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
    use testkit::process::usage::{cpu_seconds, peak_mib};

    use super::*;

    #[test]
    fn cpu_time_and_memory_of_this_process_are_positive() {
        let mut sum = 0_u64;
        while own_cpu_seconds() < 0.03 {
            sum = (0..100_000).fold(sum, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number));
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > 0.0, "{sum}");
        assert!(peak_mib(std::process::id()).unwrap() > 1.0);
    }
}
