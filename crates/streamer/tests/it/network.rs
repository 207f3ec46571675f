//! The line between the streamer and Cassandra misbehaves while records flow: nothing is lost and no column is wrong, the
//! session is built anew, and no call waits for ever.
//!
//! What a proxy can't produce is a single reply that the *server* gives late among others of its connection, for it
//! knows no frames: that no number of a statement is used twice then is held by the unit tests of `cassandra::gate`.
//! Here it is held that after a deadline nothing of the old session is left to which a late reply could be credited.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::proxy::{Behavior, Direction, Flow, Proxy, remote_addresses};
use testkit::service::{Service, ServiceOptions};

use crate::chance::Chance;
use crate::flow::{metric, turns_unready};
use crate::world::{DEADLINE, World, eventually};

/// A deadline that makes an outage short; Cassandra's own write timeout is 2 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A world and a proxy before its node.
struct Line {
    world: World,
    proxy: Proxy,
}

impl Line {
    async fn new(name: &str) -> Self {
        let world = World::new(name, 3).await;
        let proxy = Proxy::start(world.node()).await.unwrap();
        Self { world, proxy }
    }

    fn options(&self) -> ServiceOptions {
        self.world
            .options()
            .set("cassandra.contact_points", self.proxy.address().to_string())
            .set("cassandra.request_timeout", "3s")
            .set("cassandra.connect_timeout", "1s")
    }

    /// A streamer that works and is connected to nothing but the proxy.
    async fn streamer(&self) -> Service {
        let streamer = self.world.start(&self.options()).await;
        self.world.busy(&streamer).await;
        self.nothing_walks_around(&streamer);
        streamer
    }

    fn nothing_walks_around(&self, streamer: &Service) {
        let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
        assert!(
            remotes.contains(&self.proxy.address()) && !remotes.contains(&self.world.node()),
            "{remotes:?}"
        );
    }

    /// Only the connections that are open now behave so.
    fn disturb_open(&self, conduct: Behavior) -> Vec<u64> {
        let open = self.proxy.connections();
        for connection in &open {
            connection.set(conduct);
        }
        open.iter().map(|connection| connection.id()).collect()
    }

    /// Waits until the streamer has a whole new session: its control connection and two more.
    async fn are_replaced(&self, ids: &[u64]) {
        eventually("the session is built anew", async || {
            let open: Vec<_> = self.proxy.connections().iter().map(|it| it.id()).collect();
            if open.iter().filter(|id| !ids.contains(id)).count() >= 3 {
                Ok(())
            } else {
                Err(format!("open {open:?}, before {ids:?}"))
            }
        })
        .await;
    }

    /// The line is good again, for these too. Waits until none of them is left: nobody goes on with an old session.
    async fn are_gone(&self, ids: &[u64]) {
        self.disturb_open(Behavior::default());
        eventually("the old session is gone", async || {
            let open: Vec<_> = self.proxy.connections().iter().map(|it| it.id()).collect();
            if open.iter().any(|id| ids.contains(id)) {
                Err(format!("open {open:?}, before {ids:?}"))
            } else {
                Ok(())
            }
        })
        .await;
    }
}

/// How long going on may take once a call is overdue: the deadline, a handshake, a session, the batch again.
const BACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_cost_a_deadline_and_a_session_and_nothing_else() {
    let line = Line::new("halfopen").await;
    let _streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            for direction in [Direction::ToServer, Direction::ToClient] {
                let ids = line.disturb_open(Behavior::one_way(direction, Flow::blackhole()));
                line.are_replaced(&ids).await;
                let took = line.world.goes_on().await;
                assert!(took < BACK, "{direction:?}: {took:?}");
                line.are_gone(&ids).await;
            }
            let deadlines = metric(&streamer, "streamer_retries_total", "deadline").await;
            let checkpoints = metric(&streamer, "streamer_checkpoints_total", "failed").await;
            assert!(deadlines + checkpoints > 0.0, "no deadline passed");
            assert_eq!(
                metric(&streamer, "streamer_rebalances_total", "revoked").await,
                0.0
            );
            line.nothing_walks_around(&streamer);
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_told_and_waited_for() {
    let line = Line::new("swallowed").await;
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            line.proxy.set(Behavior::both(Flow::blackhole()));
            let reason = turns_unready(&streamer).await;
            assert!(reason.contains("cassandra"), "{reason}");
            eventually("the cause is named", async || {
                let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
                let named = body.contains(&format!("{}: no response within 1000 ms", line.proxy.address()));
                if named { Ok(()) } else { Err(body) }
            })
            .await;
            line.proxy.set(Behavior::default());
            let back = Instant::now();
            streamer.wait_until_ready(BACK).await.unwrap();
            line.world.goes_on().await;
            assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_in_mid_frame_at_random_places_lose_nothing() {
    const RESETS: usize = 8;
    let line = Line::new("resets").await;
    let mut chance = Chance::new("resets_in_mid_frame");
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            for reset in 0..RESETS {
                let direction = [Direction::ToServer, Direction::ToClient][reset % 2];
                let bytes = chance.number(1..20_000);
                let ids = line.disturb_open(Behavior::one_way(direction, Flow::reset_after(bytes)));
                eventually("one of them is reset", async || {
                    let open = line.proxy.connections();
                    let left = open.iter().filter(|it| ids.contains(&it.id())).count();
                    if left < ids.len() {
                        Ok(())
                    } else {
                        Err(format!("{left}"))
                    }
                })
                .await;
                line.disturb_open(Behavior::default());
                let took = line.world.goes_on().await;
                assert!(took < BACK, "{direction:?} after {bytes} bytes: {took:?}");
            }
            streamer
        })
        .await;
    assert!(
        line.proxy.accepted() > RESETS as u64,
        "no connection was built anew"
    );
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_two_seconds_late_are_waited_for_on_the_same_session() {
    let line = Line::new("late").await;
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            line.world.goes_on().await;
            let accepted = line.proxy.accepted();
            let late = Flow::latency(Duration::from_secs(2), Duration::from_millis(300));
            line.proxy.set(Behavior::one_way(Direction::ToClient, late));
            let since = Instant::now();
            // What was acknowledged before may only wait for its checkpoint, whose write is not late; what comes now is.
            line.world.goes_on().await;
            line.world.goes_on().await;
            let took = since.elapsed();
            assert!(took >= Duration::from_secs(2), "{took:?}");
            assert_eq!(line.proxy.accepted(), accepted, "late is not lost");
            assert_eq!(metric(&streamer, "streamer_retries_total", "").await, 0.0);
            line.proxy.set(Behavior::default());
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_after_their_deadline_find_nobody_they_could_be_credited_to() {
    let line = Line::new("stragglers").await;
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            for _ in 0..2 {
                // The server gets the writes and answers; the answers come after the client has given up, while it
                // writes the same rows, and newer ones, over a new session.
                let ids = line.disturb_open(Behavior::one_way(Direction::ToClient, Flow::hold()));
                let held = Instant::now();
                line.are_replaced(&ids).await;
                assert!(held.elapsed() < REQUEST_TIMEOUT + BACK, "{:?}", held.elapsed());
                line.are_gone(&ids).await;
                line.world.goes_on().await;
            }
            // And the other way round: the writes arrive late, after newer versions of the same users.
            let ids = line.disturb_open(Behavior::one_way(Direction::ToServer, Flow::hold()));
            line.are_replaced(&ids).await;
            line.world.goes_on().await;
            line.are_gone(&ids).await;
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_either_way_is_slow_and_right() {
    let line = Line::new("slices").await;
    let streamer = line
        .world
        .while_records_flow(async {
            // From the first handshake on.
            line.proxy.set(Behavior::both(Flow::one_byte_slices()));
            let streamer = line.streamer().await;
            line.world.goes_on().await;
            line.proxy.set(Behavior::default());
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_never_finished_is_given_up_and_told() {
    let line = Line::new("endless").await;
    // Our own handshake, the first connection, passes; what the driver builds after it is swallowed.
    let slow = Flow::latency(Duration::from_millis(100), Duration::ZERO);
    line.proxy.set(Behavior::one_way(Direction::ToServer, slow));
    let streamer = Service::start(&line.options()).unwrap();
    eventually("the session is given up", async || {
        for connection in line.proxy.connections().iter().filter(|it| it.id() > 0) {
            connection.set(Behavior::both(Flow::blackhole()));
        }
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        let told = body.contains("no session within 2000 ms") || body.contains("no response within 1000 ms");
        if told { Ok(()) } else { Err(body) }
    })
    .await;
    assert!(line.proxy.accepted() > 1, "the driver was never asked");
    line.proxy.set(Behavior::default());
    streamer.wait_until_ready(BACK).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_every_contact_point_is_tried_again() {
    let line = Line::new("contacts").await;
    let other = Proxy::start(line.world.node()).await.unwrap();
    other.refuse().await.unwrap();
    let points = format!("{},{}", line.proxy.address(), other.address());
    let options = line.options().set("cassandra.contact_points", points);
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.world.start(&options).await;
            line.world.busy(&streamer).await;
            assert_eq!(other.accepted(), 0);
            // The node comes back where the second contact point says.
            line.proxy.refuse().await.unwrap();
            line.proxy.reset();
            turns_unready(&streamer).await;
            other.accept().await.unwrap();
            streamer.wait_until_ready(BACK).await.unwrap();
            line.world.goes_on().await;
            streamer
        })
        .await;
    assert!(other.accepted() > 0);
    line.world.nothing_is_lost_or_refused().await;
    let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
    assert!(!remotes.contains(&line.world.node()), "{remotes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_on_another_port_is_found_behind_its_contact_point() {
    let line = Line::new("moved").await;
    let moved = Proxy::start(line.world.node()).await.unwrap();
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.streamer().await;
            line.proxy.retarget(moved.address());
            line.proxy.reset();
            line.world.goes_on().await;
            streamer.wait_until_ready(DEADLINE).await.unwrap();
            streamer
        })
        .await;
    assert!(moved.accepted() > 0);
    line.world.nothing_is_lost_or_refused().await;
    line.nothing_walks_around(&streamer);
}

/// Runs a command with another `/etc/hosts`, which may be written anew while it runs.
fn with_hosts(file: &Path) -> Vec<String> {
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
        .into_iter()
        .map(str::to_owned)
        .chain([file.display().to_string()])
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_name_of_a_contact_point_is_resolved_anew() {
    let line = Line::new("renamed").await;
    let port = line.proxy.address().port();
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
    let moved = Proxy::start_at(elsewhere, line.world.node()).await.unwrap();
    let hosts = line.world.folder().join("hosts");
    let name_means = |address: SocketAddr| {
        std::fs::write(&hosts, format!("{} cassandra.affluent.test\n", address.ip())).unwrap();
    };
    name_means(line.proxy.address());
    let options = line
        .options()
        .set(
            "cassandra.contact_points",
            format!("cassandra.affluent.test:{port}"),
        )
        .wrapped_by(with_hosts(&hosts));
    let streamer = line
        .world
        .while_records_flow(async {
            let streamer = line.world.start(&options).await;
            line.world.busy(&streamer).await;
            line.nothing_walks_around(&streamer);
            assert_eq!(moved.accepted(), 0);
            // As when a node is replaced: the old address is gone, the name stays.
            line.proxy.refuse().await.unwrap();
            line.proxy.reset();
            turns_unready(&streamer).await;
            name_means(moved.address());
            streamer.wait_until_ready(BACK).await.unwrap();
            line.world.goes_on().await;
            streamer
        })
        .await;
    line.world.nothing_is_lost_or_refused().await;
    let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
    assert!(
        remotes.contains(&moved.address()) && !remotes.contains(&line.world.node()),
        "{remotes:?}"
    );
}
