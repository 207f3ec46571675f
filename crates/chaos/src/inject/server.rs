//! Faults of the servers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::evidence::{Incident, Loss, Sign, Who};
use crate::fault::{Fault, Outage, Planned, Server};
use testkit::kafka_client::KafkaClient;
use testkit::servers::Node;

/// An outage that is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(5);

/// How long a slow server stands still at a time.
const STANDS: Duration = Duration::from_millis(150);

/// A broker that gives no sign of life for 9 s is none any more, and its partitions are led by others.
const FENCED: Duration = Duration::from_secs(15);

/// The broker that leads each partition.
type Leaders = BTreeMap<i32, i32>;

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
        let alone = self.venue.shape.nodes() == 1;
        let moves = server == Server::Kafka && !alone && lasts >= FENCED;
        let before = if moves { Some(self.leaders().await?) } else { None };
        let began = self.now();
        match outage {
            Outage::Stopped => node.stop().await?,
            Outage::Killed => node.kill().await?,
            Outage::Frozen => node.freeze().await?,
            Outage::Slow => return self.slow(server, node, lasts).await,
        }
        sleep(lasts).await;
        if let Some(before) = before {
            self.expect_other_leaders(index, &before, &self.leaders().await?);
        }
        match outage {
            Outage::Stopped | Outage::Killed => node.start().await?,
            Outage::Frozen | Outage::Slow => node.thaw()?,
        }
        let effect = self.effect(began);
        let shows = alone && effect.ended - effect.began >= SHOWS.as_secs_f64();
        // Of three, one may be away and nothing is lost; that it is seen is not promised, that work goes on is.
        Ok(Effect {
            loses: alone.then(|| loss(server, self.crew.streamers())),
            signs: if shows { signs(server) } else { Vec::new() },
            goes_on: !alone,
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
            Server::Kafka => "publisher_delivery_duration_seconds",
            Server::Cassandra => "streamer_write_duration_seconds",
        };
        Ok(Effect {
            signs: vec![Sign::Slower(took, STANDS.as_secs_f64() / 10.0)],
            faint: true,
            goes_on: self.venue.shape.nodes() > 1,
            ..self.effect(began)
        })
    }

    async fn leaders(&self) -> Result<Leaders, RoundError> {
        let tap = KafkaClient::new(self.venue.stack.kafka.internal_bootstrap())?;
        Ok(tap.leaders(&self.plot.name).await?)
    }

    fn expect_other_leaders(&self, index: usize, before: &Leaders, after: &Leaders) {
        let broker = i32::try_from(index + 1).unwrap_or(0);
        if has_kept(broker, before, after) {
            let told = format!("kafka-{broker} was away and still leads: {before:?}, then {after:?}");
            self.crew.is_without_effect(told);
        }
    }
}

/// Whether a broker that led some partitions leads all of them still.
fn has_kept(broker: i32, before: &Leaders, after: &Leaders) -> bool {
    let mut led = before.iter().filter(|(_, leader)| **leader == broker).peekable();
    led.peek().is_some() && led.all(|(partition, _)| after.get(partition) == Some(&broker))
}

fn loss(server: Server, streamers: Vec<Who>) -> Loss {
    match server {
        Server::Kafka => Loss {
            dependency: "kafka",
            of: [vec![Who::Publisher], streamers].concat(),
        },
        Server::Cassandra => Loss {
            dependency: "cassandra",
            of: streamers,
        },
    }
}

fn signs(server: Server) -> Vec<Sign> {
    match server {
        Server::Kafka => vec![Sign::Missed("kafka"), Sign::Fell("publisher_kafka_up")],
        Server::Cassandra => vec![Sign::Missed("cassandra"), Sign::Rose("streamer_retries_total")],
    }
}

/// Where two servers of three are away at once, all of them are lost for as long as both are.
pub(crate) fn lost_majorities(played: &[(&Planned, &Incident)], streamers: &[Who]) -> Vec<Incident> {
    let away = |(planned, incident): &(&Planned, &Incident)| match planned.fault {
        Fault::Server(server, index, outage) if outage != Outage::Slow && incident.goes_on => {
            Some((server, index, incident.began, incident.ended))
        }
        _ => None,
    };
    let away: Vec<_> = played.iter().filter_map(away).collect();
    let mut lost = Vec::new();
    for (place, (server, index, began, ended)) in away.iter().enumerate() {
        for (other, second, other_began, other_ended) in &away[..place] {
            let (began, ended) = (began.max(*other_began), ended.min(*other_ended));
            if server != other || index == second || began >= ended {
                continue;
            }
            let loss = loss(*server, streamers.to_vec());
            let shows = ended - began >= SHOWS.as_secs_f64();
            lost.push(Incident {
                fault: format!("two of three of {} away", loss.dependency),
                class: 2,
                began,
                ended,
                loses: Some(loss),
                excuses: Vec::new(),
                signs: if shows { signs(*server) } else { Vec::new() },
                faint: false,
                goes_on: false,
            });
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(index: usize, began: f64, ended: f64) -> (Planned, Incident) {
        let fault = Fault::Server(Server::Kafka, index, Outage::Killed);
        let lasts = Duration::from_secs_f64(ended - began);
        let at = Duration::from_secs_f64(began);
        let planned = Planned { at, lasts, fault };
        let incident = Incident {
            fault: planned.to_string(),
            class: 2,
            began,
            ended,
            loses: None,
            excuses: Vec::new(),
            signs: Vec::new(),
            faint: false,
            goes_on: true,
        };
        (planned, incident)
    }

    fn lost(of: &[(Planned, Incident)]) -> Vec<(f64, f64)> {
        let played: Vec<_> = of.iter().map(|(planned, incident)| (planned, incident)).collect();
        let lost = lost_majorities(&played, &[Who::Streamer(1)]);
        lost.iter()
            .map(|incident| (incident.began, incident.ended))
            .collect()
    }

    #[test]
    fn two_of_three_are_lost_for_as_long_as_both_are_away() {
        assert_eq!(lost(&[away(1, 3.0, 17.0), away(2, 4.0, 18.0)]), [(4.0, 17.0)]);
        assert_eq!(
            lost(&[away(1, 3.0, 7.0), away(2, 8.0, 18.0)]),
            [],
            "one after the other"
        );
        assert_eq!(lost(&[away(1, 3.0, 17.0)]), []);
    }

    #[test]
    fn a_broker_that_leads_what_it_led_was_not_away() {
        let led = |leaders: [i32; 3]| (0..).zip(leaders).collect::<Leaders>();
        assert!(has_kept(1, &led([1, 2, 1]), &led([1, 2, 1])));
        assert!(!has_kept(1, &led([1, 2, 1]), &led([1, 2, 3])));
        assert!(!has_kept(3, &led([1, 2, 1]), &led([1, 2, 1])), "it led none");
    }
}
