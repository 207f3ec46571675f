//! Names of failpoints and crash points, as `service::failpoint` knows them.
//!
//! Only builds with the feature `failpoint` contain them.

use std::path::Path;

use crate::service_id::ServiceId;

/// Names the folder that a service watches. A file named like a crash point makes the service abort there.
pub(crate) const CRASH_POINTS_ENV: &str = "AFFLUENT_CRASH_POINTS";
/// Names the active failpoint.
pub(crate) const FAILPOINT_ENV: &str = "AFFLUENT_FAILPOINT";

/// The crash points, each with the service that crashes there.
pub(crate) const CRASH_POINTS: [(&str, ServiceId); 5] = [
    ("after_fetch", ServiceId::Streamer(1)),
    ("in_mid_batch", ServiceId::Streamer(2)),
    ("before_checkpoint", ServiceId::Streamer(3)),
    ("after_dead_letter", ServiceId::Streamer(1)),
    ("before_response", ServiceId::Publisher),
];

/// Every name that a default build must not contain.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let points = CRASH_POINTS.iter().map(|(point, _)| *point);
    points.chain([FAILPOINT_ENV, CRASH_POINTS_ENV])
}

/// Requests a crash at this point.
pub(crate) fn request_crash(folder: &Path, point: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(point), "")
}

/// Cancels the request; returns whether it was still pending.
pub(crate) fn cancel_crash(folder: &Path, point: &str) -> bool {
    std::fs::remove_file(folder.join(point)).is_ok()
}
