//! The ingester from outside: against the offline API, a publisher made to misbehave, and the real one over real Kafka.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod door;
mod parrot;
mod rig;

mod answers;
mod chain;
mod faults;
mod kills;
mod manual;
mod page;
mod process;
mod runs;
mod samples;
mod traps;
