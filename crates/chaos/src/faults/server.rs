//! Outages of brokers and Cassandra nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use testkit::proxy::remote_addresses;
use testkit::servers::Node;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::cluster::shape::ClusterShape;
use crate::evidence::incident::{DependencyLoss, ExpectedSignal, Incident};
use crate::scenario::fault::{Fault, FaultClass, Outage, PlannedFault, ServerKind};
use crate::service_id::ServiceId;

/// A shorter outage may fall between two health checks of a service.
const NOTICEABLE_OUTAGE: Duration = Duration::from_secs(5);

/// How long a slow server stops at a time.
const SLOW_STOP: Duration = Duration::from_millis(150);

/// A broker without heartbeats for 9 s is fenced, and its partitions get other leaders.
const FENCED_AFTER: Duration = Duration::from_secs(15);

/// The leader of each partition.
type Leaders = BTreeMap<i32, i32>;

impl FaultInjector<'_> {
    pub(super) async fn server_outage(
        &self,
        server: ServerKind,
        index: usize,
        outage: Outage,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let node = match server {
            ServerKind::Kafka => self.cluster.stack.kafka.node(index)?,
            ServerKind::Cassandra => self.cluster.stack.cassandra.node(index)?,
        };
        let is_needed = self.cluster.shape.depends_on(server, index);
        let leaders_move = server == ServerKind::Kafka && !is_needed && duration >= FENCED_AFTER;
        let before = if leaders_move {
            Some(self.leaders().await?)
        } else {
            None
        };
        let started = self.now();
        match outage {
            Outage::Stopped => node.stop().await?,
            Outage::Killed => node.kill().await?,
            Outage::Frozen => node.freeze().await?,
            Outage::Slow => return self.slow(server, node, duration).await,
        }
        sleep(duration).await;
        if let Some(before) = before {
            self.expect_other_leaders(index, &before, &self.leaders().await?);
        }
        match outage {
            Outage::Stopped | Outage::Killed => node.start().await?,
            Outage::Frozen | Outage::Slow => node.thaw()?,
        }
        let effect = self.effect(started);
        let noticeable = is_needed && effect.ended - effect.started >= NOTICEABLE_OUTAGE.as_secs_f64();
        // With one of several servers down, the pipeline must keep working, and need not notice.
        Ok(FaultEffect {
            loss: is_needed.then(|| loss(server)),
            signals: if noticeable { signals(server) } else { Vec::new() },
            work_continues: !is_needed,
            ..effect
        })
    }

    /// The streamers must use the new node.
    pub(super) async fn add_node(&self) -> Result<FaultEffect> {
        let started = self.now();
        let node = self.cluster.stack.cassandra.node(self.cluster.shape.nodes())?;
        node.start().await?;
        let until = Instant::now() + STEP_TIMEOUT;
        for id in ServiceId::streamers() {
            while !self.is_connected(id, node).await {
                if Instant::now() >= until {
                    let text = format!("{id} is not connected to the new node");
                    self.services.ineffective_fault(text);
                    break;
                }
                sleep(SLOW_STOP).await;
            }
        }
        Ok(FaultEffect {
            work_continues: true,
            ..self.effect(started)
        })
    }

    async fn is_connected(&self, id: ServiceId, node: &Node) -> bool {
        let service = self.services.get(id).await;
        let remotes = service.child().map(|child| remote_addresses(child.pid()));
        let mut remotes = remotes.and_then(Result::ok).unwrap_or_default().into_iter();
        remotes.any(|remote| remote.to_string() == node.address())
    }

    /// Stops the server for three quarters of the time, in intervals below every timeout.
    async fn slow(&self, server: ServerKind, node: &Node, duration: Duration) -> Result<FaultEffect> {
        let started = self.now();
        let until = Instant::now() + duration;
        while Instant::now() < until {
            node.freeze().await?;
            sleep(SLOW_STOP).await;
            node.thaw()?;
            sleep(SLOW_STOP / 3).await;
        }
        let metric = match server {
            ServerKind::Kafka => "publisher_delivery_duration_seconds",
            ServerKind::Cassandra => "streamer_write_duration_seconds",
        };
        Ok(FaultEffect {
            signals: vec![ExpectedSignal::Slower(metric, SLOW_STOP.as_secs_f64() / 10.0)],
            only_if_alone: true,
            work_continues: self.cluster.shape.servers(server) > 1,
            ..self.effect(started)
        })
    }

    async fn leaders(&self) -> Result<Leaders> {
        let kafka = self.cluster.kafka_client()?;
        Ok(kafka.leaders(&self.config.name).await?)
    }

    fn expect_other_leaders(&self, index: usize, before: &Leaders, after: &Leaders) {
        let broker = i32::try_from(index + 1).unwrap_or(0);
        if kept_leadership(broker, before, after) {
            let text = format!("kafka-{broker} was down and is still leader: {before:?}, then {after:?}");
            self.services.ineffective_fault(text);
        }
    }
}

/// Whether a broker still leads all of the partitions that it led.
fn kept_leadership(broker: i32, before: &Leaders, after: &Leaders) -> bool {
    let mut led = before.iter().filter(|(_, leader)| **leader == broker).peekable();
    led.peek().is_some() && led.all(|(partition, _)| after.get(partition) == Some(&broker))
}

fn loss(server: ServerKind) -> DependencyLoss {
    let streamers = ServiceId::streamers();
    match server {
        ServerKind::Kafka => DependencyLoss {
            dependency: "kafka",
            of: [vec![ServiceId::Publisher], streamers].concat(),
        },
        ServerKind::Cassandra => DependencyLoss {
            dependency: "cassandra",
            of: streamers,
        },
    }
}

fn signals(server: ServerKind) -> Vec<ExpectedSignal> {
    use ExpectedSignal::{Fell, Missing, Rose};
    match server {
        ServerKind::Kafka => vec![Missing("kafka"), Fell("publisher_kafka_up")],
        ServerKind::Cassandra => vec![Missing("cassandra"), Rose("streamer_retries_total")],
    }
}

/// The times in which two servers of a kind that share a quorum were down at once: it was lost.
pub(crate) fn lost_majorities(shape: ClusterShape, played: &[(&PlannedFault, &Incident)]) -> Vec<Incident> {
    let down = |(planned, incident): &(&PlannedFault, &Incident)| match planned.fault {
        Fault::Server(server, index, outage) if outage != Outage::Slow && incident.work_continues => {
            Some((server, index, incident.started, incident.ended))
        }
        _ => None,
    };
    let down: Vec<_> = played.iter().filter_map(down).collect();
    let mut lost = Vec::new();
    for (position, (server, index, started, ended)) in down.iter().enumerate() {
        for (other, second, other_started, other_ended) in &down[..position] {
            let (started, ended) = (started.max(*other_started), ended.min(*other_ended));
            if server != other || !shape.share_quorum(*server, *index, *second) || started >= ended {
                continue;
            }
            let loss = loss(*server);
            let noticeable = ended - started >= NOTICEABLE_OUTAGE.as_secs_f64();
            lost.push(Incident {
                fault: format!("a quorum of {} down", loss.dependency),
                class: FaultClass::Server,
                started,
                ended,
                loss: Some(loss),
                excused: Vec::new(),
                signals: if noticeable { signals(*server) } else { Vec::new() },
                only_if_alone: false,
                work_continues: false,
            });
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(index: usize, started: f64, ended: f64) -> (PlannedFault, Incident) {
        let fault = Fault::Server(ServerKind::Kafka, index, Outage::Killed);
        let duration = Duration::from_secs_f64(ended - started);
        let at = Duration::from_secs_f64(started);
        let planned = PlannedFault { at, duration, fault };
        let incident = Incident {
            fault: planned.to_string(),
            class: FaultClass::Server,
            started,
            ended,
            loss: None,
            excused: Vec::new(),
            signals: Vec::new(),
            only_if_alone: false,
            work_continues: true,
        };
        (planned, incident)
    }

    fn lost(outages: &[(PlannedFault, Incident)]) -> Vec<(f64, f64)> {
        let played: Vec<_> = outages
            .iter()
            .map(|(planned, incident)| (planned, incident))
            .collect();
        let lost = lost_majorities(ClusterShape::Three, &played);
        lost.iter()
            .map(|incident| (incident.started, incident.ended))
            .collect()
    }

    #[test]
    fn majority_is_lost_while_two_of_three_are_down() {
        assert_eq!(lost(&[outage(1, 3.0, 17.0), outage(2, 4.0, 18.0)]), [(4.0, 17.0)]);
        assert_eq!(
            lost(&[outage(1, 3.0, 7.0), outage(2, 8.0, 18.0)]),
            [],
            "one after the other"
        );
        assert_eq!(lost(&[outage(1, 3.0, 17.0)]), []);
    }

    #[test]
    fn broker_with_unchanged_leadership_was_not_down() {
        let led = |leaders: [i32; 3]| (0..).zip(leaders).collect::<Leaders>();
        assert!(kept_leadership(1, &led([1, 2, 1]), &led([1, 2, 1])));
        assert!(!kept_leadership(1, &led([1, 2, 1]), &led([1, 2, 3])));
        assert!(
            !kept_leadership(3, &led([1, 2, 1]), &led([1, 2, 1])),
            "it led none"
        );
    }
}
