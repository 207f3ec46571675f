//! The command `testkit random-user`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::client::client;

const TESTKIT: &str = env!("CARGO_BIN_EXE_testkit");

/// The running command. Dropping it kills it when the test fails.
struct RunningCommand(Child);

impl Drop for RunningCommand {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl RunningCommand {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(TESTKIT);
        command.arg("random-user").args(arguments).stdout(Stdio::piped());
        Self(command.spawn().expect("the testkit's binary starts"))
    }

    fn first_line(&mut self) -> String {
        let output = self.0.stdout.take().expect("a piped output");
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || sender.send(BufReader::new(output).lines().next()));
        let line = receiver
            .recv_timeout(Duration::from_secs(10))
            .expect("a line in time");
        line.expect("a line before the end").expect("a line of text")
    }

    fn terminate(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
            .expect("a process that still runs");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "the command still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test]
async fn command_prints_its_address_serves_and_exits_on_sigterm() {
    let mut process = RunningCommand::start(&[
        "--rate-limit",
        "7",
        "--rate-limit-status",
        "503",
        "--fault",
        "no_results*2",
        "--fault",
        "error_body",
    ]);
    let url = serde_json::from_str::<Value>(&process.first_line()).unwrap()["url"]
        .as_str()
        .unwrap()
        .to_owned();

    let mut replies = Vec::new();
    for _ in 0..5 {
        let reply = client()
            .get(format!("{url}/api/?results=2&inc=nat&seed=x"))
            .send()
            .await
            .unwrap();
        replies.push((
            reply.status().as_u16(),
            reply.json::<Value>().await.unwrap()["results"]
                .as_array()
                .map(Vec::len),
        ));
    }
    // The two empty pages count too: 2 + 2 + 2 of 7, so the last 2 are above the limit.
    let expected = [
        (200, Some(0)),
        (200, Some(0)),
        (200, None),
        (200, Some(2)),
        (503, None),
    ];
    assert_eq!(replies, expected, "{}", json!(replies));

    let status = process.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn invalid_arguments_are_rejected_with_the_reason() {
    let wrong: [(&[&str], &str); 4] = [
        (&["--fault", "explode"], "unknown fault: explode"),
        (
            &["--fault", "hang:2s*many"],
            "invalid value of the fault hang:2s: many",
        ),
        (&["--rate-limit-window", "soon"], "--rate-limit-window"),
        (
            &["--samples", "/nowhere"],
            "failed to load the samples: failed to read /nowhere",
        ),
    ];
    for (arguments, reason) in wrong {
        let Output { status, stderr, .. } = Command::new(TESTKIT)
            .arg("random-user")
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(
            !status.success() && stderr.contains(reason),
            "{arguments:?}: {stderr}"
        );
    }
}
