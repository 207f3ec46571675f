//! The owner of the pool's servers: starts clusters on demand, repairs them between leases, bounds their memory, ends large
//! ones that nobody leases.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::artifacts::folder_of;
use super::pool::{Access, ClusterSpec, PoolReply, PoolRequest};
use super::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, Node, ServerError, Software, jvm,
};

/// Exclusive Kafkas of the default specification, which most tests that disturb one lease. More would start servers that
/// mostly wait for each other's CPU.
const MAX_EQUAL: usize = 2;
/// How long a cluster of several nodes waits for another lease. Three idle nodes take as much CPU in a minute as their start.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a killed process may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);
/// A Java process holds about this many MiB beyond its heap.
const OUTSIDE_HEAP_MIB: u64 = 300;

/// The clusters of one test run.
#[derive(Debug)]
pub struct Pool {
    folder: PathBuf,
    budget_mib: u64,
    slots: Mutex<Vec<Arc<Slot>>>,
    changed: Notify,
    starts: AtomicUsize,
}

/// A cluster, and who uses it.
#[derive(Debug)]
struct Slot {
    spec: ClusterSpec,
    access: Access,
    dir: PathBuf,
    state: Mutex<SlotState>,
}

#[derive(Debug)]
enum SlotState {
    Starting,
    /// Since a time. Its user may have left nodes frozen or killed.
    Idle(Arc<PooledCluster>, Instant),
    Used(Arc<PooledCluster>),
}

#[derive(Debug)]
enum PooledCluster {
    Kafka(KafkaCluster),
    Cassandra(CassandraCluster),
}

impl Pool {
    /// An empty pool. `budget_mib` bounds the memory of all its servers together.
    #[must_use]
    pub fn new(folder: PathBuf, budget_mib: u64) -> Self {
        Self {
            folder,
            budget_mib,
            slots: Mutex::default(),
            changed: Notify::new(),
            starts: AtomicUsize::new(0),
        }
    }

    /// How many server processes were started, restarts of killed nodes not counted.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }

    /// Binds the socket. From then on leases can be requested, which wait for [`serve`](Self::serve).
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(socket: &Path) -> Result<UnixListener, ServerError> {
        UnixListener::bind(socket).map_err(ServerError::file(socket))
    }

    /// Serves leases until it is dropped.
    ///
    /// # Errors
    /// When the socket accepts no more.
    pub async fn serve(self: Arc<Self>, listener: UnixListener) -> Result<(), ServerError> {
        loop {
            let (stream, _) = listener
                .accept()
                .await
                .map_err(ServerError::file("the pool's socket"))?;
            let pool = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = pool.serve_one(stream).await {
                    tracing::warn!(%error, "connection of the server pool failed");
                }
            });
        }
    }

    /// One test process: its lease, then its requests to start nodes, until it closes the connection.
    async fn serve_one(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        let mut leased: Option<(Arc<Slot>, Arc<PooledCluster>)> = None;
        while let Some(line) = lines.next_line().await? {
            let reply = match serde_json::from_str(&line) {
                Ok(PoolRequest::Lease { spec, access }) => match self.acquire(*spec, access).await {
                    Ok((slot, cluster)) => {
                        let (dir, port) = (slot.dir.clone(), cluster.port());
                        leased = Some((slot, cluster));
                        PoolReply::Leased { dir, port }
                    }
                    Err(error) => PoolReply::Failed {
                        reason: error.to_string(),
                    },
                },
                Ok(PoolRequest::Start { node }) => start_node(leased.as_ref(), node).await,
                Err(error) => PoolReply::Failed {
                    reason: error.to_string(),
                },
            };
            let mut reply = serde_json::to_string(&reply)?;
            reply.push('\n');
            // A test that timed out while it waited is gone; its lease is released all the same.
            if writer.write_all(reply.as_bytes()).await.is_err() {
                break;
            }
        }
        if let Some((slot, cluster)) = leased
            && slot.access == Access::Exclusive
        {
            drop(stream);
            self.release(&slot, cluster).await;
        }
        Ok(())
    }

    /// A free cluster of this specification, started when there is none and memory allows.
    async fn acquire(
        &self,
        spec: ClusterSpec,
        access: Access,
    ) -> Result<(Arc<Slot>, Arc<PooledCluster>), ServerError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.choose(&spec, access) {
                SlotChoice::Use(slot, cluster) => match cluster.repair(access).await {
                    Ok(()) => return Ok((slot, cluster)),
                    Err(error) => {
                        tracing::warn!(%error, cluster = %slot.dir.display(), "dropping a cluster that can't be repaired");
                        self.remove(&slot);
                    }
                },
                SlotChoice::Start(slot) => return self.start(slot).await,
                SlotChoice::Wait => changed.await,
            }
        }
    }

    fn choose(&self, spec: &ClusterSpec, access: Access) -> SlotChoice {
        let mut slots = self.slots();
        let equal = |slot: &&Arc<Slot>| slot.spec == *spec && slot.access == access;
        for slot in slots.iter().filter(equal) {
            let mut state = slot.state();
            match (&*state, access) {
                (SlotState::Used(cluster), Access::Shared) => {
                    return SlotChoice::Use(Arc::clone(slot), Arc::clone(cluster));
                }
                (SlotState::Idle(cluster, _), _) => {
                    let cluster = Arc::clone(cluster);
                    *state = SlotState::Used(Arc::clone(&cluster));
                    return SlotChoice::Use(Arc::clone(slot), cluster);
                }
                (SlotState::Starting, Access::Shared) => return SlotChoice::Wait,
                (SlotState::Starting | SlotState::Used(_), _) => {}
            }
        }
        if slots.iter().filter(equal).count() >= spec.max_equal(access) {
            return SlotChoice::Wait;
        }
        let used = |slots: &[Arc<Slot>]| slots.iter().map(|slot| slot.spec.memory_mib()).sum::<u64>();
        while used(&slots) + spec.memory_mib() > self.budget_mib {
            let idle = |slot: &Arc<Slot>| matches!(*slot.state(), SlotState::Idle(..));
            let Some(index) = slots.iter().position(idle) else {
                // One cluster always runs, also where the budget is too small for it.
                if slots.is_empty() {
                    break;
                }
                return SlotChoice::Wait;
            };
            slots.remove(index);
        }
        let number = self.starts.fetch_add(spec.nodes(), Ordering::Relaxed);
        let slot = Arc::new(Slot {
            spec: spec.clone(),
            access,
            dir: self.folder.join(format!("{}-{number}", spec.name())),
            state: Mutex::new(SlotState::Starting),
        });
        slots.push(Arc::clone(&slot));
        SlotChoice::Start(slot)
    }

    async fn start(&self, slot: Arc<Slot>) -> Result<(Arc<Slot>, Arc<PooledCluster>), ServerError> {
        let started = PooledCluster::start(&slot.spec, slot.access, &slot.dir).await;
        let outcome = match started {
            Ok(cluster) => {
                cluster.keep_classes().await;
                let cluster = Arc::new(cluster);
                *slot.state() = SlotState::Used(Arc::clone(&cluster));
                Ok((slot, cluster))
            }
            Err(error) => {
                self.remove(&slot);
                Err(error)
            }
        };
        self.changed.notify_waiters();
        outcome
    }

    /// Leaves an exclusive cluster to the next test. Ends one of several nodes that no test leases in time.
    async fn release(&self, slot: &Arc<Slot>, cluster: Arc<PooledCluster>) {
        let released = Instant::now();
        *slot.state() = SlotState::Idle(cluster, released);
        self.changed.notify_waiters();
        if slot.spec.nodes() > 1 {
            sleep(IDLE_TIMEOUT).await;
            // A lease takes it under the same lock.
            let mut slots = self.slots();
            if matches!(*slot.state(), SlotState::Idle(_, since) if since == released) {
                slots.retain(|other| !Arc::ptr_eq(other, slot));
                self.changed.notify_waiters();
            }
        }
    }

    fn remove(&self, slot: &Arc<Slot>) {
        self.slots().retain(|other| !Arc::ptr_eq(other, slot));
        self.changed.notify_waiters();
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum SlotChoice {
    Use(Arc<Slot>, Arc<PooledCluster>),
    Start(Arc<Slot>),
    Wait,
}

/// Starts a node that its user has ended. A killed process takes a moment to release its last thread.
async fn start_node(leased: Option<&(Arc<Slot>, Arc<PooledCluster>)>, node: usize) -> PoolReply {
    let found = leased.and_then(|(_, cluster)| cluster.nodes().get(node));
    let started = match found {
        Some(node) => {
            let until = Instant::now() + EXIT_TIMEOUT;
            while node.pid().is_some() && Instant::now() < until {
                sleep(Duration::from_millis(2)).await;
            }
            if node.pid().is_some() {
                Err(ServerError::Pool(format!("{} still runs", node.name())))
            } else {
                node.launch()
            }
        }
        None => Err(ServerError::NoSuchNode(node)),
    };
    match started {
        Ok(()) => PoolReply::Started,
        Err(error) => PoolReply::Failed {
            reason: error.to_string(),
        },
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledCluster {
    /// Starts a cluster with its data in `dir`.
    async fn start(spec: &ClusterSpec, access: Access, dir: &Path) -> Result<Self, ServerError> {
        let dir = Some(dir.to_path_buf());
        match spec.clone() {
            ClusterSpec::Kafka(options) => {
                let options = KafkaOptions { dir, ..options };
                KafkaCluster::start(&options).await.map(Self::Kafka)
            }
            ClusterSpec::Cassandra(options) => {
                let options = CassandraOptions {
                    dir,
                    // The nodes of a shared cluster are not killed.
                    keeps_schema: access == Access::Exclusive,
                    ..options
                };
                CassandraCluster::start(&options).await.map(Self::Cassandra)
            }
        }
    }

    /// Continues the nodes that a test has frozen, and starts those that it has killed. Tests that share a cluster do neither.
    async fn repair(&self, access: Access) -> Result<(), ServerError> {
        if access == Access::Exclusive {
            for node in self.nodes() {
                // A node that is not frozen, or not running, is no failure here.
                let _ = node.thaw();
            }
            for node in self.nodes() {
                node.start().await?;
            }
        }
        Ok(())
    }

    /// Keeps the classes of the first node, so that later starts are faster.
    async fn keep_classes(&self) {
        let software = match self {
            Self::Kafka(_) => Software::KAFKA,
            Self::Cassandra(_) => Software::CASSANDRA,
        };
        let (Ok(jars), Some(pid)) = (folder_of(software), self.nodes()[0].pid()) else {
            return;
        };
        if let Err(error) = jvm::keep_classes(&jars, pid).await {
            tracing::warn!(%error, jars = %jars.display(), "failed to keep the classes of a server");
        }
    }

    fn nodes(&self) -> &[Node] {
        match self {
            Self::Kafka(cluster) => cluster.nodes(),
            Self::Cassandra(cluster) => cluster.nodes(),
        }
    }

    /// The port from which the lease's user derives all others.
    fn port(&self) -> u16 {
        match self {
            Self::Kafka(cluster) => cluster.first_port(),
            Self::Cassandra(cluster) => cluster.port(),
        }
    }
}

impl ClusterSpec {
    const fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Cassandra(_) => "cassandra",
        }
    }

    fn nodes(&self) -> usize {
        match self {
            Self::Kafka(options) => options.nodes,
            Self::Cassandra(options) => options.all_nodes(),
        }
    }

    fn max_equal(&self, access: Access) -> usize {
        if access == Access::Exclusive && *self == Self::Kafka(KafkaOptions::default()) {
            MAX_EQUAL
        } else {
            1
        }
    }

    fn memory_mib(&self) -> u64 {
        let heap = match self {
            Self::Kafka(options) => options.heap_mb,
            Self::Cassandra(options) => options.heap_mb(),
        };
        (u64::from(heap) + OUTSIDE_HEAP_MIB) * self.nodes() as u64
    }
}
