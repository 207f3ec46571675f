//! The secured servers that the tests of a run share: Kafka and Cassandra with TLS, logins and permissions.

use std::path::PathBuf;

use super::pool::Access;
use super::{CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, ServerError};
use crate::certificates::{CertificateAuthority, concatenate_pem};

/// Name in the nodes' certificate, in addition to their address.
pub const SERVER_NAME: &str = "server.affluent.test";

/// The authority that issued the nodes' certificate, and that the nodes trust.
pub fn authority() -> CertificateAuthority {
    CertificateAuthority::shared("secured")
}

/// Leases the Kafka of [`KafkaOptions::secured`].
///
/// # Errors
/// As [`KafkaCluster::lease`].
pub async fn kafka(authority: &CertificateAuthority) -> Result<KafkaCluster, ServerError> {
    let (_, token_keys) = authority.token_key();
    let options = KafkaOptions::secured(&keystore(authority), &authority.file(), &token_keys);
    KafkaCluster::lease(&options, Access::Shared).await
}

/// Leases the Cassandra of [`CassandraOptions::secured`].
///
/// # Errors
/// As [`CassandraCluster::lease`].
pub async fn cassandra(authority: &CertificateAuthority) -> Result<CassandraCluster, ServerError> {
    let options = CassandraOptions::secured(&keystore(authority), &authority.file());
    CassandraCluster::lease(&options, Access::Shared).await
}

/// The owner and the names of the nodes' certificate.
const NODE: (&str, [&str; 2]) = ("node", ["127.0.0.1", SERVER_NAME]);

fn keystore(authority: &CertificateAuthority) -> PathBuf {
    let (owner, names) = NODE;
    let (certificate, key) = authority.issue_once(owner, &names);
    concatenate_pem(&[&key, &certificate])
}

/// Issues another certificate for the nodes. Returns the path of a keystore with it, whose name begins with `file`.
pub fn next_keystore(authority: &CertificateAuthority, file: &str) -> PathBuf {
    let (owner, names) = NODE;
    let (certificate, key) = authority.issue_in(file, owner, &names);
    concatenate_pem(&[&key, &certificate])
}
