//! Servers, stubs, processes and a browser that the tests share.

pub(crate) mod browser;
pub(crate) mod ingester_process;
pub(crate) mod ingester_service;
pub(crate) mod offline_api;
pub(crate) mod pipeline;
pub(crate) mod publisher_stack;
pub(crate) mod recording_proxy;
pub(crate) mod stub_api;
pub(crate) mod stub_publisher;
pub(crate) mod stub_status;
pub(crate) mod token_file;

use std::time::Duration;

/// Upper bound for a cold JVM on a busy machine; no test waits for it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
