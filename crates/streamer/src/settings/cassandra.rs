//! The cluster, the tables and how they are written.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use cdrs_tokio::consistency::Consistency;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use service::config::ConfigError;
use service::{Backoff, List, Secret};

use super::refuse_if;
use crate::retention;

/// Half of what [`Gate`](crate::cassandra::gate::Gate) lets pass, so that the window alone never fills it.
const MOST_IN_FLIGHT: usize = 8_192;

const NOT_A_NAME: &str =
    "is not a name of lower-case letters, digits and underscores that begins with a letter";

/// The cluster, the tables and how they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CassandraSettings {
    /// Nodes asked first, each `host:port`; names are resolved anew for every session.
    pub contact_points: List,
    /// The role to log in as; none: no authentication.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether the connections are encrypted.
    pub tls: TlsSettings,
    /// The data centre whose nodes are written to.
    pub local_datacenter: String,
    /// Consistency level of rows and checkpoints, written and read.
    pub consistency: ConsistencyLevel,
    /// The keyspace.
    pub keyspace: String,
    /// Replication of a keyspace that has to be created, as CQL's map.
    pub replication: String,
    /// The table of the users.
    pub table: String,
    /// The table of the checkpoints, in the same keyspace.
    pub checkpoint_table: String,
    /// Connections to each node.
    pub connections: usize,
    /// The most statements in flight; fewer after a sign of overload.
    pub max_in_flight: usize,
    /// Rows that all have the same replicas are sent together, up to this size: below the 5 KiB at which a server
    /// warns (`batch_size_warn_threshold`). Nothing is sent together in a cluster with more nodes than replicas.
    pub statement_bytes: ByteSize,
    /// The most rows that this process writes in a second, so that a replay leaves room for live readers; none: as
    /// many as Cassandra takes.
    pub max_rows_per_second: Option<NonZeroU32>,
    /// How long a row lives, from when the publisher took its record; none: for ever. Whole seconds, at most 20 years.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub row_ttl: Option<Duration>,
    /// How long a statement may take, above the server's own write timeout (2 s by default).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// How long reaching a node may take.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_timeout: Duration,
    /// The waits between attempts, of which there is no last one.
    pub backoff: Backoff,
}

impl CassandraSettings {
    /// Keyspace and name of the table of the users, for messages.
    pub fn qualified_table(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.tls.validate()?;
        refuse_if(
            self.contact_points.is_empty(),
            "cassandra.contact_points",
            "is empty",
        )?;
        let half = self.username.is_some() != self.password.is_some();
        refuse_if(
            half,
            "cassandra.username",
            "and cassandra.password belong together",
        )?;
        refuse_if(!is_identifier(&self.keyspace), "cassandra.keyspace", NOT_A_NAME)?;
        refuse_if(!is_identifier(&self.table), "cassandra.table", NOT_A_NAME)?;
        refuse_if(
            !is_identifier(&self.checkpoint_table),
            "cassandra.checkpoint_table",
            NOT_A_NAME,
        )?;
        let in_flight = 1..=MOST_IN_FLIGHT;
        refuse_if(
            !in_flight.contains(&self.max_in_flight),
            "cassandra.max_in_flight",
            "is not between 1 and 8192",
        )?;
        refuse_if(self.connections == 0, "cassandra.connections", "is 0")?;
        refuse_if(
            self.request_timeout.is_zero(),
            "cassandra.request_timeout",
            "is 0",
        )?;
        let row_ttl = Duration::from_secs(1)..=retention::LONGEST;
        refuse_if(
            self.row_ttl.is_some_and(|ttl| !row_ttl.contains(&ttl)),
            "cassandra.row_ttl",
            "is not between a second and 20 years",
        )?;
        refuse_if(
            self.backoff.initial.is_zero(),
            "cassandra.backoff.initial",
            "is 0",
        )?;
        Ok(())
    }
}

impl Default for CassandraSettings {
    fn default() -> Self {
        Self {
            contact_points: List::of(["127.0.0.1:9042"]),
            username: None,
            password: None,
            tls: TlsSettings::default(),
            local_datacenter: "datacenter1".to_owned(),
            consistency: ConsistencyLevel::LocalQuorum,
            keyspace: "spark_streams".to_owned(),
            replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned(),
            table: "created_users".to_owned(),
            checkpoint_table: "stream_checkpoints".to_owned(),
            connections: 2,
            max_in_flight: 256,
            statement_bytes: ByteSize::b(5_000),
            max_rows_per_second: None,
            row_ttl: None,
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            backoff: Backoff::default(),
        }
    }
}

/// TLS to Cassandra, and what to hold against its nodes' certificates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The authorities of the nodes' certificates, PEM; none: no TLS. The files are read again for every session.
    pub ca_path: Option<PathBuf>,
    /// The name that every node's certificate is for; none: its IP address.
    pub server_name: Option<String>,
    /// Our own certificate with its chain, PEM, where the nodes ask for one.
    pub certificate_path: Option<PathBuf>,
    /// Its key, PEM.
    pub key_path: Option<PathBuf>,
}

impl TlsSettings {
    fn validate(&self) -> Result<(), ConfigError> {
        refuse_if(
            self.certificate_path.is_some() != self.key_path.is_some(),
            "cassandra.tls.key_path",
            "and cassandra.tls.certificate_path go together",
        )?;
        let needs_ca = self.certificate_path.is_some() || self.server_name.is_some();
        refuse_if(
            needs_ca && self.ca_path.is_none(),
            "cassandra.tls.ca_path",
            "is what switches TLS on; the other keys need it",
        )?;
        let name = self.server_name.as_deref().map(ServerName::try_from);
        refuse_if(
            name.is_some_and(|name| name.is_err()),
            "cassandra.tls.server_name",
            "is neither a DNS name nor an IP address",
        )
    }
}

/// A consistency level under which an acknowledged write is on at least one replica's disk or memory; so not `ANY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are Cassandra's own")]
pub enum ConsistencyLevel {
    One,
    LocalOne,
    Two,
    Three,
    LocalQuorum,
    Quorum,
    EachQuorum,
    All,
}

impl From<ConsistencyLevel> for Consistency {
    fn from(level: ConsistencyLevel) -> Self {
        match level {
            ConsistencyLevel::One => Self::One,
            ConsistencyLevel::LocalOne => Self::LocalOne,
            ConsistencyLevel::Two => Self::Two,
            ConsistencyLevel::Three => Self::Three,
            ConsistencyLevel::LocalQuorum => Self::LocalQuorum,
            ConsistencyLevel::Quorum => Self::Quorum,
            ConsistencyLevel::EachQuorum => Self::EachQuorum,
            ConsistencyLevel::All => Self::All,
        }
    }
}

/// A name that CQL takes without quotes and keeps as it is.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 48
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
