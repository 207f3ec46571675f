//! Faults of the servers.

use std::time::Duration;

use tokio::time::sleep;

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::evidence::{Loss, Sign, Who};
use crate::chaos::fault::{Outage, Server};
use crate::chaos::venue::Shape;

/// An outage that is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(5);

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
        }
        let began = self.now();
        sleep(lasts).await;
        match outage {
            Outage::Stopped | Outage::Killed => node.start().await?,
            Outage::Frozen => node.thaw()?,
        }
        let (dependency, of) = match server {
            Server::Kafka => ("kafka", [vec![Who::Publisher], self.crew.streamers()].concat()),
            Server::Cassandra => ("cassandra", self.crew.streamers()),
        };
        // Of three, one may be away and nothing is lost; that it is seen is not promised.
        let alone = self.venue.shape == Shape::One;
        let effect = self.effect(began);
        let shows = alone && effect.ended - effect.began >= SHOWS.as_secs_f64();
        Ok(Effect {
            loses: alone.then_some(Loss { dependency, of }),
            signs: if shows {
                vec![Sign::Missed(dependency)]
            } else {
                Vec::new()
            },
            ..effect
        })
    }
}
