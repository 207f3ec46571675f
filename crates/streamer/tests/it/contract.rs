//! Records of another contract than the user's.

mod orders;
mod schema_changes;
