//! Faults of the links, through the proxies.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::evidence::{Loss, Sign, Who};
use crate::chaos::fault::{Link, Trouble};
use crate::proxy::{Conduct, Direction, Flow, Proxy};

/// A cut that is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(6);

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
        };
        let began = self.now();
        for proxy in &proxies {
            begin(proxy, trouble);
        }
        sleep(lasts).await;
        for proxy in &proxies {
            // Half-open connections stay as they are: whoever keeps one waits for ever.
            if trouble != Trouble::HalfOpen {
                proxy.set(Conduct::default());
            }
        }
        let of = match link {
            Link::Kafka => [vec![Who::Publisher], self.crew.streamers()].concat(),
            Link::Cassandra => self.crew.streamers(),
            Link::Publisher => vec![Who::Ingester],
        };
        let dependency = link.dependency();
        let cut = matches!(trouble, Trouble::Cut | Trouble::OneWay(_));
        let retries = match link {
            Link::Cassandra => Some(Sign::Rose("streamer_retries_total")),
            Link::Kafka | Link::Publisher => None,
        };
        let signs = match trouble {
            Trouble::Cut | Trouble::OneWay(_) if lasts >= SHOWS => [Some(Sign::Missed(dependency)), retries]
                .into_iter()
                .flatten()
                .collect(),
            // What is only slower is in the histograms of latency, and no threshold says from where on.
            _ => Vec::new(),
        };
        Ok(Effect {
            loses: cut.then_some(Loss { dependency, of }),
            signs,
            ..self.effect(began)
        })
    }
}

fn begin(proxy: &Proxy, trouble: Trouble) {
    let conduct = match trouble {
        Trouble::Cut => Conduct::both(Flow::hold()),
        Trouble::OneWay(direction) => Conduct::one_way(direction, Flow::hold()),
        Trouble::HalfOpen => {
            for connection in proxy.connections() {
                connection.set(Conduct::both(Flow::swallow()));
            }
            return;
        }
        Trouble::Late(millis) => {
            let late = Flow::late(Duration::from_millis(millis), Duration::from_millis(millis / 2));
            Conduct::one_way(Direction::ToClient, late)
        }
        Trouble::Reset(bytes) => Conduct::one_way(Direction::ToClient, Flow::reset_after(bytes)),
        Trouble::Slices => Conduct::both(Flow::one_byte_slices()),
        Trouble::Slow(bytes) => Conduct::both(Flow::slow(NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN))),
    };
    proxy.set(conduct);
}
