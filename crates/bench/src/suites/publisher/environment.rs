//! Kafka, the publisher and its peers, and the measurements on them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::process::usage::{cpu_seconds, peak_mib};
use testkit::process::{Child, Program};
use testkit::servers::ports::PortLease;
use testkit::servers::{KafkaCluster, KafkaOptions, Node};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace;

use super::benthos::BenthosServer;
use super::http_target::{HttpCosts, HttpTarget, address};
use super::python_loops::PythonLoops;
use super::rounds::Round;
use super::secured::SecuredPublisher;
use crate::compare::baseline::{fastest, forth_and_back};
use crate::env::child;
use crate::env::startup::startup_times;
use crate::load::callers::{LoadCallers, Requests};
use crate::load::connection::TargetServer;
use crate::measure::cost::{Cost, own_cpu_seconds};
use crate::measure::histogram::quantile_ms;
use crate::measure::spread::{rotation, summary};
use crate::measure::warmup::Warmup;
use crate::report::reason;

const PUBLISHER_TOPIC: &str = "bench_publisher";
const BASELINE_TOPIC: &str = "bench_baseline";
const BENTHOS_TOPIC: &str = "bench_benthos";
const PYTHON_TOPIC: &str = "bench_python";
const BENTHOS: &str = "Benthos";
const PYTHON: &str = "the original's loop in Python";

/// Measured in a round: the baseline, the publisher, the publisher with TLS, Benthos, and Python's loops. The latter need no
/// warm-up.
const ALL: usize = 5;
const WARMED_UP: usize = 4;
/// Values of the baseline's `linger.ms`.
const LINGERS: [u64; 2] = [1, 5];
/// The rate at which latency is measured, in requests per second.
const STEADY_RATE: u32 = 1_000;
const STEADY_CALLERS: usize = 64;
const STEADY_LENGTH: Duration = Duration::from_secs(10);
/// Callers of 1,000 records per request exceed the publisher's admission limit.
const OVERLOAD_CALLERS: usize = 128;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The running servers.
pub(super) struct PublisherEnv {
    kafka: KafkaCluster,
    publisher: Service,
    publisher_target: HttpTarget,
    secured: SecuredPublisher,
    benthos: Option<(BenthosServer, HttpTarget)>,
    python: Option<PythonLoops>,
    folder: PathBuf,
    length: Duration,
    /// Peers that are not measured, and why.
    pub(super) skipped: BTreeMap<String, String>,
    /// The baseline's fastest `linger.ms`.
    pub(super) linger_ms: u64,
}

impl PublisherEnv {
    pub(super) async fn start(seconds: u64, peers: bool) -> Result<Self> {
        println!("starting Kafka and the publisher");
        let folder = workspace::target_dir()?.join("bench");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        for topic in [BASELINE_TOPIC, BENTHOS_TOPIC, PYTHON_TOPIC] {
            kafka.create_topic(topic, 6).await?;
        }
        let publisher = ServiceOptions::new("publisher", &folder)
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.topic", PUBLISHER_TOPIC);
        let publisher = Service::start(&publisher)?;
        publisher.wait_until_ready(TIMEOUT).await?;
        let pid = publisher.child().map_or(0, Child::pid);
        let server = TargetServer::plain(address(&publisher)?);
        let secured = SecuredPublisher::start(&kafka.bootstrap(), &folder).await?;
        let mut env = Self {
            kafka,
            publisher,
            publisher_target: HttpTarget::new("the publisher", server, pid, ["/v1/users"; 2], None),
            secured,
            benthos: None,
            python: None,
            folder,
            length: Duration::from_secs(seconds),
            skipped: BTreeMap::new(),
            linger_ms: LINGERS[0],
        };
        if peers {
            env.start_peers().await;
        } else {
            println!("without peers: --peers measures Benthos and Python's loops, too");
        }
        Ok(env)
    }

    async fn start_peers(&mut self) {
        println!("building and starting Benthos, installing Python's libraries");
        match BenthosServer::start(&self.kafka.bootstrap(), BENTHOS_TOPIC, &self.folder).await {
            Ok(server) => {
                let (address, paths) = (TargetServer::plain(server.address), ["/one", "/many"]);
                let target = HttpTarget::new(BENTHOS, address, server.pid(), paths, None);
                self.benthos = Some((server, target));
            }
            Err(error) => self.skip(BENTHOS, &error),
        }
        match PythonLoops::install(&self.folder).await {
            Ok(loops) => self.python = Some(loops),
            Err(error) => self.skip(PYTHON, &error),
        }
    }

    fn skip(&mut self, name: &str, error: &anyhow::Error) {
        let reason = reason(error);
        println!("{name}: not measured: {reason}");
        self.skipped.insert(name.to_owned(), reason);
    }

    /// Runs rounds that do not count, until single records are no faster: Kafka's compiler is busy longest with those.
    pub(super) async fn warm_up(&mut self) -> Result<usize> {
        let mut warmup = Warmup::default();
        while warmup.needs_another() {
            let round = self.measure(warmup.rounds(), WARMED_UP).await?;
            println!("warming up: {round}");
            warmup.record(round.publisher.single.rows_per_second());
        }
        Ok(warmup.rounds())
    }

    /// Finds the baseline's fastest linger.
    pub(super) async fn sweep_linger(&mut self) -> Result<()> {
        let mut speeds = vec![Vec::new(); LINGERS.len()];
        for place in forth_and_back(LINGERS.len()) {
            let speed = self.baseline(LINGERS[place]).await?.rows_per_second();
            println!("baseline, linger {} ms: {speed:.0} records/s", LINGERS[place]);
            speeds[place].push(speed);
        }
        self.linger_ms = fastest(&speeds).map_or(LINGERS[0], |place| LINGERS[place]);
        Ok(())
    }

    /// Measures the load generator on a route that does nothing. It must exceed the measured servers by far.
    pub(super) async fn measure_noop_route(&self) -> Result<()> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let noop = Program::new(workspace::binary("bench")?)
            .args(["noop-server", "--listen", &address.to_string()])
            .log_to(self.folder.join("noop.log"))
            .spawn()?;
        let until = Instant::now() + TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let target =
            self.publisher_target
                .with_server("the no-op route", TargetServer::plain(address), noop.pid());
        let costs = target.measure(self.length).await?;
        println!("the load generator on a route that does nothing: {costs}");
        noop.kill().await?;
        Ok(())
    }

    /// Runs a round that counts.
    pub(super) async fn round(&mut self, number: usize) -> Result<Round> {
        let round = self.measure(number, ALL).await?;
        println!("round {}: {round}", number + 1);
        Ok(round)
    }

    /// Measures the first `count` senders, in rotating order.
    async fn measure(&mut self, number: usize, count: usize) -> Result<Round> {
        let (mut baseline, mut publisher, mut secured) = (None, None, None);
        let (mut benthos, mut python) = (None, None);
        for place in rotation(number, count) {
            match place {
                0 => baseline = Some(self.baseline(self.linger_ms).await?),
                1 => publisher = Some(self.publisher().await?),
                2 => secured = Some(self.secured.target.measure(self.length).await?),
                3 => benthos = self.benthos().await,
                _ => python = self.python().await,
            }
        }
        Ok(Round {
            baseline: baseline.context("the baseline is in every round")?,
            publisher: publisher.context("the publisher is in every round")?,
            secured: secured.context("the publisher with TLS is in every round")?,
            benthos,
            python,
        })
    }

    /// Also prints who used the shared processors.
    async fn publisher(&self) -> Result<HttpCosts> {
        let (started, before) = (Instant::now(), self.cpu_seconds());
        let costs = self.publisher_target.measure(self.length).await?;
        let seconds = started.elapsed().as_secs_f64();
        let shares = self.cpu_seconds().into_iter().zip(before);
        let shares: Vec<_> = shares.map(|(after, before)| (after - before) / seconds).collect();
        println!(
            "processors in use: publisher {:.2}, Kafka {:.2}, load generator {:.2} of {}",
            shares[0],
            shares[1],
            shares[2],
            std::thread::available_parallelism().map_or(0, usize::from)
        );
        Ok(costs)
    }

    /// CPU seconds so far: of the publisher, of Kafka, of this process.
    fn cpu_seconds(&self) -> [f64; 3] {
        let of = |pid: Option<u32>| pid.and_then(cpu_seconds).unwrap_or(f64::NAN);
        let kafka = self.kafka.node(0).ok().and_then(Node::pid);
        let publisher = self.publisher.child().map(Child::pid);
        [of(publisher), of(kafka), own_cpu_seconds()]
    }

    async fn benthos(&mut self) -> Option<HttpCosts> {
        let (_, target) = self.benthos.as_ref()?;
        match target.measure(self.length).await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.benthos = None;
                self.skip(BENTHOS, &error);
                None
            }
        }
    }

    async fn python(&mut self) -> Option<Vec<Cost>> {
        let brokers = self.kafka.bootstrap();
        let run = self.python.as_ref()?.run(&brokers, PYTHON_TOPIC, self.length);
        match run.await {
            Ok(costs) => Some(costs),
            Err(error) => {
                self.python = None;
                self.skip(PYTHON, &error);
                None
            }
        }
    }

    async fn baseline(&self, linger_ms: u64) -> Result<Cost> {
        let program = Program::new(workspace::binary("bench")?)
            .args(["producer-baseline", "--brokers", &self.kafka.bootstrap()])
            .args(["--topic", BASELINE_TOPIC])
            .args(["--seconds", &self.length.as_secs().max(1).to_string()])
            .args(["--linger-ms", &linger_ms.to_string()]);
        let log = self.folder.join("producer-baseline.log");
        child::measure("run the producer baseline", program, &log, TIMEOUT + self.length).await
    }

    /// The 99th percentile at a steady rate, in milliseconds.
    pub(super) async fn latency(&self) -> Result<f64> {
        let callers = LoadCallers {
            server: self.publisher_target.server.clone(),
            count: STEADY_CALLERS,
        };
        let latencies = callers
            .at_rate(&self.publisher_target.single, STEADY_RATE, STEADY_LENGTH)
            .await
            .context("failed to load the publisher at a steady rate")?;
        let quantile = |part| quantile_ms(&latencies, part);
        println!(
            "one-record latency at {STEADY_RATE} req/s, from the due time: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, \
             max {:.1} ms of {} requests",
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            latencies.len()
        );
        Ok(quantile(0.99))
    }

    /// The publisher's peak memory after overload, in MiB: in the first round after all earlier measurements, in the
    /// others of a new process.
    pub(super) async fn peak_memory(&mut self, round: usize) -> Result<f64> {
        if round > 0 {
            self.publisher.terminate(TIMEOUT).await?;
            self.publisher.spawn()?;
            self.publisher.wait_until_ready(TIMEOUT).await?;
        }
        let callers = LoadCallers {
            server: self.publisher_target.server.clone(),
            count: OVERLOAD_CALLERS,
        };
        let responses = callers
            .back_to_back(&Requests::new("/v1/users", None, 50, 1_000), self.length)
            .await
            .context("failed to overload the publisher")?;
        println!(
            "{OVERLOAD_CALLERS} callers with 1,000 records a request: {:.0} records/s, {} requests rejected with 503",
            responses.per_second() * 1_000.0,
            responses.rejected
        );
        let peak = self
            .publisher
            .child()
            .and_then(|child| peak_mib(child.pid()))
            .unwrap_or(f64::NAN);
        if let Some(benthos) = self
            .benthos
            .as_ref()
            .and_then(|(server, _)| peak_mib(server.pid()))
        {
            println!("peak RSS: publisher {peak:.0} MiB; Benthos, without overload, {benthos:.0} MiB");
        }
        Ok(peak)
    }

    /// Milliseconds from the start of the publisher's process until it is ready; the topic exists.
    pub(super) async fn startup_times(&mut self) -> Result<Vec<f64>> {
        let times = startup_times(&mut self.publisher).await?;
        println!("start to ready: {} ms", summary(&times));
        Ok(times)
    }
}
