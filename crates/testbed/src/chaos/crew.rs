//! The services of one round, as processes: an ingester, a publisher, three streamers, on a topic, a keyspace and a group
//! of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use super::RoundError;
use super::disk::SmallDisk;
use super::evidence::{LateEnd, Who};
use super::venue::Venue;
use crate::proxy::{Proxy, remotes};
use crate::service::{Service, ServiceError, ServiceOptions};

/// For a service to find its servers and its part of the work.
const READY: Duration = Duration::from_secs(60);
/// Above `process.shutdown_grace`.
const STOP: Duration = Duration::from_secs(28);

/// How many streamers share the topic.
pub const STREAMERS: u8 = 3;

/// What a round's services have in common.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Topic, keyspace and group.
    pub name: String,
    /// Where logs and the ingester's state lie.
    pub folder: PathBuf,
    /// Where the services' binaries lie; none: beside this one.
    pub binaries: Option<PathBuf>,
    /// The variable that gives every service a deliberate bug.
    pub bug: Option<(&'static str, &'static str)>,
    /// By how many seconds whose clock is wrong.
    pub clocks: BTreeMap<Who, i64>,
    /// The library that makes it wrong.
    pub clock: Option<PathBuf>,
    /// Where the ingester's state lies, if on a disk of its own.
    pub disk: Option<Arc<SmallDisk>>,
    /// Whether the streamers are members by name.
    pub are_static: bool,
}

impl Plot {
    /// The dead-letter topic.
    #[must_use]
    pub fn letters(&self) -> String {
        format!("{}.dead_letter", self.name)
    }
}

/// The running services.
pub struct Crew {
    members: BTreeMap<Who, AsyncMutex<Service>>,
    /// Before the publisher, for the ingester.
    pub door: Proxy,
    /// Where the publisher's API is.
    pub publisher: String,
    /// Where the ingester's API is.
    pub ingester: String,
    /// When all of them were ready: the round's beginning.
    pub began: Instant,
    odd: Mutex<Vec<String>>,
    late: Mutex<Vec<LateEnd>>,
}

impl Crew {
    /// Starts all of them and waits until they are ready.
    ///
    /// # Errors
    /// When one is not, with its log.
    pub async fn start(venue: &Venue, plot: &Plot) -> Result<Self, RoundError> {
        let publisher = Service::start(&publisher(venue, plot))?;
        let address: SocketAddr = publisher
            .api()
            .trim_start_matches("http://")
            .parse()
            .expect("a local service has an address of numbers");
        let door = Proxy::start(address).await?;
        publisher.ready(READY).await?;
        let (publisher_api, mut members) = (publisher.api(), BTreeMap::new());
        for number in 1..=STREAMERS {
            let service = Service::start(&streamer(venue, plot, number))?;
            if number == 1 {
                // The first creates the tables; all at once may only get in each other's way.
                service.ready(READY).await?;
            }
            members.insert(Who::Streamer(number), AsyncMutex::new(service));
        }
        members.insert(Who::Publisher, AsyncMutex::new(publisher));
        let ingester = Service::start(&ingester(venue, plot, &door))?;
        let ingester_api = ingester.api();
        members.insert(Who::Ingester, AsyncMutex::new(ingester));
        let mut crew = Self {
            began: Instant::now(),
            late: Mutex::default(),
            members,
            door,
            publisher: publisher_api,
            ingester: ingester_api,
            odd: Mutex::new(Vec::new()),
        };
        for who in crew.everybody() {
            crew.get(who).await.ready(READY).await?;
        }
        crew.began = Instant::now();
        Ok(crew)
    }

    /// Every process.
    #[must_use]
    pub fn everybody(&self) -> Vec<Who> {
        self.members.keys().copied().collect()
    }

    /// Every streamer.
    #[must_use]
    pub fn streamers(&self) -> Vec<Who> {
        (1..=STREAMERS).map(Who::Streamer).collect()
    }

    /// One process, for as long as nobody else disturbs it.
    pub async fn get(&self, who: Who) -> MutexGuard<'_, Service> {
        self.members[&who].lock().await
    }

    /// The admin address of each.
    pub async fn admins(&self) -> BTreeMap<Who, String> {
        let mut admins = BTreeMap::new();
        for (who, service) in &self.members {
            admins.insert(*who, service.lock().await.admin());
        }
        admins
    }

    /// `SIGKILL`; that it had ended already is noted.
    ///
    /// # Errors
    /// When the system does not let it be killed.
    pub async fn kill(&self, who: Who, service: &mut Service) -> Result<(), RoundError> {
        self.check(who, service);
        if service.child().is_some_and(crate::process::Child::is_running) {
            service.kill().await?;
        }
        Ok(())
    }

    /// `SIGTERM`; an end that is not in order is noted.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn terminate(&self, who: Who, service: &mut Service) -> Result<(), RoundError> {
        self.check(who, service);
        if !service.child().is_some_and(crate::process::Child::is_running) {
            return Ok(());
        }
        let from = self.began.elapsed().as_secs_f64();
        match service.terminate(STOP).await {
            Ok(Some(0)) => {}
            Ok(Some(1)) => {
                let until = self.began.elapsed().as_secs_f64();
                let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                late.push(LateEnd { who, from, until });
            }
            Ok(code) => self.note(format!("{who} ended with {code:?} after a SIGTERM")),
            Err(ServiceError::Process(error)) => self.note(format!("{who}: {error} after a SIGTERM")),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Starts it again and waits until it is ready; that it is not is noted.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn revive(&self, who: Who, service: &mut Service) -> Result<(), RoundError> {
        service.spawn()?;
        // What it waits for may be what another fault has taken away: the laws say how long that may last.
        match service.ready(Duration::from_secs(2)).await {
            Ok(()) | Err(ServiceError::NotReady { .. }) => Ok(()),
            Err(error @ ServiceError::Ended { .. }) => {
                self.note(format!("{who}: {error}"));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes it when the process has ended although nobody told it to.
    fn check(&self, who: Who, service: &Service) {
        if let Some(child) = service.child()
            && let Ok(Some(status)) = child.exit_status()
        {
            self.note(format!(
                "{who} ended by itself: {status}\n{}",
                service.last_lines(5)
            ));
        }
    }

    /// Stops all of them in good order; returns what was odd about their ends, and which were late.
    ///
    /// # Errors
    /// When one can't be waited for.
    pub async fn end(self) -> Result<(Vec<String>, Vec<LateEnd>), RoundError> {
        for (who, service) in &self.members {
            self.terminate(*who, &mut *service.lock().await).await?;
        }
        let odd = self.odd.into_inner().unwrap_or_else(PoisonError::into_inner);
        let late = self.late.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((odd, late))
    }

    /// The connections that go past a proxy, and how many go to one.
    pub async fn around(&self, venue: &Venue) -> (Vec<String>, usize) {
        let (mut found, mut through) = (Vec::new(), 0);
        let proxies = venue.kafka.iter().chain(&venue.cassandra).map(Proxy::address);
        let proxies: Vec<_> = proxies.collect();
        for (who, service) in &self.members {
            let service = service.lock().await;
            let Some(child) = service.child() else { continue };
            // A process that has just been killed is connected to nobody.
            let remotes = remotes(child.pid()).unwrap_or_default();
            let past = remotes.iter().filter(|remote| venue.behind().contains(remote));
            found.extend(past.map(|remote| format!("{who} is connected to {remote}")));
            through += remotes.iter().filter(|remote| proxies.contains(remote)).count();
        }
        (found, through)
    }

    pub(super) fn note(&self, what: String) {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

fn base(name: &'static str, who: Who, plot: &Plot) -> ServiceOptions {
    let mut options = ServiceOptions::new(name, &plot.folder)
        .log_name(who.to_string())
        .env(super::moment::FOLDER, moments(&plot.folder, who));
    if let Some(folder) = &plot.binaries {
        options = options.from_folder(folder);
    }
    if let Some((variable, bug)) = plot.bug {
        options = options.env(variable, bug);
    }
    if let (Some(seconds), Some(library)) = (plot.clocks.get(&who), &plot.clock) {
        options = options
            .env("LD_PRELOAD", library)
            .env(super::clock::SHIFT, seconds.to_string());
    }
    options
}

fn publisher(venue: &Venue, plot: &Plot) -> ServiceOptions {
    let nodes = venue.shape.nodes();
    base("publisher", Who::Publisher, plot)
        .set("kafka.brokers", venue.brokers())
        .set("kafka.topic", &plot.name)
        .set("kafka.replication", nodes.to_string())
        .set("kafka.min_insync_replicas", nodes.div_ceil(2).to_string())
}

/// How a streamer of the round is started, also beyond those that it has.
pub(super) fn streamer(venue: &Venue, plot: &Plot, number: u8) -> ServiceOptions {
    let nodes = venue.shape.nodes();
    let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}");
    let mut options = base("streamer", Who::Streamer(number), plot);
    if plot.are_static {
        options = options.set("kafka.instance_id", Who::Streamer(number).to_string());
    }
    options
        .set("kafka.brokers", venue.brokers())
        .set("kafka.topic", &plot.name)
        .set("kafka.dead_letter_topic", plot.letters())
        .set("kafka.group", &plot.name)
        .set("kafka.replication", nodes.to_string())
        .set("kafka.session_timeout", "6s")
        .set("cassandra.contact_points", venue.contact_points())
        .set("cassandra.keyspace", &plot.name)
        .set("cassandra.replication", replication)
        .set("cassandra.request_timeout", "3s")
}

fn ingester(venue: &Venue, plot: &Plot, door: &Proxy) -> ServiceOptions {
    let state = plot
        .disk
        .as_ref()
        .map_or_else(|| plot.folder.clone(), |disk| disk.path());
    base("ingester", Who::Ingester, plot)
        .arg("run")
        .set("source.url", format!("{}/api/1.4/", venue.api.url()))
        .set("source.page_size", "100")
        .set("source.request_deadline", "2s")
        .set("source.backoff.initial", "50ms")
        .set("source.backoff.max", "500ms")
        .set("source.breaker.pause", "1s")
        .set("publisher.url", format!("http://{}", door.address()))
        .set("publisher.batch", "20")
        .set("publisher.backoff.max", "1s")
        .set("run.users", "200")
        .set("schedule.interval", "24h")
        .set("state.path", state.join("ingester.sqlite").to_string_lossy())
}

/// Where a process looks whether it is to die at a named moment.
#[must_use]
pub fn moments(folder: &Path, who: Who) -> PathBuf {
    folder.join(format!("{who}.moments"))
}
