//! The named scenarios: each kind of fault by itself.

use testkit::proxy::Direction::{ToClient, ToServer};
use testkit::randomuser::{BrokenField, Fault as ApiFault};

use super::fault::{
    DiskFault, DiskOwner, Fault, Link, LinkFault, Outage, Release, Resource, ServerKind, Truncation,
};
use super::spec::Scenario;
use crate::cluster::shape::{ClusterShape, ROLE_NODE};
use crate::service_id::ServiceId::{self, Ingester, Publisher};
use crate::services::failpoint::CRASH_POINTS;

const FIRST: ServiceId = ServiceId::Streamer(1);
const SECOND: ServiceId = ServiceId::Streamer(2);
const THIRD: ServiceId = ServiceId::Streamer(3);

/// Every named scenario.
pub(crate) fn all() -> Vec<Scenario> {
    [
        processes(),
        upgrades(),
        servers(),
        links(),
        resources(),
        stores(),
        inputs_and_groups(),
        clusters(),
        larger_clusters(),
    ]
    .concat()
}

/// The scenario of this name.
pub(crate) fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn processes() -> Vec<Scenario> {
    let mut crash_points = Scenario::new("crash-points");
    for ((point, id), number) in CRASH_POINTS.iter().zip(0_u8..) {
        // The crash ends the fault. It comes within a second or two, unless the group is rebalancing.
        crash_points = crash_points.fault(2.0 + 3.0 * f64::from(number), 15.0, Fault::CrashPoint(*id, point));
    }
    vec![
        Scenario::new("kills")
            .fault(2.0, 0.5, Fault::Kill(FIRST))
            .fault(5.0, 1.0, Fault::Kill(Publisher))
            .fault(6.0, 1.0, Fault::Kill(Ingester))
            .fault(8.0, 3.0, Fault::Kill(SECOND)),
        Scenario::new("terminations")
            .fault(2.0, 0.5, Fault::Terminate(FIRST))
            .fault(5.0, 0.5, Fault::Terminate(Publisher))
            .fault(6.0, 0.5, Fault::Terminate(Ingester))
            .fault(8.0, 1.0, Fault::Terminate(THIRD)),
        Scenario::new("freezes")
            .fault(2.0, 9.0, Fault::Freeze(FIRST))
            .fault(4.0, 5.0, Fault::Freeze(Publisher))
            .fault(5.0, 6.0, Fault::Freeze(Ingester))
            .fault(12.0, 20.0, Fault::Freeze(SECOND)),
        Scenario::new("long-freezes")
            .fault(2.0, 60.0, Fault::Freeze(FIRST))
            .fault(4.0, 30.0, Fault::Freeze(Publisher)),
        Scenario::new("crash-loops")
            .fault(2.0, 4.0, Fault::CrashLoop(FIRST, 8))
            .fault(7.0, 3.0, Fault::CrashLoop(Publisher, 5))
            .fault(8.0, 3.0, Fault::CrashLoop(Ingester, 5)),
        Scenario::new("all-at-once")
            .fault(3.0, 0.5, Fault::KillAll)
            .fault(12.0, 2.0, Fault::KillAll),
        crash_points,
    ]
}

/// A rolling update from the previous release, back, and forth again. The ingester does not go back: the previous one can't
/// read its state.
fn upgrades() -> Vec<Scenario> {
    let replace = |scenario: Scenario, release, ids: &[ServiceId]| {
        ids.iter().fold(scenario, |scenario, id| {
            scenario.fault(2.0, 1.0, Fault::Replace(*id, release))
        })
    };
    let kill = |scenario: Scenario, id| scenario.fault(2.0, 1.0, Fault::Kill(id));
    let start = Scenario {
        sequential: true,
        starts_as: Release::Previous,
        ..Scenario::new("upgrade")
    };
    let mixed = kill(replace(start, Release::Present, &[FIRST]), SECOND);
    let up = replace(mixed, Release::Present, &[Ingester, SECOND, Publisher, THIRD]);
    let down = kill(replace(up, Release::Previous, &[FIRST, Publisher]), THIRD);
    let down = replace(down, Release::Previous, &[SECOND, THIRD]);
    let again = kill(replace(down, Release::Present, &[THIRD]), Publisher);
    vec![replace(again, Release::Present, &[Publisher, SECOND, FIRST])]
}

fn servers() -> Vec<Scenario> {
    let outage = |name, server, outage, seconds| {
        Scenario::new(name).fault(3.0, seconds, Fault::Server(server, 0, outage))
    };
    vec![
        outage("broker-stopped", ServerKind::Kafka, Outage::Stopped, 12.0),
        outage("broker-killed", ServerKind::Kafka, Outage::Killed, 6.0),
        outage("broker-frozen", ServerKind::Kafka, Outage::Frozen, 13.0),
        outage("node-stopped", ServerKind::Cassandra, Outage::Stopped, 5.0),
        outage("node-killed", ServerKind::Cassandra, Outage::Killed, 5.0),
        outage("node-frozen", ServerKind::Cassandra, Outage::Frozen, 13.0),
        outage("node-slow", ServerKind::Cassandra, Outage::Slow, 12.0),
        outage("broker-slow", ServerKind::Kafka, Outage::Slow, 12.0),
        // The publisher loses what it has not acknowledged yet.
        Scenario::new("killed-behind-a-frozen-broker")
            .fault(3.0, 10.0, Fault::Server(ServerKind::Kafka, 0, Outage::Frozen))
            .fault(7.0, 1.0, Fault::Kill(Publisher)),
    ]
}

fn links() -> Vec<Scenario> {
    use Link::{Api, Cassandra, Kafka, Publisher};
    use LinkFault::{Cut, HalfOpen, Late, OneWay, Reset, Slices, Slow};
    // Link, fault, start and duration in seconds.
    let links = |name, faults: &[(Link, LinkFault, f64, f64)]| {
        faults
            .iter()
            .fold(Scenario::new(name), |scenario, (link, fault, at, duration)| {
                scenario.fault(*at, *duration, Fault::Link(*link, *fault))
            })
    };
    vec![
        links("kafka-cut", &[(Kafka, Cut, 3.0, 12.0)]),
        links("kafka-one-way", &[(Kafka, OneWay(ToClient), 3.0, 12.0)]),
        links("kafka-half-open", &[(Kafka, HalfOpen, 3.0, 1.0)]),
        links("cassandra-cut", &[(Cassandra, Cut, 3.0, 13.0)]),
        links("cassandra-one-way", &[(Cassandra, OneWay(ToServer), 3.0, 13.0)]),
        links("cassandra-half-open", &[(Cassandra, HalfOpen, 3.0, 1.0)]),
        links("publisher-cut", &[(Publisher, Cut, 3.0, 13.0)]),
        links(
            "latency",
            &[
                (Kafka, Late(200), 2.0, 8.0),
                (Cassandra, Late(1_000), 3.0, 8.0),
                (Publisher, Late(300), 3.0, 8.0),
            ],
        ),
        links(
            "resets",
            &[
                (Kafka, Reset(5_000), 2.0, 6.0),
                (Cassandra, Reset(700), 4.0, 6.0),
                (Publisher, Reset(90), 6.0, 6.0),
            ],
        ),
        links(
            "slow-links",
            &[
                (Kafka, Slices, 2.0, 5.0),
                (Cassandra, Slices, 3.0, 5.0),
                (Kafka, Slow(60_000), 8.0, 5.0),
                (Cassandra, Slow(60_000), 9.0, 5.0),
            ],
        ),
        links(
            "opposite-one-way",
            &[
                (Kafka, OneWay(ToServer), 2.0, 12.0),
                (Cassandra, OneWay(ToClient), 26.0, 12.0),
            ],
        ),
        links(
            "publisher-one-way",
            &[
                (Publisher, OneWay(ToServer), 2.0, 12.0),
                (Publisher, OneWay(ToClient), 26.0, 12.0),
            ],
        ),
        links("publisher-half-open", &[(Publisher, HalfOpen, 3.0, 1.0)]),
        links("api-cut", &[(Api, Cut, 3.0, 12.0)]),
        links(
            "api-one-way",
            &[
                (Api, OneWay(ToServer), 2.0, 8.0),
                (Api, OneWay(ToClient), 20.0, 8.0),
                (Api, HalfOpen, 38.0, 1.0),
            ],
        ),
        links(
            "api-slow",
            &[
                (Api, Reset(900), 2.0, 7.0),
                (Api, Slow(20_000), 19.0, 7.0),
                (Api, Late(400), 36.0, 7.0),
            ],
        ),
        links(
            "publisher-slow",
            &[(Publisher, Slices, 2.0, 5.0), (Publisher, Slow(20_000), 8.0, 5.0)],
        ),
    ]
}

fn resources() -> Vec<Scenario> {
    let disk = |name, owner, fault| Scenario::new(name).fault(3.0, 4.0, Fault::Disk(owner, fault));
    let log_disk = |name, fault| disk(name, DiskOwner::Kafka, fault).on(ClusterShape::SmallDisk);
    let descriptors = |id| Fault::Exhaust(id, Resource::FileDescriptors);
    let mut memory = Scenario::new("memory-limit");
    for id in [Ingester, Publisher, FIRST, SECOND, THIRD] {
        memory = memory.fault(2.0, 14.0, Fault::Exhaust(id, Resource::Memory));
    }
    vec![
        disk("state-disk-full", DiskOwner::Ingester, DiskFault::Full),
        disk("state-disk-read-only", DiskOwner::Ingester, DiskFault::ReadOnly),
        log_disk("log-disk-full", DiskFault::Full),
        log_disk("log-disk-read-only", DiskFault::ReadOnly),
        Scenario::new("no-file-descriptors")
            .fault(2.0, 8.0, descriptors(Publisher))
            .fault(12.0, 8.0, descriptors(FIRST))
            .fault(13.0, 8.0, descriptors(Ingester)),
        memory.fault(3.0, 12.0, Fault::Link(Link::Cassandra, LinkFault::Cut)),
    ]
}

fn stores() -> Vec<Scenario> {
    let store = |name, duration, fault| Scenario::new(name).fault(5.0, duration, fault);
    vec![
        store("checkpoints-deleted", 0.0, Fault::DeleteCheckpoints),
        store("table-dropped", 0.0, Fault::DropTable),
        store("table-altered", 3.0, Fault::AlterTable),
        store("table-restored", 0.0, Fault::RestoreTable),
        store("topic-recreated", 0.0, Fault::RecreateTopic),
        store(
            "topic-truncated",
            0.0,
            Fault::TruncateTopic(Truncation::Processed),
        )
        .fault(7.0, 0.5, Fault::Kill(FIRST)),
        store(
            "topic-truncated-unread",
            0.0,
            Fault::TruncateTopic(Truncation::Unread),
        ),
        Scenario::new("redriven")
            .fault(5.0, 0.5, Fault::Kill(FIRST))
            .fault(8.0, 0.0, Fault::Redrive)
            .fault(9.0, 0.5, Fault::Kill(SECOND)),
    ]
}

fn inputs_and_groups() -> Vec<Scenario> {
    let mut responses = Scenario::new("invalid-responses");
    let faults = [
        ApiFault::BadGateway,
        ApiFault::NoResults,
        ApiFault::BrokenRecord(BrokenField::NilUuid),
        ApiFault::DuplicateUuids,
        ApiFault::TruncatedJson,
        ApiFault::ResetMidBody,
    ];
    for (fault, at) in faults.into_iter().zip(2_u8..) {
        responses = responses.fault(f64::from(at), 0.0, Fault::Api(fault));
    }
    let clocks = |name, seconds: i64| Scenario {
        clock_shifts: vec![(Publisher, seconds), (FIRST, seconds), (SECOND, -seconds)],
        ..Scenario::new(name)
            .fault(4.0, 0.5, Fault::Kill(FIRST))
            .fault(7.0, 0.5, Fault::Kill(SECOND))
    };
    vec![
        responses,
        Scenario::new("partitions-added")
            .fault(4.0, 0.0, Fault::AddPartitions(2))
            .fault(6.0, 0.5, Fault::Kill(FIRST)),
        Scenario::new("rebalance-storm")
            .fault(2.0, 8.0, Fault::RebalanceStorm(6))
            .fault(5.0, 0.5, Fault::Terminate(SECOND)),
        Scenario::new("foreign-commit").fault(4.0, 0.0, Fault::ForeignCommit),
        clocks("clocks-ahead-and-behind", 3_600),
        clocks("clocks-behind-and-ahead", -3_600),
        Scenario::new("duplicate-member").fault(4.0, 3.0, Fault::DuplicateMember(FIRST)),
    ]
}

fn clusters() -> Vec<Scenario> {
    let three = |name| Scenario::new(name).on(ClusterShape::Three);
    let broker = |index, outage| Fault::Server(ServerKind::Kafka, index, outage);
    let node = |index, outage| Fault::Server(ServerKind::Cassandra, index, outage);
    vec![
        // Long enough to observe that the pipeline keeps working.
        Scenario {
            sequential: true,
            ..three("leader-changes")
                .fault(3.0, 20.0, broker(0, Outage::Killed))
                .fault(4.0, 20.0, broker(1, Outage::Stopped))
                .fault(5.0, 20.0, broker(2, Outage::Frozen))
        },
        // Long enough for readiness to fail, and too short for the brokers to be fenced without their quorum.
        three("two-brokers-lost")
            .fault(3.0, 14.0, broker(1, Outage::Killed))
            .fault(4.0, 14.0, broker(2, Outage::Killed)),
        three("one-node-lost").fault(3.0, 20.0, node(1, Outage::Killed)),
        three("two-nodes-lost")
            .fault(3.0, 14.0, node(1, Outage::Frozen))
            .fault(4.0, 14.0, node(2, Outage::Frozen)),
        three("one-node-slow").fault(3.0, 20.0, node(1, Outage::Slow)),
    ]
}

fn larger_clusters() -> Vec<Scenario> {
    use ClusterShape::{Authorization, SixNodes, ThreeBrokers, TwoDataCenters};
    let on = |shape, name| Scenario::new(name).on(shape);
    let node = |index, outage| Fault::Server(ServerKind::Cassandra, index, outage);
    // The other data centre, and then that of the services.
    let mut data_centers = on(TwoDataCenters, "data-center-lost").fault(
        3.0,
        20.0,
        node(TwoDataCenters.local_nodes(), Outage::Killed),
    );
    for index in 0..TwoDataCenters.local_nodes() {
        data_centers = data_centers.fault(60.0, 14.0, node(index, Outage::Frozen));
    }
    vec![
        data_centers,
        Scenario {
            sequential: true,
            ..on(SixNodes, "six-nodes").fault(3.0, 0.0, Fault::AddNode).fault(
                4.0,
                20.0,
                node(2, Outage::Killed),
            )
        },
        on(Authorization, "authorization-lost").fault(3.0, 20.0, node(ROLE_NODE, Outage::Killed)),
        on(ThreeBrokers, "log-truncated-regrown").fault(4.0, 0.0, Fault::RegrowTopic),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_names_are_unique_and_plans_not_empty() {
        let all = all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|scenario| !scenario.plan.is_empty()));
    }
}
