//! What a process has used: processor time and the most memory it ever held.

pub mod tree;
pub mod watch;

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// What a stretch of work cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// Rows written.
    pub rows: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Processor seconds, user and system.
    pub cpu_seconds: f64,
    /// The most resident memory, in MiB.
    pub peak_mib: f64,
}

impl Cost {
    /// Rows each second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// Processor seconds for a million rows.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.rows as f64
    }
}

/// Processor seconds of this process so far.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 microseconds")]
pub fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
    })
}

/// Processor seconds of another process so far: fields 14 and 15 of `/proc/<pid>/stat`, in ticks of 10 ms.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; what follows is fields 3 and on.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// The most resident memory of a process, in MiB: `VmHWM` of `/proc/<pid>/status`.
pub fn peak_mib(pid: u32) -> Option<f64> {
    status_mib(pid, "VmHWM:")
}

/// What a process holds in memory now, in MiB.
pub fn resident_mib(pid: u32) -> Option<f64> {
    status_mib(pid, "VmRSS:")
}

/// A line of `/proc/<pid>/status`.
fn status_mib(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let mut sum = 0_u64;
        while own_cpu_seconds() < 0.03 {
            sum = (0..100_000).fold(sum, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number));
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > 0.0, "{sum}");
        assert!(peak_mib(std::process::id()).unwrap() > 1.0);
    }
}
