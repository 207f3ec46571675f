//! What the publisher's bench runs on: Kafka, the publisher, and the peers if wanted; and each measurement on them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::benthos::Benthos;
use super::contest::{Contest, Costs};
use super::load::{Load, Requests};
use super::loops::Loops;
use super::{PublisherBench, PublisherBenchError, Round};
use crate::bare;
use crate::figures::spread;
use crate::histogram::millis;
use crate::report::reason;
use crate::spread::order;
use crate::streamer::sweep::{best, there_and_back};
use crate::usage::{Cost, cpu_seconds, own_cpu_seconds, peak_mib};
use crate::warmup::Warmup;
use testkit::process::{Child, Program};
use testkit::servers::ports::PortLease;
use testkit::servers::{KafkaCluster, KafkaOptions, Node};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

const OURS: &str = "bench_publisher";
const BARE: &str = "bench_bare";
const PEER: &str = "bench_benthos";
const PYTHON: &str = "bench_python";

/// Who comes in each round: the bare loop, the publisher, Benthos, and Python's loops, which are not waited for to be warm.
const TO_WARM: usize = 3;
const ALL: usize = 4;

/// As they are told.
const BENTHOS: &str = "Benthos";
const LOOPS: &str = "the original's loop in Python";

/// The steady rate at which latency is measured.
const STEADY_RATE: u32 = 1_000;
const STEADY_CALLERS: usize = 64;
const STEADY: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(60);

/// The servers.
pub(super) struct Rig {
    kafka: KafkaCluster,
    publisher: Service,
    ours: Contest,
    peer: Option<(Benthos, Contest)>,
    loops: Option<Loops>,
    absent: BTreeMap<String, String>,
    folder: PathBuf,
    length: Duration,
    /// The bare loop's best.
    linger_ms: u64,
}

/// What its linger is tried with, in milliseconds.
const LINGERS: [u64; 2] = [1, 5];

impl Rig {
    pub(super) async fn start(options: &PublisherBench) -> Result<Self, PublisherBenchError> {
        println!("starting Kafka and the publisher");
        let folder = workspace::target_dir()?.join("bench");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        for topic in [BARE, PEER, PYTHON] {
            kafka.create_topic(topic, 6).await?;
        }
        let publisher = ServiceOptions::new("publisher", &folder)
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.topic", OURS);
        let publisher = Service::start(&publisher)?;
        publisher.wait_until_ready(READY).await?;
        let ours = Contest::new(
            "the publisher",
            address_of(&publisher)?,
            publisher.child().map_or(0, Child::pid),
            ["/v1/users"; 2],
        );
        let mut rig = Self {
            kafka,
            publisher,
            ours,
            peer: None,
            loops: None,
            absent: BTreeMap::new(),
            folder,
            length: options.length,
            linger_ms: LINGERS[0],
        };
        if options.peers {
            rig.invite().await;
        } else {
            println!("without peers: --peers measures Benthos and Python's loops, too");
        }
        Ok(rig)
    }

    /// Starts the peers that can be had.
    async fn invite(&mut self) {
        println!("building and starting Benthos, installing Python's libraries");
        match Benthos::start(&self.kafka.bootstrap(), PEER, &self.folder).await {
            Ok(benthos) => {
                let paths = ["/one", "/many"];
                let contest = Contest::new(BENTHOS, benthos.address, benthos.pid(), paths);
                self.peer = Some((benthos, contest));
            }
            Err(error) => self.miss(BENTHOS, &error),
        }
        match Loops::install(&self.folder).await {
            Ok(loops) => self.loops = Some(loops),
            Err(error) => self.miss(LOOPS, &error),
        }
    }

    /// It takes part no more.
    fn miss(&mut self, name: &str, error: &dyn std::error::Error) {
        let reason = reason(error);
        println!("{name}: not measured: {reason}");
        self.absent.insert(name.to_owned(), reason);
    }
    /// Rounds that do not count, until Kafka takes single records no faster than before: its compiler is at work on those for
    /// longest.
    pub(super) async fn warm_up(&mut self) -> Result<usize, PublisherBenchError> {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let round = self.all(warmup.rounds(), TO_WARM).await?;
            println!("warming up: {round}");
            warmup.note(round.ours.one.rows_per_second());
        }
        Ok(warmup.rounds())
    }

    /// Finds the bare loop's best linger, each tried twice in opposite orders.
    pub(super) async fn sweep(&mut self) -> Result<(), PublisherBenchError> {
        let mut speeds = vec![Vec::new(); LINGERS.len()];
        for place in there_and_back(LINGERS.len()) {
            let speed = self.bare_loop(LINGERS[place]).await?.rows_per_second();
            println!("bare loop, linger {} ms: {speed:.0} records/s", LINGERS[place]);
            speeds[place].push(speed);
        }
        self.linger_ms = best(&speeds).map_or(LINGERS[0], |place| LINGERS[place]);
        Ok(())
    }

    /// How the bare loop is set, for the report.
    pub(super) fn linger_ms(&self) -> u64 {
        self.linger_ms
    }

    /// Who takes part no more, and why.
    pub(super) fn absent(&self) -> &BTreeMap<String, String> {
        &self.absent
    }

    /// What the load generator does where nothing is to be done: far more than what is measured, or it is in the way.
    pub(super) async fn check_the_load_generator(&self) -> Result<(), PublisherBenchError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let noop = Program::new(workspace::binary("bench")?)
            .args(["noop", "--listen", &address.to_string()])
            .log_to(self.folder.join("noop.log"))
            .spawn()?;
        let until = Instant::now() + READY;
        while tokio::net::TcpStream::connect(address).await.is_err() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let speed = self
            .ours
            .elsewhere("the no-op route", address, noop.pid())
            .measure(self.length)
            .await?;
        println!("the load generator {speed} on a route that does nothing");
        noop.kill().await?;
        Ok(())
    }

    /// A round that counts.
    pub(super) async fn round(&mut self, number: usize) -> Result<Round, PublisherBenchError> {
        let round = self.all(number, ALL).await?;
        println!("round {}: {round}", number + 1);
        Ok(round)
    }

    /// The first so many of the contestants once, in an order that turns with the rounds.
    async fn all(&mut self, number: usize, contestants: usize) -> Result<Round, PublisherBenchError> {
        let (mut bare, mut ours, mut peer, mut loops) = (None, None, None, None);
        for place in order(number, contestants) {
            match place {
                0 => bare = Some(self.bare_loop(self.linger_ms).await?),
                1 => ours = Some(self.ours().await?),
                2 => peer = self.peer_contest().await,
                _ => loops = self.python_loops().await,
            }
        }
        let (Some(bare), Some(ours)) = (bare, ours) else {
            unreachable!("every order has all places");
        };
        Ok(Round {
            bare,
            ours,
            peer,
            loops,
        })
    }

    /// Besides, who has used the processors: they are shared, and what one takes another lacks.
    async fn ours(&self) -> Result<Costs, PublisherBenchError> {
        let (started, before) = (Instant::now(), self.used());
        let costs = self.ours.measure(self.length).await?;
        let seconds = started.elapsed().as_secs_f64();
        let shares = self.used().into_iter().zip(before);
        let shares: Vec<_> = shares.map(|(after, before)| (after - before) / seconds).collect();
        println!(
            "processors busy: publisher {:.2}, Kafka {:.2}, load generator {:.2} of {}",
            shares[0],
            shares[1],
            shares[2],
            std::thread::available_parallelism().map_or(0, usize::from)
        );
        Ok(costs)
    }

    /// Processor seconds so far: of the publisher, of Kafka, of this process.
    fn used(&self) -> [f64; 3] {
        let of = |pid: Option<u32>| pid.and_then(cpu_seconds).unwrap_or(f64::NAN);
        let kafka = self.kafka.node(0).ok().and_then(Node::pid);
        let publisher = self.publisher.child().map(Child::pid);
        [of(publisher), of(kafka), own_cpu_seconds()]
    }

    async fn peer_contest(&mut self) -> Option<Costs> {
        let (_, contest) = self.peer.as_ref()?;
        match contest.measure(self.length).await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.peer = None;
                self.miss(BENTHOS, &error);
                None
            }
        }
    }

    async fn python_loops(&mut self) -> Option<Vec<Cost>> {
        let brokers = self.kafka.bootstrap();
        let run = self.loops.as_ref()?.run(&brokers, PYTHON, self.length);
        match run.await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.loops = None;
                self.miss(LOOPS, &error);
                None
            }
        }
    }

    async fn bare_loop(&self, linger_ms: u64) -> Result<Cost, PublisherBenchError> {
        let program = Program::new(workspace::binary("bench")?)
            .args(["produce", "--brokers", &self.kafka.bootstrap(), "--topic", BARE])
            .args(["--seconds", &self.length.as_secs().max(1).to_string()])
            .args(["--linger-ms", &linger_ms.to_string()]);
        let log = self.folder.join("bare.log");
        Ok(bare::cost(program, &log, READY + self.length).await?)
    }

    /// The 99th percentile, in milliseconds.
    pub(super) async fn latency(&self) -> Result<f64, PublisherBenchError> {
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
        let quantile = |part| millis(&latencies, part);
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

    /// The most memory the publisher ever held, after more than its admission bound takes at once; in the first round
    /// after all that was before, in the others as a new process.
    pub(super) async fn full_load(&mut self, round: usize) -> Result<f64, PublisherBenchError> {
        if round > 0 {
            self.publisher.terminate(READY).await?;
            self.publisher.spawn()?;
            self.publisher.wait_until_ready(READY).await?;
        }
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

    /// Milliseconds from the process's start until `/readyz` says yes, the topic being there, again and again.
    pub(super) async fn start_to_ready(&mut self) -> Result<Vec<f64>, PublisherBenchError> {
        let mut times = Vec::new();
        for _ in 0..5 {
            self.publisher.terminate(READY).await?;
            let started = Instant::now();
            self.publisher.spawn()?;
            self.publisher.wait_until_ready(READY).await?;
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
        println!("start to ready: {} ms", spread(&times));
        Ok(times)
    }
}

fn address_of(publisher: &Service) -> Result<SocketAddr, PublisherBenchError> {
    let url = publisher.api();
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| PublisherBenchError::Address(url))
}
