//! A broker's `server.properties`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The three ports of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct KafkaPorts {
    /// For clients; a test may put SASL or TLS on it.
    pub(super) client: u16,
    /// For brokers among themselves, and for the testkit.
    pub(super) internal: u16,
    /// For the controllers' quorum.
    pub(super) controller: u16,
}

/// The properties of node `index` (from 0) of a cluster with these ports, whose clients are told to go to `advertised`;
/// `overrides` win.
pub(super) fn properties(
    index: usize,
    cluster: &[KafkaPorts],
    advertised: Option<SocketAddr>,
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
    set("log.dirs", data.display().to_string());
    set("auto.create.topics.enable", "false".to_owned());
    set("group.initial.rebalance.delay.ms", "0".to_owned());
    // A killed broker is let in again, and its partitions get another leader, only when its session is over:
    // by default 9 s, of which a fault test would spend most of its time waiting.
    set("broker.session.timeout.ms", "4000".to_owned());
    set("broker.heartbeat.interval.ms", "1000".to_owned());
    let replicas = cluster.len().to_string();
    // A majority of three; with one or two nodes a dead one must not block the rest.
    let in_sync = if cluster.len() == 3 { "2" } else { "1" };
    for topic in [
        "offsets.topic",
        "transaction.state.log",
        "share.coordinator.state.topic",
    ] {
        set(&format!("{topic}.replication.factor"), replicas.clone());
    }
    set("default.replication.factor", replicas);
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.min.isr"), in_sync.to_owned());
    }
    // The 50 of a production cluster cost a second at the first consumer, and as much at each start.
    for topic in [
        "offsets.topic",
        "transaction.state.log",
        "share.coordinator.state.topic",
    ] {
        set(&format!("{topic}.num.partitions"), "4".to_owned());
    }
    properties.extend(overrides.clone());
    properties
}

/// Clients have a listener of their own, so that overriding `listener.security.protocol.map` puts
/// authentication on it without touching what brokers say to each other.
fn listeners(ports: KafkaPorts, advertised: Option<SocketAddr>) -> BTreeMap<String, String> {
    let KafkaPorts {
        client,
        internal,
        controller,
    } = ports;
    let public = format!("CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}");
    let found = advertised.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, client)));
    let told = format!("CLIENT://{found},INTERNAL://127.0.0.1:{internal}");
    [
        (
            "listeners",
            format!("{public},CONTROLLER://127.0.0.1:{controller}"),
        ),
        ("advertised.listeners", told),
        (
            "listener.security.protocol.map",
            "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("inter.broker.listener.name", "INTERNAL".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// In the syntax of Java's property files.
pub(super) fn render(properties: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in properties {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name}={}",
            value.replace('\\', "\\\\").replace('\n', "\\n")
        );
    }
    text
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
            })
            .collect()
    }

    #[test]
    fn every_controller_votes_and_internal_topics_are_on_all_nodes() {
        let properties = properties(1, &cluster(3), None, Path::new("/data"), &BTreeMap::new());
        assert_eq!(properties["node.id"], "2");
        assert_eq!(
            properties["controller.quorum.voters"],
            "1@127.0.0.1:3000,2@127.0.0.1:3001,3@127.0.0.1:3002"
        );
        assert_eq!(properties["offsets.topic.replication.factor"], "3");
        assert_eq!(properties["transaction.state.log.min.isr"], "2");
    }

    #[test]
    fn clients_are_told_of_the_proxy_and_brokers_are_not() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 9));
        let found = properties(0, &cluster(1), Some(proxy), Path::new("/data"), &BTreeMap::new());
        assert_eq!(
            found["advertised.listeners"],
            "CLIENT://127.0.0.1:9,INTERNAL://127.0.0.1:2000"
        );
        assert!(found["listeners"].starts_with("CLIENT://127.0.0.1:1000,"));
    }

    #[test]
    fn an_override_wins_and_a_backslash_survives() {
        let overrides = BTreeMap::from([("node.id".to_owned(), r"a\b".to_owned())]);
        let text = render(&properties(0, &cluster(1), None, Path::new("/data"), &overrides));
        assert!(text.contains("node.id=a\\\\b\n"), "{text}");
    }
}
