//! Settings of the Cassandra cluster and the tables.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use cdrs_tokio::consistency::Consistency;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use service::config::{Endpoints, Violations};
use service::files::pem;
use service::{Backoff, Secret};

use crate::pipeline::remaining_ttl::MAX_TTL;

/// Half of the stream ids that a connection allows in flight, so that the setting alone never exhausts them.
const MAX_IN_FLIGHT_LIMIT: usize = 8_192;

const IDENTIFIER_RULE: &str =
    "must be a name of at most 48 lower-case letters, digits and underscores that begins with a letter";

/// The Cassandra cluster and the tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CassandraSettings {
    /// Contact points, each `host:port`, with the default port 9042; names are resolved again for every session.
    pub contact_points: Endpoints<9042>,
    /// The role to log in as; if not set, there is no authentication.
    pub username: Option<String>,
    /// The role's password.
    pub password: Option<Secret>,
    /// TLS to the nodes.
    pub tls: TlsSettings,
    /// The data centre whose nodes coordinate requests.
    pub local_datacenter: String,
    /// The consistency level of reads and writes, for rows and checkpoints.
    pub consistency: ConsistencyLevel,
    /// The keyspace.
    pub keyspace: String,
    /// The replication of a created keyspace, as a CQL map.
    pub replication: String,
    /// The records' table; if not set, `created_` and the contract's resource.
    pub table: Option<String>,
    /// The checkpoints' table, in the same keyspace.
    pub checkpoint_table: String,
    /// Connections to each node.
    pub connections: usize,
    /// The maximum number of statements in flight to each node; the streamer lowers it under overload.
    pub max_in_flight: usize,
    /// The maximum size of a batch of rows that one replica coordinates: below the 5 KiB at which a server warns
    /// (`batch_size_warn_threshold`).
    pub statement_bytes: ByteSize,
    /// The maximum rate of rows of this process, so that a replay leaves capacity for live readers; if not set, there is
    /// no limit.
    pub max_rows_per_second: Option<NonZeroU32>,
    /// The time to live of a row since the publisher accepted its record; if not set, a row does not expire. Whole
    /// seconds, at most 20 years.
    #[serde(with = "service::duration::optional")]
    pub row_ttl: Option<Duration>,
    /// The timeout of a statement, above the server's own write timeout (2 s by default).
    #[serde(with = "service::duration")]
    pub request_timeout: Duration,
    /// The timeout of connecting to a node.
    #[serde(with = "service::duration")]
    pub connect_timeout: Duration,
    /// The delays between attempts, which are not limited.
    pub backoff: Backoff,
}

impl CassandraSettings {
    /// The name of the records' table.
    ///
    /// # Panics
    /// Before [`Settings::resolve`](super::Settings::resolve).
    pub fn table(&self) -> &str {
        let resolved = "names are resolved when the contract is loaded";
        self.table.as_deref().expect(resolved)
    }

    /// Keyspace and name of the records' table.
    ///
    /// # Panics
    /// As [`CassandraSettings::table`].
    pub fn qualified_table(&self) -> String {
        format!("{}.{}", self.keyspace, self.table())
    }

    pub(super) fn validate(&self, violations: &mut Violations) {
        self.tls.validate(violations);
        violations.require(
            self.username.is_some() == self.password.is_some(),
            "cassandra.username",
            "must be set together with cassandra.password",
        );
        for (key, name) in [
            ("cassandra.keyspace", Some(&self.keyspace)),
            ("cassandra.table", self.table.as_ref()),
            ("cassandra.checkpoint_table", Some(&self.checkpoint_table)),
        ] {
            violations.require(name.is_none_or(|name| is_identifier(name)), key, IDENTIFIER_RULE);
        }
        violations.require(
            (1..=MAX_IN_FLIGHT_LIMIT).contains(&self.max_in_flight),
            "cassandra.max_in_flight",
            "must be between 1 and 8192",
        );
        violations.require(
            self.connections > 0,
            "cassandra.connections",
            "must be at least 1",
        );
        let row_ttl = Duration::from_secs(1)..=MAX_TTL;
        violations.require(
            self.row_ttl.is_none_or(|ttl| row_ttl.contains(&ttl)),
            "cassandra.row_ttl",
            "must be between 1 second and 20 years",
        );
    }
}

impl Default for CassandraSettings {
    fn default() -> Self {
        Self {
            contact_points: Endpoints::local(),
            username: None,
            password: None,
            tls: TlsSettings::default(),
            local_datacenter: "datacenter1".to_owned(),
            consistency: ConsistencyLevel::LocalQuorum,
            keyspace: "spark_streams".to_owned(),
            replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned(),
            table: None,
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

/// TLS to Cassandra, and how its nodes' certificates are verified.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The certificate authorities of the nodes, PEM; if not set, there is no TLS. The files are read again for every
    /// session.
    pub ca_path: Option<PathBuf>,
    /// The name in every node's certificate; if not set, it is the node's IP address.
    pub server_name: Option<String>,
    /// The client certificate chain, PEM, if the nodes require one.
    pub certificate_path: Option<PathBuf>,
    /// The client certificate's private key, PEM.
    pub key_path: Option<PathBuf>,
}

impl TlsSettings {
    fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.certificate_path.is_some() == self.key_path.is_some(),
            "cassandra.tls.key_path",
            "must be set together with cassandra.tls.certificate_path",
        );
        let needs_ca = self.certificate_path.is_some() || self.server_name.is_some();
        violations.require(
            !needs_ca || self.ca_path.is_some(),
            "cassandra.tls.ca_path",
            "must be set to enable TLS, which the other cassandra.tls keys require",
        );
        let is_valid = |name: &str| ServerName::try_from(name).is_ok();
        violations.require(
            self.server_name.as_deref().is_none_or(is_valid),
            "cassandra.tls.server_name",
            "must be a DNS name or an IP address",
        );
    }

    pub(super) fn check_files(&self, violations: &mut Violations) {
        if let Some(path) = &self.ca_path {
            pem::check_authorities(violations, "cassandra.tls.ca_path", path);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_path, &self.key_path) {
            let certificate = ("cassandra.tls.certificate_path", &**certificate);
            pem::check_key_pair(violations, certificate, ("cassandra.tls.key_path", key));
        }
    }
}

/// A consistency level at which at least one replica has an acknowledged write; so not `ANY`.
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

/// Whether CQL accepts the name without quotes and keeps its case.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 48
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
