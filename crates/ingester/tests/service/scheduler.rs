//! The schedule: when runs start, wait, are skipped and are caught up.

mod catch_up;
mod concurrency_policy;
mod next_start;
