//! The ingester as a child process: log, summary and admin port.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::process::Child;
use testkit::service::{Service, ServiceOptions};

/// Upper bound for a busy machine; no test waits for it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An ingester process between an API and a publisher. It uses free ports, which its log names.
pub(crate) struct Ingester {
    pub(crate) child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ingester {
    pub(crate) fn start(command: &[&str], api: &str, publisher: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with_variables(command, api, publisher, settings, &[])
    }

    /// Starts it with further variables, whose names have no prefix.
    pub(crate) fn start_with_variables(
        command: &[&str],
        api: &str,
        publisher: &str,
        settings: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ServiceOptions::new("ingester", folder.path())
            .binary(env!("CARGO_BIN_EXE_ingester"))
            .set("process.admin_listen", "127.0.0.1:0")
            .set("api.listen", "127.0.0.1:0")
            .set("source.url", format!("{api}/api/1.4/"))
            .set("publisher.url", publisher);
        for argument in command {
            options = options.arg(*argument);
        }
        for (name, value) in settings {
            options = options.set(&name.to_lowercase().replace("__", "."), *value);
        }
        for (name, value) in variables {
            options = options.env(name, *value);
        }
        Self {
            child: Service::start(&options).unwrap().take_child().unwrap(),
            log: folder.path().join("ingester.log"),
            _folder: folder,
        }
    }

    pub(crate) async fn exit_code(&self) -> Option<i32> {
        self.child.wait(TIMEOUT).await.unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the summary, the last JSON line. Standard output and standard error share one file.
    pub(crate) fn summary(&self) -> Value {
        let log = self.log();
        let line = log
            .lines()
            .rfind(|line| line.starts_with("{\"run\""))
            .unwrap_or_else(|| panic!("{log}"));
        serde_json::from_str(line).unwrap()
    }

    /// Returns the URL of the `admin` or `api` port, once the log names it.
    pub(crate) fn url(&self, role: &str) -> Option<String> {
        let log = self.log();
        let field = format!(" {role}=");
        let (_, address) = log.lines().find_map(|line| line.split_once(&field))?;
        Some(format!("http://{}", address.split_whitespace().next()?))
    }

    /// Returns status and body of an admin path; status 0 while the port is closed.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let Some(url) = self.url("admin") else {
            return (0, String::new());
        };
        match reqwest::get(format!("{url}{path}")).await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap()),
            Err(_) => (0, String::new()),
        }
    }

    pub(crate) async fn wait_for(&self, path: &str, accept: impl Fn(u16, &str) -> bool) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            let (status, body) = self.get(path).await;
            if accept(status, &body) {
                return body;
            }
            assert!(Instant::now() < until, "{path}: {status} {body}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until at least `least` users are accepted.
    pub(crate) async fn until_accepted(&self, least: u64) {
        let accepted = |body: &str| {
            let line = body
                .lines()
                .find_map(|line| line.strip_prefix("ingester_users_accepted_total "));
            line.and_then(|count| count.parse::<u64>().ok())
                .is_some_and(|count| count >= least)
        };
        self.wait_for("/metrics", |_, body| accepted(body)).await;
    }
}
