//! HTTP callers that send prepared requests: back to back, or at a steady rate regardless of responses. A missing
//! response ends the measurement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use testkit::people::people;
use tokio::time::{sleep_until, timeout};

use super::connection::{LoadConnection, TargetServer, post};
use crate::measure::cost::as_f64;
use crate::measure::histogram::{histogram, record};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The delay of a caller after a 503.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Prepared requests.
#[derive(Clone)]
pub struct Requests(Arc<[Vec<u8>]>);

/// Callers of one server, each with a connection of its own and one request in flight.
#[derive(Clone)]
pub struct LoadCallers {
    /// The server.
    pub server: TargetServer,
    /// Number of callers.
    pub count: usize,
}

/// Responses of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Responses {
    /// Number of 200 responses.
    pub accepted: u64,
    /// Number of 503 responses.
    pub rejected: u64,
    /// Length of the run in seconds.
    pub seconds: f64,
}

impl Responses {
    /// 200 responses per second.
    pub fn per_second(&self) -> f64 {
        as_f64(self.accepted) / self.seconds
    }
}

impl Requests {
    /// Prepares `count` requests of `records` users to `path`, with a bearer token if there is one: an array, or the object
    /// itself for a single one.
    pub fn new(path: &str, token: Option<&str>, count: u64, records: u64) -> Self {
        let request = |number: u64| {
            let first = number * records;
            let users = people(5, first..first + records);
            let users: Vec<_> = users.map(|user| user.json()).collect();
            match &users[..] {
                [one] => post(path, token, one),
                many => post(path, token, &[b"[", &many.join(&b',')[..], b"]"].concat()),
            }
        };
        Self((0..count).map(request).collect())
    }
}

impl LoadCallers {
    /// Sends each caller's next request after the last response.
    pub async fn back_to_back(&self, requests: &Requests, length: Duration) -> Result<Responses> {
        let connections = self.connect().await?;
        let (started, until) = (Instant::now(), Instant::now() + length);
        let callers = connections.into_iter().enumerate().map(|(caller, connection)| {
            let requests = requests.clone();
            tokio::spawn(call_back_to_back(connection, requests, caller, until))
        });
        let mut sum = Responses::default();
        for responses in try_join_all(callers).await? {
            let responses = responses?;
            sum.accepted += responses.accepted;
            sum.rejected += responses.rejected;
        }
        sum.seconds = started.elapsed().as_secs_f64();
        Ok(sum)
    }

    /// Sends `rate` requests per second. Latency in microseconds counts from the time a request is due, so that a delayed
    /// caller omits none.
    pub async fn at_rate(&self, requests: &Requests, rate: u32, length: Duration) -> Result<Histogram<u64>> {
        let connections = self.connect().await?;
        let started = tokio::time::Instant::now();
        let gap = Duration::from_secs(1) / rate;
        let callers = (0u32..).zip(connections).map(|(caller, connection)| {
            let schedule = CallSchedule {
                next: started + gap * caller,
                interval: gap * u32::try_from(self.count).unwrap_or(u32::MAX),
                until: started + length,
            };
            tokio::spawn(call_at_rate(connection, requests.clone(), schedule))
        });
        let mut all = histogram();
        for latencies in try_join_all(callers).await? {
            all += latencies?;
        }
        Ok(all)
    }

    async fn connect(&self) -> Result<Vec<LoadConnection>> {
        try_join_all((0..self.count).map(|_| LoadConnection::open(&self.server))).await
    }
}

/// When a caller sends.
struct CallSchedule {
    next: tokio::time::Instant,
    interval: Duration,
    until: tokio::time::Instant,
}

async fn call_back_to_back(
    mut connection: LoadConnection,
    requests: Requests,
    caller: usize,
    until: Instant,
) -> Result<Responses> {
    let mut responses = Responses::default();
    // Each caller starts with another request.
    for request in requests.0.iter().cycle().skip(caller * 7) {
        if Instant::now() >= until {
            break;
        }
        match call(&mut connection, request).await? {
            200 => responses.accepted += 1,
            503 => {
                responses.rejected += 1;
                tokio::time::sleep(RETRY_DELAY).await;
            }
            other => bail!("unexpected response {other}"),
        }
    }
    Ok(responses)
}

async fn call_at_rate(
    mut connection: LoadConnection,
    requests: Requests,
    mut schedule: CallSchedule,
) -> Result<Histogram<u64>> {
    let mut latencies = histogram();
    for request in requests.0.iter().cycle() {
        if schedule.next >= schedule.until {
            break;
        }
        sleep_until(schedule.next).await;
        match call(&mut connection, request).await? {
            200 => record(&mut latencies, schedule.next.elapsed()),
            other => bail!("unexpected response {other}"),
        }
        schedule.next += schedule.interval;
    }
    Ok(latencies)
}

async fn call(connection: &mut LoadConnection, request: &[u8]) -> Result<u16> {
    timeout(RESPONSE_TIMEOUT, connection.exchange(request))
        .await
        .with_context(|| format!("no response within {} s", RESPONSE_TIMEOUT.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::noop::NoopServer;

    #[tokio::test]
    async fn both_kinds_of_callers_get_responses() {
        let (server, address) = NoopServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(server.serve());
        let callers = LoadCallers {
            server: TargetServer::plain(address),
            count: 3,
        };
        let requests = Requests::new("/", None, 10, 4);
        let length = Duration::from_millis(200);
        let responses = callers.back_to_back(&requests, length).await.unwrap();
        assert!(
            responses.accepted > 10 && responses.rejected == 0,
            "{responses:?}"
        );
        let latencies = callers.at_rate(&requests, 200, length).await.unwrap();
        assert_eq!(latencies.len(), 40, "one each 5 ms");
    }
}
