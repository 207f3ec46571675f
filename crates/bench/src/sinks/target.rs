//! The topic a sink reads and the table it writes.

use std::net::SocketAddr;
use std::path::PathBuf;

use model::Contract;
use testkit::process::Program;
use testkit::rows::INGESTED_AT;

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
    let contract = Contract::user();
    let columns = contract.fields().iter().map(|field| {
        let (name, cql) = (field.name(), field.cql());
        format!("\"{name}\" {cql}, ")
    });
    let (columns, key) = (
        columns.collect::<String>(),
        contract.fields()[contract.key()].name(),
    );
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{TABLE} ({columns}{INGESTED_AT} timestamp, PRIMARY KEY (\"{key}\"))"
    )
}
