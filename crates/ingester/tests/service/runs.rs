//! Runs from their start to their deletion.

mod backfill;
mod conservation;
mod resume;
mod retention;
mod run_timeout;
