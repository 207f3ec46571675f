//! The named rounds: each kind of fault by itself.

use std::time::Duration;

use super::evidence::Who;
use super::fault::{Disk, Fault, Link, Loss, Outage, Planned, Resource, Server, Spoiled, Trouble};
use super::moment::MOMENTS;
use super::venue::Shape;
use testkit::proxy::Direction;
use testkit::randomuser::{BrokenField, Fault as ApiFault};

/// A round with a name.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Which servers it needs.
    pub shape: Shape,
    /// Its faults.
    pub plan: Vec<Planned>,
    /// By how many seconds whose clock is wrong.
    pub clocks: Vec<(Who, i64)>,
    /// Whether each fault waits until the one before it is over.
    pub in_turn: bool,
}

/// A clock that is wrong, in one line.
#[must_use]
pub fn clock(who: Who, seconds: i64) -> String {
    let way = if seconds < 0 { "behind" } else { "ahead" };
    format!("clock of {who} {} s {way}", seconds.unsigned_abs())
}

impl Scenario {
    /// Whether it needs services that were built with the feature `failpoint`.
    #[must_use]
    pub fn needs_moments(&self) -> bool {
        self.plan
            .iter()
            .any(|planned| matches!(planned.fault, Fault::Moment(..)))
    }
}

fn one(name: &'static str, faults: Vec<(f64, f64, Fault)>) -> Scenario {
    let plan = faults.into_iter().map(|(at, lasts, fault)| Planned {
        at: Duration::from_secs_f64(at),
        lasts: Duration::from_secs_f64(lasts),
        fault,
    });
    Scenario {
        name,
        shape: Shape::One,
        plan: plan.collect(),
        clocks: Vec::new(),
        in_turn: false,
    }
}

fn three(name: &'static str, faults: Vec<(f64, f64, Fault)>) -> Scenario {
    Scenario {
        shape: Shape::Three,
        ..one(name, faults)
    }
}

const FIRST: Who = Who::Streamer(1);
const SECOND: Who = Who::Streamer(2);
const THIRD: Who = Who::Streamer(3);

/// All of them.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        processes(),
        servers(),
        links(),
        other_links(),
        resources(),
        stores(),
        rest(),
        clusters(),
    ]
    .concat()
}

/// The one of this name.
#[must_use]
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn processes() -> Vec<Scenario> {
    let moments = MOMENTS.iter().zip(0_u8..).map(|((moment, service), number)| {
        let at = 2.0 + 3.0 * f64::from(number);
        // It ends with the death, which comes within a second or two unless the group is just rebalancing.
        (at, 15.0, Fault::Moment(service.member(1 + number % 3), moment))
    });
    vec![
        one(
            "kills",
            vec![
                (2.0, 0.5, Fault::Kill(FIRST)),
                (5.0, 1.0, Fault::Kill(Who::Publisher)),
                (6.0, 1.0, Fault::Kill(Who::Ingester)),
                (8.0, 3.0, Fault::Kill(SECOND)),
            ],
        ),
        one(
            "terminations",
            vec![
                (2.0, 0.5, Fault::Terminate(FIRST)),
                (5.0, 0.5, Fault::Terminate(Who::Publisher)),
                (6.0, 0.5, Fault::Terminate(Who::Ingester)),
                (8.0, 1.0, Fault::Terminate(THIRD)),
            ],
        ),
        one(
            "freezes",
            vec![
                (2.0, 9.0, Fault::Freeze(FIRST)),
                (4.0, 5.0, Fault::Freeze(Who::Publisher)),
                (5.0, 6.0, Fault::Freeze(Who::Ingester)),
                (12.0, 20.0, Fault::Freeze(SECOND)),
            ],
        ),
        one(
            "a-minute-frozen",
            vec![
                (2.0, 60.0, Fault::Freeze(FIRST)),
                (4.0, 30.0, Fault::Freeze(Who::Publisher)),
            ],
        ),
        one(
            "crash-loops",
            vec![
                (2.0, 4.0, Fault::CrashLoop(FIRST, 8)),
                (7.0, 3.0, Fault::CrashLoop(Who::Publisher, 5)),
                (8.0, 3.0, Fault::CrashLoop(Who::Ingester, 5)),
            ],
        ),
        one(
            "all-at-once",
            vec![(3.0, 0.5, Fault::KillAll), (12.0, 2.0, Fault::KillAll)],
        ),
        one("moments", moments.collect()),
    ]
}

fn servers() -> Vec<Scenario> {
    let outage =
        |name, server, outage, lasts| one(name, vec![(3.0, lasts, Fault::Server(server, 0, outage))]);
    vec![
        outage("broker-stopped", Server::Kafka, Outage::Stopped, 12.0),
        outage("broker-killed", Server::Kafka, Outage::Killed, 6.0),
        outage("broker-frozen", Server::Kafka, Outage::Frozen, 13.0),
        outage("node-stopped", Server::Cassandra, Outage::Stopped, 5.0),
        outage("node-killed", Server::Cassandra, Outage::Killed, 5.0),
        outage("node-frozen", Server::Cassandra, Outage::Frozen, 13.0),
        outage("node-slow", Server::Cassandra, Outage::Slow, 12.0),
        outage("broker-slow", Server::Kafka, Outage::Slow, 12.0),
        // What the publisher has in hand dies with it, and nobody was told that it is safe.
        one(
            "killed-behind-a-frozen-broker",
            vec![
                (3.0, 10.0, Fault::Server(Server::Kafka, 0, Outage::Frozen)),
                (7.0, 1.0, Fault::Kill(Who::Publisher)),
            ],
        ),
    ]
}

fn links() -> Vec<Scenario> {
    let link = |name, link, trouble, lasts| one(name, vec![(3.0, lasts, Fault::Link(link, trouble))]);
    vec![
        link("kafka-cut", Link::Kafka, Trouble::Cut, 12.0),
        link(
            "kafka-one-way",
            Link::Kafka,
            Trouble::OneWay(Direction::ToClient),
            12.0,
        ),
        link("kafka-half-open", Link::Kafka, Trouble::HalfOpen, 1.0),
        link("cassandra-cut", Link::Cassandra, Trouble::Cut, 13.0),
        link(
            "cassandra-one-way",
            Link::Cassandra,
            Trouble::OneWay(Direction::ToServer),
            13.0,
        ),
        link("cassandra-half-open", Link::Cassandra, Trouble::HalfOpen, 1.0),
        link("publisher-cut", Link::Publisher, Trouble::Cut, 13.0),
        one(
            "late",
            vec![
                (2.0, 8.0, Fault::Link(Link::Kafka, Trouble::Late(200))),
                (3.0, 8.0, Fault::Link(Link::Cassandra, Trouble::Late(1_000))),
                (3.0, 8.0, Fault::Link(Link::Publisher, Trouble::Late(300))),
            ],
        ),
        one(
            "resets",
            vec![
                (2.0, 6.0, Fault::Link(Link::Kafka, Trouble::Reset(5_000))),
                (4.0, 6.0, Fault::Link(Link::Cassandra, Trouble::Reset(700))),
                (6.0, 6.0, Fault::Link(Link::Publisher, Trouble::Reset(90))),
            ],
        ),
        one(
            "slices-and-drips",
            vec![
                (2.0, 5.0, Fault::Link(Link::Kafka, Trouble::Slices)),
                (3.0, 5.0, Fault::Link(Link::Cassandra, Trouble::Slices)),
                (8.0, 5.0, Fault::Link(Link::Kafka, Trouble::Slow(60_000))),
                (9.0, 5.0, Fault::Link(Link::Cassandra, Trouble::Slow(60_000))),
            ],
        ),
    ]
}

/// The ways and links that have no scenario of their own.
fn other_links() -> Vec<Scenario> {
    let (to_server, to_client) = (
        Trouble::OneWay(Direction::ToServer),
        Trouble::OneWay(Direction::ToClient),
    );
    vec![
        one(
            "other-ways",
            vec![
                (2.0, 12.0, Fault::Link(Link::Kafka, to_server)),
                (26.0, 12.0, Fault::Link(Link::Cassandra, to_client)),
            ],
        ),
        one(
            "publisher-one-way",
            vec![
                (2.0, 12.0, Fault::Link(Link::Publisher, to_server)),
                (26.0, 12.0, Fault::Link(Link::Publisher, to_client)),
            ],
        ),
        one(
            "publisher-half-open",
            vec![(3.0, 1.0, Fault::Link(Link::Publisher, Trouble::HalfOpen))],
        ),
        one("api-cut", vec![(3.0, 12.0, Fault::Link(Link::Api, Trouble::Cut))]),
        one(
            "api-ways",
            vec![
                (2.0, 8.0, Fault::Link(Link::Api, to_server)),
                (20.0, 8.0, Fault::Link(Link::Api, to_client)),
                (38.0, 1.0, Fault::Link(Link::Api, Trouble::HalfOpen)),
            ],
        ),
        one(
            "api-resets-and-drips",
            vec![
                (2.0, 7.0, Fault::Link(Link::Api, Trouble::Reset(900))),
                (19.0, 7.0, Fault::Link(Link::Api, Trouble::Slow(20_000))),
                (36.0, 7.0, Fault::Link(Link::Api, Trouble::Late(400))),
            ],
        ),
        one(
            "publisher-slices-and-drips",
            vec![
                (2.0, 5.0, Fault::Link(Link::Publisher, Trouble::Slices)),
                (8.0, 5.0, Fault::Link(Link::Publisher, Trouble::Slow(20_000))),
            ],
        ),
    ]
}

fn resources() -> Vec<Scenario> {
    let disk = |name, disk, spoiled| one(name, vec![(3.0, 4.0, Fault::Disk(disk, spoiled))]);
    let on_small = |name, spoiled| Scenario {
        shape: Shape::Small,
        ..disk(name, Disk::Kafka, spoiled)
    };
    let starved = |at, lasts, who, resource| (at, lasts, Fault::Starved(who, resource));
    let everybody = [Who::Ingester, Who::Publisher, FIRST, SECOND, THIRD];
    let at_bound = everybody.map(|who| starved(2.0, 14.0, who, Resource::Memory));
    let cut = (3.0, 12.0, Fault::Link(Link::Cassandra, Trouble::Cut));
    vec![
        disk("state-disk-full", Disk::Ingester, Spoiled::Full),
        disk("state-disk-read-only", Disk::Ingester, Spoiled::ReadOnly),
        on_small("log-disk-full", Spoiled::Full),
        on_small("log-disk-read-only", Spoiled::ReadOnly),
        one(
            "no-descriptors",
            vec![
                starved(2.0, 8.0, Who::Publisher, Resource::Descriptors),
                starved(12.0, 8.0, FIRST, Resource::Descriptors),
                starved(13.0, 8.0, Who::Ingester, Resource::Descriptors),
            ],
        ),
        one("memory-near", at_bound.into_iter().chain([cut]).collect()),
    ]
}

fn stores() -> Vec<Scenario> {
    let store = |name, lasts, fault| one(name, vec![(5.0, lasts, fault)]);
    vec![
        store("checkpoints-deleted", 0.0, Fault::CheckpointsDeleted),
        store("table-dropped", 0.0, Fault::TableDropped),
        store("table-altered", 3.0, Fault::TableAltered),
        store("table-restored", 0.0, Fault::TableRestored),
        store("topic-recreated", 0.0, Fault::TopicRecreated),
        one(
            "topic-cut",
            vec![
                (5.0, 0.0, Fault::TopicCut(Loss::Settled)),
                (7.0, 0.5, Fault::Kill(FIRST)),
            ],
        ),
        store("topic-cut-unread", 0.0, Fault::TopicCut(Loss::Unread)),
        one(
            "redriven",
            vec![
                (5.0, 0.5, Fault::Kill(FIRST)),
                (8.0, 0.0, Fault::Redrive),
                (9.0, 0.5, Fault::Kill(SECOND)),
            ],
        ),
    ]
}

fn rest() -> Vec<Scenario> {
    let api = [
        ApiFault::BadGateway,
        ApiFault::NoResults,
        ApiFault::BrokenRecord(BrokenField::NilUuid),
        ApiFault::DuplicateUuids,
        ApiFault::TruncatedJson,
        ApiFault::ResetMidBody,
    ];
    let api = api
        .into_iter()
        .zip(2_u8..)
        .map(|(fault, at)| (f64::from(at), 0.0, Fault::Api(fault)));
    let wrong = |seconds: i64| vec![(Who::Publisher, seconds), (FIRST, seconds), (SECOND, -seconds)];
    let kills = || vec![(4.0, 0.5, Fault::Kill(FIRST)), (7.0, 0.5, Fault::Kill(SECOND))];
    vec![
        one("bad-replies", api.collect()),
        one(
            "partitions-added",
            vec![(4.0, 0.0, Fault::Partitions(2)), (6.0, 0.5, Fault::Kill(FIRST))],
        ),
        one(
            "rebalance-storm",
            vec![(2.0, 8.0, Fault::Storm(6)), (5.0, 0.5, Fault::Terminate(SECOND))],
        ),
        one("foreign-commit", vec![(4.0, 0.0, Fault::ForeignCommit)]),
        Scenario {
            clocks: wrong(3_600),
            ..one("clocks-ahead-and-behind", kills())
        },
        Scenario {
            clocks: wrong(-3_600),
            ..one("clocks-behind-and-ahead", kills())
        },
        one("duplicate-member", vec![(4.0, 3.0, Fault::Duplicate(FIRST))]),
    ]
}

fn clusters() -> Vec<Scenario> {
    let server = |server, index, outage| Fault::Server(server, index, outage);
    vec![
        // So long that work that goes on can be seen to.
        Scenario {
            in_turn: true,
            ..three(
                "leader-changes",
                vec![
                    (3.0, 20.0, server(Server::Kafka, 0, Outage::Killed)),
                    (4.0, 20.0, server(Server::Kafka, 1, Outage::Stopped)),
                    (5.0, 20.0, server(Server::Kafka, 2, Outage::Frozen)),
                ],
            )
        },
        // So long that whoever misses them has to say so, and too short to be fenced while their quorum is gone.
        three(
            "two-brokers-lost",
            vec![
                (3.0, 14.0, server(Server::Kafka, 1, Outage::Killed)),
                (4.0, 14.0, server(Server::Kafka, 2, Outage::Killed)),
            ],
        ),
        three(
            "one-node-lost",
            vec![(3.0, 20.0, server(Server::Cassandra, 1, Outage::Killed))],
        ),
        three(
            "two-nodes-lost",
            vec![
                (3.0, 14.0, server(Server::Cassandra, 1, Outage::Frozen)),
                (4.0, 14.0, server(Server::Cassandra, 2, Outage::Frozen)),
            ],
        ),
        three(
            "one-node-slow",
            vec![(3.0, 20.0, server(Server::Cassandra, 1, Outage::Slow))],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_scenario_and_every_scenario_does_something() {
        let all = all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|scenario| !scenario.plan.is_empty()));
    }
}
