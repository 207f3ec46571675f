//! Callers without pause, or at a steady rate whatever the answers do. They count answers and times, and hold nothing
//! against them: what is no answer at all ends the measurement.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::time::{sleep_until, timeout};

use super::connection::{Connection, ConnectionError, post};
use crate::histogram::{histogram, note};
use testkit::people::people;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// A caller that was told to come again.
const PAUSE: Duration = Duration::from_millis(20);

/// The load was not carried.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A request had no answer.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// None in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// An answer that is neither 200 nor 503.
    #[error("answered {0}")]
    Status(u16),
    /// A caller's task did not end by itself.
    #[error("a caller's task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Requests that are ready to be sent.
#[derive(Clone)]
pub struct Requests {
    ready: Arc<[Vec<u8>]>,
}

/// Where to send them.
#[derive(Clone, Copy)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Callers, each with a connection of its own and one request at a time.
    pub callers: usize,
}

/// What was carried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried {
    /// Requests answered with 200.
    pub accepted: u64,
    /// Requests answered with 503.
    pub refused: u64,
    /// Seconds.
    pub seconds: f64,
}

impl Carried {
    /// Requests answered with 200 each second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
    pub fn per_second(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

impl Requests {
    /// `count` requests of `records` records to `path`: an array, or the record itself if it is one.
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
    /// Each caller sends its next request once it has heard the last answer.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn closed(&self, requests: &Requests, length: Duration) -> Result<Carried, LoadError> {
        let connections = self.connect().await?;
        let (started, until) = (Instant::now(), Instant::now() + length);
        let callers = connections.into_iter().enumerate().map(|(caller, connection)| {
            let requests = requests.clone();
            tokio::spawn(without_pause(connection, requests, caller, until))
        });
        let counts = try_join_all(callers).await?;
        let mut sum = Carried::default();
        for carried in counts {
            let carried = carried?;
            sum.accepted += carried.accepted;
            sum.refused += carried.refused;
        }
        sum.seconds = started.elapsed().as_secs_f64();
        Ok(sum)
    }

    /// Sends `rate` requests each second. A latency counts from the moment at which its request was to be sent, so
    /// that a caller who is kept waiting leaves none out. Microseconds.
    ///
    /// # Errors
    /// [`LoadError`]; here 503 is one, too.
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
            tokio::spawn(paced(connection, requests.clone(), pace))
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

/// When one of the callers sends.
struct Pace {
    next: tokio::time::Instant,
    step: Duration,
    until: tokio::time::Instant,
}

async fn without_pause(
    mut connection: Connection,
    requests: Requests,
    caller: usize,
    until: Instant,
) -> Result<Carried, LoadError> {
    let mut carried = Carried::default();
    // Not all begin with the same record.
    for request in requests.ready.iter().cycle().skip(caller * 7) {
        if Instant::now() >= until {
            break;
        }
        match answer(&mut connection, request).await? {
            200 => carried.accepted += 1,
            503 => {
                carried.refused += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return Err(LoadError::Status(other)),
        }
    }
    Ok(carried)
}

async fn paced(
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
        match answer(&mut connection, request).await? {
            200 => note(&mut latencies, pace.next.elapsed()),
            other => return Err(LoadError::Status(other)),
        }
        pace.next += pace.step;
    }
    Ok(latencies)
}

async fn answer(connection: &mut Connection, request: &[u8]) -> Result<u16, LoadError> {
    let answered = timeout(PATIENCE, connection.exchange(request)).await;
    Ok(answered.map_err(|_| LoadError::Silent)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::noop::Noop;

    #[tokio::test]
    async fn both_kinds_of_callers_are_answered_by_the_no_op_route() {
        let (noop, address) = Noop::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(noop.serve());
        let load = Load { address, callers: 3 };
        let requests = Requests::new("/", 10, 4);
        let length = Duration::from_millis(200);
        let carried = load.closed(&requests, length).await.unwrap();
        assert!(carried.accepted > 10 && carried.refused == 0, "{carried:?}");
        let latencies = load.open(&requests, 200, length).await.unwrap();
        assert_eq!(latencies.len(), 40, "one each 5 ms");
    }
}
