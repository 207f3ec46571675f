//! Ingesters that fetch from the offline API.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::randomuser::RandomUserApi;
use testkit::servers::ports::PortLease;
use testkit::service::{Service, ServiceOptions};

/// The settings of an ingester: defaults, except addresses, the rate limit and the state file.
pub fn options(folder: &Path, api: &RandomUserApi, publisher_url: &str, state: &Path) -> ServiceOptions {
    ServiceOptions::new("ingester", folder)
        .set("source.url", format!("{}/api/1.4/", api.url()))
        .set("source.rate_limit.users", "1000000000")
        .set("publisher.url", publisher_url)
        .set("state.path", state.display().to_string())
}

/// A run of this many users, as the process's only work.
pub fn once(options: ServiceOptions, users: u64, seed: &str) -> ServiceOptions {
    let users = users.to_string();
    ["once", "--users", &users, "--seed", seed]
        .into_iter()
        .fold(options, |options, argument| options.arg(argument))
}

/// An ingester that runs only on request: its API's URL of runs, and the lease of its port.
pub fn on_request(options: ServiceOptions) -> Result<(ServiceOptions, String, PortLease)> {
    let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
    let listen = format!("127.0.0.1:{}", port.port());
    let options = options
        .set("api.listen", &listen)
        .set("schedule.enabled", "false");
    Ok((options, format!("http://{listen}/v1/runs"), port))
}

/// The summary of a complete run: the last line of JSON in the log.
pub fn summary(ingester: &Service) -> Result<Value> {
    let log = ingester.last_lines(20);
    let mut lines = log.lines().rev();
    lines
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|summary| summary["outcome"] == "complete")
        .with_context(|| format!("the run is not complete:\n{log}"))
}
