//! Whom a process is connected to, as Linux tells it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The other ends of the established IPv4 connections of the process `pid`: to hold that nothing walks around a proxy.
///
/// # Errors
/// When the process is gone or another user's.
pub fn remotes(pid: u32) -> io::Result<Vec<SocketAddr>> {
    ends(pid, REMOTE)
}

/// Its own ends of them, by which a proxy knows whose connection it has.
///
/// # Errors
/// As [`remotes`].
pub fn locals(pid: u32) -> io::Result<Vec<SocketAddr>> {
    ends(pid, LOCAL)
}

/// Where a line of `/proc/net/tcp` has the two ends.
const LOCAL: usize = 1;
const REMOTE: usize = 2;

fn ends(pid: u32, field: usize) -> io::Result<Vec<SocketAddr>> {
    let process = Path::new("/proc").join(pid.to_string());
    let mut inodes = BTreeSet::new();
    for descriptor in std::fs::read_dir(process.join("fd"))? {
        // A descriptor may be closed while they are listed.
        let Ok(target) = std::fs::read_link(descriptor?.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        if let Some(inode) = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inodes.insert(inode.to_owned());
        }
    }
    let table = std::fs::read_to_string(process.join("net").join("tcp"))?;
    Ok(table
        .lines()
        .skip(1)
        .filter_map(|line| established(line, field, &inodes))
        .collect())
}

/// An end of the connection of a line of `/proc/net/tcp` whose socket is one of `inodes`.
fn established(line: &str, field: usize, inodes: &BTreeSet<String>) -> Option<SocketAddr> {
    const ESTABLISHED: &str = "01";
    let fields: Vec<_> = line.split_whitespace().collect();
    let ours =
        fields.get(3) == Some(&ESTABLISHED) && fields.get(9).is_some_and(|inode| inodes.contains(*inode));
    ours.then(|| address(fields[field])).flatten()
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address in the machine's own byte order, both in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_process_tells_its_own_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!remotes(std::process::id()).unwrap().contains(&address));
        let connection = TcpStream::connect(address).unwrap();
        assert!(remotes(std::process::id()).unwrap().contains(&address));
        let own = connection.local_addr().unwrap();
        assert!(locals(std::process::id()).unwrap().contains(&own));
    }
}
