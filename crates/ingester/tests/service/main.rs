//! The ingester from outside, between the offline API and the real publisher over real Kafka, whose topic is read back. A
//! stand-in takes the publisher's place only where a test needs an answer that the real one can't be made to give.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod publisher_stack;
mod stub_publisher;
mod stub_api;
mod ingester_process;
mod recording_proxy;
mod pipeline;
mod ingester_service;

mod publisher_responses;
mod backfill;
mod exit_codes;
mod api_faults;
mod page_in_browser;
mod kill_recovery;
mod circuit_breaker;
mod live_page_in_browser;
mod readme;
mod outages;
mod run_timeout;
mod progress_output;
mod retention;
mod concurrency_policy;
mod real_publisher;
mod rejected_records;
mod resume;
mod recorded_replies;
mod signals;
mod catch_up;
mod next_start;
mod authentication;
mod api_quirks;
mod requested_runs;
mod api_versions;
