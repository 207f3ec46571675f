//! What the publisher's bench runs on: Kafka, the publisher, and Benthos if wanted; and each measurement on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::benthos::Benthos;
use super::contest::{Carriers, Contest, Speed};
use super::load::{Load, Requests};
use super::{PublisherBench, PublisherBenchError, Rounds};
use crate::bench::bare;
use crate::bench::figures::spread;
use crate::bench::histogram::millis;
use crate::bench::report::reason;
use crate::bench::spread::order;
use crate::bench::streamer::sweep::{best, there_and_back};
use crate::bench::usage::{Cost, cpu_seconds, own_cpu_seconds, peak_mib};
use crate::bench::warmup::Warmup;
use crate::process::{Child, Program};
use crate::servers::ports::PortLease;
use crate::servers::{KafkaCluster, KafkaOptions, Node};
use crate::service::{Service, ServiceOptions};
use crate::workspace;

const OURS: &str = "bench_publisher";
const BARE: &str = "bench_bare";
const PEER: &str = "bench_benthos";

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
    without_peer: Option<String>,
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
        for topic in [BARE, PEER] {
            kafka.create_topic(topic, 6).await?;
        }
        let publisher = ServiceOptions::new("publisher", &folder)
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.topic", OURS);
        let publisher = Service::start(&publisher)?;
        publisher.ready(READY).await?;
        let ours = Contest::new("the publisher", address_of(&publisher)?, ["/v1/users"; 2]);
        let (mut peer, mut without_peer) = (None, None);
        if options.peers {
            println!("building and starting Benthos");
            match Benthos::start(&kafka.bootstrap(), PEER, &folder).await {
                Ok(benthos) => {
                    let contest = Contest::new("Benthos", benthos.address, ["/one", "/many"]);
                    peer = Some((benthos, contest));
                }
                Err(error) => {
                    println!("Benthos is not measured: {error}");
                    without_peer = Some(reason(&error));
                }
            }
        } else {
            println!("without peers: --peers measures Benthos, too");
        }
        Ok(Self {
            kafka,
            publisher,
            ours,
            peer,
            without_peer,
            folder,
            length: options.length,
            linger_ms: LINGERS[0],
        })
    }

    /// Rounds that do not count, until Kafka takes single records no faster than before: its compiler is at work on those for
    /// longest.
    pub(super) async fn warm_up(&mut self) -> Result<usize, PublisherBenchError> {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let carried = self.carried(warmup.rounds()).await?;
            println!("warming up: {carried}");
            warmup.note(carried.ours.singles);
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

    /// Why Benthos takes part no more, where it was to.
    pub(super) fn without_peer(&self) -> Option<&str> {
        self.without_peer.as_deref()
    }

    /// What the load generator does where nothing is to be done: far more than what is measured, or it is in the way.
    pub(super) async fn check_the_load_generator(&self) -> Result<(), PublisherBenchError> {
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
        let speed = self
            .ours
            .elsewhere("the no-op route", address)
            .measure(self.length)
            .await?;
        println!("the load generator {speed} on a route that does nothing");
        noop.kill().await?;
        Ok(())
    }

    /// A round that counts.
    pub(super) async fn round(
        &mut self,
        round: usize,
        rounds: &mut Rounds,
    ) -> Result<(), PublisherBenchError> {
        let carried = self.carried(round).await?;
        println!("round {}: {carried}", round + 1);
        rounds.note(&carried);
        Ok(())
    }

    /// All contestants once, in an order that turns with the rounds.
    async fn carried(&mut self, round: usize) -> Result<Carriers, PublisherBenchError> {
        let mut carried = Carriers::default();
        for place in order(round, 3) {
            match place {
                0 => carried.bare = self.bare_loop(self.linger_ms).await?.rows_per_second(),
                1 => carried.ours = self.ours().await?,
                _ => carried.peer = self.peer_contest().await,
            }
        }
        Ok(carried)
    }

    /// Besides, who has used the processors: they are shared, and what one takes another lacks.
    async fn ours(&self) -> Result<Speed, PublisherBenchError> {
        let (started, before) = (Instant::now(), self.used());
        let speed = self.ours.measure(self.length).await?;
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
        Ok(speed)
    }

    /// Processor seconds so far: of the publisher, of Kafka, of this process.
    fn used(&self) -> [f64; 3] {
        let of = |pid: Option<u32>| pid.and_then(cpu_seconds).unwrap_or(f64::NAN);
        let kafka = self.kafka.node(0).ok().and_then(Node::pid);
        let publisher = self.publisher.child().map(Child::pid);
        [of(publisher), of(kafka), own_cpu_seconds()]
    }

    /// A peer that fails takes part no more.
    async fn peer_contest(&mut self) -> Option<Speed> {
        let (_, contest) = self.peer.as_ref()?;
        match contest.measure(self.length).await {
            Ok(speed) => Some(speed),
            Err(error) => {
                println!("Benthos is measured no more: {error}");
                self.without_peer = Some(reason(&error));
                self.peer = None;
                None
            }
        }
    }

    async fn bare_loop(&self, linger_ms: u64) -> Result<Cost, PublisherBenchError> {
        let program = Program::new(workspace::binary("testbed")?)
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
            self.publisher.ready(READY).await?;
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
            self.publisher.ready(READY).await?;
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
