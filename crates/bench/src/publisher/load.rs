//! Load generator: callers in a closed loop or at a steady rate.
//!
//! It counts responses and measures latencies. A failed request ends the measurement.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::time::{sleep_until, timeout};

use super::connection::{Connection, ConnectionError, post};
use crate::usage::histogram::{histogram, record};
use testkit::people::people;

/// Timeout for a response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a 503.
const REJECTED_PAUSE: Duration = Duration::from_millis(20);

/// The load failed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A request failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A response timed out.
    #[error("no response within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The status is neither 200 nor 503.
    #[error("unexpected status {0}")]
    Status(u16),
    /// A caller's task panicked.
    #[error("caller task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Prepared requests.
#[derive(Clone)]
pub struct Requests {
    ready: Arc<[Vec<u8>]>,
}

/// The target of the load.
#[derive(Clone, Copy)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Callers, each with its own connection and one request at a time.
    pub callers: usize,
}

/// The completed requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadResult {
    /// Requests exchanged with 200.
    pub accepted: u64,
    /// Requests exchanged with 503.
    pub rejected: u64,
    /// Seconds.
    pub seconds: f64,
}

impl LoadResult {
    /// Requests exchanged with 200 each second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
    pub fn per_second(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

impl Requests {
    /// Prepares `count` requests of `records` records to `path`. A single record is not wrapped in an array.
    pub fn new(path: &str, count: u64, records: u64) -> Self {
        let request = |number: u64| {
            let first = number * records;
            let people = people(5, first..first + records);
            let people: Vec<_> = people.map(|person| person.json()).collect();
            match &people[..] {
                [one] => post(path, one),
                many => post(path, &[b"[", &many.join(&b',')[..], b"]"].concat()),
            }
        };
        Self {
            ready: (0..count).map(request).collect(),
        }
    }
}

impl Load {
    /// Closed loop: each caller sends its next request after the last response.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn closed(&self, requests: &Requests, length: Duration) -> Result<LoadResult, LoadError> {
        let connections = self.connect().await?;
        let (started, until) = (Instant::now(), Instant::now() + length);
        let callers = connections.into_iter().enumerate().map(|(caller, connection)| {
            let requests = requests.clone();
            tokio::spawn(closed_loop(connection, requests, caller, until))
        });
        let counts = try_join_all(callers).await?;
        let mut sum = LoadResult::default();
        for result in counts {
            let result = result?;
            sum.accepted += result.accepted;
            sum.rejected += result.rejected;
        }
        sum.seconds = started.elapsed().as_secs_f64();
        Ok(sum)
    }

    /// Open loop: sends `rate` requests a second. A latency counts from the request's due time, so that stalls are
    /// included. Returns microseconds.
    ///
    /// # Errors
    /// [`LoadError`]; a 503 is an error.
    pub async fn open(
        &self,
        requests: &Requests,
        rate: u32,
        length: Duration,
    ) -> Result<Histogram<u64>, LoadError> {
        let connections = self.connect().await?;
        let started = tokio::time::Instant::now();
        let until = started + length;
        let gap = Duration::from_secs(1) / rate;
        let callers = (0u32..).zip(connections).map(|(caller, connection)| {
            let pace = Pace {
                next: started + gap * caller,
                step: gap * u32::try_from(self.callers).unwrap_or(u32::MAX),
                until,
            };
            tokio::spawn(open_loop(connection, requests.clone(), pace))
        });
        let mut all = histogram();
        for latencies in try_join_all(callers).await? {
            all += latencies?;
        }
        Ok(all)
    }

    async fn connect(&self) -> Result<Vec<Connection>, ConnectionError> {
        try_join_all((0..self.callers).map(|_| Connection::open(self.address))).await
    }
}

/// The schedule of one caller.
struct Pace {
    next: tokio::time::Instant,
    step: Duration,
    until: tokio::time::Instant,
}

async fn closed_loop(
    mut connection: Connection,
    requests: Requests,
    caller: usize,
    until: Instant,
) -> Result<LoadResult, LoadError> {
    let mut result = LoadResult::default();
    // The callers begin with different records.
    for request in requests.ready.iter().cycle().skip(caller * 7) {
        if Instant::now() >= until {
            break;
        }
        match exchange(&mut connection, request).await? {
            200 => result.accepted += 1,
            503 => {
                result.rejected += 1;
                tokio::time::sleep(REJECTED_PAUSE).await;
            }
            other => return Err(LoadError::Status(other)),
        }
    }
    Ok(result)
}

async fn open_loop(
    mut connection: Connection,
    requests: Requests,
    mut pace: Pace,
) -> Result<Histogram<u64>, LoadError> {
    let mut latencies = histogram();
    for request in requests.ready.iter().cycle() {
        if pace.next >= pace.until {
            break;
        }
        sleep_until(pace.next).await;
        match exchange(&mut connection, request).await? {
            200 => record(&mut latencies, pace.next.elapsed()),
            other => return Err(LoadError::Status(other)),
        }
        pace.next += pace.step;
    }
    Ok(latencies)
}

async fn exchange(connection: &mut Connection, request: &[u8]) -> Result<u16, LoadError> {
    let exchanged = timeout(TIMEOUT, connection.exchange(request)).await;
    Ok(exchanged.map_err(|_| LoadError::Timeout)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::noop::Noop;

    #[tokio::test]
    async fn open_and_closed_loops_work_against_the_noop_route() {
        let (noop, address) = Noop::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(noop.serve());
        let load = Load { address, callers: 3 };
        let requests = Requests::new("/", 10, 4);
        let length = Duration::from_millis(200);
        let result = load.closed(&requests, length).await.unwrap();
        assert!(result.accepted > 10 && result.rejected == 0, "{result:?}");
        let latencies = load.open(&requests, 200, length).await.unwrap();
        assert_eq!(latencies.len(), 40, "one each 5 ms");
    }
}
