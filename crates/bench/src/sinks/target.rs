//! The topic a sink reads and the table it writes.

use std::net::SocketAddr;
use std::path::PathBuf;

use testkit::cassandra_client::TEXT_COLUMNS;
use testkit::process::Program;

/// The table's name in each keyspace.
pub const TABLE: &str = "created_users";

/// Source and destination of one sink run.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` of the brokers, separated by commas.
    pub brokers: String,
    /// An existing topic.
    pub topic: String,
    /// A new consumer group.
    pub group: String,
    /// A Cassandra node.
    pub cassandra: SocketAddr,
    /// An existing keyspace.
    pub keyspace: String,
    /// The keyspace's replication, as a CQL map.
    pub replication: String,
    /// The table, with the streamer's columns.
    pub table: String,
    /// The folder for logs, checkpoints and configuration.
    pub folder: PathBuf,
}

impl Target {
    /// `keyspace.table`.
    pub fn full_table(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }

    /// Passes everything in the environment of a peer.
    pub fn to_environment(&self, program: Program) -> Program {
        program
            .env("BROKERS", &self.brokers)
            .env("TOPIC", &self.topic)
            .env("GROUP", &self.group)
            .env("CASSANDRA", self.cassandra.to_string())
            .env("KEYSPACE", &self.keyspace)
            .env("TABLE", &self.table)
    }
}

/// The statement that creates the table as the streamer does.
pub fn create_table(keyspace: &str) -> String {
    let texts = TEXT_COLUMNS.map(|name| format!("{name} text")).join(", ");
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{TABLE} (id uuid PRIMARY KEY, {texts}, dob timestamp, registered_date \
         timestamp, ingested_at timestamp)"
    )
}
