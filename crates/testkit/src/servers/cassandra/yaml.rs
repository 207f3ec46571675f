//! A node's `cassandra.yaml`, written as JSON, which is YAML too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::servers::version;

/// Cassandra's default.
const COMMITLOG_SYNC_MS: u32 = 10_000;

/// The inputs of a node's configuration.
#[derive(Debug)]
pub(super) struct YamlSettings<'a> {
    pub(super) address: Ipv4Addr,
    pub(super) seed: Ipv4Addr,
    /// The end of the node's range of the ring.
    pub(super) token: i64,
    /// Whether it receives its data from the others before it serves.
    pub(super) joins: bool,
    pub(super) ports: CassandraPorts,
    pub(super) data: &'a Path,
    pub(super) authentication: bool,
    pub(super) overrides: &'a BTreeMap<String, Value>,
}

/// The ports of a cluster, the same on each node's address.
#[derive(Debug, Clone, Copy)]
pub(super) struct CassandraPorts {
    pub(super) native: u16,
    pub(super) storage: u16,
    pub(super) ssl_storage: u16,
}

/// Renders `cassandra.yaml`. Overrides win, and a null removes a key.
pub(super) fn render(settings: &YamlSettings<'_>) -> String {
    let mut yaml: BTreeMap<String, Value> = BTreeMap::new();
    for section in [
        cluster(settings),
        folders(settings.data),
        storage(),
        security(settings.authentication),
    ] {
        if let Value::Object(entries) = section {
            yaml.extend(entries);
        }
    }
    yaml.extend(settings.overrides.clone());
    yaml.retain(|_, value| !value.is_null());
    if version::is_below(version::CASSANDRA, 4, 1) {
        // Its settings have no units.
        if yaml.remove("commitlog_sync_period").is_some() {
            yaml.insert("commitlog_sync_period_in_ms".to_owned(), json!(COMMITLOG_SYNC_MS));
        }
    }
    format!("{:#}", json!(yaml))
}

fn cluster(settings: &YamlSettings<'_>) -> Value {
    let YamlSettings {
        address,
        seed,
        token,
        joins,
        ports,
        ..
    } = settings;
    json!({
        "cluster_name": "testkit",
        "num_tokens": 1,
        "initial_token": token.to_string(),
        // A new cluster has no data to stream, so its nodes don't wait for it.
        "auto_bootstrap": joins,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "seed_provider": [{
            "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
            "parameters": [{ "seeds": format!("{seed}:{}", ports.storage) }],
        }],
        "listen_address": address.to_string(),
        "rpc_address": address.to_string(),
        "storage_port": ports.storage,
        "ssl_storage_port": ports.ssl_storage,
        "native_transport_port": ports.native,
        "start_native_transport": true,
    })
}

fn folders(data: &Path) -> Value {
    let folder = |name: &str| data.join(name).display().to_string();
    json!({
        "data_file_directories": [folder("data")],
        "commitlog_directory": folder("commitlog"),
        "saved_caches_directory": folder("saved_caches"),
        "hints_directory": folder("hints"),
        "cdc_raw_directory": folder("cdc_raw"),
    })
}

fn storage() -> Value {
    json!({
        // Cassandra's default, so that benches measure what production has.
        "commitlog_sync": "periodic",
        "commitlog_sync_period": format!("{COMMITLOG_SYNC_MS}ms"),
        "hinted_handoff_enabled": false,
        // Snapshots of dropped test tables would fill the disk.
        "auto_snapshot": false,
    })
}

fn security(authentication: bool) -> Value {
    if !authentication {
        return json!({});
    }
    json!({
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "role_manager": "CassandraRoleManager",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_the_seed_and_overrides_win() {
        let overrides = BTreeMap::from([
            ("num_tokens".to_owned(), json!(4)),
            ("auto_snapshot".to_owned(), Value::Null),
        ]);
        let settings = YamlSettings {
            address: Ipv4Addr::new(127, 0, 0, 2),
            seed: Ipv4Addr::LOCALHOST,
            token: -7,
            joins: false,
            ports: CassandraPorts {
                native: 1,
                storage: 2,
                ssl_storage: 3,
            },
            data: Path::new("/data"),
            authentication: true,
            overrides: &overrides,
        };
        let yaml: Value = serde_json::from_str(&render(&settings)).unwrap();
        assert_eq!(yaml["seed_provider"][0]["parameters"][0]["seeds"], "127.0.0.1:2");
        assert_eq!(yaml["listen_address"], "127.0.0.2");
        assert_eq!(yaml["initial_token"], "-7");
        assert_eq!(yaml["num_tokens"], 4);
        assert_eq!(yaml.get("auto_snapshot"), None);
        assert_eq!(yaml["authenticator"], "PasswordAuthenticator");
    }
}
