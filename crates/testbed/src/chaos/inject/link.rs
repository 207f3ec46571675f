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
        let signs = if cut && lasts < SHOWS {
            Vec::new()
        } else {
            signs(link, trouble)
        };
        Ok(Effect {
            loses: cut.then_some(Loss { dependency, of }),
            signs,
            faint: !cut,
            ..self.effect(began)
        })
    }
}

/// Where it shows: what is sent again is counted, what only takes longer is measured.
fn signs(link: Link, trouble: Trouble) -> Vec<Sign> {
    let again = match link {
        Link::Kafka => Sign::Fell("publisher_kafka_up"),
        Link::Cassandra => Sign::Rose("streamer_retries_total"),
        Link::Publisher => Sign::Rose("ingester_retries_total{leg=\"publisher\"}"),
    };
    let took = match link {
        Link::Kafka => "publisher_delivery_seconds",
        Link::Cassandra => "streamer_write_seconds",
        Link::Publisher => "ingester_request_seconds",
    };
    match trouble {
        Trouble::Cut | Trouble::OneWay(_) => vec![Sign::Missed(link.dependency()), again],
        Trouble::HalfOpen | Trouble::Reset(_) => vec![again, Sign::Slower(took, NOTICEABLE)],
        #[expect(clippy::cast_precision_loss, reason = "some hundred milliseconds")]
        Trouble::Late(millis) => vec![Sign::Slower(took, millis as f64 / 2_000.0), again],
        Trouble::Slices | Trouble::Slow(_) => vec![Sign::Slower(took, NOTICEABLE), again],
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
