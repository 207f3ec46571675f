//! `scripts/bench publisher`: the door to Kafka against a bare producer loop and, with `--peers`, against Benthos, in
//! one run.

pub mod bare;
pub mod benthos;
pub mod connection;
pub mod load;
pub mod noop;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::figures::{Figure, Goal, median, spread};
use super::usage::{Cost, peak_mib};
use crate::process::{ProcessError, Program};
use crate::servers::ports::PortLease;
use crate::servers::{KafkaCluster, KafkaOptions, ServerError};
use crate::service::{Service, ServiceError, ServiceOptions};
use crate::workspace::{self, WorkspaceError};
use benthos::{Benthos, BenthosError};
use load::{Carried, Load, LoadError, Requests};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct PublisherBench {
    /// Rounds that count; one more comes before them, to warm up.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub length: Duration,
    /// Whether Benthos is built and measured, too.
    pub peers: bool,
}

/// The bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum PublisherBenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Benthos(#[from] BenthosError),
    #[error("load on {on}")]
    Load {
        on: &'static str,
        #[source]
        source: LoadError,
    },
    #[error("the publisher's address {0} can't be read")]
    Address(String),
    #[error("the bare loop failed: {0}")]
    Bare(String),
}

const OURS: &str = "bench_publisher";
const BARE: &str = "bench_bare";
const PEER: &str = "bench_benthos";

/// Callers of one record a request, as the goal says.
const CALLERS: usize = 256;
/// Callers of a hundred records a request.
const BATCH_CALLERS: usize = 32;
/// Requests that are different; they are sent again and again.
const DIFFERENT: u64 = 500;
/// The steady rate at which latency is measured.
const STEADY_RATE: u32 = 1_000;
const STEADY_CALLERS: usize = 64;
const STEADY: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(60);

struct Bench {
    kafka: KafkaCluster,
    publisher: Service,
    ours: Contest,
    peer: Option<(Benthos, Contest)>,
    folder: PathBuf,
    length: Duration,
}

/// Requests of one and of many records, for one server.
#[derive(Clone)]
struct Contest {
    name: &'static str,
    address: SocketAddr,
    one: Requests,
    many: Requests,
}

/// What one server carried in a round: records each second in requests of 100, requests each second of one record.
#[derive(Debug, Clone, Copy)]
struct Speed {
    records: f64,
    singles: f64,
}

/// The figures of all rounds.
#[derive(Default)]
struct Rounds {
    to_bare: Vec<f64>,
    to_peer: Vec<f64>,
    singles_to_peer: Vec<f64>,
}

impl PublisherBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`PublisherBenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Vec<Figure>, PublisherBenchError> {
        let mut bench = Bench::start(self).await?;
        bench.check_the_load_generator().await?;
        let mut rounds = Rounds::default();
        for round in 0..=self.rounds {
            bench.round(round, &mut rounds).await?;
        }
        rounds.tell();
        let latency = bench.latency().await?;
        let peak = bench.full_load().await?;
        let ready = bench.start_to_ready().await?;
        let of = |values: &[f64]| (!values.is_empty()).then(|| median(values));
        Ok(vec![
            Figure::new(
                "records/s in requests of 100, publisher / bare loop",
                of(&rounds.to_bare),
                "ratio",
                Goal::AtLeast(0.7),
            ),
            Figure::new(
                "records/s in requests of 100, publisher / Benthos",
                of(&rounds.to_peer),
                "ratio",
                Goal::AtLeast(6.0),
            ),
            Figure::new(
                "one-record requests/s, 256 callers, publisher / Benthos",
                of(&rounds.singles_to_peer),
                "ratio",
                Goal::AtLeast(2.0),
            ),
            Figure::new(
                "one-record latency at 1,000 req/s, p99",
                Some(latency),
                "ms",
                Goal::AtMost(10.0),
            ),
            Figure::new("peak RSS at full load", Some(peak), "MiB", Goal::AtMost(96.0)),
            Figure::new("start to ready", Some(ready), "ms", Goal::AtMost(200.0)),
        ])
    }
}

impl Rounds {
    fn tell(&self) {
        println!("records/s, publisher to bare loop: {}", spread(&self.to_bare));
        if !self.to_peer.is_empty() {
            println!("records/s, publisher to Benthos: {}", spread(&self.to_peer));
            println!(
                "one-record requests/s, publisher to Benthos: {}",
                spread(&self.singles_to_peer)
            );
        }
    }
}

impl Bench {
    async fn start(options: &PublisherBench) -> Result<Self, PublisherBenchError> {
        println!("starting Kafka and the publisher");
        let folder = workspace::target_dir()?.join("bench");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        for topic in [BARE, PEER] {
            kafka.create_topic(topic, 6).await?;
        }
        let publisher = ServiceOptions::new("publisher", &folder)
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.topic", OURS);
        let publisher = Service::start(&publisher)?;
        publisher.ready(READY).await?;
        let ours = Contest::new("the publisher", address_of(&publisher)?, ["/v1/users"; 2]);
        let peer = if options.peers {
            println!("building and starting Benthos");
            let benthos = Benthos::start(&kafka.bootstrap(), PEER, &folder).await?;
            let contest = Contest::new("Benthos", benthos.address, ["/one", "/many"]);
            Some((benthos, contest))
        } else {
            println!("without peers: --peers measures Benthos, too");
            None
        };
        Ok(Self {
            kafka,
            publisher,
            ours,
            peer,
            folder,
            length: options.length,
        })
    }

    /// What the load generator does where nothing is to be done: far more than what is measured, or it is in the way.
    async fn check_the_load_generator(&self) -> Result<(), PublisherBenchError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let noop = Program::new(workspace::binary("testbed")?)
            .args(["noop", "--listen", &address.to_string()])
            .log_to(self.folder.join("noop.log"))
            .spawn()?;
        let until = Instant::now() + READY;
        while tokio::net::TcpStream::connect(address).await.is_err() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let contest = Contest {
            name: "the no-op route",
            address,
            ..self.ours.clone()
        };
        let speed = self.contest(&contest).await?;
        println!("the load generator {speed} on a route that does nothing");
        noop.kill().await?;
        Ok(())
    }

    /// All contestants once, in an order that turns with the rounds.
    async fn round(&self, round: usize, rounds: &mut Rounds) -> Result<(), PublisherBenchError> {
        let (mut bare, mut speed, mut peer) = (None, None, None);
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => bare = Some(self.bare_loop().await?),
                1 => speed = Some(self.contest(&self.ours).await?),
                _ => peer = self.peer_contest().await?,
            }
        }
        let (Some(bare), Some(speed)) = (bare, speed) else {
            return Ok(());
        };
        let warming = if round == 0 {
            "  (warming up, not counted)"
        } else {
            ""
        };
        let told = peer.map_or_else(String::new, |peer| format!(", Benthos {peer}"));
        println!(
            "round {round}: bare loop {:.0} records/s, publisher {speed}{told}{warming}",
            bare.rows_per_second()
        );
        if round > 0 {
            rounds.to_bare.push(speed.records / bare.rows_per_second());
            if let Some(peer) = peer {
                rounds.to_peer.push(speed.records / peer.records);
                rounds.singles_to_peer.push(speed.singles / peer.singles);
            }
        }
        Ok(())
    }

    async fn contest(&self, contest: &Contest) -> Result<Speed, PublisherBenchError> {
        let many = self.load(contest, &contest.many, BATCH_CALLERS).await?;
        let one = self.load(contest, &contest.one, CALLERS).await?;
        Ok(Speed {
            records: many.per_second() * 100.0,
            singles: one.per_second(),
        })
    }

    async fn load(
        &self,
        contest: &Contest,
        requests: &Requests,
        callers: usize,
    ) -> Result<Carried, PublisherBenchError> {
        let load = Load {
            address: contest.address,
            callers,
        };
        let carried = load.closed(requests, self.length).await;
        let carried = carried.map_err(|source| PublisherBenchError::Load {
            on: contest.name,
            source,
        })?;
        if carried.refused > 0 {
            println!("{} refused {} requests with 503", contest.name, carried.refused);
        }
        Ok(carried)
    }

    async fn peer_contest(&self) -> Result<Option<Speed>, PublisherBenchError> {
        match &self.peer {
            Some((_, contest)) => Ok(Some(self.contest(contest).await?)),
            None => Ok(None),
        }
    }

    async fn bare_loop(&self) -> Result<Cost, PublisherBenchError> {
        let program = Program::new(workspace::binary("testbed")?)
            .args(["produce", "--brokers", &self.kafka.bootstrap(), "--topic", BARE])
            .args(["--seconds", &self.length.as_secs().max(1).to_string()])
            .log_to(self.folder.join("bare.log"));
        let child = program.spawn()?;
        child.wait(READY + self.length).await?;
        let last = child.last_lines(1);
        serde_json::from_str(&last).map_err(|_| PublisherBenchError::Bare(child.last_lines(5)))
    }

    /// The 99th percentile, in milliseconds.
    async fn latency(&self) -> Result<f64, PublisherBenchError> {
        let ours = &self.ours;
        let load = Load {
            address: ours.address,
            callers: STEADY_CALLERS,
        };
        let latencies = load.open(&ours.one, STEADY_RATE, STEADY).await;
        let latencies = latencies.map_err(|source| PublisherBenchError::Load {
            on: ours.name,
            source,
        })?;
        #[expect(clippy::cast_precision_loss, reason = "at most a minute in microseconds")]
        let quantile = |part| latencies.value_at_quantile(part) as f64 / 1_000.0;
        println!(
            "one-record latency at {STEADY_RATE} req/s, from the moment each was due: p50 {:.1} ms, p99 {:.1} ms, \
             p99.9 {:.1} ms, worst {:.1} ms of {} requests",
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            latencies.len()
        );
        Ok(quantile(0.99))
    }

    /// The most memory the publisher ever held, after all that was before and more than its admission bound takes at
    /// once.
    async fn full_load(&self) -> Result<f64, PublisherBenchError> {
        let ours = &self.ours;
        let crowd = Load {
            address: ours.address,
            callers: 128,
        };
        let requests = Requests::new("/v1/users", 50, 1_000);
        let carried = crowd.closed(&requests, self.length).await;
        let carried = carried.map_err(|source| PublisherBenchError::Load {
            on: ours.name,
            source,
        })?;
        println!(
            "128 callers with 1,000 records a request, more than fits: {:.0} records/s, {} requests refused with 503",
            carried.per_second() * 1_000.0,
            carried.refused
        );
        let peak = self
            .publisher
            .child()
            .and_then(|child| peak_mib(child.pid()))
            .unwrap_or(f64::NAN);
        if let Some(peer) = self.peer.as_ref().and_then(|(peer, _)| peak_mib(peer.pid())) {
            println!("peak RSS: publisher {peak:.0} MiB; Benthos, without the crowd, {peer:.0} MiB");
        }
        Ok(peak)
    }

    /// Milliseconds from the process's start until `/readyz` says yes, the topic being there; median of 5.
    async fn start_to_ready(&mut self) -> Result<f64, PublisherBenchError> {
        let mut times = Vec::new();
        for _ in 0..5 {
            self.publisher.terminate(READY).await?;
            let started = Instant::now();
            self.publisher.spawn()?;
            self.publisher.ready(READY).await?;
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
        println!("start to ready: {} ms", spread(&times));
        Ok(median(&times))
    }
}

impl Contest {
    /// The paths for requests of one and of many records.
    fn new(name: &'static str, address: SocketAddr, [one, many]: [&str; 2]) -> Self {
        Self {
            name,
            address,
            one: Requests::new(one, DIFFERENT * 100, 1),
            many: Requests::new(many, DIFFERENT, 100),
        }
    }
}

fn address_of(publisher: &Service) -> Result<SocketAddr, PublisherBenchError> {
    let url = publisher.api();
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| PublisherBenchError::Address(url))
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} records/s in requests of 100 and {:.0} one-record requests/s",
            self.records, self.singles
        )
    }
}
