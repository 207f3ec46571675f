//! The surroundings of a process: logs that can't be written, output without a reader, a full disk, a terminal that ends,
//! an environment that is not UTF-8. None of them ends a service or makes a command panic.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::people::Person;
use testkit::servers::pool::Access;
use testkit::servers::ports::PortLease;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::workspace;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a request that was in flight at the signal got a definite response: it was written, or the publisher
/// reported that it was not.
fn is_definite(response: &str) -> bool {
    response.starts_with("HTTP/1.1 200")
        || (response.starts_with("HTTP/1.1 503") && response.contains("nothing was written"))
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(workspace::binary(name).unwrap());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command with standard output on a full disk, and with standard output whose reader has gone.
fn without_output(name: &str, arguments: &[&str]) -> [Output; 2] {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let full: Stdio = File::options().write(true).open("/dev/full").unwrap().into();
    [full, writer.into()].map(|output: Stdio| {
        command(name, arguments)
            .stdout(output)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    })
}

#[test]
fn command_reports_full_disk_and_ends_quietly_without_reader() {
    let backfill = ["backfill", "--users", "20", "--seed", "a", "--dry-run"];
    for (name, arguments) in [
        ("ingester", &backfill[..]),
        ("ingester", &["--check-config"]),
        ("publisher", &["--check-config"]),
        ("streamer", &["--check-config"]),
        ("ingester", &["config", "print"]),
        ("publisher", &["config", "print"]),
        ("streamer", &["config", "print"]),
    ] {
        let [full, closed] = without_output(name, arguments);
        let errors = String::from_utf8(full.stderr).unwrap();
        let expected = format!("{name}: failed to write to standard output: No space left on device");
        assert!(
            errors.starts_with(&expected) && errors.lines().count() == 1,
            "{name} {arguments:?}: {errors}"
        );
        assert_eq!(full.status.code(), Some(1), "{name} {arguments:?}");
        assert_eq!(
            (closed.stderr, closed.status.code()),
            (vec![], Some(1)),
            "{name} {arguments:?}"
        );
    }
}

#[test]
fn variable_that_is_not_utf8_is_ignored_unless_it_is_a_setting() {
    for name in ["ingester", "publisher", "streamer"] {
        let broken = OsStr::from_bytes(b"\xff");
        let check = |variable: &OsStr| {
            command(name, &["--check-config"])
                .env(variable, broken)
                .output()
                .unwrap()
        };
        for foreign in [OsStr::new("SOMETHING"), broken] {
            assert!(check(foreign).status.success(), "{name} {foreign:?}");
        }
        let setting = format!("{}__PROCESS__LOG_FILTER", name.to_uppercase());
        let output = check(OsStr::new(&setting));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{name}: {errors}");
        assert!(
            errors.contains(&setting) && errors.contains("not valid UTF-8"),
            "{name}: {errors}"
        );
    }
}

/// A publisher with its own ports, which is killed when this is dropped.
struct Publisher {
    child: Child,
    port: PortLease,
    admin: PortLease,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Publisher {
    fn start(brokers: &str, topic: &str, logs: Stdio, ignored: Option<&str>) -> Self {
        let free = || PortLease::free(&[Ipv4Addr::LOCALHOST]).unwrap();
        let (port, admin) = (free(), free());
        let publisher = workspace::binary("publisher").unwrap();
        let mut command = match ignored {
            Some(signal) => {
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("trap '' {signal}; exec \"$0\""))
                    .arg(publisher);
                shell
            }
            None => Command::new(publisher),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(logs)
            .env("PUBLISHER__KAFKA__BROKERS", brokers)
            .env("PUBLISHER__KAFKA__TOPIC", topic)
            .env("PUBLISHER__HTTP__LISTEN", format!("127.0.0.1:{}", port.port()))
            .env(
                "PUBLISHER__PROCESS__ADMIN_LISTEN",
                format!("127.0.0.1:{}", admin.port()),
            )
            // Each request logs lines at this level.
            .env("PUBLISHER__PROCESS__LOG_FILTER", "trace")
            .spawn()
            .unwrap();
        Self { child, port, admin }
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        let url = format!("http://127.0.0.1:{}/readyz", self.admin.port());
        while !reqwest::get(&url)
            .await
            .is_ok_and(|response| response.status().is_success())
        {
            assert_eq!(self.child.try_wait().unwrap(), None, "it has ended");
            assert!(Instant::now() < deadline, "it is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends all but the last byte of a request and waits until the publisher has read the head.
    async fn begin_request(&self, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.port())).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let head = format!(
            "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body.as_bytes()[..body.len() - 1]).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let url = format!("http://127.0.0.1:{}/metrics", self.admin.port());
        while !reqwest::get(&url)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("publisher_requests_in_flight 1")
        {
            assert!(Instant::now() < deadline, "the request does not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stream
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Signals, completes the request, and returns the response and the exit code.
    fn stop_during_request(
        &mut self,
        mut stream: TcpStream,
        body: &str,
        signal: Signal,
    ) -> (String, Option<i32>) {
        self.signal(signal);
        stream.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        (response, self.child.wait().unwrap().code())
    }
}

async fn topic() -> (KafkaCluster, String) {
    let kafka = KafkaCluster::lease(&KafkaOptions::default(), Access::Shared)
        .await
        .unwrap();
    let topic = format!("surroundings-{}", uuid::Uuid::new_v4());
    kafka.create_topic(&topic, 1).await.unwrap();
    (kafka, topic)
}

fn record(number: u64) -> String {
    String::from_utf8(Person::new(7, number).json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_cannot_be_written_end_nothing() {
    let (kafka, topic) = topic().await;
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let body = record(1);
    for logs in [full.into(), writer.into()] {
        let mut publisher = Publisher::start(&kafka.bootstrap(), &topic, logs, None);
        publisher.wait_until_ready().await;
        let url = format!("http://127.0.0.1:{}/v1/users", publisher.port.port());
        let request = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json");
        assert_eq!(request.body(body.clone()).send().await.unwrap().status(), 200);
        let stream = publisher.begin_request(&body).await;
        let (response, code) = publisher.stop_during_request(stream, &body, Signal::SIGTERM);
        assert!(is_definite(&response), "{response}");
        assert_eq!(code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_is_a_shutdown_unless_it_is_ignored() {
    let (kafka, topic) = topic().await;
    let body = record(2);
    let mut publisher = Publisher::start(&kafka.bootstrap(), &topic, Stdio::null(), None);
    publisher.wait_until_ready().await;
    let stream = publisher.begin_request(&body).await;
    let (response, code) = publisher.stop_during_request(stream, &body, Signal::SIGHUP);
    assert!(is_definite(&response), "{response}");
    assert_eq!(code, Some(0));

    let mut publisher = Publisher::start(&kafka.bootstrap(), &topic, Stdio::null(), Some("HUP"));
    publisher.wait_until_ready().await;
    publisher.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stream = publisher.begin_request(&body).await;
    let (response, code) = publisher.stop_during_request(stream, &body, Signal::SIGTERM);
    assert!(is_definite(&response), "{response}");
    assert_eq!(code, Some(0));
}
