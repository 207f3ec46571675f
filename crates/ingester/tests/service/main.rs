//! The ingester from outside, between the offline API and the real publisher over real Kafka, whose topic is read back. A
//! stand-in takes the publisher's place only where a test needs an answer that the real one can't be made to give.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod chain;
mod door;
mod parrot;
mod process;
mod relay;
mod rig;
mod service;

mod answers;
mod backfill;
mod exits;
mod faults;
mod in_a_browser;
mod kills;
mod left_alone;
mod live_in_a_browser;
mod manual;
mod outages;
mod overdue;
mod progress;
mod pruned;
mod queued;
mod real_answers;
mod refused;
mod resuming;
mod samples;
mod signals;
mod starts;
mod timetable;
mod tokens;
mod traps;
mod triggered;
mod versions;
