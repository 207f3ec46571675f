//! The HTTP API: authentication, and runs that are requested, observed and cancelled.

mod authentication;
mod requested_runs;
