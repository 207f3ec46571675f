//! Deliberate bugs, and deaths at named moments, by which the fault campaign proves that it can fail.
//!
//! Only with the feature `failpoint`, which no other feature turns on, and which `scripts/chaos` alone builds, into a folder of
//! its own. Without it both functions are empty: no variable is read, and not even the names are in the binary, to which
//! a test of the testkit holds the services.

/// The variable that names the folder of moments. A file in it, named like a moment, is the order to die there.
#[cfg(feature = "failpoint")]
const MOMENTS: &str = "AFFLUENT_MOMENTS";
/// The variable that names the bug to have.
#[cfg(feature = "failpoint")]
const BUG: &str = "AFFLUENT_BUG";

/// Whether this process was told to have the bug `name`.
#[cfg(feature = "failpoint")]
#[must_use]
pub fn inject(name: &str) -> bool {
    std::env::var(BUG).is_ok_and(|bug| bug == name)
}

/// No process has a bug on purpose.
#[cfg(not(feature = "failpoint"))]
#[inline(always)]
#[must_use]
pub const fn inject(_name: &str) -> bool {
    false
}

/// Dies here, as by `SIGKILL`, if it was told to. The order is taken away first, so that it is obeyed once.
#[cfg(feature = "failpoint")]
pub fn crash(name: &str) {
    let Ok(folder) = std::env::var(MOMENTS) else {
        return;
    };
    if std::fs::remove_file(std::path::Path::new(&folder).join(name)).is_ok() {
        std::process::abort();
    }
}

/// Nothing happens.
#[cfg(not(feature = "failpoint"))]
#[inline(always)]
pub const fn crash(_name: &str) {}
