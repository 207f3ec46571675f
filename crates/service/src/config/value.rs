//! The types of settings whose values have a syntax of their own.

pub(super) mod endpoints;
pub(super) mod list;
pub(super) mod secret;
pub(super) mod topic_name;
