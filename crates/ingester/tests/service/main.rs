//! Black-box tests of the ingester between the offline API and the real publisher over real Kafka; the topic is read
//! back. A stub replaces the publisher only where a test needs a response that the real one can't be made to send.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod browser;
mod ingester_process;
mod ingester_service;
mod pipeline;
mod publisher_stack;
mod recording_proxy;
mod stub_api;
mod stub_publisher;
mod stub_status;

mod api_faults;
mod api_quirks;
mod api_versions;
mod authentication;
mod backfill;
mod catch_up;
mod circuit_breaker;
mod concurrency_policy;
mod conservation;
mod exit_codes;
mod kill_recovery;
mod live_page_in_browser;
mod next_start;
mod outages;
mod page_in_browser;
mod pipeline_in_browser;
mod progress_output;
mod publisher_responses;
mod readme;
mod real_publisher;
mod recorded_replies;
mod rejected_records;
mod requested_runs;
mod resume;
mod retention;
mod run_timeout;
mod signals;
