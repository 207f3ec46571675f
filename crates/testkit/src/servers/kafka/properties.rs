//! A broker's `server.properties`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The protocol of each listener.
const PROTOCOLS: &str = "listener.security.protocol.map";

/// The ports of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct KafkaPorts {
    /// For clients. A test may put SASL or TLS on it.
    pub(super) client: u16,
    /// For the other brokers and for the testkit.
    pub(super) internal: u16,
    /// For the controllers' quorum.
    pub(super) controller: u16,
    /// For clients of the second listener, if there is one.
    pub(super) second: u16,
    /// For clients behind a test's proxy, if there is such a listener.
    pub(super) proxied: u16,
}

/// The addresses that a node advertises; `None`: its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AdvertisedAddresses {
    /// To clients.
    pub(super) client: Option<SocketAddr>,
    /// To the other brokers.
    pub(super) internal: Option<SocketAddr>,
}

/// The properties of node `index` (from 0) of a cluster with these ports. Each node has a rack of its own. `overrides` win.
pub(super) fn properties(
    index: usize,
    cluster: &[KafkaPorts],
    advertised: AdvertisedAddresses,
    data: &Path,
    overrides: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut properties = listeners(cluster[index], advertised);
    let mut set = |name: &str, value: String| properties.insert(name.to_owned(), value);
    let voters: Vec<String> = (1..)
        .zip(cluster)
        .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller))
        .collect();
    set("process.roles", "broker,controller".to_owned());
    set("node.id", (index + 1).to_string());
    set("controller.quorum.voters", voters.join(","));
    set("broker.rack", format!("rack-{}", index + 1));
    set("log.dirs", data.display().to_string());
    set("auto.create.topics.enable", "false".to_owned());
    set("group.initial.rebalance.delay.ms", "0".to_owned());
    // A killed broker is readmitted, and its partitions get another leader, only after its session has expired. With the
    // default of 9 s a fault test would spend most of its time waiting.
    set("broker.session.timeout.ms", "4000".to_owned());
    set("broker.heartbeat.interval.ms", "1000".to_owned());
    if cluster.len() == 1 {
        // An idle controller writes a record that often, which the broker reads: twice a second by default.
        set("metadata.max.idle.interval.ms", "10000".to_owned());
    }
    // Tests that kill a consumer wait for the end of its session; Kafka's minimum is 6 s.
    set("group.min.session.timeout.ms", "1000".to_owned());
    let replicas = cluster.len().to_string();
    // A majority of three. With one or two nodes a dead one must not block the rest.
    let in_sync = if cluster.len() == 3 { "2" } else { "1" };
    for topic in [
        "offsets.topic",
        "transaction.state.log",
        "share.coordinator.state.topic",
    ] {
        set(&format!("{topic}.replication.factor"), replicas.clone());
        // Kafka's default of 50 costs a second at the first consumer and at each start.
        set(&format!("{topic}.num.partitions"), "4".to_owned());
    }
    set("default.replication.factor", replicas);
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.min.isr"), in_sync.to_owned());
    }
    properties.extend(overrides.clone());
    properties
}

/// Clients have a listener of their own, so that overriding `listener.security.protocol.map` secures it and leaves the
/// brokers' traffic alone.
fn listeners(ports: KafkaPorts, advertised: AdvertisedAddresses) -> BTreeMap<String, String> {
    let KafkaPorts {
        client,
        internal,
        controller,
        ..
    } = ports;
    let [client, internal] = [client, internal].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let advertised_client = advertised.client.unwrap_or(client);
    let advertised_internal = advertised.internal.unwrap_or(internal);
    let controller = format!("CONTROLLER://127.0.0.1:{controller}");
    let protocols = "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    [
        (
            "listeners",
            format!("CLIENT://{client},INTERNAL://{internal},{controller}"),
        ),
        (
            "advertised.listeners",
            format!("CLIENT://{advertised_client},INTERNAL://{advertised_internal}"),
        ),
        (PROTOCOLS, protocols),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("inter.broker.listener.name", "INTERNAL".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Replaces the controllers by a ZooKeeper on this port.
pub(super) fn use_zookeeper(properties: &mut BTreeMap<String, String>, port: u16) {
    for name in [
        "process.roles",
        "controller.quorum.voters",
        "controller.listener.names",
    ] {
        properties.remove(name);
    }
    if let Some(id) = properties.remove("node.id") {
        properties.insert("broker.id".to_owned(), id);
    }
    let controller = format!(",CONTROLLER://127.0.0.1:{port}");
    for value in properties.values_mut() {
        *value = value
            .replace(&controller, "")
            .replace(",CONTROLLER:PLAINTEXT", "");
    }
    properties.insert("zookeeper.connect".to_owned(), format!("127.0.0.1:{port}"));
    // A killed broker can't return before its session has ended.
    properties.insert("zookeeper.session.timeout.ms".to_owned(), "2000".to_owned());
}

/// Adds the listener `name` for clients, without TLS and SASL unless the protocols name it.
pub(super) fn add_listener(
    properties: &mut BTreeMap<String, String>,
    name: &str,
    port: u16,
    advertised: Option<SocketAddr>,
) {
    let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let is_mapped = properties[PROTOCOLS].contains(&format!("{name}:"));
    let mut append = |key: &str, text: String| {
        let list = properties.entry(key.to_owned()).or_default();
        list.push_str(&text);
    };
    append("listeners", format!(",{name}://{bound}"));
    append(
        "advertised.listeners",
        format!(",{name}://{}", advertised.unwrap_or(bound)),
    );
    if !is_mapped {
        append(PROTOCOLS, format!(",{name}:PLAINTEXT"));
    }
}

/// Renders the syntax of Java's property files.
pub(super) fn render(properties: &BTreeMap<String, String>) -> String {
    let line = |(name, value): (&String, &String)| {
        format!("{name}={}\n", value.replace('\\', "\\\\").replace('\n', "\\n"))
    };
    properties.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: u16) -> Vec<KafkaPorts> {
        (0..nodes)
            .map(|n| KafkaPorts {
                client: 1000 + n,
                internal: 2000 + n,
                controller: 3000 + n,
                second: 4000 + n,
                proxied: 5000 + n,
            })
            .collect()
    }

    #[test]
    fn every_controller_votes_and_internal_topics_are_on_all_nodes() {
        let properties = properties(
            1,
            &cluster(3),
            AdvertisedAddresses::default(),
            Path::new("/data"),
            &BTreeMap::new(),
        );
        assert_eq!(properties["node.id"], "2");
        assert_eq!(properties["broker.rack"], "rack-2");
        assert_eq!(
            properties["controller.quorum.voters"],
            "1@127.0.0.1:3000,2@127.0.0.1:3001,3@127.0.0.1:3002"
        );
        assert_eq!(properties["offsets.topic.replication.factor"], "3");
        assert_eq!(properties["transaction.state.log.min.isr"], "2");
    }

    fn properties_of_one(advertised: AdvertisedAddresses) -> BTreeMap<String, String> {
        properties(0, &cluster(1), advertised, Path::new("/data"), &BTreeMap::new())
    }

    #[test]
    fn proxy_is_advertised_to_clients_or_to_brokers() {
        let proxy = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        let own = AdvertisedAddresses::default();
        for (advertised, expected) in [
            (own, "CLIENT://127.0.0.1:1000,INTERNAL://127.0.0.1:2000"),
            (
                AdvertisedAddresses { client: proxy, ..own },
                "CLIENT://127.0.0.1:9,INTERNAL://127.0.0.1:2000",
            ),
            (
                AdvertisedAddresses {
                    internal: proxy,
                    ..own
                },
                "CLIENT://127.0.0.1:1000,INTERNAL://127.0.0.1:9",
            ),
        ] {
            let found = properties_of_one(advertised);
            assert_eq!(found["advertised.listeners"], expected);
            assert_eq!(
                found["listeners"],
                "CLIENT://127.0.0.1:1000,INTERNAL://127.0.0.1:2000,CONTROLLER://127.0.0.1:3000"
            );
        }
    }

    #[test]
    fn second_listener_is_advertised() {
        let mut found = properties_of_one(AdvertisedAddresses::default());
        add_listener(&mut found, "OTHER", 4000, None);
        for name in ["listeners", "advertised.listeners"] {
            assert!(found[name].ends_with(",OTHER://127.0.0.1:4000"), "{name}");
        }
        assert!(found["listener.security.protocol.map"].ends_with(",OTHER:PLAINTEXT"));
    }

    #[test]
    fn overrides_win_and_backslashes_are_escaped() {
        let overrides = BTreeMap::from([("node.id".to_owned(), r"a\b".to_owned())]);
        let advertised = AdvertisedAddresses::default();
        let text = render(&properties(
            0,
            &cluster(1),
            advertised,
            Path::new("/data"),
            &overrides,
        ));
        assert!(text.contains("node.id=a\\\\b\n"), "{text}");
    }
}
