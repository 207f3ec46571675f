//! The publisher benchmark's setup: Kafka, the publisher and the peers, and the measurements on them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::benthos::BenthosServer;
use super::load::{Load, Requests};
use super::python_loops::PythonLoops;
use super::rounds::Round;
use super::target::{Costs, LoadTarget};
use crate::baseline::run;
use crate::baseline::sweep::{best, forward_and_back};
use crate::error::BenchError;
use crate::report::figures::spread;
use crate::report::reason;
use crate::report::spread::order;
use crate::usage::histogram::millis;
use crate::usage::warmup::Warmup;
use crate::usage::{Cost, cpu_seconds, own_cpu_seconds, peak_mib};
use testkit::process::{Child, Program};
use testkit::servers::ports::PortLease;
use testkit::servers::{KafkaCluster, KafkaOptions, Node};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

const PUBLISHER: &str = "bench_publisher";
const BASELINE: &str = "bench_baseline";
const PEER: &str = "bench_benthos";
const PYTHON: &str = "bench_python";

/// Participants of a warm-up round: the baseline, the publisher and Benthos. Measured rounds add the Python loops.
const WARMUP_PARTICIPANTS: usize = 3;
const PARTICIPANTS: usize = 4;

/// Names in the report.
const BENTHOS: &str = "Benthos";
const LOOPS: &str = "the original's loop in Python";

/// The steady rate at which latency is measured.
const STEADY_RATE: u32 = 1_000;
const STEADY_CALLERS: usize = 64;
const STEADY: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(60);

/// The running servers.
pub(super) struct PublisherSetup {
    kafka: KafkaCluster,
    publisher: Service,
    target: LoadTarget,
    peer: Option<(BenthosServer, LoadTarget)>,
    python_loops: Option<PythonLoops>,
    absent: BTreeMap<String, String>,
    folder: PathBuf,
    length: Duration,
    /// The baseline's best linger.
    linger_ms: u64,
}

/// The lingers of the sweep, in milliseconds.
const LINGERS: [u64; 2] = [1, 5];

impl PublisherSetup {
    pub(super) async fn start(length: Duration, peers: bool) -> Result<Self, BenchError> {
        println!("starting Kafka and the publisher");
        let folder = workspace::target_dir()?.join("bench");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        for topic in [BASELINE, PEER, PYTHON] {
            kafka.create_topic(topic, 6).await?;
        }
        let publisher = ServiceOptions::new("publisher", &folder)
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.topic", PUBLISHER);
        let publisher = Service::start(&publisher)?;
        publisher.wait_until_ready(READY).await?;
        let target = LoadTarget::new(
            "the publisher",
            address_of(&publisher)?,
            publisher.child().map_or(0, Child::pid),
            ["/v1/users"; 2],
        );
        let mut setup = Self {
            kafka,
            publisher,
            target,
            peer: None,
            python_loops: None,
            absent: BTreeMap::new(),
            folder,
            length,
            linger_ms: LINGERS[0],
        };
        if peers {
            setup.start_peers().await;
        } else {
            println!("without peers: --peers also measures Benthos and the Python loops");
        }
        Ok(setup)
    }

    /// Starts the peers that can be installed.
    async fn start_peers(&mut self) {
        println!("building and starting Benthos, installing Python's libraries");
        match BenthosServer::start(&self.kafka.bootstrap(), PEER, &self.folder).await {
            Ok(benthos) => {
                let paths = ["/one", "/many"];
                let target = LoadTarget::new(BENTHOS, benthos.address, benthos.pid(), paths);
                self.peer = Some((benthos, target));
            }
            Err(error) => self.exclude(BENTHOS, &error),
        }
        match PythonLoops::install(&self.folder).await {
            Ok(python_loops) => self.python_loops = Some(python_loops),
            Err(error) => self.exclude(LOOPS, &error),
        }
    }

    /// Excludes a participant.
    fn exclude(&mut self, name: &str, error: &dyn std::error::Error) {
        let reason = reason(error);
        println!("{name}: not measured: {reason}");
        self.absent.insert(name.to_owned(), reason);
    }
    /// Runs warm-up rounds until the rate of single-record requests is steady, because Kafka compiles that path
    /// last.
    pub(super) async fn warm_up(&mut self) -> Result<usize, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            let round = self.all(warmup.rounds(), WARMUP_PARTICIPANTS).await?;
            println!("warming up: {round}");
            warmup.record(round.publisher.one.rows_per_second());
        }
        Ok(warmup.rounds())
    }

    /// Finds the baseline's best linger. Each is measured twice, in opposite orders.
    pub(super) async fn sweep(&mut self) -> Result<(), BenchError> {
        let mut speeds = vec![Vec::new(); LINGERS.len()];
        for place in forward_and_back(LINGERS.len()) {
            let speed = self.producer_baseline(LINGERS[place]).await?.rows_per_second();
            println!("baseline, linger {} ms: {speed:.0} records/s", LINGERS[place]);
            speeds[place].push(speed);
        }
        self.linger_ms = best(&speeds).map_or(LINGERS[0], |place| LINGERS[place]);
        Ok(())
    }

    /// The baseline's linger, for the report.
    pub(super) fn linger_ms(&self) -> u64 {
        self.linger_ms
    }

    /// Excluded participants with the reason.
    pub(super) fn absent(&self) -> &BTreeMap<String, String> {
        &self.absent
    }

    /// Measures the load generator against a no-op route. It must be far faster than the publisher.
    pub(super) async fn check_load_generator(&self) -> Result<(), BenchError> {
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
            .target
            .with_server("the no-op route", address, noop.pid())
            .measure(self.length)
            .await?;
        println!("the load generator {speed} on a no-op route");
        noop.kill().await?;
        Ok(())
    }

    /// Runs a measured round.
    pub(super) async fn round(&mut self, number: usize) -> Result<Round, BenchError> {
        let round = self.all(number, PARTICIPANTS).await?;
        println!("round {}: {round}", number + 1);
        Ok(round)
    }

    /// Measures the first participants once. The order rotates with the rounds.
    async fn all(&mut self, number: usize, participants: usize) -> Result<Round, BenchError> {
        let (mut baseline, mut publisher, mut benthos, mut python_loops) = (None, None, None, None);
        for place in order(number, participants) {
            match place {
                0 => baseline = Some(self.producer_baseline(self.linger_ms).await?),
                1 => publisher = Some(self.measure_publisher().await?),
                2 => benthos = self.measure_benthos().await,
                _ => python_loops = self.run_python_loops().await,
            }
        }
        let (Some(baseline), Some(publisher)) = (baseline, publisher) else {
            unreachable!("every order has all places");
        };
        Ok(Round {
            baseline,
            publisher,
            benthos,
            python_loops,
        })
    }

    /// Measures the publisher and prints the CPU usage of all processes, because they share the cores.
    async fn measure_publisher(&self) -> Result<Costs, BenchError> {
        let (started, before) = (Instant::now(), self.used());
        let costs = self.target.measure(self.length).await?;
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

    /// CPU seconds so far of the publisher, of Kafka and of this process.
    fn used(&self) -> [f64; 3] {
        let of = |pid: Option<u32>| pid.and_then(cpu_seconds).unwrap_or(f64::NAN);
        let kafka = self.kafka.node(0).ok().and_then(Node::pid);
        let publisher = self.publisher.child().map(Child::pid);
        [of(publisher), of(kafka), own_cpu_seconds()]
    }

    async fn measure_benthos(&mut self) -> Option<Costs> {
        let (_, target) = self.peer.as_ref()?;
        match target.measure(self.length).await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.peer = None;
                self.exclude(BENTHOS, &error);
                None
            }
        }
    }

    async fn run_python_loops(&mut self) -> Option<Vec<Cost>> {
        let brokers = self.kafka.bootstrap();
        let run = self.python_loops.as_ref()?.run(&brokers, PYTHON, self.length);
        match run.await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.python_loops = None;
                self.exclude(LOOPS, &error);
                None
            }
        }
    }

    async fn producer_baseline(&self, linger_ms: u64) -> Result<Cost, BenchError> {
        let program = Program::new(workspace::binary("bench")?)
            .args([
                "producer-baseline",
                "--brokers",
                &self.kafka.bootstrap(),
                "--topic",
                BASELINE,
            ])
            .args(["--seconds", &self.length.as_secs().max(1).to_string()])
            .args(["--linger-ms", &linger_ms.to_string()]);
        let log = self.folder.join("baseline.log");
        run::cost(program, &log, READY + self.length).await
    }

    /// The 99th percentile, in milliseconds.
    pub(super) async fn latency(&self) -> Result<f64, BenchError> {
        let target = &self.target;
        let load = Load {
            address: target.address,
            callers: STEADY_CALLERS,
        };
        let latencies = load.open(&target.one, STEADY_RATE, STEADY).await;
        let latencies = latencies.map_err(|source| BenchError::Load {
            on: target.name,
            source,
        })?;
        let quantile = |part| millis(&latencies, part);
        println!(
            "one-record latency at {STEADY_RATE} req/s, from its due time: p50 {:.1} ms, p99 {:.1} ms, \
             p99.9 {:.1} ms, worst {:.1} ms of {} requests",
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            latencies.len()
        );
        Ok(quantile(0.99))
    }

    /// The publisher's peak memory under more load than its admission limit allows. Rounds after the first use a
    /// new process.
    pub(super) async fn full_load(&mut self, round: usize) -> Result<f64, BenchError> {
        if round > 0 {
            self.publisher.terminate(READY).await?;
            self.publisher.spawn()?;
            self.publisher.wait_until_ready(READY).await?;
        }
        let target = &self.target;
        let load = Load {
            address: target.address,
            callers: 128,
        };
        let requests = Requests::new("/v1/users", 50, 1_000);
        let result = load.closed(&requests, self.length).await;
        let result = result.map_err(|source| BenchError::Load {
            on: target.name,
            source,
        })?;
        println!(
            "128 callers with 1,000 records a request, above the admission limit: {:.0} records/s, {} requests rejected with 503",
            result.per_second() * 1_000.0,
            result.rejected
        );
        let peak = self
            .publisher
            .child()
            .and_then(|child| peak_mib(child.pid()))
            .unwrap_or(f64::NAN);
        if let Some(peer) = self.peer.as_ref().and_then(|(peer, _)| peak_mib(peer.pid())) {
            println!("peak RSS: publisher {peak:.0} MiB; Benthos, without this load, {peer:.0} MiB");
        }
        Ok(peak)
    }

    /// Measures the time from process start to `/readyz` in milliseconds. The topic exists already.
    pub(super) async fn start_to_ready(&mut self) -> Result<Vec<f64>, BenchError> {
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

fn address_of(publisher: &Service) -> Result<SocketAddr, BenchError> {
    let url = publisher.api();
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| BenchError::Address(url))
}
