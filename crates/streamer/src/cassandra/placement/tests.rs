//! Tests of the placement, with an independent calculation of the replicas.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

const LOCAL: &str = "here";

fn node(id: u128, datacenter: &str, rack: &str, tokens: &[i64]) -> RingNode {
    RingNode {
        id: Uuid::from_u128(id),
        datacenter: datacenter.to_owned(),
        rack: rack.to_owned(),
        tokens: tokens.to_vec(),
    }
}

/// A local node with its number as id and token.
fn equal_node(number: u8) -> RingNode {
    node(number.into(), LOCAL, "a", &[number.into()])
}

fn network(factors: &[(&str, usize)]) -> Replication {
    let factors = factors.iter().map(|(name, factor)| ((*name).to_owned(), *factor));
    Replication::NetworkTopology(factors.collect())
}

fn replicas_at(placement: &Placement, token: i64) -> &[NodeIndex] {
    placement.replicas(placement.set_of_token(token))
}

#[test]
fn range_ends_at_its_token_and_the_ring_wraps() {
    let ring = [node(1, LOCAL, "a", &[-100, 50]), node(2, LOCAL, "a", &[0, 100])];
    let placement = Placement::new(&ring, LOCAL, network(&[(LOCAL, 1)])).unwrap();
    let expected = [
        (i64::MIN, 0),
        (-100, 0),
        (-99, 1),
        (0, 1),
        (1, 0),
        (50, 0),
        (51, 1),
        (100, 1),
        (101, 0),
        (i64::MAX, 0),
    ];
    for (token, index) in expected {
        assert_eq!(replicas_at(&placement, token), [index], "{token}");
    }
    assert!(!placement.is_shared());
}

/// The tokens that Cassandra 5 returns for `SELECT token(id)` of these texts and of the bytes of a UUID.
#[test]
fn tokens_are_those_of_the_murmur3_partitioner() {
    let tokens = [
        (&b"test"[..], -6_017_608_668_500_074_083),
        (b"xd", 4_507_812_186_440_344_727),
        (b"primary_key", -1_632_642_444_691_073_360),
        ("kremówki".as_bytes(), 4_354_931_215_268_080_151),
    ];
    for (key, token) in tokens {
        assert_eq!(Murmur3Token::generate(key).value, token, "{key:?}");
    }
}

#[test]
fn replicas_are_in_different_racks_where_possible() {
    let ring = [
        node(1, LOCAL, "a", &[0]),
        node(2, LOCAL, "a", &[10]),
        node(3, LOCAL, "b", &[20]),
        node(4, LOCAL, "b", &[30]),
    ];
    let two = Placement::new(&ring, LOCAL, network(&[(LOCAL, 2)])).unwrap();
    assert_eq!(replicas_at(&two, 0), [0, 2]);
    assert_eq!(replicas_at(&two, 15), [2, 0]);
    let three = Placement::new(&ring, LOCAL, network(&[(LOCAL, 3)])).unwrap();
    assert_eq!(replicas_at(&three, 0), [0, 1, 2]);
}

#[test]
fn three_nodes_share_all_rows_only_at_replication_3() {
    let ring: Vec<_> = (0..3_u8).map(equal_node).collect();
    let shared = |replication| Placement::new(&ring, LOCAL, replication).unwrap().is_shared();
    assert!(shared(network(&[(LOCAL, 3)])));
    assert!(shared(network(&[(LOCAL, 5)])));
    assert!(!shared(network(&[(LOCAL, 2)])));
    assert!(shared(Replication::Simple(3)));
    assert!(!shared(Replication::Simple(1)));
}

#[test]
fn only_the_local_data_centre_counts() {
    let ring = [
        node(1, "there", "a", &[0]),
        node(2, LOCAL, "a", &[10]),
        node(3, "there", "a", &[20]),
    ];
    let shared = |replication| Placement::new(&ring, LOCAL, replication).unwrap().is_shared();
    assert!(shared(network(&[(LOCAL, 1)])));
    assert!(!shared(network(&[("there", 3)])));
    let simple = Placement::new(&ring, LOCAL, Replication::Simple(2)).unwrap();
    assert_eq!(replicas_at(&simple, 0), [0]);
    assert!(replicas_at(&simple, 20).is_empty());
}

#[test]
fn unreachable_ranges_lack_a_quorum() {
    let ring: Vec<_> = (0..4_u8).map(equal_node).collect();
    let placement = Placement::new(&ring, LOCAL, network(&[(LOCAL, 3), ("there", 3)])).unwrap();
    let lacking = |consistency, reachable: [bool; 4]| placement.unreachable_ranges(consistency, &reachable).1;
    let all_but_one = [false, true, true, true];
    assert_eq!(lacking(Consistency::LocalQuorum, all_but_one), 0);
    assert_eq!(lacking(Consistency::All, all_but_one), 3);
    // The ranges that end at nodes 0 and 3 have one of the two nodes.
    assert_eq!(lacking(Consistency::LocalQuorum, [false, false, true, true]), 2);
    assert_eq!(lacking(Consistency::Quorum, [false, false, true, true]), 0);
    assert_eq!(lacking(Consistency::LocalOne, [false; 4]), 4);
}

#[test]
fn only_known_replication_is_parsed() {
    let parse = |class: &str, name: &str, factor: &str| {
        let class = format!("org.apache.cassandra.locator.{class}");
        let options = [("class", class.as_str()), (name, factor)];
        let options: HashMap<_, _> = options
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Replication::parse(&options)
    };
    assert_eq!(
        parse("NetworkTopologyStrategy", LOCAL, "3"),
        Some(network(&[(LOCAL, 3)]))
    );
    assert_eq!(parse("NetworkTopologyStrategy", LOCAL, "3/1"), None);
    assert_eq!(
        parse("SimpleStrategy", "replication_factor", "2"),
        Some(Replication::Simple(2))
    );
    assert_eq!(parse("LocalStrategy", "replication_factor", "9"), None);
}

/// Collects the replicas of `token` rack by rack: first the next node of each rack, then the nodes that are nearest to the
/// token, without a ring.
fn expected(ring: &[RingNode], token: i64, factor: usize) -> Vec<u128> {
    let distance = |end: i64| end.wrapping_sub(token).cast_unsigned();
    let nearest = |node: &RingNode| node.tokens.iter().map(|end| distance(*end)).min().unwrap();
    let mut nodes: Vec<_> = ring.iter().filter(|node| node.datacenter == LOCAL).collect();
    nodes.sort_by_key(|node| nearest(node));
    let mut firsts = BTreeMap::new();
    for node in &nodes {
        firsts.entry(&node.rack).or_insert(node.id);
    }
    let repeats = factor.saturating_sub(firsts.len());
    let others = nodes
        .iter()
        .filter(|node| !firsts.values().any(|id| *id == node.id));
    let others: Vec<_> = others.take(repeats).map(|node| node.id).collect();
    let chosen = nodes
        .iter()
        .filter(|node| firsts.values().any(|id| *id == node.id) || others.contains(&node.id));
    chosen.map(|node| node.id.as_u128()).take(factor).collect()
}

fn rings() -> impl Strategy<Value = Vec<RingNode>> {
    let node = (0..2_usize, 0..4_usize, 1..6_usize);
    (prop::collection::vec(node, 1..12), any::<u64>()).prop_map(|(nodes, seed)| {
        let mut state = seed;
        let mut ring: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(id, (datacenter, rack, tokens))| {
                let tokens: Vec<_> = (0..*tokens)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        state.cast_signed()
                    })
                    .collect();
                node_of(id as u128, *datacenter, *rack, &tokens)
            })
            .collect();
        ring[0].datacenter = LOCAL.to_owned();
        ring
    })
}

fn node_of(id: u128, datacenter: usize, rack: usize, tokens: &[i64]) -> RingNode {
    node(id, [LOCAL, "there"][datacenter], &format!("rack{rack}"), tokens)
}

proptest! {
    #[test]
    fn replicas_equal_an_independent_calculation(ring in rings(), factor in 1..5_usize, keys in prop::collection::vec(any::<[u8; 16]>(), 20)) {
        let placement = Placement::new(&ring, LOCAL, network(&[(LOCAL, factor), ("there", 2)])).unwrap();
        let local: Vec<_> = ring.iter().filter(|node| node.datacenter == LOCAL).collect();
        for key in keys {
            let token = Murmur3Token::generate(&key).value;
            let replicas = placement.replicas(placement.replica_set(&key));
            let mut replicas: Vec<_> = replicas.iter().map(|index| local[usize::from(*index)].id.as_u128()).collect();
            let mut expected = expected(&ring, token, factor);
            // The primary replica is the next node on the ring.
            prop_assert_eq!(replicas[0], expected[0]);
            replicas.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(replicas, expected);
        }
    }
}
