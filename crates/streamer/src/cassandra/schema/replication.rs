//! Determines whether any two rows have the same replicas.
//!
//! Only such rows belong in one batch. Otherwise the coordinator would forward most of the batch to other nodes.

use std::collections::HashMap;

use cdrs_tokio::types::map::Map;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{AsRustType as _, ByName as _};

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::config::CassandraSettings;

/// Queries the nodes and the keyspace's replication. A replication that can't be parsed counts as false.
///
/// # Errors
/// The [`ErrorClass`] of a query.
pub async fn shared_replica_set(session: &Session, settings: &CassandraSettings) -> Result<bool, ErrorClass> {
    let peers = session
        .query("SELECT data_center FROM system.peers_v2", Vec::new())
        .await?;
    // Statements go to the local data centre only, so the node that responds is in it.
    let local = settings.local_datacenter.clone();
    let datacenters: Vec<_> = peers
        .iter()
        .map(|row| {
            row.by_name::<String>("data_center")
                .ok()
                .flatten()
                .unwrap_or_default()
        })
        .chain([local.clone()])
        .collect();
    let cql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let keyspaces = session
        .query(cql, vec![Value::Some(settings.keyspace.clone().into_bytes())])
        .await?;
    let replication: Option<HashMap<String, String>> = keyspaces
        .first()
        .and_then(|row| row.by_name::<Map>("replication").ok().flatten())
        .and_then(|map| map.as_rust_type().ok().flatten());
    Ok(replication.is_some_and(|replication| is_on_all(&replication, &local, &datacenters)))
}

/// Whether every local node holds every row.
fn is_on_all(replication: &HashMap<String, String>, local: &str, datacenters: &[String]) -> bool {
    let class = replication.get("class").map(String::as_str).unwrap_or_default();
    let (factor, nodes) = if class.ends_with("NetworkTopologyStrategy") {
        (
            replication.get(local),
            datacenters
                .iter()
                .filter(|datacenter| *datacenter == local)
                .count(),
        )
    } else if class.ends_with("SimpleStrategy") {
        (replication.get("replication_factor"), datacenters.len())
    } else {
        return false;
    };
    factor
        .and_then(|factor| factor.parse::<usize>().ok())
        .is_some_and(|factor| nodes <= factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replication(class: &str, key: &str, factor: &str) -> HashMap<String, String> {
        let class = format!("org.apache.cassandra.locator.{class}");
        [("class", class.as_str()), (key, factor)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn three_nodes_share_all_rows_only_at_replication_3() {
        let nodes = vec!["here".to_owned(); 3];
        assert!(is_on_all(
            &replication("NetworkTopologyStrategy", "here", "3"),
            "here",
            &nodes
        ));
        assert!(!is_on_all(
            &replication("NetworkTopologyStrategy", "here", "2"),
            "here",
            &nodes
        ));
        assert!(is_on_all(
            &replication("SimpleStrategy", "replication_factor", "3"),
            "here",
            &nodes
        ));
        assert!(!is_on_all(
            &replication("SimpleStrategy", "replication_factor", "1"),
            "here",
            &nodes
        ));
    }

    #[test]
    fn only_the_local_data_centre_counts() {
        let nodes = ["here", "there", "there"].map(str::to_owned);
        assert!(is_on_all(
            &replication("NetworkTopologyStrategy", "here", "1"),
            "here",
            &nodes
        ));
        assert!(!is_on_all(
            &replication("NetworkTopologyStrategy", "there", "3"),
            "here",
            &nodes
        ));
        assert!(!is_on_all(
            &replication("NetworkTopologyStrategy", "here", "3/1"),
            "here",
            &nodes
        ));
        assert!(!is_on_all(
            &replication("LocalStrategy", "replication_factor", "9"),
            "here",
            &nodes
        ));
    }
}
