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

/// A port, or the first of a block, that no other process of the testkit takes until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Locked. Empty for a port that the caller chose.
    _locks: Vec<File>,
}

impl PortLease {
    /// Leases a port that is free on all `addresses`.
    pub fn free(addresses: &[Ipv4Addr]) -> Result<Self, ServerError> {
        Self::block(&[0], addresses)
    }

    /// Leases the ports at `offsets` from a first one, all free on all `addresses`.
    pub(super) fn block(offsets: &[i16], addresses: &[Ipv4Addr]) -> Result<Self, ServerError> {
        let folder = workspace::target_dir()?.join("testkit").join("ports");
        fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
        for _ in 0..ATTEMPTS {
            let port: u16 = rand::rng().random_range(RANGE);
            let ports = offsets.iter().map(|offset| port.saturating_add_signed(*offset));
            if let Some(locks) = reserve_all(&folder, ports, addresses)? {
                return Ok(Self { port, _locks: locks });
            }
        }
        Err(ServerError::NoFreePort { attempts: ATTEMPTS })
    }

    /// A port that the caller chose. The server fails when it is taken.
    pub(super) fn fixed(port: u16) -> Self {
        Self {
            port,
            _locks: Vec::new(),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Returns the ports' locks, or `None` when one of them is taken.
fn reserve_all(
    folder: &Path,
    ports: impl Iterator<Item = u16>,
    addresses: &[Ipv4Addr],
) -> Result<Option<Vec<File>>, ServerError> {
    let mut locks = Vec::new();
    for port in ports {
        let is_free = |address: &Ipv4Addr| TcpListener::bind((*address, port)).is_ok();
        match reserve(folder, port)? {
            Some(lock) if RANGE.contains(&port) && addresses.iter().all(is_free) => locks.push(lock),
            _ => return Ok(None),
        }
    }
    Ok(Some(locks))
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
