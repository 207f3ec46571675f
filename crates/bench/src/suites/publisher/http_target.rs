//! A server under HTTP load: back-to-back requests of a hundred records, and of one.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::process::usage::{cpu_seconds, peak_mib};
use testkit::service::Service;

use crate::load::callers::{LoadCallers, Requests};
use crate::load::connection::TargetServer;
use crate::measure::cost::Cost;

/// Callers of single-record requests, as the goal demands.
const CALLERS: usize = 256;
/// Callers of requests of a hundred records; the better figure counts. Few callers leave a server idle, many compete
/// with it.
const BATCH_CALLERS: [usize; 2] = [32, 128];
/// Distinct requests, which are sent repeatedly.
const DISTINCT_REQUESTS: u64 = 500;
/// Records in a batched request.
const BATCH_SIZE: u64 = 100;

/// A server and the requests for it.
#[derive(Clone)]
pub(super) struct HttpTarget {
    name: &'static str,
    pub(super) server: TargetServer,
    pub(super) single: Requests,
    batched: Requests,
    pid: u32,
}

/// The costs of one server in a round, in records: in requests of a hundred, and of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpCosts {
    pub(super) batched: Cost,
    pub(super) single: Cost,
}

impl HttpTarget {
    /// Prepares requests to the paths of single and of batched records, with a bearer token if there is one.
    pub(super) fn new(
        name: &'static str,
        server: TargetServer,
        pid: u32,
        [single, batched]: [&str; 2],
        token: Option<&str>,
    ) -> Self {
        Self {
            name,
            server,
            single: Requests::new(single, token, DISTINCT_REQUESTS * BATCH_SIZE, 1),
            batched: Requests::new(batched, token, DISTINCT_REQUESTS, BATCH_SIZE),
            pid,
        }
    }

    /// The same requests for another server.
    pub(super) fn with_server(&self, name: &'static str, server: TargetServer, pid: u32) -> Self {
        Self {
            name,
            server,
            pid,
            ..self.clone()
        }
    }

    /// Measures each kind of request for `length`.
    pub(super) async fn measure(&self, length: Duration) -> Result<HttpCosts> {
        let mut batched = self
            .load(&self.batched, BATCH_SIZE, BATCH_CALLERS[0], length)
            .await?;
        for callers in &BATCH_CALLERS[1..] {
            let cost = self.load(&self.batched, BATCH_SIZE, *callers, length).await?;
            if cost.rows_per_second() > batched.rows_per_second() {
                batched = cost;
            }
        }
        let single = self.load(&self.single, 1, CALLERS, length).await?;
        Ok(HttpCosts { batched, single })
    }

    async fn load(
        &self,
        requests: &Requests,
        records_per_request: u64,
        callers: usize,
        length: Duration,
    ) -> Result<Cost> {
        let callers = LoadCallers {
            server: self.server.clone(),
            count: callers,
        };
        let cpu = || cpu_seconds(self.pid).unwrap_or(f64::NAN);
        let before = cpu();
        let responses = callers
            .back_to_back(requests, length)
            .await
            .with_context(|| format!("failed to load {}", self.name))?;
        if responses.rejected > 0 {
            println!("{} rejected {} requests with 503", self.name, responses.rejected);
        }
        Ok(Cost {
            rows: responses.accepted * records_per_request,
            seconds: responses.seconds,
            cpu_seconds: cpu() - before,
            peak_mib: peak_mib(self.pid).unwrap_or(f64::NAN),
        })
    }
}

impl fmt::Display for HttpCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} records/s in requests of 100 and {:.0} one-record requests/s",
            self.batched.rows_per_second(),
            self.single.rows_per_second()
        )
    }
}

/// The address of the publisher's API.
pub(super) fn address(publisher: &Service) -> Result<SocketAddr> {
    let url = publisher.api();
    url.trim_start_matches("http://")
        .parse()
        .with_context(|| format!("failed to parse the publisher's address {url}"))
}
