//! Reads the nodes of the cluster and the replication of the keyspace.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use cdrs_tokio::types::map::Map;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use cdrs_tokio::types::{AsRustType as _, ByName as _};
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::placement::RingNode;
use crate::cassandra::placement::replication::Replication;
use crate::cassandra::session::Session;

/// The only partitioner whose tokens can be computed.
const PARTITIONER: &str = "Murmur3Partitioner";

/// What one node knows of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The nodes that own tokens, by id.
    pub ring: Vec<RingNode>,
    /// The addresses for clients. The node that was queried does not know its own reliably, so it is absent.
    pub addresses: HashMap<Uuid, SocketAddr>,
    /// The replication of the keyspace. `None`: the keyspace does not exist, or rows can't be placed.
    pub replication: Option<Replication>,
}

/// Reads the topology as the session's node knows it.
///
/// # Errors
/// The [`ErrorClass`] of a query.
pub async fn read(session: &Session, keyspace: &str) -> Result<Topology, ErrorClass> {
    let local = "SELECT host_id, data_center, rack, tokens, partitioner FROM system.local";
    let peers = "SELECT host_id, data_center, rack, tokens, native_address, native_port FROM system.peers_v2";
    let keyspaces = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let keyspace = vec![Value::Some(keyspace.as_bytes().to_vec())];
    let (local, peers, keyspaces) = futures::try_join!(
        session.query_node(local, Vec::new()),
        session.query_node(peers, Vec::new()),
        session.query_node(keyspaces, keyspace),
    )?;
    let mut addresses = HashMap::new();
    for row in &peers {
        if let (Some(id), Some(address)) = (id(row), address(row)) {
            addresses.insert(id, address);
        }
    }
    // A node without an address or tokens is joining, or its row is left from a node that was removed.
    let peers = peers.iter().filter_map(ring_node);
    let peers = peers.filter(|node| addresses.contains_key(&node.id));
    let mut ring: Vec<_> = local.iter().filter_map(ring_node).chain(peers).collect();
    ring.sort_unstable_by_key(|node| node.id);
    ring.dedup_by_key(|node| node.id);
    let partitioner = local.first().map(|row| text(row, "partitioner"));
    let replication = keyspaces
        .first()
        .filter(|_| partitioner.is_some_and(|name| name.ends_with(PARTITIONER)))
        .and_then(|row| row.by_name::<Map>("replication").ok().flatten())
        .and_then(|map| map.as_rust_type().ok().flatten())
        .and_then(|options| Replication::parse(&options));
    Ok(Topology {
        ring,
        addresses,
        replication,
    })
}

fn ring_node(row: &Row) -> Option<RingNode> {
    let tokens: Vec<String> = row
        .by_name::<cdrs_tokio::types::list::List>("tokens")
        .ok()
        .flatten()
        .and_then(|tokens| tokens.as_rust_type().ok().flatten())?;
    Some(RingNode {
        id: id(row)?,
        datacenter: text(row, "data_center"),
        rack: text(row, "rack"),
        tokens: tokens.iter().filter_map(|token| token.parse().ok()).collect(),
    })
    .filter(|node| !node.tokens.is_empty())
}

fn id(row: &Row) -> Option<Uuid> {
    row.by_name("host_id").ok().flatten()
}

fn address(row: &Row) -> Option<SocketAddr> {
    let address: IpAddr = row.by_name("native_address").ok().flatten()?;
    let port: i32 = row.by_name("native_port").ok().flatten()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

fn text(row: &Row, name: &str) -> String {
    row.by_name(name).ok().flatten().unwrap_or_default()
}
