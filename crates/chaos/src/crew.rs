//! The services of one round, as processes: an ingester, a publisher, three streamers, on a topic, a keyspace and a group
//! of their own.

mod options;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use self::options::{ingester, publisher};
use super::RoundError;
use super::disk::SmallDisk;
use super::evidence::{LateEnd, Look, Who};
use super::venue::Venue;
use super::watch;
use testkit::process::{Child, ProcessError};
use testkit::proxy::{Proxy, remote_addresses};
use testkit::service::{Service, ServiceError};

pub use self::options::moments;
pub(super) use self::options::streamer;

/// For a service to find its servers and its part of the work.
const READY: Duration = Duration::from_secs(60);
/// Above `process.shutdown_grace`.
const STOP: Duration = Duration::from_secs(28);
/// For a process that is about to be ended to tell of itself once more.
const LAST_WORDS: Duration = Duration::from_millis(250);

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
    /// Whether streamers set deletions aside as dead letters.
    pub sets_deletions_aside: bool,
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
    /// Before the random-user API, for the ingester.
    pub way: Proxy,
    /// Where the publisher's API is.
    pub publisher: String,
    /// Where the ingester's API is.
    pub ingester: String,
    /// When all of them were ready: the round's beginning.
    pub began: Instant,
    client: reqwest::Client,
    /// The library in those whose clock is to be wrong.
    shifted: Option<(PathBuf, Vec<Who>)>,
    noted: Mutex<Noted>,
}

/// What was seen on the way.
#[derive(Debug, Default)]
pub struct Noted {
    /// Processes that ended although nobody told them to, or not as they should.
    pub odd: Vec<String>,
    /// Those that ended with 1 after their grace.
    pub late: Vec<LateEnd>,
    /// Faults that had no effect.
    pub without_effect: Vec<String>,
    /// What processes told of themselves right before they were ended.
    pub last: Vec<(Who, Look)>,
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
        let way = Proxy::start(venue.api.address()).await?;
        publisher.wait_until_ready(READY).await?;
        let (publisher_api, mut members) = (publisher.api(), BTreeMap::new());
        for number in 1..=STREAMERS {
            let who = Who::Streamer(number);
            let service = Service::start(&streamer(venue, plot, who))?;
            if number == 1 {
                // The first creates the tables; all at once may only get in each other's way.
                service.wait_until_ready(READY).await?;
            }
            members.insert(who, AsyncMutex::new(service));
        }
        members.insert(Who::Publisher, AsyncMutex::new(publisher));
        let ingester = Service::start(&ingester(plot, &door, &way))?;
        let ingester_api = ingester.api();
        members.insert(Who::Ingester, AsyncMutex::new(ingester));
        let client = reqwest::Client::builder().timeout(LAST_WORDS);
        let mut crew = Self {
            began: Instant::now(),
            members,
            door,
            way,
            publisher: publisher_api,
            ingester: ingester_api,
            client: client.build().map_err(RoundError::Client)?,
            shifted: plot
                .clock
                .clone()
                .map(|library| (library, plot.clocks.keys().copied().collect())),
            noted: Mutex::default(),
        };
        for who in crew.everybody() {
            let service = crew.get(who).await;
            service.wait_until_ready(READY).await?;
            crew.check_clock(who, &service);
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
        if !is_running(service) {
            return Ok(());
        }
        self.hear(who, service).await;
        match service.kill().await {
            Err(ServiceError::Process(error @ ProcessError::Ended { .. })) => {
                self.note(format!("{who} ended by itself before it was killed: {error}"));
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// `SIGTERM`; an end that is not in order is noted.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn terminate(&self, who: Who, service: &mut Service) -> Result<(), RoundError> {
        self.check(who, service);
        if !is_running(service) {
            return Ok(());
        }
        self.hear(who, service).await;
        let from = self.began.elapsed().as_secs_f64();
        match service.terminate(STOP).await {
            Ok(Some(0)) => {}
            Ok(Some(1)) => {
                let until = self.began.elapsed().as_secs_f64();
                self.noted().late.push(LateEnd { who, from, until });
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
        let ready = service.wait_until_ready(Duration::from_secs(2)).await;
        self.check_clock(who, service);
        match ready {
            Ok(()) | Err(ServiceError::NotReady { .. }) => Ok(()),
            Err(error @ ServiceError::Ended { .. }) => {
                self.note(format!("{who}: {error}"));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts it again if it has ended although nobody told it to, which is noted; nothing can be done to a process
    /// that is not there.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn stand_up(&self, who: Who, service: &mut Service) -> Result<(), RoundError> {
        if is_running(service) {
            return Ok(());
        }
        self.check(who, service);
        self.revive(who, service).await
    }

    /// What it tells of itself right before it is ended: the watch last looked a while ago.
    async fn hear(&self, who: Who, service: &Service) {
        let look = watch::look(&self.client, &service.admin(), self.began).await;
        if !look.metrics.is_empty() {
            self.noted().last.push((who, look));
        }
    }

    /// A clock that is to be wrong is wrong only if the library is in the process.
    fn check_clock(&self, who: Who, service: &Service) {
        let Some((library, whose)) = &self.shifted else {
            return;
        };
        let (true, Some(child)) = (whose.contains(&who), service.child()) else {
            return;
        };
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.pid())).unwrap_or_default();
        // Of a process that has ended there are none.
        if child.is_running() && !maps.contains(&*library.to_string_lossy()) {
            self.is_without_effect(format!("the clock of {who} is right: {}", library.display()));
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

    /// Stops all of them in good order; returns what was noted of them.
    ///
    /// # Errors
    /// When one can't be waited for.
    pub async fn end(self) -> Result<Noted, RoundError> {
        for (who, service) in &self.members {
            self.terminate(*who, &mut *service.lock().await).await?;
        }
        Ok(self.noted.into_inner().unwrap_or_else(PoisonError::into_inner))
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
            let remotes = remote_addresses(child.pid()).unwrap_or_default();
            let past = remotes.iter().filter(|remote| venue.behind().contains(remote));
            found.extend(past.map(|remote| format!("{who} is connected to {remote}")));
            through += remotes.iter().filter(|remote| proxies.contains(remote)).count();
        }
        (found, through)
    }

    /// Of an end that should not have been, or not so.
    pub(super) fn note(&self, what: String) {
        self.noted().odd.push(what);
    }

    /// Of a fault that was to be done and did nothing.
    pub(super) fn is_without_effect(&self, what: String) {
        self.noted().without_effect.push(what);
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it was started and has not ended.
pub(super) fn is_running(service: &Service) -> bool {
    service.child().is_some_and(Child::is_running)
}
