//! Turns a reply of the random-user API into a page of encoded records. No HTTP, no state.

pub mod api_user;
pub mod dedup_window;
pub mod encoded_records;
pub mod mapping;
pub mod page;
pub mod random_user;
pub mod scalar;
pub mod suspicion;
