//! What a build with the feature `failpoint` can be told: to die at a named moment, and to have a deliberate bug.
//!
//! The services know these names as `service::failpoint` has them. A default build knows none of them, and does nothing.

use std::path::Path;

use super::evidence::Who;

/// The variable that names the folder of moments. A file in it, named like a moment, is the order to die there.
pub const FOLDER: &str = "AFFLUENT_CRASH_POINTS";
/// The variable that names the bug to have.
pub const BUG: &str = "AFFLUENT_FAILPOINT";

/// The moments at which a process can be made to die.
pub const MOMENTS: [(&str, Service); 5] = [
    ("after_fetch", Service::Streamer),
    ("in_mid_batch", Service::Streamer),
    ("before_checkpoint", Service::Streamer),
    ("after_dead_letter", Service::Streamer),
    ("before_answer", Service::Publisher),
];

/// Whose moment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The publisher's.
    Publisher,
    /// Any streamer's.
    Streamer,
}

impl Service {
    /// A process of this service.
    #[must_use]
    pub fn member(self, number: u8) -> Who {
        match self {
            Self::Publisher => Who::Publisher,
            Self::Streamer => Who::Streamer(number),
        }
    }
}

/// Orders a process to die when it next comes to `moment`.
///
/// # Errors
/// When the order can't be written.
pub fn order(folder: &Path, moment: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(moment), "")
}

/// Takes an order back; whether it was still there.
#[must_use]
pub fn revoke(folder: &Path, moment: &str) -> bool {
    std::fs::remove_file(folder.join(moment)).is_ok()
}
