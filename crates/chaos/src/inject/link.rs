//! Faults of the links, through the proxies.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::RoundError;
use crate::evidence::{Loss, Sign, Who};
use crate::fault::{Link, Trouble};
use testkit::proxy::{Behavior, Direction, Flow, Proxy, ProxyStats};

/// A cut that is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(6);

/// In seconds: what is slower by so much is slower.
const NOTICEABLE: f64 = 0.005;

impl Scene<'_> {
    pub(super) async fn trouble(
        &self,
        link: Link,
        trouble: Trouble,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let proxies: Vec<&Proxy> = match link {
            Link::Kafka => self.venue.kafka.iter().collect(),
            Link::Cassandra => self.venue.cassandra.iter().collect(),
            Link::Publisher => vec![&self.crew.door],
            Link::Api => vec![&self.crew.way],
        };
        let began = self.now();
        let before = Work::of(&proxies);
        for proxy in &proxies {
            begin(proxy, trouble);
        }
        sleep(lasts).await;
        if let Some(why) = without_effect(trouble, before, Work::of(&proxies)) {
            let told = format!("link to {}: {trouble}: {why}", link.server());
            self.crew.is_without_effect(told);
        }
        for proxy in &proxies {
            // Half-open connections stay as they are: whoever keeps one waits for ever.
            if trouble != Trouble::HalfOpen {
                proxy.set(Behavior::default());
            }
        }
        let of = match link {
            Link::Kafka => [vec![Who::Publisher], self.crew.streamers()].concat(),
            Link::Cassandra => self.crew.streamers(),
            Link::Publisher | Link::Api => vec![Who::Ingester],
        };
        let cut = matches!(trouble, Trouble::Cut | Trouble::OneWay(_));
        let signs = if cut && lasts < SHOWS {
            Vec::new()
        } else {
            signs(link, trouble)
        };
        Ok(Effect {
            loses: link
                .dependency()
                .filter(|_| cut)
                .map(|dependency| Loss { dependency, of }),
            signs,
            // Nobody asks the API beside its runs.
            faint: !cut || link == Link::Api,
            ..self.effect(began)
        })
    }
}

/// Where it shows: what is sent again is counted, what only takes longer is measured.
fn signs(link: Link, trouble: Trouble) -> Vec<Sign> {
    let again = match link {
        Link::Kafka => Sign::Fell("publisher_kafka_up"),
        Link::Cassandra => Sign::Rose("streamer_retries_total"),
        Link::Publisher => Sign::Rose("ingester_retries_total{upstream=\"publisher\"}"),
        Link::Api => Sign::Rose("ingester_retries_total{upstream=\"source\"}"),
    };
    let took = match link {
        Link::Kafka => "publisher_delivery_duration_seconds",
        Link::Cassandra => "streamer_write_duration_seconds",
        Link::Publisher | Link::Api => "ingester_request_duration_seconds",
    };
    let missed = link.dependency().map(Sign::Missed);
    match trouble {
        Trouble::Cut | Trouble::OneWay(_) => missed.into_iter().chain([again]).collect(),
        // What hangs is given up much later; until then it is a question beside it that gets no answer.
        Trouble::HalfOpen => [again, Sign::Slower(took, NOTICEABLE)]
            .into_iter()
            .chain(missed)
            .collect(),
        Trouble::Reset(_) => vec![again, Sign::Slower(took, NOTICEABLE)],
        #[expect(clippy::cast_precision_loss, reason = "some hundred milliseconds")]
        Trouble::Late(millis) => vec![Sign::Slower(took, millis as f64 / 2_000.0), again],
        Trouble::Slices | Trouble::Slow(_) => vec![Sign::Slower(took, NOTICEABLE), again],
    }
}

/// What the proxies of a link have had to do, by their own count.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    open: u64,
    accepted: u64,
    /// Bytes either way, and those for the client.
    passed: u64,
    to_client: u64,
    stats: ProxyStats,
}

impl Work {
    fn of(proxies: &[&Proxy]) -> Self {
        let mut work = Self::default();
        for proxy in proxies {
            let (stats, to_client) = (proxy.stats(), proxy.passed(Direction::ToClient));
            work.open += proxy.connections().len() as u64;
            work.accepted += proxy.accepted();
            work.passed += proxy.passed(Direction::ToServer) + to_client;
            work.to_client += to_client;
            work.stats.resets += stats.resets;
            work.stats.delayed += stats.delayed;
            work.stats.slices += stats.slices;
            work.stats.dropped_bytes += stats.dropped_bytes;
        }
        work
    }
}

/// Why the trouble was none: nothing was done although there was something to do it to. A cut shows by itself.
fn without_effect(trouble: Trouble, before: Work, after: Work) -> Option<&'static str> {
    let done = after.stats.since(before.stats);
    let to_client = after.to_client - before.to_client;
    match trouble {
        Trouble::Cut | Trouble::OneWay(_) => None,
        Trouble::HalfOpen => (before.open == 0).then_some("no connection was open"),
        Trouble::Late(_) => (done.delayed == 0 && to_client > 0).then_some("nothing was late"),
        Trouble::Reset(bytes) => {
            // So much that one connection at least has had its share.
            let connections = (before.open + after.accepted - before.accepted).max(1);
            let due = to_client >= bytes.max(1) * connections;
            (done.resets == 0 && due).then_some("no connection was reset")
        }
        Trouble::Slices | Trouble::Slow(_) => {
            (done.slices == 0 && after.passed > before.passed).then_some("nothing was cut into slices")
        }
    }
}

fn begin(proxy: &Proxy, trouble: Trouble) {
    let conduct = match trouble {
        Trouble::Cut => Behavior::both(Flow::hold()),
        Trouble::OneWay(direction) => Behavior::one_way(direction, Flow::hold()),
        Trouble::HalfOpen => {
            for connection in proxy.connections() {
                connection.set(Behavior::both(Flow::blackhole()));
            }
            return;
        }
        Trouble::Late(millis) => {
            let late = Flow::latency(Duration::from_millis(millis), Duration::from_millis(millis / 2));
            Behavior::one_way(Direction::ToClient, late)
        }
        Trouble::Reset(bytes) => Behavior::one_way(Direction::ToClient, Flow::reset_after(bytes)),
        Trouble::Slices => Behavior::both(Flow::one_byte_slices()),
        Trouble::Slow(bytes) => {
            Behavior::both(Flow::bandwidth(NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN)))
        }
    };
    proxy.set(conduct);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(passed: u64, stats: ProxyStats) -> Work {
        Work {
            open: 2,
            accepted: 1,
            passed,
            to_client: passed,
            stats,
        }
    }

    #[test]
    fn trouble_that_did_nothing_to_what_passed_is_told() {
        let before = after(0, ProxyStats::default());
        let told = |trouble, stats| without_effect(trouble, before, after(1_000, stats)).is_some();
        let stats = |resets, delayed, slices| ProxyStats {
            resets,
            delayed,
            slices,
            dropped_bytes: 0,
        };
        let none = ProxyStats::default();
        for (trouble, done) in [
            (Trouble::Reset(400), stats(1, 0, 0)),
            (Trouble::Late(50), stats(0, 1, 0)),
            (Trouble::Slices, stats(0, 0, 1)),
            (Trouble::Slow(100), stats(0, 0, 1)),
        ] {
            assert!(told(trouble, none), "{trouble}");
            assert!(!told(trouble, done), "{trouble}");
            assert_eq!(
                without_effect(trouble, before, before),
                None,
                "nobody sent anything"
            );
        }
        assert!(
            !told(Trouble::Reset(600), none),
            "no connection has had so much for certain"
        );
        let unused = Work { open: 0, ..before };
        assert!(without_effect(Trouble::HalfOpen, unused, unused).is_some());
        assert!(!told(Trouble::HalfOpen, none));
    }
}
