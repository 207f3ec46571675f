//! Schema, connections and failures of Cassandra.

mod authorization;
mod errors;
mod guardrails;
mod network;
mod outage;
mod placement;
mod protocol_version;
mod replication;
mod schema;
mod tls;
