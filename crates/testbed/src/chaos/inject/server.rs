//! Faults of the servers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::evidence::{Loss, Sign, Who};
use crate::chaos::fault::{Outage, Server};
use crate::servers::Node;

/// An outage that is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(5);

/// How long a slow server stands still at a time.
const STANDS: Duration = Duration::from_millis(150);

impl Scene<'_> {
    pub(super) async fn outage(
        &self,
        server: Server,
        index: usize,
        outage: Outage,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let node = match server {
            Server::Kafka => self.venue.stack.kafka.node(index)?,
            Server::Cassandra => self.venue.stack.cassandra.node(index)?,
        };
        match outage {
            Outage::Stopped => node.stop().await?,
            Outage::Killed => node.kill().await?,
            Outage::Frozen => node.freeze().await?,
            Outage::Slow => return self.slow(server, node, lasts).await,
        }
        let began = self.now();
        sleep(lasts).await;
        match outage {
            Outage::Stopped | Outage::Killed => node.start().await?,
            Outage::Frozen | Outage::Slow => node.thaw()?,
        }
        let (dependency, of) = match server {
            Server::Kafka => ("kafka", [vec![Who::Publisher], self.crew.streamers()].concat()),
            Server::Cassandra => ("cassandra", self.crew.streamers()),
        };
        let counted = match server {
            Server::Kafka => Sign::Fell("publisher_kafka_up"),
            Server::Cassandra => Sign::Rose("streamer_retries_total"),
        };
        let signs = vec![Sign::Missed(dependency), counted];
        // Of three, one may be away and nothing is lost; that it is seen is not promised.
        let alone = self.venue.shape.nodes() == 1;
        let effect = self.effect(began);
        let shows = alone && effect.ended - effect.began >= SHOWS.as_secs_f64();
        Ok(Effect {
            loses: alone.then_some(Loss { dependency, of }),
            signs: if shows { signs } else { Vec::new() },
            ..effect
        })
    }

    /// It works for a quarter of the time, in pieces that no deadline notices; nobody loses anything.
    async fn slow(&self, server: Server, node: &Node, lasts: Duration) -> Result<Effect, RoundError> {
        let began = self.now();
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            node.freeze().await?;
            sleep(STANDS).await;
            node.thaw()?;
            sleep(STANDS / 3).await;
        }
        let took = match server {
            Server::Kafka => "publisher_delivery_seconds",
            Server::Cassandra => "streamer_write_seconds",
        };
        Ok(Effect {
            signs: vec![Sign::Slower(took, STANDS.as_secs_f64() / 10.0)],
            faint: true,
            ..self.effect(began)
        })
    }
}
