//! Network faults between the streamer and Cassandra under traffic. No row is lost, no column is wrong, the session is
//! rebuilt, and every request times out.
//!
//! The proxy does not parse frames, so it cannot delay one reply among others of a connection. The unit tests of
//! `cassandra::connection::stream_id_limiter` check that no stream id is reused. These tests check that a timeout closes
//! the old session, so that a late reply cannot acknowledge another statement.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::proxy::{Behavior, Direction, Flow, Proxy, remote_addresses};
use testkit::seeded_random::SeededRandom;
use testkit::service::{Service, ServiceOptions};

use crate::support::test_env::{DEADLINE, TestEnv, eventually};
use crate::support::traffic::{metric, wait_until_unready};

/// The configured request timeout. Cassandra's own write timeout is 2 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// An environment with a proxy in front of its Cassandra node.
struct ProxiedEnv {
    env: TestEnv,
    proxy: Proxy,
}

impl ProxiedEnv {
    async fn new(name: &str) -> Self {
        let env = TestEnv::new(name, 3).await;
        let proxy = Proxy::start(env.node()).await.unwrap();
        Self { env, proxy }
    }

    fn options(&self) -> ServiceOptions {
        self.env
            .options()
            .set("cassandra.contact_points", self.proxy.address().to_string())
            .set("cassandra.request_timeout", "3s")
            .set("cassandra.connect_timeout", "1s")
    }

    /// Starts a streamer that writes rows and connects only to the proxy.
    async fn streamer(&self) -> Service {
        let streamer = self.env.start(&self.options()).await;
        self.env.wait_for_rows(&streamer).await;
        self.assert_connects_only_to_proxy(&streamer);
        streamer
    }

    /// Checks that the streamer is connected to the proxy and not to the node.
    fn assert_connects_only_to_proxy(&self, streamer: &Service) {
        let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
        assert!(
            remotes.contains(&self.proxy.address()) && !remotes.contains(&self.env.node()),
            "{remotes:?}"
        );
    }

    /// Sets the behavior of the open connections. Returns their ids.
    fn set_open_connections(&self, behavior: Behavior) -> Vec<u64> {
        let open = self.proxy.connections();
        for connection in &open {
            connection.set(behavior);
        }
        open.iter().map(|connection| connection.id()).collect()
    }

    /// Waits until the streamer has a new session: two connections.
    async fn wait_for_new_session(&self, ids: &[u64]) {
        eventually("the session is rebuilt", async || {
            let open: Vec<_> = self.proxy.connections().iter().map(|it| it.id()).collect();
            if open.iter().filter(|id| !ids.contains(id)).count() >= 2 {
                Ok(())
            } else {
                Err(format!("open {open:?}, before {ids:?}"))
            }
        })
        .await;
    }

    /// Restores the open connections, and waits until the old ones are closed. No task may continue with an old session.
    async fn heal_and_wait_until_closed(&self, ids: &[u64]) {
        self.set_open_connections(Behavior::default());
        eventually("the old session is closed", async || {
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

/// Limit for the recovery: a request timeout, a handshake, a new session, and the batch again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_cost_one_timeout_and_session() {
    let proxied = ProxiedEnv::new("halfopen").await;
    let _streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            for direction in [Direction::ToServer, Direction::ToClient] {
                let ids = proxied.set_open_connections(Behavior::one_way(direction, Flow::blackhole()));
                proxied.wait_for_new_session(&ids).await;
                let took = proxied.env.wait_for_current_ends().await;
                assert!(took < RECOVERY_LIMIT, "{direction:?}: {took:?}");
                proxied.heal_and_wait_until_closed(&ids).await;
            }
            let timeouts = metric(&streamer, "streamer_retries_total", "session_poisoned").await;
            let checkpoints = metric(&streamer, "streamer_checkpoints_total", "failed").await;
            assert!(timeouts + checkpoints > 0.0, "no request timed out");
            assert_eq!(
                metric(&streamer, "streamer_rebalances_total", "revoked").await,
                0.0
            );
            proxied.assert_connects_only_to_proxy(&streamer);
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_network_fails_readiness_with_cause() {
    let proxied = ProxiedEnv::new("silent").await;
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            proxied.proxy.set(Behavior::both(Flow::blackhole()));
            let reason = wait_until_unready(&streamer).await;
            assert!(reason.contains("cassandra"), "{reason}");
            eventually("readiness reports the cause", async || {
                let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
                let reported = body.contains(&format!(
                    "{}: no response within 1000 ms",
                    proxied.proxy.address()
                ));
                if reported { Ok(()) } else { Err(body) }
            })
            .await;
            proxied.proxy.set(Behavior::default());
            let healed_at = Instant::now();
            streamer.wait_until_ready(RECOVERY_LIMIT).await.unwrap();
            proxied.env.wait_for_current_ends().await;
            assert!(healed_at.elapsed() < RECOVERY_LIMIT, "{:?}", healed_at.elapsed());
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_resets_within_frames_lose_nothing() {
    const RESETS: usize = 8;
    let proxied = ProxiedEnv::new("resets").await;
    let mut random = SeededRandom::new("resets_in_mid_frame");
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            for reset in 0..RESETS {
                let direction = [Direction::ToServer, Direction::ToClient][reset % 2];
                let bytes = random.number(1..20_000);
                let ids =
                    proxied.set_open_connections(Behavior::one_way(direction, Flow::reset_after(bytes)));
                eventually("one of the connections is reset", async || {
                    let open = proxied.proxy.connections();
                    let left = open.iter().filter(|it| ids.contains(&it.id())).count();
                    if left < ids.len() {
                        Ok(())
                    } else {
                        Err(format!("{left}"))
                    }
                })
                .await;
                proxied.set_open_connections(Behavior::default());
                let took = proxied.env.wait_for_current_ends().await;
                assert!(
                    took < RECOVERY_LIMIT,
                    "{direction:?} after {bytes} bytes: {took:?}"
                );
            }
            streamer
        })
        .await;
    assert!(
        proxied.proxy.accepted() > RESETS as u64,
        "no connection was rebuilt"
    );
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_two_seconds_late_keep_the_session() {
    let proxied = ProxiedEnv::new("late").await;
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            proxied.env.wait_for_current_ends().await;
            let accepted = proxied.proxy.accepted();
            let late = Flow::latency(Duration::from_secs(2), Duration::from_millis(300));
            proxied.proxy.set(Behavior::one_way(Direction::ToClient, late));
            let started = Instant::now();
            // Records acknowledged before may only wait for a checkpoint whose write is not delayed. So the second wait measures new records.
            proxied.env.wait_for_current_ends().await;
            proxied.env.wait_for_current_ends().await;
            let took = started.elapsed();
            assert!(took >= Duration::from_secs(2), "{took:?}");
            assert_eq!(proxied.proxy.accepted(), accepted, "a connection was replaced");
            assert_eq!(metric(&streamer, "streamer_retries_total", "").await, 0.0);
            proxied.proxy.set(Behavior::default());
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_after_timeout_acknowledge_nothing() {
    let proxied = ProxiedEnv::new("lateafter").await;
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            for _ in 0..2 {
                // The server applies the writes. Its replies arrive after the request timeout, while the client
                // writes the same rows, and newer ones, on a new session.
                let ids = proxied.set_open_connections(Behavior::one_way(Direction::ToClient, Flow::hold()));
                let held_at = Instant::now();
                proxied.wait_for_new_session(&ids).await;
                assert!(
                    held_at.elapsed() < REQUEST_TIMEOUT + RECOVERY_LIMIT,
                    "{:?}",
                    held_at.elapsed()
                );
                proxied.heal_and_wait_until_closed(&ids).await;
                proxied.env.wait_for_current_ends().await;
            }
            // In the other direction, the writes arrive late, after newer versions of the same users.
            let ids = proxied.set_open_connections(Behavior::one_way(Direction::ToServer, Flow::hold()));
            proxied.wait_for_new_session(&ids).await;
            proxied.env.wait_for_current_ends().await;
            proxied.heal_and_wait_until_closed(&ids).await;
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_packets_lose_nothing() {
    let proxied = ProxiedEnv::new("slices").await;
    let streamer = proxied
        .env
        .with_traffic(async {
            // The fault is active from the first handshake.
            proxied.proxy.set(Behavior::both(Flow::one_byte_slices()));
            let streamer = proxied.streamer().await;
            proxied.env.wait_for_current_ends().await;
            proxied.proxy.set(Behavior::default());
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_session_setup_times_out_with_cause() {
    let proxied = ProxiedEnv::new("unfinished").await;
    // The probe on the first connection succeeds. The driver's connections get no reply.
    let slow = Flow::latency(Duration::from_millis(100), Duration::ZERO);
    proxied.proxy.set(Behavior::one_way(Direction::ToServer, slow));
    let streamer = Service::start(&proxied.options()).unwrap();
    eventually("the session setup times out", async || {
        for connection in proxied.proxy.connections().iter().filter(|it| it.id() > 0) {
            connection.set(Behavior::both(Flow::blackhole()));
        }
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        let reported =
            body.contains("no session within 2000 ms") || body.contains("no response within 1000 ms");
        if reported { Ok(()) } else { Err(body) }
    })
    .await;
    assert!(proxied.proxy.accepted() > 1, "the driver never connected");
    proxied.proxy.set(Behavior::default());
    streamer.wait_until_ready(RECOVERY_LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_retries_every_contact_point() {
    let proxied = ProxiedEnv::new("contacts").await;
    let other = Proxy::start(proxied.env.node()).await.unwrap();
    other.refuse().await.unwrap();
    let points = format!("{},{}", proxied.proxy.address(), other.address());
    let options = proxied.options().set("cassandra.contact_points", points);
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.env.start(&options).await;
            proxied.env.wait_for_rows(&streamer).await;
            assert_eq!(other.accepted(), 0);
            // The node comes back at the second contact point.
            proxied.proxy.refuse().await.unwrap();
            proxied.proxy.reset();
            wait_until_unready(&streamer).await;
            other.accept().await.unwrap();
            streamer.wait_until_ready(RECOVERY_LIMIT).await.unwrap();
            proxied.env.wait_for_current_ends().await;
            streamer
        })
        .await;
    assert!(other.accepted() > 0);
    proxied.env.assert_nothing_lost_or_rejected().await;
    let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
    assert!(!remotes.contains(&proxied.env.node()), "{remotes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_on_new_port_is_found_through_contact_point() {
    let proxied = ProxiedEnv::new("moved").await;
    let moved = Proxy::start(proxied.env.node()).await.unwrap();
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.streamer().await;
            proxied.proxy.retarget(moved.address());
            proxied.proxy.reset();
            proxied.env.wait_for_current_ends().await;
            streamer.wait_until_ready(DEADLINE).await.unwrap();
            streamer
        })
        .await;
    assert!(moved.accepted() > 0);
    proxied.env.assert_nothing_lost_or_rejected().await;
    proxied.assert_connects_only_to_proxy(&streamer);
}

/// Returns a wrapper command that replaces `/etc/hosts` with `file`. The file may change while the command runs.
fn with_hosts(file: &Path) -> Vec<String> {
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
        .into_iter()
        .map(str::to_owned)
        .chain([file.display().to_string()])
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contact_point_name_is_resolved_again_after_outage() {
    let proxied = ProxiedEnv::new("renamed").await;
    let port = proxied.proxy.address().port();
    let other_address = SocketAddr::from(([127, 0, 0, 2], port));
    let moved = Proxy::start_at(other_address, proxied.env.node()).await.unwrap();
    let hosts = proxied.env.folder().join("hosts");
    let resolve_to = |address: SocketAddr| {
        std::fs::write(&hosts, format!("{} cassandra.affluent.test\n", address.ip())).unwrap();
    };
    resolve_to(proxied.proxy.address());
    let options = proxied
        .options()
        .set(
            "cassandra.contact_points",
            format!("cassandra.affluent.test:{port}"),
        )
        .wrapped_by(with_hosts(&hosts));
    let streamer = proxied
        .env
        .with_traffic(async {
            let streamer = proxied.env.start(&options).await;
            proxied.env.wait_for_rows(&streamer).await;
            proxied.assert_connects_only_to_proxy(&streamer);
            assert_eq!(moved.accepted(), 0);
            // As when a node is replaced, the name stays and the address changes.
            proxied.proxy.refuse().await.unwrap();
            proxied.proxy.reset();
            wait_until_unready(&streamer).await;
            resolve_to(moved.address());
            streamer.wait_until_ready(RECOVERY_LIMIT).await.unwrap();
            proxied.env.wait_for_current_ends().await;
            streamer
        })
        .await;
    proxied.env.assert_nothing_lost_or_rejected().await;
    let remotes = remote_addresses(streamer.child().unwrap().pid()).unwrap();
    assert!(
        remotes.contains(&moved.address()) && !remotes.contains(&proxied.env.node()),
        "{remotes:?}"
    );
}
