//! The timeouts of a connection.

use std::time::Duration;

use crate::config::HttpSettings;

/// The timeouts of a connection.
#[derive(Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    /// Until the first request.
    pub(super) first_request: Duration,
    /// For the caller to read what is written to it.
    pub(super) write: Duration,
    /// The maximum age.
    pub(super) max_age: Duration,
    /// For the last responses after the maximum age or during shutdown.
    pub(super) drain: Duration,
}

impl ConnectionTimeouts {
    pub(super) fn from_settings(settings: &HttpSettings) -> Self {
        Self {
            first_request: settings.header_timeout,
            write: settings.write_timeout,
            max_age: settings.max_connection_age,
            drain: settings.request_timeout + settings.write_timeout,
        }
    }
}
