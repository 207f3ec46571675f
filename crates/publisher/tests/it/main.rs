//! The publisher's binary against a real Kafka, seen from outside: what callers hear, and what lies in the topic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broker;
mod contract;
mod load;
mod running;
mod topic;
mod users;

mod access;
mod answers;
mod bad_input;
mod clients;
mod compression;
mod configuration;
mod connections;
mod documents;
mod examples;
mod figures;
mod framing;
mod http2;
mod idempotency;
mod kafka_faults;
mod lost_count;
mod manual;
mod outages;
mod overload;
mod patience;
mod records;
mod slowloris;
mod stopping;
