//! Black-box tests of the ingester between the offline API and the real publisher over real Kafka; the topic is read
//! back. A stub replaces the publisher only where a test needs a response that the real one can't be made to send.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod support;

mod api;
mod delivery;
mod fetch;
mod page;
mod process;
mod runs;
mod scheduler;
