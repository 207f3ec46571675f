//! Schema, connections and failures of Cassandra.

mod authorization;
mod errors;
mod network;
mod outage;
mod placement;
mod replication;
mod schema;
mod tls;
