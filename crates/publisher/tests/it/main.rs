//! Black-box tests of the publisher's binary with a real Kafka: HTTP responses, and the records in the topic.

#![expect(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod support;

mod api;
mod http;
mod kafka;
mod process;
mod record;
