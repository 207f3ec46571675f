//! The process: exit codes, signals, output and documentation.

mod exit_codes;
mod progress_output;
mod readme;
mod signals;
