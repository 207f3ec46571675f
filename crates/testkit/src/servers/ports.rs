//! Free ports on loopback, leased for as long as a server lives.
//!
//! They are below Linux's ephemeral ports (32768 and up). While a server is down, any connection may take a port of that
//! range as its source port. A client that reconnects to the stopped server can even connect to itself, so that the
//! server never gets its port back.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rand::RngExt;

use super::ServerError;
use crate::workspace;

const RANGE: std::ops::Range<u16> = 15_000..32_000;
const ATTEMPTS: usize = 200;

/// Starts of a cluster, each on other ports.
const START_ATTEMPTS: usize = 3;

/// A port that no other process of the testkit takes until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Locked. `None` for a port that the caller chose.
    _lock: Option<File>,
}

impl PortLease {
    /// Leases a port that is free on all `addresses`.
    pub fn free(addresses: &[Ipv4Addr]) -> Result<Self, ServerError> {
        let folder = workspace::target_dir()?.join("testkit").join("ports");
        fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
        for _ in 0..ATTEMPTS {
            let port = rand::rng().random_range(RANGE);
            if let Some(lock) = reserve(&folder, port)?
                && addresses
                    .iter()
                    .all(|address| TcpListener::bind((*address, port)).is_ok())
            {
                return Ok(Self {
                    port,
                    _lock: Some(lock),
                });
            }
        }
        Err(ServerError::NoFreePort { attempts: ATTEMPTS })
    }

    /// Leases a port and those at `offsets` from it, all free on the first `addresses` of 127.0.0.0/8.
    pub(super) fn block(offsets: &[i32], addresses: usize) -> Result<(u16, Vec<Self>), ServerError> {
        let folder = workspace::target_dir()?.join("testkit").join("ports");
        fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
        let addresses = (1..).take(addresses).map(|last| Ipv4Addr::new(127, 0, 0, last));
        let addresses: Vec<_> = addresses.collect();
        for _ in 0..ATTEMPTS {
            let first = rand::rng().random_range(RANGE);
            if let Some(leases) = block_at(&folder, first, offsets, &addresses)? {
                return Ok((first, leases));
            }
        }
        Err(ServerError::NoFreePort { attempts: ATTEMPTS })
    }

    /// A port that the caller chose. The server fails when it is taken.
    pub(super) fn fixed(port: u16) -> Self {
        Self { port, _lock: None }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn block_at(
    folder: &Path,
    first: u16,
    offsets: &[i32],
    addresses: &[Ipv4Addr],
) -> Result<Option<Vec<PortLease>>, ServerError> {
    let mut leases = Vec::new();
    for offset in offsets {
        let port = u16::try_from(i32::from(first) + offset).unwrap_or(0);
        let is_free = || {
            addresses
                .iter()
                .all(|address| TcpListener::bind((*address, port)).is_ok())
        };
        match reserve(folder, port)? {
            Some(lock) if RANGE.contains(&port) && is_free() => leases.push(PortLease {
                port,
                _lock: Some(lock),
            }),
            _ => return Ok(None),
        }
    }
    Ok(Some(leases))
}

/// Returns the port's lock, or `None` when another process holds it. The empty file stays.
fn reserve(folder: &Path, port: u16) -> Result<Option<File>, ServerError> {
    let path = folder.join(port.to_string());
    let file = File::create(&path).map_err(ServerError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(ServerError::File { path, source }),
    }
}

/// Starts a cluster, again on other ports when another process took one, unless the caller chose `port`.
pub(super) async fn retry_port_conflicts<T, F: Future<Output = Result<T, ServerError>>>(
    port: Option<u16>,
    start: impl Fn() -> F,
) -> Result<T, ServerError> {
    for _ in 1..START_ATTEMPTS {
        match start().await {
            Err(error) if port.is_none() && error.is_port_conflict() => {}
            outcome => return outcome,
        }
    }
    start().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leased_port_can_be_bound_and_is_not_leased_twice() {
        let leases: Vec<PortLease> = (0..20)
            .map(|_| PortLease::free(&[Ipv4Addr::LOCALHOST]).unwrap())
            .collect();
        let mut ports: Vec<u16> = leases.iter().map(PortLease::port).collect();
        for port in &ports {
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), leases.len());
    }
}
