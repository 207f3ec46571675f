//! Injected bugs and crashes at named points, for the fault campaign.
//!
//! Only with the feature `failpoint`, which no other feature enables. Only `scripts/chaos` builds with it, into a target
//! folder of its own. Without it both functions are empty: they read no variable, and the binary has none of the names. A
//! test checks that.

/// Names the folder of crash points. A file in it with the name of a crash point makes the process crash there.
#[cfg(feature = "failpoint")]
const CRASH_POINTS: &str = "AFFLUENT_CRASH_POINTS";
/// Names the bug to inject.
#[cfg(feature = "failpoint")]
const FAILPOINT: &str = "AFFLUENT_FAILPOINT";

/// Whether the bug `name` is to be injected.
#[cfg(feature = "failpoint")]
#[must_use]
pub fn inject(name: &str) -> bool {
    std::env::var(FAILPOINT).is_ok_and(|bug| bug == name)
}

/// Injects nothing.
#[cfg(not(feature = "failpoint"))]
#[inline(always)]
#[must_use]
pub const fn inject(_name: &str) -> bool {
    false
}

/// Aborts the process, as by `SIGKILL`, if the crash point `name` is set. Removes its file first, so that it crashes once.
#[cfg(feature = "failpoint")]
pub fn crash(name: &str) {
    let Ok(folder) = std::env::var(CRASH_POINTS) else {
        return;
    };
    if std::fs::remove_file(std::path::Path::new(&folder).join(name)).is_ok() {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoint"))]
#[inline(always)]
pub const fn crash(_name: &str) {}
