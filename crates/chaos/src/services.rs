//! The services of a round as child processes: an ingester, a publisher and three streamers.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod failpoint;
mod options;
pub(crate) mod probe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::process::{Child, ProcessError};
use testkit::proxy::{Proxy, remote_addresses};
use testkit::service::{Service, ServiceError, ServiceOptions};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use self::config::RoundConfig;
use self::options::{ingester, publisher};
use crate::cluster::Cluster;
use crate::evidence::health::{LateExit, ServiceEvents};
use crate::scenario::fault::Release;
use crate::service_id::{STREAMERS, ServiceId};

pub(crate) use self::options::{SESSION_TIMEOUT, streamer};

/// Until a service has found its servers and its partitions.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Until a restarted service is ready; another fault may delay it, which the invariants judge.
const RESTART_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than `process.shutdown_grace`.
const STOP_TIMEOUT: Duration = Duration::from_secs(28);
/// For the last sample of a process.
const LAST_SAMPLE_TIMEOUT: Duration = Duration::from_millis(250);

/// The running services.
pub(crate) struct Services {
    services: BTreeMap<ServiceId, AsyncMutex<Service>>,
    /// Between ingester and publisher.
    pub(crate) publisher_proxy: Proxy,
    /// Between ingester and random-user API.
    pub(crate) api_proxy: Proxy,
    /// Base URL.
    pub(crate) publisher: String,
    /// Base URL.
    pub(crate) ingester: String,
    /// When all of them were ready: the start of the round.
    pub(crate) started: Instant,
    client: reqwest::Client,
    /// The clock library, and the services that preload it.
    shifted: Option<(PathBuf, Vec<ServiceId>)>,
    events: Mutex<ServiceEvents>,
}

impl Services {
    /// Starts all services and waits until they are ready.
    pub(crate) async fn start(cluster: &Cluster, config: &RoundConfig) -> Result<Self> {
        let release = config.starts_as;
        let publisher = Service::start(&publisher(cluster, config, release))?;
        let publisher_api = publisher.api();
        let address: SocketAddr = publisher_api
            .trim_start_matches("http://")
            .parse()
            .expect("a local service has a numeric address");
        let publisher_proxy = Proxy::start(address).await?;
        let api_proxy = Proxy::start(cluster.api.address()).await?;
        publisher.wait_until_ready(READY_TIMEOUT).await?;
        let mut services = BTreeMap::new();
        for id in ServiceId::streamers() {
            let service = Service::start(&streamer(cluster, config, id, release))?;
            if id == ServiceId::Streamer(1) {
                // Only the first creates the tables.
                service.wait_until_ready(READY_TIMEOUT).await?;
            }
            services.insert(id, AsyncMutex::new(service));
        }
        services.insert(ServiceId::Publisher, AsyncMutex::new(publisher));
        let streamer = services[&ServiceId::Streamer(1)].lock().await.admin();
        let ingester = ingester(config, &publisher_proxy, &api_proxy, &streamer, release);
        let ingester = Service::start(&ingester)?;
        let ingester_api = ingester.api();
        services.insert(ServiceId::Ingester, AsyncMutex::new(ingester));
        let client = reqwest::Client::builder().timeout(LAST_SAMPLE_TIMEOUT);
        let shifted: Vec<_> = config.clock_shifts.keys().copied().collect();
        let mut services = Self {
            started: Instant::now(),
            services,
            publisher_proxy,
            api_proxy,
            publisher: publisher_api,
            ingester: ingester_api,
            client: client.build().context("failed to build an HTTP client")?,
            shifted: config.clock_library.clone().map(|library| (library, shifted)),
            events: Mutex::default(),
        };
        for id in services.ids() {
            let service = services.get(id).await;
            service.wait_until_ready(READY_TIMEOUT).await?;
            services.check_clock(id, &service);
        }
        services.started = Instant::now();
        Ok(services)
    }

    /// The options of a service as this release.
    pub(crate) async fn options(
        &self,
        cluster: &Cluster,
        config: &RoundConfig,
        id: ServiceId,
        release: Release,
    ) -> ServiceOptions {
        match id {
            ServiceId::Publisher => publisher(cluster, config, release),
            ServiceId::Streamer(_) => streamer(cluster, config, id, release),
            ServiceId::Ingester => {
                let ledger = self.services[&ServiceId::Streamer(1)].lock().await.admin();
                ingester(config, &self.publisher_proxy, &self.api_proxy, &ledger, release)
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<ServiceId> {
        self.services.keys().copied().collect()
    }

    /// Locks a service, so that no other fault disturbs it.
    pub(crate) async fn get(&self, id: ServiceId) -> AsyncMutexGuard<'_, Service> {
        self.services[&id].lock().await
    }

    /// The admin URL of each service.
    pub(crate) async fn admin_urls(&self) -> BTreeMap<ServiceId, String> {
        let mut urls = BTreeMap::new();
        for (id, service) in &self.services {
            urls.insert(*id, service.lock().await.admin());
        }
        urls
    }

    /// Sends `SIGKILL`, and records an earlier exit.
    pub(crate) async fn kill(&self, id: ServiceId, service: &mut Service) -> Result<()> {
        self.check_exit(id, service);
        if !is_running(service) {
            return Ok(());
        }
        self.take_last_sample(id, service).await;
        match service.kill().await {
            Err(ServiceError::Process(error @ ProcessError::Ended { .. })) => {
                self.unexpected_exit(format!("{id} exited before it was killed: {error}"));
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Sends `SIGTERM`, waits for the exit, and records a wrong exit code.
    pub(crate) async fn terminate(&self, id: ServiceId, service: &mut Service) -> Result<()> {
        self.check_exit(id, service);
        if !is_running(service) {
            return Ok(());
        }
        self.take_last_sample(id, service).await;
        let from = self.started.elapsed().as_secs_f64();
        match service.terminate(STOP_TIMEOUT).await {
            Ok(Some(0)) => {}
            Ok(Some(1)) => {
                let until = self.started.elapsed().as_secs_f64();
                self.events().late_exits.push(LateExit { id, from, until });
            }
            Ok(code) => self.unexpected_exit(format!("{id} exited with {code:?} after SIGTERM")),
            Err(ServiceError::Process(error)) => {
                self.unexpected_exit(format!("{id}: {error} after SIGTERM"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Starts a service again, waits a short time for readiness, and records an exit.
    pub(crate) async fn restart(&self, id: ServiceId, service: &mut Service) -> Result<()> {
        service.spawn()?;
        let ready = service.wait_until_ready(RESTART_TIMEOUT).await;
        self.check_clock(id, service);
        match ready {
            Ok(()) | Err(ServiceError::NotReady { .. }) => Ok(()),
            Err(error @ ServiceError::Ended { .. }) => {
                self.unexpected_exit(format!("{id}: {error}"));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Restarts a service that has exited, which is recorded: a fault needs a running process.
    pub(crate) async fn ensure_running(&self, id: ServiceId, service: &mut Service) -> Result<()> {
        if is_running(service) {
            return Ok(());
        }
        self.check_exit(id, service);
        self.restart(id, service).await
    }

    /// Samples a process right before it is stopped: the regular sample may be older.
    async fn take_last_sample(&self, id: ServiceId, service: &Service) {
        let sample = probe::probe(&self.client, &service.admin(), self.started).await;
        if !sample.metrics.is_empty() {
            self.events().last_samples.push((id, sample));
        }
    }

    /// Checks that a service with a shifted clock has loaded the library.
    fn check_clock(&self, id: ServiceId, service: &Service) {
        let Some((library, shifted)) = &self.shifted else {
            return;
        };
        let (true, Some(child)) = (shifted.contains(&id), service.child()) else {
            return;
        };
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.pid())).unwrap_or_default();
        // An exited process has no maps.
        if child.is_running() && !maps.contains(&*library.to_string_lossy()) {
            self.ineffective_fault(format!("{id} has not loaded {}", library.display()));
        }
    }

    /// Records an exit that nothing requested.
    fn check_exit(&self, id: ServiceId, service: &Service) {
        if let Some(child) = service.child()
            && let Ok(Some(status)) = child.exit_status()
        {
            self.unexpected_exit(format!("{id} exited: {status}\n{}", service.last_lines(5)));
        }
    }

    /// Terminates all services and returns the events of the round.
    pub(crate) async fn stop(self) -> Result<ServiceEvents> {
        for (id, service) in &self.services {
            self.terminate(*id, &mut *service.lock().await).await?;
        }
        Ok(self.events.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connections that bypass a proxy, and the number of those to a proxy.
    pub(crate) async fn connections(&self, cluster: &Cluster) -> (Vec<String>, usize) {
        let (mut bypasses, mut proxied) = (Vec::new(), 0);
        let proxies: Vec<_> = cluster.proxies().map(Proxy::address).collect();
        let servers = cluster.server_addresses();
        for (id, service) in &self.services {
            let service = service.lock().await;
            let Some(child) = service.child() else { continue };
            // A process that was just killed has no connections.
            let remotes = remote_addresses(child.pid()).unwrap_or_default();
            let direct = remotes.iter().filter(|remote| servers.contains(remote));
            bypasses.extend(direct.map(|remote| format!("{id} is connected to {remote}")));
            proxied += remotes.iter().filter(|remote| proxies.contains(remote)).count();
        }
        (bypasses, proxied)
    }

    /// Records an exit that was not requested, or one with the wrong exit code.
    pub(crate) fn unexpected_exit(&self, what: String) {
        self.events().unexpected_exits.push(what);
    }

    /// Records a fault that changed nothing.
    pub(crate) fn ineffective_fault(&self, what: String) {
        self.events().ineffective_faults.push(what);
    }

    fn events(&self) -> MutexGuard<'_, ServiceEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process was started and has not exited.
pub(crate) fn is_running(service: &Service) -> bool {
    service.child().is_some_and(Child::is_running)
}

/// The id of a streamer in addition to those of the round.
pub(crate) const ADDITIONAL_STREAMER: ServiceId = ServiceId::Streamer(STREAMERS + 1);
