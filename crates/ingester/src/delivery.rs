//! Delivers stored records to the publisher in batches until each record is acknowledged.

pub mod batching;
pub mod compression;
pub mod delivery_error;
pub mod delivery_loop;
pub mod outbox_reader;
pub mod publisher_client;
pub mod publisher_health;
pub mod record_batch;
pub mod response;
pub mod retry_after_gate;
pub mod retrying_sender;
pub mod send_window;
