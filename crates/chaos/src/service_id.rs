//! Identifies the service processes of a round.

use std::fmt;

use serde::Serialize;

/// Streamers of a round.
pub(crate) const STREAMERS: u8 = 3;

/// The streamer process that an operator starts in addition to those of the round.
pub(crate) const OPERATOR_STREAMER: ServiceId = ServiceId::Streamer(0);

pub(crate) const MIB: f64 = 1_048_576.0;

/// A service process of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ServiceId {
    Ingester,
    Publisher,
    /// Counted from 1.
    Streamer(u8),
}

impl ServiceId {
    pub(crate) fn streamers() -> Vec<Self> {
        (1..=STREAMERS).map(Self::Streamer).collect()
    }

    /// The bound of resident memory, in bytes: twice the goal under full load that `scripts/bench` measures (48, 96 and
    /// 48 MB). The margin covers the backlog after an outage, waiting connections and builds with failpoints. The bound
    /// detects growth without end; it does not check the goal.
    pub(crate) fn memory_limit(self) -> f64 {
        match self {
            Self::Publisher => 192.0 * MIB,
            Self::Ingester | Self::Streamer(_) => 96.0 * MIB,
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingester => out.write_str("ingester"),
            Self::Publisher => out.write_str("publisher"),
            Self::Streamer(number) => write!(out, "streamer-{number}"),
        }
    }
}

impl Serialize for ServiceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
