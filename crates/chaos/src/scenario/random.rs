//! Random rounds: the same seed plans the same faults.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use testkit::proxy::Direction;
use testkit::randomuser::Fault as ApiFault;

use super::fault::{Fault, Link, LinkFault, Outage, PlannedFault, Resource, ServerKind, Truncation};
use super::spec::Scenario;
use crate::cluster::shape::ClusterShape;
use crate::service_id::{STREAMERS, ServiceId};

/// When faults start, in milliseconds: after the traffic has started, and early enough for a short round.
const STARTS: Range<u64> = 2_000..16_000;

/// A random round on this cluster.
///
/// Without the ingester's traffic no fault disturbs the API or the way from the ingester to the publisher.
pub(crate) fn random(seed: u64, shape: ClusterShape, has_ingester: bool) -> Scenario {
    Scenario {
        plan: plan(seed, shape, has_ingester),
        clock_shifts: clock_shifts(seed),
        ..Scenario::new(name(shape)).on(shape)
    }
}

fn name(shape: ClusterShape) -> &'static str {
    match shape {
        ClusterShape::Single | ClusterShape::SmallDisk => "random",
        ClusterShape::Three => "random-cluster",
        ClusterShape::ThreeBrokers => "random-three-brokers",
        ClusterShape::TwoDataCenters => "random-two-data-centers",
        ClusterShape::Authorization => "random-authorization",
        ClusterShape::SixNodes => "random-six-nodes",
    }
}

/// Three to five faults that may overlap. No server and no link is disturbed by two of them.
fn plan(seed: u64, shape: ClusterShape, has_ingester: bool) -> Vec<PlannedFault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(3..=5);
    let mut plan: Vec<PlannedFault> = Vec::new();
    while plan.len() < count {
        let (fault, duration) = draw(&mut rng, shape);
        let is_of_ingester = matches!(fault, Fault::Api(_) | Fault::Link(Link::Api | Link::Publisher, _));
        if is_of_ingester && !has_ingester || plan.iter().any(|planned| conflict(&planned.fault, &fault)) {
            continue;
        }
        let at = Duration::from_millis(rng.random_range(STARTS));
        plan.push(PlannedFault { at, duration, fault });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// In one round of four, shifts the clocks of the publisher and of one streamer by up to an hour.
fn clock_shifts(seed: u64) -> Vec<(ServiceId, i64)> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xc10c);
    if !rng.random_bool(0.25) {
        return Vec::new();
    }
    let mut shift = || rng.random_range(-3_600..=3_600);
    let (publisher, streamer) = (shift(), shift());
    let number = rng.random_range(1..=STREAMERS);
    vec![
        (ServiceId::Publisher, publisher),
        (ServiceId::Streamer(number), streamer),
    ]
}

fn conflict(one: &Fault, other: &Fault) -> bool {
    match (one, other) {
        (Fault::Server(one, ..), Fault::Server(other, ..)) => one == other,
        (Fault::Link(one, _), Fault::Link(other, _)) => one == other,
        // A half-open connection outlives the server that it leads to.
        (Fault::Link(link, LinkFault::HalfOpen), Fault::Server(server, ..))
        | (Fault::Server(server, ..), Fault::Link(link, LinkFault::HalfOpen)) => *link == link_to(*server),
        // The operator needs running servers.
        (Fault::AlterTable | Fault::TruncateTopic(_), Fault::Server(..))
        | (Fault::Server(..), Fault::AlterTable | Fault::TruncateTopic(_)) => true,
        _ => one == other,
    }
}

fn link_to(server: ServerKind) -> Link {
    match server {
        ServerKind::Kafka => Link::Kafka,
        ServerKind::Cassandra => Link::Cassandra,
    }
}

fn draw(rng: &mut StdRng, shape: ClusterShape) -> (Fault, Duration) {
    let mut millis = |range: Range<u64>| Duration::from_millis(rng.random_range(range));
    let (short, middle, long) = (millis(0..2_000), millis(2_000..7_000), millis(5_000..13_000));
    let id = service(rng);
    match rng.random_range(0..24) {
        0..=3 => (Fault::Kill(id), short),
        4..=5 => (Fault::Terminate(id), short),
        6..=8 => (Fault::Freeze(id), long),
        9 => (Fault::CrashLoop(id, rng.random_range(3..7)), middle),
        10 => (Fault::KillAll, short),
        11..=13 => (server(rng, shape), long),
        14..=17 => link(rng, shape, middle, long),
        18 => (Fault::RebalanceStorm(3), middle),
        19 => (Fault::Exhaust(id, Resource::FileDescriptors), middle),
        20 => (Fault::AlterTable, short),
        21 => (Fault::TruncateTopic(Truncation::Processed), Duration::ZERO),
        _ => (Fault::Api(api(rng)), Duration::ZERO),
    }
}

fn service(rng: &mut StdRng) -> ServiceId {
    match rng.random_range(0..6) {
        0 => ServiceId::Ingester,
        1..=2 => ServiceId::Publisher,
        number => ServiceId::Streamer(number - 2),
    }
}

fn server(rng: &mut StdRng, shape: ClusterShape) -> Fault {
    let server = if rng.random_bool(0.5) {
        ServerKind::Kafka
    } else {
        ServerKind::Cassandra
    };
    let outages = [Outage::Stopped, Outage::Killed, Outage::Frozen, Outage::Slow];
    let outage = outages.choose(rng).copied().unwrap_or(Outage::Killed);
    let servers = match server {
        ServerKind::Kafka => shape.brokers(),
        ServerKind::Cassandra => shape.nodes(),
    };
    Fault::Server(server, rng.random_range(0..servers), outage)
}

fn link(rng: &mut StdRng, shape: ClusterShape, middle: Duration, long: Duration) -> (Fault, Duration) {
    let links = [Link::Kafka, Link::Publisher, Link::Api, Link::Cassandra];
    // Cassandra clusters have no proxy.
    let available = if shape.nodes() == 1 {
        &links[..]
    } else {
        &links[..3]
    };
    let link = available.choose(rng).copied().unwrap_or(Link::Kafka);
    let (fault, duration) = match rng.random_range(0..9) {
        0..=1 => (LinkFault::Cut, long),
        2 => (LinkFault::OneWay(Direction::ToServer), long),
        3 => (LinkFault::OneWay(Direction::ToClient), long),
        4 => (LinkFault::Late(rng.random_range(50..800)), long),
        5 => (LinkFault::Reset(rng.random_range(1..20_000)), middle),
        6 => (LinkFault::Slices, middle),
        7 => (LinkFault::HalfOpen, Duration::from_secs(1)),
        _ => (LinkFault::Slow(rng.random_range(20_000..200_000)), middle),
    };
    (Fault::Link(link, fault), duration)
}

fn api(rng: &mut StdRng) -> ApiFault {
    let faults = [
        ApiFault::InternalError,
        ApiFault::TooManyRequests(Some(1)),
        ApiFault::FewerResults,
        ApiFault::TruncatedJson,
        ApiFault::ResetMidBody,
        ApiFault::DuplicateUuids,
    ];
    faults.choose(rng).cloned().unwrap_or(ApiFault::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_plans_same_round() {
        for seed in 0..200 {
            let planned = plan(seed, ClusterShape::Single, true);
            assert_eq!(planned, plan(seed, ClusterShape::Single, true));
            assert!((3..=5).contains(&planned.len()));
            assert!(planned.is_sorted_by_key(|planned| planned.at));
        }
        assert_ne!(
            plan(1, ClusterShape::Single, true),
            plan(2, ClusterShape::Single, true)
        );
    }

    #[test]
    fn a_quarter_of_the_rounds_shifts_clocks() {
        let shifted = (0..200).filter(|seed| !clock_shifts(*seed).is_empty()).count();
        assert!((20..90).contains(&shifted), "{shifted}");
        assert_eq!(clock_shifts(7), clock_shifts(7));
    }

    #[test]
    fn random_rounds_cover_every_fault_class() {
        let drawn: std::collections::BTreeSet<_> = (0..200)
            .flat_map(|seed| plan(seed, ClusterShape::Single, true))
            .map(|planned| planned.fault.class())
            .collect();
        assert_eq!(drawn.len(), 7, "{drawn:?}");
    }
}
