//! Observes a round: samples health and checkpoints, waits for the pipeline to settle, and collects the evidence.

pub(crate) mod checkpoints;
pub(crate) mod collect;
pub(crate) mod health;
mod run_ledger;
pub(crate) mod sampling_gate;
pub(crate) mod settle;
