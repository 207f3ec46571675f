//! A round's faults by chance: the same for the same seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::crew::STREAMERS;
use super::evidence::Who;
use super::fault::{Fault, Link, Loss, Outage, Planned, Resource, Server, Trouble};
use super::venue::Shape;
use testkit::proxy::Direction;
use testkit::randomuser::Fault as ApiFault;

/// When faults may begin, in milliseconds: the work has to be under way, and a round is not to last for ever.
const BEGINNINGS: std::ops::Range<u64> = 2_000..16_000;

/// Three to five faults that may fall into each other. No server and no link is disturbed twice at once.
#[must_use]
pub fn random(seed: u64, shape: Shape) -> Vec<Planned> {
    let mut chance = StdRng::seed_from_u64(seed);
    let wanted = chance.random_range(3..=5);
    let mut plan: Vec<Planned> = Vec::new();
    while plan.len() < wanted {
        let (fault, lasts) = draw(&mut chance, shape);
        if plan.iter().any(|planned| collide(&planned.fault, &fault)) {
            continue;
        }
        let at = Duration::from_millis(chance.random_range(BEGINNINGS));
        plan.push(Planned { at, lasts, fault });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// Whose clock is wrong in the round of this seed, and by how many seconds: in one round of four, the publisher's and a
/// streamer's, by up to an hour either way.
#[must_use]
pub fn clocks(seed: u64) -> Vec<(Who, i64)> {
    let mut chance = StdRng::seed_from_u64(seed ^ 0xc10c);
    if !chance.random_bool(0.25) {
        return Vec::new();
    }
    let mut wrong = || chance.random_range(-3_600..=3_600);
    let (publisher, streamer) = (wrong(), wrong());
    let number = chance.random_range(1..=STREAMERS);
    vec![(Who::Publisher, publisher), (Who::Streamer(number), streamer)]
}

fn collide(one: &Fault, other: &Fault) -> bool {
    match (one, other) {
        (Fault::Server(one, ..), Fault::Server(other, ..)) => one == other,
        (Fault::Link(one, _), Fault::Link(other, _)) => one == other,
        // A connection that is left half open outlasts the server that it led to.
        (Fault::Link(link, Trouble::HalfOpen), Fault::Server(server, ..))
        | (Fault::Server(server, ..), Fault::Link(link, Trouble::HalfOpen)) => *link == leads_to(*server),
        // An operator works on servers that are there.
        (Fault::TableAltered | Fault::TopicCut(_), Fault::Server(..))
        | (Fault::Server(..), Fault::TableAltered | Fault::TopicCut(_)) => true,
        _ => one == other,
    }
}

fn leads_to(server: Server) -> Link {
    match server {
        Server::Kafka => Link::Kafka,
        Server::Cassandra => Link::Cassandra,
    }
}

fn draw(chance: &mut StdRng, shape: Shape) -> (Fault, Duration) {
    let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(chance.random_range(range));
    let (short, middle, long) = (millis(0..2_000), millis(2_000..7_000), millis(5_000..13_000));
    let who = who(chance);
    match chance.random_range(0..24) {
        0..=3 => (Fault::Kill(who), short),
        4..=5 => (Fault::Terminate(who), short),
        6..=8 => (Fault::Freeze(who), long),
        9 => (Fault::CrashLoop(who, chance.random_range(3..7)), middle),
        10 => (Fault::KillAll, short),
        11..=13 => (server(chance, shape), long),
        14..=17 => link(chance, shape, middle, long),
        18 => (Fault::Storm(3), middle),
        19 => (Fault::Starved(who, Resource::Descriptors), middle),
        20 => (Fault::TableAltered, short),
        21 => (Fault::TopicCut(Loss::Settled), Duration::ZERO),
        _ => (Fault::Api(api(chance)), Duration::ZERO),
    }
}

fn who(chance: &mut StdRng) -> Who {
    match chance.random_range(0..6) {
        0 => Who::Ingester,
        1..=2 => Who::Publisher,
        number => Who::Streamer(number - 2),
    }
}

fn server(chance: &mut StdRng, shape: Shape) -> Fault {
    let server = if chance.random_bool(0.5) {
        Server::Kafka
    } else {
        Server::Cassandra
    };
    let outages = [Outage::Stopped, Outage::Killed, Outage::Frozen, Outage::Slow];
    let outage = outages.choose(chance).copied().unwrap_or(Outage::Killed);
    Fault::Server(server, chance.random_range(0..shape.nodes()), outage)
}

fn link(chance: &mut StdRng, shape: Shape, middle: Duration, long: Duration) -> (Fault, Duration) {
    let links = [Link::Kafka, Link::Publisher, Link::Api, Link::Cassandra];
    // Three nodes of Cassandra have no proxy.
    let known = if shape == Shape::One {
        &links[..]
    } else {
        &links[..3]
    };
    let link = known.choose(chance).copied().unwrap_or(Link::Kafka);
    let (trouble, lasts) = match chance.random_range(0..9) {
        0..=1 => (Trouble::Cut, long),
        2 => (Trouble::OneWay(Direction::ToServer), long),
        3 => (Trouble::OneWay(Direction::ToClient), long),
        4 => (Trouble::Late(chance.random_range(50..800)), long),
        5 => (Trouble::Reset(chance.random_range(1..20_000)), middle),
        6 => (Trouble::Slices, middle),
        7 => (Trouble::HalfOpen, Duration::from_secs(1)),
        _ => (Trouble::Slow(chance.random_range(20_000..200_000)), middle),
    };
    (Fault::Link(link, trouble), lasts)
}

fn api(chance: &mut StdRng) -> ApiFault {
    let faults = [
        ApiFault::InternalError,
        ApiFault::TooManyRequests(Some(1)),
        ApiFault::FewerResults,
        ApiFault::TruncatedJson,
        ApiFault::ResetMidBody,
        ApiFault::DuplicateUuids,
    ];
    faults.choose(chance).cloned().unwrap_or(ApiFault::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_round() {
        for seed in 0..200 {
            let plan = random(seed, Shape::One);
            assert_eq!(plan, random(seed, Shape::One));
            assert!((3..=5).contains(&plan.len()));
            assert!(plan.is_sorted_by_key(|planned| planned.at));
        }
        assert_ne!(random(1, Shape::One), random(2, Shape::One));
    }

    #[test]
    fn some_clocks_are_wrong_and_most_are_right() {
        let wrong = (0..200).filter(|seed| !clocks(*seed).is_empty()).count();
        assert!((20..90).contains(&wrong), "{wrong}");
        assert_eq!(clocks(7), clocks(7));
    }

    #[test]
    fn every_class_that_chance_may_draw_is_drawn() {
        let drawn: std::collections::BTreeSet<u8> = (0..200)
            .flat_map(|seed| random(seed, Shape::One))
            .map(|planned| planned.fault.class())
            .collect();
        assert_eq!(drawn, [1, 2, 3, 4, 5, 6, 7].into());
    }
}
