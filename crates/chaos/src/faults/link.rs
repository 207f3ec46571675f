//! Network faults, injected by the proxies.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Result;
use testkit::proxy::{Behavior, Direction, Flow, Proxy, ProxyStats};
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector};
use crate::evidence::incident::{DependencyLoss, ExpectedSignal};
use crate::scenario::fault::{Link, LinkFault};
use crate::service_id::ServiceId;

/// A shorter cut may fall between two health checks of a service.
const NOTICEABLE_CUT: Duration = Duration::from_secs(6);

/// Until a client that has just restarted opens a connection: longer than the interval of the ingester's runs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A delay that counts as slower, in seconds.
const NOTICEABLE_DELAY: f64 = 0.005;

impl FaultInjector<'_> {
    pub(super) async fn disturb_link(
        &self,
        link: Link,
        fault: LinkFault,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let proxies: Vec<&Proxy> = match link {
            Link::Kafka => self.cluster.kafka.iter().collect(),
            Link::Cassandra => self.cluster.cassandra.iter().collect(),
            Link::Publisher => vec![&self.services.publisher_proxy],
            Link::Api => vec![&self.services.api_proxy],
        };
        let until = Instant::now() + CONNECT_TIMEOUT;
        while fault == LinkFault::HalfOpen && LinkTraffic::of(&proxies).open == 0 && Instant::now() < until {
            sleep(POLL_INTERVAL).await;
        }
        let started = self.now();
        let before = LinkTraffic::of(&proxies);
        for proxy in &proxies {
            disturb(proxy, fault);
        }
        sleep(duration).await;
        if let Some(reason) = ineffective(fault, before, LinkTraffic::of(&proxies)) {
            let text = format!("link to {}: {fault}: {reason}", link.server());
            self.services.ineffective_fault(text);
        }
        for proxy in &proxies {
            // Half-open connections never recover.
            if fault != LinkFault::HalfOpen {
                proxy.set(Behavior::default());
            }
        }
        let of = match link {
            Link::Kafka => [vec![ServiceId::Publisher], ServiceId::streamers()].concat(),
            Link::Cassandra => ServiceId::streamers(),
            Link::Publisher | Link::Api => vec![ServiceId::Ingester],
        };
        let cut = matches!(fault, LinkFault::Cut | LinkFault::OneWay(_));
        let signals = if cut && duration < NOTICEABLE_CUT {
            Vec::new()
        } else {
            signals(link, fault)
        };
        Ok(FaultEffect {
            loss: link
                .dependency()
                .filter(|_| cut)
                .map(|dependency| DependencyLoss { dependency, of }),
            signals,
            // Only runs use the API.
            only_if_alone: !cut || link == Link::Api,
            ..self.effect(started)
        })
    }
}

/// Retries are counted, and delays are measured.
fn signals(link: Link, fault: LinkFault) -> Vec<ExpectedSignal> {
    let retry = match link {
        Link::Kafka => ExpectedSignal::Fell("publisher_kafka_up"),
        Link::Cassandra => ExpectedSignal::Rose("streamer_retries_total"),
        Link::Publisher => ExpectedSignal::Rose("ingester_retries_total{upstream=\"publisher\"}"),
        Link::Api => ExpectedSignal::Rose("ingester_retries_total{upstream=\"source\"}"),
    };
    let metric = match link {
        Link::Kafka => "publisher_delivery_duration_seconds",
        Link::Cassandra => "streamer_write_duration_seconds",
        Link::Publisher | Link::Api => "ingester_request_duration_seconds",
    };
    let slower = |by| ExpectedSignal::Slower(metric, by);
    let missing = link.dependency().map(ExpectedSignal::Missing);
    match fault {
        LinkFault::Cut | LinkFault::OneWay(_) => missing.into_iter().chain([retry]).collect(),
        // The timeout of a hanging request comes much later; until then, a health check fails.
        LinkFault::HalfOpen => [retry, slower(NOTICEABLE_DELAY)]
            .into_iter()
            .chain(missing)
            .collect(),
        #[expect(clippy::cast_precision_loss, reason = "a few hundred milliseconds")]
        LinkFault::Late(millis) => vec![slower(millis as f64 / 2_000.0), retry],
        LinkFault::Reset(_) | LinkFault::Slices | LinkFault::Slow(_) => vec![slower(NOTICEABLE_DELAY), retry],
    }
}

/// What the proxies of a link have forwarded, by their own counters.
#[derive(Clone, Copy, Debug, Default)]
struct LinkTraffic {
    open: u64,
    accepted: u64,
    /// Bytes in both directions.
    forwarded: u64,
    /// Bytes.
    to_client: u64,
    stats: ProxyStats,
}

impl LinkTraffic {
    fn of(proxies: &[&Proxy]) -> Self {
        let mut traffic = Self::default();
        for proxy in proxies {
            let (stats, to_client) = (proxy.stats(), proxy.passed(Direction::ToClient));
            traffic.open += proxy.connections().len() as u64;
            traffic.accepted += proxy.accepted();
            traffic.forwarded += proxy.passed(Direction::ToServer) + to_client;
            traffic.to_client += to_client;
            traffic.stats.resets += stats.resets;
            traffic.stats.delayed += stats.delayed;
            traffic.stats.slices += stats.slices;
            traffic.stats.dropped_bytes += stats.dropped_bytes;
        }
        traffic
    }
}

/// Why the fault had no effect although there was traffic. A cut shows by itself.
fn ineffective(fault: LinkFault, before: LinkTraffic, after: LinkTraffic) -> Option<&'static str> {
    let done = after.stats.since(before.stats);
    let to_client = after.to_client - before.to_client;
    match fault {
        LinkFault::Cut | LinkFault::OneWay(_) => None,
        LinkFault::HalfOpen => (before.open == 0).then_some("no connection was open"),
        LinkFault::Late(_) => (done.delayed == 0 && to_client > 0).then_some("nothing was delayed"),
        LinkFault::Reset(bytes) => {
            // Enough traffic for at least one connection to exceed its limit.
            let connections = (before.open + after.accepted - before.accepted).max(1);
            let due = to_client >= bytes.max(1) * connections;
            (done.resets == 0 && due).then_some("no connection was reset")
        }
        LinkFault::Slices | LinkFault::Slow(_) => {
            (done.slices == 0 && after.forwarded > before.forwarded).then_some("nothing was sliced")
        }
    }
}

fn disturb(proxy: &Proxy, fault: LinkFault) {
    let behavior = match fault {
        LinkFault::Cut => Behavior::both(Flow::hold()),
        LinkFault::OneWay(direction) => Behavior::one_way(direction, Flow::hold()),
        LinkFault::HalfOpen => {
            for connection in proxy.connections() {
                connection.set(Behavior::both(Flow::blackhole()));
            }
            return;
        }
        LinkFault::Late(millis) => {
            let late = Flow::latency(Duration::from_millis(millis), Duration::from_millis(millis / 2));
            Behavior::one_way(Direction::ToClient, late)
        }
        LinkFault::Reset(bytes) => Behavior::one_way(Direction::ToClient, Flow::reset_after(bytes)),
        LinkFault::Slices => Behavior::both(Flow::one_byte_slices()),
        LinkFault::Slow(bytes) => {
            Behavior::both(Flow::bandwidth(NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN)))
        }
    };
    proxy.set(behavior);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(forwarded: u64, stats: ProxyStats) -> LinkTraffic {
        LinkTraffic {
            open: 2,
            accepted: 1,
            forwarded,
            to_client: forwarded,
            stats,
        }
    }

    #[test]
    fn fault_without_effect_on_traffic_is_reported() {
        let before = after(0, ProxyStats::default());
        let reported = |fault, stats| ineffective(fault, before, after(1_000, stats)).is_some();
        let stats = |resets, delayed, slices| ProxyStats {
            resets,
            delayed,
            slices,
            dropped_bytes: 0,
        };
        let none = ProxyStats::default();
        for (fault, done) in [
            (LinkFault::Reset(400), stats(1, 0, 0)),
            (LinkFault::Late(50), stats(0, 1, 0)),
            (LinkFault::Slices, stats(0, 0, 1)),
            (LinkFault::Slow(100), stats(0, 0, 1)),
        ] {
            assert!(reported(fault, none), "{fault}");
            assert!(!reported(fault, done), "{fault}");
            assert_eq!(ineffective(fault, before, before), None, "no traffic");
        }
        assert!(
            !reported(LinkFault::Reset(600), none),
            "perhaps no connection exceeded the limit"
        );
        let unused = LinkTraffic { open: 0, ..before };
        assert!(ineffective(LinkFault::HalfOpen, unused, unused).is_some());
        assert!(!reported(LinkFault::HalfOpen, none));
    }
}
