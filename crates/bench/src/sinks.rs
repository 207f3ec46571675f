//! Sinks that write a topic's records to a table: Affluent's streamer, and peers that do the same work.

pub mod running;
pub mod streamer;
pub mod target;

use anyhow::Result;

use self::running::RunningSink;
use self::target::Target;

/// A sink. Each start is a new process that reads from the earliest offset.
pub trait Sink {
    /// The product's name in tables and plots.
    fn name(&self) -> &str;

    /// Its settings, for the report.
    fn describe(&self) -> String;

    /// The largest backlog it is given: the slowest sink would take half an hour per round.
    fn max_records(&self) -> u64 {
        u64::MAX
    }

    /// Starts its processes without waiting until they are ready.
    fn start(&self, target: &Target) -> Result<RunningSink>;
}
