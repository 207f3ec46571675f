//! Time limits of the invariants, in seconds.

/// For readiness to change after a dependency is lost or back.
pub(super) const READINESS_LIMIT: f64 = 10.0;

/// For a record posted after the last fault to become a row.
pub(super) const RECOVERY_LIMIT: f64 = 30.0;
