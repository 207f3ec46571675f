//! Records, rows, checkpoints and shutdown of one streamer.

mod checkpoints;
mod dead_letter_limits;
mod dead_letter_size;
mod records;
mod row_ttl;
mod run_ledger;
mod shutdown;
mod write_order;
